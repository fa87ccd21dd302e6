"""Run folders that others made: what is broken is named, links are refused, and nothing that is not detcam's goes."""

import io
import json
import zipfile

import numpy as np
import polars as pl
import pytest

import detcam
from detcam.cli import main
from detcam.errors import InputError, UsageError
from detcam.export import export
from detcam.report.build import build_report
from detcam.runs import open_run
from detcam.runs.maps import read_arrays
from detcam.runs.own_files import own_file
from detcam.runs.photographs import read_photograph
from support.images import write_images
from support.reports import detection, images, write_run  # noqa: F401  # a fixture among them


@pytest.fixture
def review(tmp_path, images):  # noqa: F811
    return write_run(tmp_path / "review", [detection(n, images[n % 2]) for n in range(4)])


def change(run, **columns):
    """Put a value into the first row of the detections."""
    path = run / "detections.parquet"
    table = pl.read_parquet(path)
    first = pl.int_range(pl.len()) == 0
    changed = [
        pl.when(first).then(pl.lit(value).cast(table.schema[name])).otherwise(pl.col(name)).alias(name)
        for name, value in columns.items()
    ]
    table.with_columns(changed).write_parquet(path)


def page(run):
    return build_report(run).read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("summary.json", "[]", "summary.json is damaged: it must be an object, got a list of 0"),
        ("summary.json", '{"images": 1}', "summary.json is damaged: it has no 'counts'"),
        ("run.json", '{"schema": 2, "command": "review", "classes": {"999999999": "a"}}', "numbers of classes from 0"),
        ("run.json", '{"schema": 2, "command": "review", "configuration": []}', "it.configuration must be an object"),
    ],
)
def test_a_run_without_which_nothing_is_shown_is_refused(review, name, text, match, capsys):
    (review / name).write_text(text)
    assert main(["report", str(review)]) == 2
    said = capsys.readouterr().err
    assert match in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text"), [("causes.json", "null"), ("verdicts.json", '{"a": [1]}'), ("causes.json", "[" * 500)]
)
def test_the_rest_is_shown_and_the_broken_part_named(review, name, text):
    (review / name).write_text(text)
    assert f"{name} is" in page(review)
    assert (review / "report" / "pictures" / "thumbs" / "0.jpg").is_file()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"x1": float("nan")}, "1 rows are left out, the first &#39;d00000&#39;: its box must be four finite numbers"),
        ({"x2": 1e30}, "its box must be four finite numbers"),
        ({"class_id": 999_999_999}, "class_id must lie in 0 .. 99999"),
        ({"image": None}, "no image that can be used"),
        ({"letterbox": '{"original": [0, 0], "network": [1, 1], "resized": [1, 1], "offset": [0, 0]}'},
         "1 cells of &#39;letterbox&#39; make no sense"),
        ({"letterbox": '{"original": [99999, 99999], "network": [1, 1], "resized": [1, 1], "offset": [0, 0]}'},
         "1 cells of &#39;letterbox&#39; make no sense"),
        ({"heatmap": "../../elsewhere.npz#a"}, "is no file of maps"),
    ],
)  # fmt: skip
def test_rows_and_cells_that_make_no_sense_are_named(review, columns, said):
    change(review, **columns)
    assert said in page(review)


def test_a_column_of_another_kind_is_refused(review):
    path = review / "detections.parquet"
    pl.read_parquet(path).with_columns(x1=pl.lit("a")).write_parquet(path)
    with pytest.raises(UsageError, match=r"detections\.parquet is damaged: its column 'x1' holds String, not Float32"):
        open_run(review).table()


def test_rows_that_take_no_bytes_are_refused(review):
    path = review / "detections.parquet"
    pl.read_parquet(path).select(pl.all().gather(pl.int_range(300_000) * 0)).write_parquet(path)
    with pytest.raises(UsageError, match=r"detections\.parquet is damaged: 300,000 rows in"):
        open_run(review).table()


@pytest.mark.parametrize("place", ["report", "report/pictures", "report/pictures/thumbs", "report/index.html"])
def test_a_report_does_not_go_through_a_link(review, tmp_path, place):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "0.jpg").write_text("mine")
    (review / place).parent.mkdir(parents=True, exist_ok=True)
    (review / place).symlink_to(victim)
    with pytest.raises(UsageError, match=rf"{place} is a link"):
        build_report(review)
    assert [path.name for path in victim.iterdir()] == ["0.jpg"]
    assert (victim / "0.jpg").read_text() == "mine"


def test_a_report_replaces_only_what_a_report_wrote(review):
    (review / "report").mkdir()
    (review / "report" / "index.html").write_text("mine")
    with pytest.raises(UsageError, match=r"index\.html is no report of detcam's"):
        build_report(review)
    (review / "report" / "index.html").unlink()
    build_report(review)
    for kept in ("notes.txt", "pictures/mine.txt", "pictures/thumbs/holiday.jpg"):
        (review / "report" / kept).write_text("mine")
    (review / "report" / "pictures" / "thumbs" / "99.jpg").write_text("an earlier report's")
    build_report(review)
    for kept in ("notes.txt", "pictures/mine.txt", "pictures/thumbs/holiday.jpg"):
        assert (review / "report" / kept).read_text() == "mine"
    assert not (review / "report" / "pictures" / "thumbs" / "99.jpg").exists()


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a\\b", "c:a", "a\0", ""])
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="names no file of this folder"):
        own_file(tmp_path, name)


def test_a_picture_of_a_cause_lies_in_the_run(review, tmp_path):
    (tmp_path / "elsewhere.png").write_bytes((review / "patch.png").read_bytes())
    causes = json.loads((review / "causes.json").read_text())
    causes[0]["patches"] = ["../elsewhere.png", "patch.png"]
    (review / "causes.json").write_text(json.dumps(causes))
    assert "&#39;../elsewhere.png&#39; names no file of this folder" in page(review)
    assert [path.name for path in (review / "report" / "pictures" / "causes").iterdir()] == ["0-1.png"]


@pytest.mark.parametrize("image", ["ftp://127.0.0.1:9/a.png", "s3://bucket/a.png", "//host/a.png", "a\0", "b" * 5000])
def test_nothing_is_fetched_because_a_run_names_it(image):
    with pytest.raises(InputError):
        read_photograph(image)


def test_what_is_no_image_is_not_handed_on(review, tmp_path):
    (tmp_path / "secret").write_text("a key")
    change(review, image=str(tmp_path / "secret"))
    (review / "verdicts.json").write_text('{"d00000": {"verdict": "label_error", "note": ""}}')
    assert "1 images cannot be read" in export(review, "relabel", tmp_path / "out")
    assert not list((tmp_path / "out" / "images").iterdir())


def archive(shape, kind="<f2", data=b"\0" * 32):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data)
    return file


@pytest.mark.parametrize(
    ("shape", "kind"),
    [("(99999, 99999)", "<f2"), ("(4, 4)", "|O"), ("(4,)", "<f2"), ("(4, 9)", "<f2"), ("(0, 4)", "<f2")],
)
def test_maps_are_read_no_further_than_they_are_maps(shape, kind):
    with pytest.raises(ValueError, match=r"no map|as long as"):
        read_arrays(archive(shape, kind), {"a"})
    assert np.array_equal(read_arrays(archive("(4, 4)"), {"a"})["a"], np.zeros((4, 4), np.float32))


@pytest.mark.parametrize("place", ["heatmaps", "overlays"])
@pytest.mark.parametrize("how", ["gone", "cut off"])
def test_a_finished_image_that_lacks_a_file_is_done_again(tmp_path, capsys, place, how):
    write_images(tmp_path / "images", 2)
    command = ["explain", "--weights", str(detcam.demo.WEIGHTS), str(tmp_path / "images"), "--method", "box"]
    command += ["--save", "panel", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    file = sorted((tmp_path / "run" / place).iterdir())[0]
    whole = file.read_bytes()
    file.write_bytes(whole[:40]) if how == "cut off" else file.unlink()
    capsys.readouterr()
    assert main(command) == 0
    assert "of 1 finished images a file is gone or damaged" in " ".join(capsys.readouterr().err.split())
    assert file.read_bytes() == whole


@pytest.mark.parametrize("name", ["heatmaps", "overlays", ".parts", "detections.parquet", ".lock"])
def test_a_run_does_not_go_on_through_a_link(tmp_path, name):
    write_images(tmp_path / "images", 1)
    command = ["explain", "--weights", str(detcam.demo.WEIGHTS), str(tmp_path / "images"), "--method", "box"]
    run, victim = tmp_path / "run", tmp_path / "victim"
    assert main([*command, "--out", str(run)]) == 0
    victim.mkdir()
    (victim / "mine").write_text("mine")
    if (run / name).exists():
        (run / name).rename(tmp_path / "moved")
    (run / name).symlink_to(victim)
    assert main([*command, "--out", str(run), "--overwrite"]) == 2
    assert [path.name for path in victim.iterdir()] == ["mine"]
