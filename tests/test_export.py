"""Exports: other people's readers see what the run folder holds, and nothing of anybody's is lost."""

import contextlib
import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from polars.testing import assert_frame_equal
from pycocotools.cocoeval import COCOeval

from detcam.data import read_data
from detcam.errors import UsageError
from detcam.export import WRITERS, export, read_run
from detcam.export.run import image_file
from detcam.filenames import printable
from detcam.io.images import read_image
from detcam.runs.folder import RunFolder
from detcam.runs.schema import COLUMNS
from support.exported_runs import (  # noqa: F401
    CLASSES,
    NAMES,
    SIZES,
    TRUTHS,
    boxes_of,
    explained,
    folder,
    from_cell,
    load_coco,
    reviewed,
    without_letterboxes,
)
from support.images import photograph


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
        (lambda run: (run / "verdicts.json").write_text('{"a": "model_error"}'), "verdict on 'a' must be"),
        (lambda run: (run / "verdicts.json").write_text("{"), "verdicts.json is no JSON"),
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
