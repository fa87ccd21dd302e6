"""Exports: other people's readers see what the run folder holds, and nothing of anybody's is lost."""

import contextlib
import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from polars.testing import assert_frame_equal
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detcam.data import read_data
from detcam.errors import UsageError
from detcam.export import WRITERS, export, read_run, read_supervision, to_supervision
from detcam.export.run import image_file
from detcam.geometry import Letterbox
from detcam.io.images import read_image
from detcam.runs.folder import RunFolder
from detcam.runs.schema import COLUMNS, image_key, printable
from detcam.types import Detection, Explanation, Heatmap, ImageResult
from support.images import photograph

NAMES = {0: '=HYPERLINK("http://x")', 1: "<b>кот</b>", 3: "@dog"}
CLASSES = NAMES | {4: "never seen"}
SIZES = {"one/=1.png": (90, 160), "two/=1.png": (120, 80), "two/-<i>ü.png": (64, 64)}
# Per image: class, confidence, box, error type, truth, IoU.
FOUND = {
    "one/=1.png": [
        (0, 0.9, (10, 10, 50, 50), "TP", 11, 0.9),
        (1, 0.75, (60.5, 10.25, 100, 60), "Cls", 12, 0.8),
        (3, 0.5, (110, 70, 150, 88), "Bkg", None, 0.0),
    ],
    "two/=1.png": [(1, 0.625, (10, 20, 30, 60), "ignored", 14, 1.0), (3, 0.375, (5, 70, 35, 110), "Loc", 13, 0.3)],
}
# Id, image, class, box, crowd, detection that found it, where it died if it was missed.
TRUTHS = [
    (11, "one/=1.png", 0, (10, 10, 50, 46), False, 0, None),
    (12, "one/=1.png", 3, (60, 10, 100, 50), False, None, None),
    (13, "two/=1.png", 3, (20, 70, 78, 110), False, None, None),
    (14, "two/=1.png", 1, (5, 5, 60, 66), True, None, None),
    (15, "two/=1.png", 0, (40, 80, 76, 118), False, None, "suppressed"),
    (16, "two/-<i>ü.png", 1, (-3, 8, 40, 70), False, None, "never_fired"),
]


@pytest.fixture
def folder(tmp_path):
    """Photographs, two of which have the same name."""
    for seed, (name, (height, width)) in enumerate(SIZES.items()):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(photograph(height, width, seed)).save(path)
    return tmp_path


@pytest.fixture
def explained(folder):
    """A run folder of `detcam explain`, by its own writer."""
    run = RunFolder(folder / "explained", "explain", {"conf": 0.25})
    run.describe(classes=CLASSES)
    for name, rows in FOUND.items():
        run.add(result(str(folder / name), rows), set(), "inferno", 0.6)
    run.finish(True)
    return folder / "explained"


@pytest.fixture
def reviewed(folder, explained):
    """The same detections as `detcam review` writes them, with truths, misses and verdicts."""
    run = folder / "reviewed"
    shutil.copytree(explained, run)
    table = pl.read_parquet(run / "detections.parquet")
    rows = [row for name in FOUND for row in FOUND[name]]
    truth_class = {number: NAMES[kind] for number, _, kind, *_ in TRUTHS}
    table.with_columns(
        error_type=pl.Series([row[3] for row in rows]),
        truth_id=pl.Series([row[4] for row in rows], dtype=pl.Int64),
        truth_class=pl.Series([truth_class.get(row[4]) for row in rows]),
        iou=pl.Series([row[5] for row in rows], dtype=pl.Float32),
        explanation=pl.lit("=speaks for <b>cat</b>"),
        cause=pl.Series([None, "cause-1", None, None, None], dtype=pl.String),
        features=pl.lit([0.5, 0.25]),
        context_dependence=pl.Series([float("nan"), -0.25, 0.5, None, 1.0], dtype=pl.Float32),
    ).write_parquet(run / "detections.parquet")
    write_truths(run, folder, table["id"].to_list())
    verdicts = {
        table["id"][1]: {"verdict": "label_error", "note": "=1+1\n\ud800 ü"},
        table["id"][2]: {"verdict": "model_error", "note": ""},
        "miss-16": {"verdict": "ambiguous", "note": "'quoted"},
        "gone": {"verdict": "label_error", "note": "of an earlier run"},
    }
    (run / "verdicts.json").write_text(json.dumps(verdicts))
    return run


def write_truths(run, folder, ids):
    truths, misses = [], []
    for number, name, kind, box, crowd, by, died in TRUTHS:
        own = {"image": str(folder / name), "class_id": kind, "class_name": NAMES[kind]}
        own |= dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True))
        truths.append({"id": number, **own, "crowd": crowd, "found_by": None if by is None else ids[by]})
        if died:
            told = {"where_it_died": died, "suppressor": ids[4], "explanation": "-", "context_dependence": 0.5}
            placed = {
                "heatmap": f"misses.npz#miss-{number}",
                "scale": 2.0,
                "letterbox": json.dumps(asdict(letterbox(name))),
            }
            misses.append({"id": f"miss-{number}", "truth_id": number, **own, **told, **placed})
    boxes = dict.fromkeys(("x1", "y1", "x2", "y2"), pl.Float32)
    pl.DataFrame(truths, schema_overrides=boxes).write_parquet(run / "truths.parquet")
    pl.DataFrame(misses, schema_overrides=boxes).write_parquet(run / "misses.parquet")
    np.savez(run / "heatmaps" / "misses.npz", **{"miss-15": np.eye(6, 8, dtype=np.float16)})


def letterbox(name):
    return Letterbox.fit(SIZES[name], (64, 64), 32)


def raw_map(name, number):
    """A map with a peak inside the image."""
    return np.random.default_rng(number).uniform(-1, 1, (6, 8)).astype(np.float32)


def result(source, rows):
    name = next(name for name in SIZES if source.endswith(name))
    image = np.zeros((*SIZES[name], 3), np.uint8)
    explanations = []
    for number, (kind, confidence, box, *_) in enumerate(rows):
        detection = Detection(np.array(box), kind, NAMES[kind], confidence, number, 8)
        heatmap = Heatmap(raw_map(name, number), letterbox(name))
        explanations.append(Explanation(detection, heatmap, "layercam", "class", ("model.1",), "ok", "", image))
    return ImageResult(source, image, tuple(e.detection for e in explanations), tuple(explanations))


def without_letterboxes(run):
    """As if written before the tables had them."""
    for name in ("detections", "misses"):
        pl.read_parquet(run / f"{name}.parquet").drop("letterbox").write_parquet(run / f"{name}.parquet")


def boxes_of(table):
    return table.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64)


def load_coco(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def from_cell(text):
    """The documented way back."""
    return text.removeprefix("'")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pycocotools_reads_the_predictions_and_boxes_are_the_tables(reviewed, tmp_path):
    export(reviewed, "coco", tmp_path / "out")
    coco, run = load_coco(tmp_path / "out" / "predictions.json"), read_run(reviewed)
    found = coco.loadAnns(coco.getAnnIds())
    x, y, width, height = np.array([one["bbox"] for one in found]).T
    np.testing.assert_array_equal(np.stack([x, y, x + width, y + height], 1), boxes_of(run.detections))
    for one, row in zip(found, run.detections.iter_rows(named=True), strict=True):
        image, told = coco.loadImgs(one["image_id"])[0], one["attributes"]
        assert image["file_name"] == row["image"]
        assert (image["height"], image["width"]) == read_image(row["image"]).shape[:2]
        assert coco.loadCats(one["category_id"])[0]["name"] == row["class_name"]
        assert one["score"] == row["confidence"]
        assert all(told[key] == row[key] for key in ("id", "error_type", "verdict", "cause", "truth_id", "iou"))
    assert [one["attributes"]["context_dependence"] for one in found] == [None, -0.25, 0.5, None, 1.0]


def test_cocoeval_finds_the_true_positives_of_the_run(reviewed, tmp_path):
    export(reviewed, "coco", tmp_path / "out")
    truths = load_coco(tmp_path / "out" / "truths.json")
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))["annotations"]
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(truths, truths.loadRes(predictions), "bbox")
        judge.evaluate()
    matched = {}
    for entry in judge.evalImgs:
        if entry is not None and entry["aRng"] == judge.params.areaRng[0]:
            for number, truth, ignored in zip(entry["dtIds"], entry["dtMatches"][0], entry["dtIgnore"][0], strict=True):
                matched[number] = "ignored" if ignored else "TP" if truth else "error"
    types = {"TP": "TP", "ignored": "ignored"}
    assert matched == {one["id"]: types.get(one["attributes"]["error_type"], "error") for one in predictions}


def test_coco_truths_say_who_found_them_and_where_they_died(reviewed, tmp_path):
    export(reviewed, "coco", tmp_path / "out")
    coco, run = load_coco(tmp_path / "out" / "truths.json"), read_run(reviewed)
    told = {one["attributes"]["truth_id"]: one for one in coco.loadAnns(coco.getAnnIds())}
    assert [told[row[0]]["attributes"]["found_by"] for row in TRUTHS] == [run.detections["id"][0], *[None] * 5]
    assert [told[row[0]]["iscrowd"] for row in TRUTHS] == [0, 0, 0, 1, 0, 0]
    assert [told[row[0]]["attributes"].get("where_it_died") for row in TRUTHS] == [row[6] for row in TRUTHS]
    assert [told[row[0]]["attributes"].get("error_type") for row in TRUTHS] == [None] * 4 + ["Miss"] * 2
    assert told[16]["attributes"]["verdict"] == "ambiguous"
    images = {image["id"]: image["file_name"] for image in coco.loadImgs(coco.getImgIds())}
    assert sorted(images.values()) == sorted(str(tmp_path / name) for name in SIZES)


def test_detcam_reads_the_truths_it_exported(reviewed, tmp_path):
    export(reviewed, "coco", tmp_path / "out")
    labelled = read_data(tmp_path / "out" / "truths.json")
    truths = {truth.id: truth for image in labelled.images for truth in image.truths}
    assert not labelled.problems
    assert [truth.xyxy.tolist() for truth in truths.values()] == [list(row[3]) for row in TRUTHS]


@pytest.mark.parametrize("name", ["detections", "misses"])
def test_csv_gives_the_tables_back(reviewed, tmp_path, name):
    export(reviewed, "csv", tmp_path / "out")
    table = getattr(read_run(reviewed), name).drop("features", strict=False)
    read = pl.read_csv(tmp_path / "out" / f"{name}.csv", schema=table.schema)
    back = read.with_columns(pl.col(pl.String).map_elements(from_cell, return_dtype=pl.String))
    assert_frame_equal(back, table)


def test_no_cell_of_a_csv_is_a_formula(reviewed, tmp_path):
    export(reviewed, "csv", tmp_path / "out")
    export(reviewed, "relabel", tmp_path / "relabel")
    starts = set()
    for path in (
        tmp_path / "out" / "detections.csv",
        tmp_path / "out" / "misses.csv",
        tmp_path / "relabel" / "review.csv",
    ):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for key, cell in row.items():
                    if cell[:1] in tuple("=+-@\t\r\n"):
                        assert key in ("x1", "context_dependence")
                        assert float(cell) < 0
                    starts.add(cell[:2])
    assert {"'=", "'@", "'-", "''"} <= starts


def test_an_explained_run_has_no_more_than_it_has(explained, tmp_path):
    export(explained, "csv", tmp_path / "csv")
    assert [path.name for path in (tmp_path / "csv").iterdir()] == ["detections.csv"]
    export(explained, "coco", tmp_path / "coco")
    assert [path.name for path in (tmp_path / "coco").iterdir()] == ["predictions.json"]
    coco = load_coco(tmp_path / "coco" / "predictions.json")
    assert len(coco.getAnnIds()) == 5
    assert "error_type" not in coco.loadAnns([1])[0]["attributes"]
    assert {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())} == CLASSES
    with pytest.raises(UsageError, match="holds no truths"):
        export(explained, "relabel", tmp_path / "relabel")
    assert not (tmp_path / "relabel").exists()


def test_a_run_without_detections(tmp_path):
    RunFolder(tmp_path / "run", "explain", {}).finish(True)
    export(tmp_path / "run", "coco", tmp_path / "coco")
    coco = load_coco(tmp_path / "coco" / "predictions.json")
    assert (coco.getAnnIds(), coco.getImgIds(), coco.getCatIds()) == ([], [], [])
    export(tmp_path / "run", "csv", tmp_path / "csv")
    assert pl.read_csv(tmp_path / "csv" / "detections.csv").columns == [*COLUMNS, "verdict", "note"]
    export(tmp_path / "run", "supervision", tmp_path / "sv")
    assert not list((tmp_path / "sv").iterdir())


def test_detcam_reads_the_labels_for_relabelling(reviewed, tmp_path):
    export(reviewed, "relabel", tmp_path / "out")
    labelled = read_data(tmp_path / "out" / "data.yaml", "train")
    assert not labelled.problems
    assert labelled.names == CLASSES | {2: "class_2"}
    in_doubt = ["one/=1.png", "two/-<i>ü.png"]  # judged label_error and ambiguous; of the third nobody judged anything
    for image, name in zip(labelled.images, sorted(in_doubt, key=lambda name: str(tmp_path / name)), strict=True):
        height, width = SIZES[name]
        assert image.path.read_bytes() == (tmp_path / name).read_bytes()
        assert not image.path.is_symlink()
        own = [row for row in TRUTHS if row[1] == name]
        assert [truth.class_id for truth in image.truths] == [row[2] for row in own]
        cut = np.clip([row[3] for row in own], 0, [width, height, width, height])
        np.testing.assert_allclose([truth.xyxy for truth in image.truths], cut, rtol=0, atol=1e-4)


def test_the_review_table_says_where_to_look(reviewed, tmp_path):
    export(reviewed, "relabel", tmp_path / "out")
    run = read_run(reviewed)
    look = {from_cell(row["id"]): row for row in pl.read_csv(tmp_path / "out" / "review.csv").iter_rows(named=True)}
    assert set(look) == {run.detections["id"][1], "miss-16"}
    row = look["miss-16"]
    assert (row["error_type"], row["verdict"], from_cell(row["note"])) == ("Miss", "ambiguous", "'quoted")
    assert (tmp_path / "out" / row["file"]).read_bytes() == (tmp_path / "two/-<i>ü.png").read_bytes()


def test_crowds_are_counted_where_labels_cannot_have_them(reviewed, tmp_path):
    verdicts = {read_run(reviewed).detections["id"][4]: {"verdict": "ambiguous", "note": ""}}
    (reviewed / "verdicts.json").write_text(json.dumps(verdicts))
    export(reviewed, "relabel", tmp_path / "out")
    (image,) = read_data(tmp_path / "out" / "data.yaml").images
    assert [truth.class_id for truth in image.truths] == [row[2] for row in TRUTHS if row[0] in (13, 15)]
    assert pl.read_csv(tmp_path / "out" / "review.csv")["crowds"].to_list() == [1]


def test_nothing_is_in_doubt_before_it_is_judged(reviewed, tmp_path):
    (reviewed / "verdicts.json").unlink()
    assert "0 images" in export(reviewed, "relabel", tmp_path / "out")
    assert (tmp_path / "out" / "images.txt").read_text() == ""
    assert not list((tmp_path / "out" / "images").iterdir())


def test_images_that_are_gone(reviewed, tmp_path):
    for name in SIZES:
        (tmp_path / name).unlink()
    assert "2 images cannot be read" in export(reviewed, "relabel", tmp_path / "relabel")
    assert pl.read_csv(tmp_path / "relabel" / "review.csv")["file"].to_list() == [None, None]
    export(reviewed, "coco", tmp_path / "known")  # the letterbox knows the size
    images = json.loads((tmp_path / "known" / "predictions.json").read_text(encoding="utf-8"))["images"]
    assert {image["file_name"]: (image["height"], image["width"]) for image in images} == {
        str(tmp_path / name): size for name, size in SIZES.items()
    }
    without_letterboxes(reviewed)
    assert "3 images cannot be read" in export(reviewed, "coco", tmp_path / "unknown")
    coco = load_coco(tmp_path / "unknown" / "predictions.json")
    assert all("height" not in image for image in coco.loadImgs(coco.getImgIds()))


def test_sizes_and_classes_that_the_run_does_not_tell(reviewed, tmp_path):
    without_letterboxes(reviewed)
    description = json.loads((reviewed / "run.json").read_text(encoding="utf-8"))
    (reviewed / "run.json").write_text(json.dumps({**description, "classes": None}))
    run = read_run(reviewed)
    assert run.sizes == {str(tmp_path / name): size for name, size in SIZES.items()}
    assert run.names == NAMES
    assert all(run.heatmap(row) is None for row in run.detections.iter_rows(named=True))


@pytest.mark.skipif(os.name != "posix", reason="only POSIX paths hold bytes that are no text")
def test_a_path_with_bytes_that_are_no_text(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.png"
    try:
        Image.fromarray(photograph()).save(os.fsdecode(path), "png")
    except OSError:
        pytest.skip("this file system wants text")
    assert os.fsencode(image_file(printable(os.fsdecode(path)))) == path
    assert image_file(r"C:\xff.png") == Path(os.fsdecode(b"C:\xff.png"))
    (tmp_path / r"C:\xff.png").write_text("a name can look escaped")
    assert image_file(str(tmp_path / r"C:\xff.png")) == tmp_path / r"C:\xff.png"


@pytest.mark.parametrize("to", ["coco", "csv", "relabel", "supervision"])
def test_the_run_and_a_folder_with_files_stay_as_they_are(reviewed, tmp_path, to):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("mine")
    before = contents(tmp_path)
    for out in (reviewed, tmp_path / "mine", tmp_path / "mine" / "mine.txt"):
        with pytest.raises(UsageError, match="is not an empty folder"):
            export(reviewed, to, out)
    export(reviewed, to, reviewed / "export" / to)
    assert {path: data for path, data in contents(tmp_path).items() if "export" not in path.parts} == before
    with pytest.raises(UsageError, match="nothing is ever replaced"):
        export(reviewed, to, reviewed / "export" / to)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda run: (run / "run.json").unlink(), "no run of detcam"),
        (lambda run: (run / "run.json").write_text("[]"), "does not describe a run of detcam"),
        (lambda run: (run / "detections.parquet").unlink(), "no finished run"),
        (lambda run: (run / "misses.parquet").write_bytes(b"PAR1"), "misses.parquet is damaged: "),
        (lambda run: (run / "verdicts.json").write_text('{"a": "model_error"}'), "must hold an object of objects"),
        (lambda run: (run / "verdicts.json").write_text("{"), "verdicts.json cannot be read"),
    ],
)
def test_a_folder_that_is_no_run(reviewed, tmp_path, spoil, match):
    spoil(reviewed)
    with pytest.raises(UsageError, match=match):
        export(reviewed, "csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_options(reviewed, tmp_path):
    with pytest.raises(UsageError, match="cannot export to 'cocoo'; did you mean 'coco'"):
        export(reviewed, "cocoo", tmp_path / "out")
    with pytest.raises(UsageError, match="goes with 'fiftyone' only, not 'csv'"):
        export(reviewed, "csv", tmp_path / "out", name="mine")


def test_half_an_export_is_taken_away(reviewed, tmp_path, monkeypatch):
    def breaks(run, out):
        (out / "half.txt").write_text("half")
        raise MemoryError

    monkeypatch.setitem(WRITERS, "csv", breaks)
    with pytest.raises(MemoryError):
        export(reviewed, "csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["fiftyone", "supervision"])
def test_a_missing_package_is_named_with_what_installs_it(reviewed, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    use = {
        "fiftyone": lambda: export(reviewed, "fiftyone", tmp_path / "out"),
        "supervision": lambda: to_supervision(read_run(reviewed), str(tmp_path / "one/=1.png")),
    }
    with pytest.raises(UsageError, match=rf"needs {package}: pip install 'detcam\[{package}\]'"):
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
    sv = pytest.importorskip("supervision", reason="supervision is not installed: pip install 'detcam[supervision]'")
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
