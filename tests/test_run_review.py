"""A review as a function: its result, its rows made again, and what is left when something fails."""

import json

import numpy as np
import polars as pl
import pytest

import detcam
from detcam.cli import main
from detcam.data import LabelledImage, LabelledSet, Truth, read_data
from detcam.demo import CAUSES_WEIGHTS, WEIGHTS
from detcam.demo.scenes import GEM, make_scene, write_dataset
from detcam.errors import UsageError
from detcam.review import ReviewResult, compare, run_review
from detcam.runs.folder import RunFolder

SEEDS = range(630_000, 630_003)
OTHER = LabelledSet((LabelledImage("a.png", (9, 9), (Truth("a:1", [0, 0, 2, 2], 7, "zebra"),)),), {7: "zebra"})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three scenes with marked gems, one of which has a box that is too wide and an object that nothing is like."""
    folder = tmp_path_factory.mktemp("set")
    path = write_dataset(folder, range(0), SEEDS, lambda seed: make_scene(seed).with_marks(True, GEM))
    label = sorted((folder / "labels" / "val").glob("*.txt"))[0]
    lines = label.read_text().splitlines()
    name, x, y, width, height = lines[0].split()
    lines[0] = f"{name} {float(x) + 1.1 * float(width)} {y} {3.2 * float(width)} {height}"
    label.write_text("\n".join([*lines, "0 0.02 0.98 0.03 0.03"]))
    (folder / "images" / "val" / "broken.png").write_bytes(b"no image")
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One scene in which all is found but one object that nothing is like."""
    folder = tmp_path_factory.mktemp("small")
    path = write_dataset(
        folder, range(0), range(640_001, 640_002), lambda seed: make_scene(seed).with_marks(False, GEM)
    )
    (label,) = (folder / "labels" / "val").glob("*.txt")
    label.write_text(label.read_text().rstrip() + "\n0 0.02 0.98 0.03 0.03\n")
    return path


@pytest.fixture(scope="module")
def calls():
    return {"progress": [], "complain": []}


@pytest.fixture(scope="module")
def result(tmp_path_factory, data, calls):
    return run_review(
        WEIGHTS, data, tmp_path_factory.mktemp("review") / "run",
        progress=lambda *step: calls["progress"].append(step),
        complain=lambda path, reason: calls["complain"].append((str(path), reason)),
    )  # fmt: skip


def test_nothing_is_printed_and_progress_is_called(result, calls, small, tmp_path, capsys):
    capsys.readouterr()
    run_review(WEIGHTS, small, tmp_path / "run")
    assert capsys.readouterr().out == ""
    steps = calls["progress"]
    assert [step for step in steps if step[0] == "detecting"] == [("detecting", n, 3) for n in range(4)]
    assert [step for step in steps if step[0] == "explaining"] == [("explaining", n, 3) for n in range(4)]
    assert ("causes", 0, None) in steps
    ((path, reason),) = calls["complain"]
    assert path.endswith("broken.png")
    assert [(failure.path, failure.reason) for failure in result.failed()] == [(path, reason)]


def test_the_result_is_what_the_folder_holds(result):
    summary = json.loads((result.path / "summary.json").read_text())
    table, missed = (pl.read_parquet(result.path / f"{name}.parquet") for name in ("detections", "misses"))
    assert (result.map50, result.map) == (summary["map50"], summary["map"])
    assert 0 < result.map <= result.map50 < 1
    assert result.counts == summary["counts"]
    assert result.gains["Cls"] == summary["dap"]["Cls"] > 0
    errors = result.errors()
    assert {name: len(rows) for name, rows in errors.items()} == {
        name: count for name, count in result.counts.items() if name != "TP"
    }
    assert min(len(errors[name]) for name in ("Cls", "Loc", "Miss")) > 0
    assert [row.id for row in result.rows()] == table["id"].to_list()
    assert [row.id for row in result.misses()] == missed["id"].to_list()
    assert result.causes() == json.loads((result.path / "causes.json").read_text())
    assert result.page.is_file()
    assert result.run.info["state"] == "finished"
    assert ReviewResult(result.path) == result


def test_every_row_can_be_made_again_from_its_method_and_target(result, tmp_path, capsys):
    model = detcam.load(WEIGHTS)
    rows = [row for row in (*result.rows(), *result.misses()) if row.method is not None]
    pairs = {(row.method, row.target): row for row in rows}
    assert {("windows", "contrast:gem"), ("layercam", "against")} < set(pairs)
    for (method, target), row in pairs.items():
        (again,) = detcam.open_image(model, row.image).explain(row.detection, method, target=target)
        assert (again.method, again.target) == (method, target)
        assert again.heatmap.raw.any()
        if method in ("windows", "layercam"):  # what `effect` may spend on a box depends on the image's other boxes
            stored = result.run.heatmap(row).raw
            assert np.abs(again.heatmap.raw - stored).max() <= 2**-10 * stored.max()  # float16's precision
            assert again.forwards == row.forwards
    row = pairs["windows", "contrast:gem"]
    box = ",".join(map(str, row.detection.xyxy.tolist()))
    options = ["--method", row.method, "--target", row.target, "--class", "kite", "--box", box, "--save", "none"]
    capsys.readouterr()
    command = ["explain", row.image, "--weights", str(WEIGHTS), "--out", str(tmp_path / "run"), "--json", *options]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["method"], told["target"], told["anchor"]) == (row.method, row.target, row.detection.anchor)


@pytest.mark.parametrize("where", ["write_causes", "build_report"])
def test_no_failure_leaves_the_folder_locked(small, tmp_path, monkeypatch, where):
    def fail(*_):
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(f"detcam.review.api.{where}", fail)
        with pytest.raises(RuntimeError, match="out of luck") as caught:
            run_review(WEIGHTS, small, tmp_path / "run")
    run = detcam.open_run(tmp_path / "run")
    assert run.info["state"] == "interrupted"
    assert "Miss" not in set(run.table()["error_type"])  # misses are apart, whatever was still to come
    assert len(list(run.misses())) == 1
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "heatmaps").iterdir()}
    again = run_review(WEIGHTS, small, tmp_path / "run")  # the failed one's objects are still alive
    assert caught.value is not None
    assert again.run.info["state"] == "finished"
    assert again.page.is_file()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "heatmaps").iterdir()} == parts


def test_a_folder_is_let_go_when_it_is_left(tmp_path):
    first = RunFolder(tmp_path / "run", "explain", {})  # all stay alive: what is collected lets go in any case
    with first, pytest.raises(UsageError, match="another process"):
        RunFolder(tmp_path / "run", "explain", {})
    second = RunFolder(tmp_path / "run", "explain", {})
    with pytest.raises(ZeroDivisionError), second:
        raise ZeroDivisionError
    with pytest.raises(UsageError, match="another configuration") as refused:
        RunFolder(tmp_path / "run", "explain", {"conf": 0.5})
    RunFolder(tmp_path / "run", "explain", {}).release()
    assert refused.value is not None


def test_a_loaded_model_is_told_from_another(small, tmp_path):
    labelled = read_data(small, names=detcam.load(WEIGHTS).names)
    first = run_review(detcam.load(WEIGHTS), labelled, tmp_path / "run")
    again = run_review(detcam.load(WEIGHTS), labelled, tmp_path / "run")
    assert again.run.info["configuration"] == first.run.info["configuration"]
    other = detcam.load(CAUSES_WEIGHTS)
    with pytest.raises(UsageError, match=r"another configuration .labels_sha256: .*; weights_sha256: "):
        run_review(other, read_data(small, names=other.names), tmp_path / "run")


def test_overwriting_keeps_what_a_person_said(small, tmp_path):
    run_review(WEIGHTS, small, tmp_path / "run")
    (tmp_path / "run" / "verdicts.json").write_text("{}")
    run_review(WEIGHTS, small, tmp_path / "run", conf=0.5, overwrite=True)
    assert not (tmp_path / "run" / "verdicts.json").exists()
    assert (tmp_path / "run" / "verdicts-before.json").read_text() == "{}"


def test_two_reviews_are_compared(result, data, tmp_path):
    other = run_review(WEIGHTS, data, tmp_path / "run", conf=0.5)
    table = compare(result.path, other.path)
    assert set(table["fate"]) <= {"mended", "kept", "new"}
    assert len(table.filter(pl.col("fate") != "new")) == sum(map(len, result.errors().values()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conf": 1.5}, r"conf must lie in \[0, 1\], got 1\.5"),
        ({"iou": -1}, r"iou must lie in \[0, 1\], got -1"),
        ({"method": "windoes"}, "no method 'windoes'; did you mean 'windows'"),
        ({"out": "memory://bucket/review"}, "a review keeps its folder on this machine"),
        ({"data": OTHER}, "has class 7, 'zebra', and the model has none of that number"),
    ],
)
def test_what_is_wrong_is_said_in_words_for_python(data, tmp_path, changes, message):
    options = {"data": data, "out": tmp_path / "run", **changes}
    with pytest.raises(UsageError, match=message) as caught:
        run_review(WEIGHTS, options.pop("data"), **options)
    assert "--" not in str(caught.value)
