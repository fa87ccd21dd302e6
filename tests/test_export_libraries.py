"""Exports as supervision and FiftyOne have them."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest

from detcam.errors import UsageError
from detcam.export import export, read_run, read_supervision, to_supervision
from detcam.io.images import read_image
from detcam.runs.schema import image_key
from detcam.types import Heatmap
from support.exported_runs import FOUND, SIZES, TRUTHS, boxes_of, explained, folder, letterbox, raw_map, reviewed  # noqa: F401


@pytest.mark.parametrize("package", ["fiftyone", "supervision"])
def test_a_missing_package_is_named_with_what_installs_it(reviewed, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    use = {
        "fiftyone": lambda: export(reviewed, "fiftyone", tmp_path / "out"),
        "supervision": lambda: to_supervision(read_run(reviewed), str(tmp_path / "one/=1.png")),
    }
    with pytest.raises(UsageError, match=rf"needs {package}: pip install {package}"):
        use[package]()
    assert not (tmp_path / "out").exists()


def test_maps_in_the_files_for_supervision_need_no_pickle(reviewed, tmp_path):
    export(reviewed, "supervision", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == len(SIZES)
    run = read_run(reviewed)
    for name in FOUND:
        rows = run.detections.filter(pl.col("image") == str(tmp_path / name))
        with np.load(tmp_path / "out" / f"{image_key(str(tmp_path / name))}.npz", allow_pickle=False) as arrays:
            assert str(arrays["image"]) == str(tmp_path / name)
            np.testing.assert_array_equal(arrays["xyxy"], boxes_of(rows))
            assert arrays["error_type"].tolist() == rows["error_type"].to_list()
            for number in range(len(rows)):
                peak = np.abs(raw_map(name, number)).max()
                np.testing.assert_allclose(arrays[f"raw_{number}"], raw_map(name, number), rtol=0, atol=1e-3 * peak)
                assert arrays[f"letterbox_{number}"].tolist() == [
                    list(pair) for pair in asdict(letterbox(name)).values()
                ]


def test_supervision_has_the_detections_and_draws_them(reviewed, tmp_path):
    sv = pytest.importorskip("supervision", reason="supervision is not installed: pip install '.[supervision]'")
    run, path = read_run(reviewed), str(tmp_path / "one/=1.png")
    found = to_supervision(run, path)
    rows = run.detections.filter(pl.col("image") == path)
    np.testing.assert_array_equal(found.xyxy, boxes_of(rows))
    np.testing.assert_array_equal(found.confidence, rows["confidence"].to_numpy())
    assert found.class_id.tolist() == rows["class_id"].to_list()
    assert found["class_name"].tolist() == rows["class_name"].to_list()
    assert found["error_type"].tolist() == rows["error_type"].to_list()
    assert found["cause"].tolist() == ["", "cause-1", ""]
    for number, array in enumerate(found.data["heatmaps"]):
        expected = Heatmap(raw_map("one/=1.png", number), letterbox("one/=1.png")).array
        np.testing.assert_allclose(array, expected, rtol=0, atol=2e-3)
    export(reviewed, "supervision", tmp_path / "out")
    assert read_supervision(tmp_path / "out" / f"{image_key(path)}.npz") == found
    errors = found[found["error_type"] != "TP"]
    assert [array.shape for array in errors.data["heatmaps"]] == [SIZES["one/=1.png"]] * 2
    scene = np.array(read_image(path))
    drawn = sv.BoxAnnotator(thickness=1).annotate(scene.copy(), errors)
    changed = np.argwhere((drawn != scene).any(-1))
    x1, y1, x2, y2 = errors.xyxy.T
    np.testing.assert_allclose(changed.min(0), [y1.min(), x1.min()], atol=1)
    np.testing.assert_allclose(changed.max(0), [y2.max(), x2.max()], atol=1)
    assert len(to_supervision(run, str(tmp_path / "two/-<i>ü.png"))) == 0
    with pytest.raises(UsageError, match="the run has no image 'one'"):
        to_supervision(run, "one")


def test_a_file_that_is_none_for_supervision(tmp_path):
    (tmp_path / "text.npz").write_bytes(b"PK")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("text.npz", "cut.npz", "one.npy", "missing.npz"):
        with pytest.raises(UsageError, match="is no file of detcam export --to supervision"):
            read_supervision(tmp_path / name)


LOOK = """
import json, sys
import fiftyone as fo
from detcam.errors import UsageError
from detcam.export import export

run, explained, out = sys.argv[1:]
told = {"summary": export(run, "fiftyone", out + "/one", name="mine")}
told["refused"] = []
for name in ("mine", "!"):
    try:
        export(run, "fiftyone", out + "/two", name=name)
    except UsageError as error:
        told["refused"].append(str(error))
export(explained, "fiftyone", out + "/three")
plain, dataset = fo.load_dataset("explained"), fo.load_dataset("mine")
told["plain"] = [plain.persistent, plain.count("predictions.detections"), sorted(plain.get_field_schema())]
told["persistent"] = dataset.persistent
told["fields"] = sorted(dataset.get_field_schema(flat=True))
dataset.evaluate_detections("predictions", gt_field="ground_truth", eval_key="own")
told["samples"] = {sample.filepath: json.loads(sample.to_json()) for sample in dataset}
told["maps"] = {
    sample[name].detcam_id: sample[name].get_map().tolist()
    for sample in dataset for name in sample.field_names if name.startswith("heatmap_") and sample[name] is not None
}
print("TOLD" + json.dumps(told))
"""


@pytest.fixture(scope="module")
def fiftyone_runs(tmp_path_factory):
    """Runs a script with FiftyOne and a database of its own; skips where there is none."""
    home = tmp_path_factory.mktemp("fiftyone")
    settings = {"FIFTYONE_DATABASE_DIR": str(home / "db"), "FIFTYONE_DO_NOT_TRACK": "true", "HOME": str(home)}

    def run(script, *arguments):
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            env={**os.environ, **settings}, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    probe = run("import fiftyone; fiftyone.list_datasets()")
    if probe.returncode:
        pytest.skip(f"FiftyOne or its database is not installed: {probe.stderr.strip().splitlines()[-1]}")
    return run


@pytest.mark.slow
def test_fiftyone_has_the_run_and_its_own_evaluation_agrees(reviewed, explained, tmp_path, fiftyone_runs):
    done = fiftyone_runs(LOOK, reviewed, explained, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.rpartition("TOLD")[2])
    assert "data set 'mine' with 3 samples" in told["summary"]
    assert [text.partition(":")[0] for text in told["refused"]] == [
        "FiftyOne cannot make the data set 'mine'",
        "FiftyOne cannot make the data set '!'",
    ]
    assert told["persistent"]
    assert not (tmp_path / "out" / "two").exists()
    assert {"predictions.detections.error_type", "ground_truth.detections.where_it_died"} <= set(told["fields"])
    assert told["plain"][:2] == [True, 5]
    assert not {"ground_truth", "eval_tp"} & set(told["plain"][2])
    run = read_run(reviewed)
    rows = {row["id"]: row for row in run.detections.iter_rows(named=True)}
    seen, maps = set(), {}
    for name, (height, width) in SIZES.items():
        sample = told["samples"][str(tmp_path / name)]
        predictions, truths = (sample[key]["detections"] for key in ("predictions", "ground_truth"))
        for one in predictions:
            row = rows[one["detcam_id"]]
            x, y, w, h = np.array(one["bounding_box"]) * [width, height, width, height]
            np.testing.assert_allclose([x, y, x + w, y + h], [row[key] for key in ("x1", "y1", "x2", "y2")], rtol=1e-6)
            for key in ("error_type", "cause", "verdict", "note", "explanation", "confidence", "truth_id"):
                assert one[key] == row[key]
            assert (one["label"], row["image"]) == (row["class_name"], str(tmp_path / name))
            maps[one["detcam_id"]] = sample[one["heatmap"]]["detcam_id"]
        crowded = {one["_id"]["$oid"] for one in predictions if one["error_type"] == "ignored"}
        crowded |= {one["_id"]["$oid"] for one in truths if one["iscrowd"]}
        labels = [one for one in predictions + truths if one["_id"]["$oid"] not in crowded]
        assert {one["eval"] for one in predictions + truths if one not in labels} <= {None}
        assert [one["eval"] for one in labels] == [one["own"] for one in labels]
        assert [one["eval_id"] for one in labels] == [one["own_id"] for one in labels]
        for kind, among in (("tp", predictions), ("fp", predictions), ("fn", truths)):
            assert sample[f"eval_{kind}"] == sum(one["eval"] == kind for one in among)
        seen |= {one["eval"] for one in labels}
        misses = {one["truth_id"]: one for one in truths if one.get("error_type") == "Miss"}
        assert list(misses) == [row[0] for row in TRUTHS if row[1] == name and row[6]]
        assert [one["where_it_died"] for one in misses.values()] == [
            row[6] for row in TRUTHS if row[1] == name and row[6]
        ]
    assert seen == {"tp", "fp", "fn"}
    assert set(maps) == set(rows)
    assert all(key == value for key, value in maps.items())
    assert set(told["maps"]) == {*rows, "miss-15"}
    for name in FOUND:
        for number, row in enumerate(
            run.detections.filter(pl.col("image") == str(tmp_path / name)).iter_rows(named=True)
        ):
            expected = Heatmap(raw_map(name, number), letterbox(name)).array
            np.testing.assert_allclose(np.array(told["maps"][row["id"]]) / 255, expected, rtol=0, atol=5e-3)
