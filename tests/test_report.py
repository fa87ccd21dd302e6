"""The report: what is written and what is drawn."""

import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detcam.drawing.render import BOX_COLOUR
from detcam.errors import UsageError
from detcam.geometry import Letterbox
from detcam.report.build import as_script, build_report, context_figures
from detcam.report.pictures import heat_values, thumbnail
from detcam.types import Heatmap
from support.reports import LETTERBOX, images, rows, run  # noqa: F401

# What is written


def test_only_a_whole_review_is_reported(tmp_path, run):
    with pytest.raises(UsageError, match=r"has no run\.json"):
        build_report(tmp_path)
    shutil.copytree(run, tmp_path / "copy", dirs_exist_ok=True)
    (tmp_path / "copy" / "misses.parquet").unlink()
    with pytest.raises(UsageError, match=r"misses\.parquet"):
        build_report(tmp_path / "copy")
    (tmp_path / "copy" / "run.json").write_text('{"schema": 1, "command": "explain"}')
    with pytest.raises(UsageError, match="holds a run of detcam explain"):
        build_report(tmp_path / "copy")


@pytest.mark.parametrize("entry", [{"verdict": "guilty", "note": ""}, {"verdict": "ambiguous"}, "ambiguous"])
def test_broken_verdicts_are_named_and_left_as_they_are(tmp_path, run, entry, caplog):
    shutil.copytree(run, tmp_path / "copy")
    broken = json.dumps({"d00001": entry})
    (tmp_path / "copy" / "verdicts.json").write_text(broken)
    build_report(tmp_path / "copy")
    assert "the verdict on 'd00001' must be" in caplog.text
    assert (tmp_path / "copy" / "verdicts.json").read_text() == broken


def test_no_name_of_the_users_is_a_files(run):
    files = [path.relative_to(run / "report") for path in (run / "report").rglob("*") if path.is_file()]
    pictures = [path.as_posix() for path in files if path.parts[0] == "pictures"]
    assert pictures
    assert all(re.fullmatch(r"pictures/(images|thumbs|heat|causes)/[0-9-]+\.(jpg|png)", name) for name in pictures)
    assert {str(path) for path in files if path.parts[0] != "pictures"} == {
        "index.html", "data.js", "report.css", "theme.js", "verdicts.js", "gallery.js", "detail.js", "app.js",
    }  # fmt: skip


def test_a_second_build_replaces_pictures_and_nothing_else(tmp_path, run):
    shutil.copytree(run, tmp_path / "copy")
    report = tmp_path / "copy" / "report"
    (report / "pictures" / "thumbs" / "99999.jpg").write_bytes(b"left over")
    (report / "mine.txt").write_text("mine")
    build_report(tmp_path / "copy")
    assert not (report / "pictures" / "thumbs" / "99999.jpg").exists()
    assert (report / "mine.txt").read_text() == "mine"
    assert not list(report.glob(".*"))


def test_the_words_of_the_report_mean_what_the_glossary_says(run):
    glossary = (Path(__file__).parents[1] / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = {
        name: " ".join(text.split()) for name, text in re.findall(r"\*\*(.+?)\*\*: (.+?)(?:\n\n|$)", glossary, re.S)
    }
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    words = dict(re.findall(r"<dt>(.+?)</dt>\s*<dd>(.+?)</dd>", page.partition('id="words"')[2]))
    shared = terms.keys() & words.keys()
    assert shared == {"Heatmap", "Target", "Receipt", "Cause", "Anchor"}
    for name in shared:
        assert html.unescape(words[name]).lower() in terms[name].replace("*", "").replace("`", "").lower()
    assert len(terms) == 10


def test_data_is_a_script_that_nothing_in_it_ends():
    data = {"name": "</script><!-- \u2028\u2029 \ud800", "share": float("nan"), "cases": [1, 0.123456789, None]}
    script = as_script(data)
    assert script.isascii()
    assert "<" not in script
    body = json.loads(script.removeprefix("window.DETCAM = ").removesuffix(";\n"))
    assert body == {"name": data["name"], "share": None, "cases": [1, 0.12346, None]}


def test_images_that_cannot_be_read_are_named(tmp_path, images, run, caplog):
    shutil.copytree(run, tmp_path / "copy")
    build_report(tmp_path / "copy")
    assert f"1 of 4 images cannot be shown: {images[3]}: no such file" in caplog.text
    assert f"{images[3]}: no such file" in (tmp_path / "copy" / "report" / "index.html").read_text()


def test_context_dependence_is_counted_by_tenths_and_types():
    shares = [("Cls", -0.4), ("Cls", 0.05), ("Cls", 0.95), ("Bkg", 1.0), ("Bkg", 0.55)]
    cases = [{"type": kind, "context_dependence": share} for kind, share in shares] + [{"type": "Loc"}]
    figures = context_figures(cases)
    assert figures["bins"] == [2, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert figures["count"] == 5
    assert figures["types"] == [
        {"type": "Cls", "count": 3, "median": 0.05, "high": 1 / 3},
        {"type": "Bkg", "count": 2, "median": 0.775, "high": 1.0},
    ]


# What is drawn


def test_a_map_is_cut_to_its_image_at_its_own_resolution():
    raw = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
    letterbox = Letterbox((120, 240), (128, 128), (64, 128), (32, 0))  # the image fills the middle eight rows of cells
    inside = np.maximum(raw[4:12], 0)
    np.testing.assert_array_equal(heat_values(raw, letterbox), np.rint(inside / inside.max() * 255))


def test_a_stored_map_is_the_map_that_plots_show():
    import cv2

    raw = cv2.resize(np.random.default_rng(2).normal(size=(5, 8)).astype(np.float32), (64, 40))
    values = heat_values(raw, LETTERBOX)
    whole = cv2.resize(values, LETTERBOX.original[::-1], interpolation=cv2.INTER_LINEAR) / 255
    assert np.abs(whole - Heatmap(raw, LETTERBOX).array).max() < 0.05
    assert heat_values(np.repeat(np.repeat(raw, 16, 0), 16, 1), replace(LETTERBOX)).shape[1] == 160
    assert not heat_values(-np.abs(raw), LETTERBOX).any()


def test_a_map_is_written_as_colour_over_transparency(run, rows):
    script = (run / "report" / "data.js").read_text()
    cases = json.loads(script.removeprefix("window.DETCAM = ").removesuffix(";\n"))["cases"]
    number = next(n for n, case in enumerate(cases) if case["id"] == rows[0]["id"])
    file, _, name = rows[0]["heatmap"].partition("#")
    with np.load(run / "heatmaps" / file) as maps:
        values = heat_values(maps[name].astype(np.float32), LETTERBOX)
    with Image.open(run / "report" / "pictures" / "heat" / f"{number}.png") as picture:
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(alpha, np.rint(255 * np.sqrt(values / 255)))
    assert not any("heat" in case for case in cases if case["type"] == "Miss")  # the run has no map of these


@pytest.mark.parametrize("box", [(40, 30, 80, 60), (80, 60, 40, 30)])
def test_a_thumbnail_shows_the_box_in_the_middle(box):
    picture = thumbnail(np.zeros((120, 200, 3), np.uint8), box, None)
    lines = np.argwhere((picture == BOX_COLOUR).all(-1))
    centre = (lines.min(0) + lines.max(0)) / 2
    assert max(picture.shape) == 160
    assert np.abs(centre - (np.array(picture.shape[:2]) - 1) / 2).max() <= 2
    assert np.ptp(lines, 0).tolist() == pytest.approx([160 * 30 / 80, 160 * 40 / 80], abs=2)


def test_a_thumbnail_at_the_edge_stays_in_the_image():
    picture = thumbnail(np.zeros((120, 200, 3), np.uint8), (0, 0, 12, 12), None)
    lines = np.argwhere((picture == BOX_COLOUR).all(-1))
    assert picture.shape == (160, 160, 3)
    assert lines.min(0).tolist() == [0, 0]
    assert thumbnail(np.zeros((30, 40, 3), np.uint8), (-5, -5, 400, 12), (25, 25, 40, 40)).shape == (120, 160, 3)
