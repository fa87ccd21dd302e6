"""Explanations as other programs take them: notebooks, PIL, JSON, polars, pandas, supervision."""

import base64
import json
import re
import sys
from dataclasses import replace
from html import escape

import numpy as np
import polars as pl
import pytest
from PIL import Image

import detcam
from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.records import FRAME
from detcam.runs.schema import COLUMNS, read_detections
from detcam.types import ImageResult
from support.fake_detector import IMAGE, FakeDetector
from support.images import photograph


@pytest.fixture(scope="module")
def result(demo_detector, scene_image):
    return detcam.explain(demo_detector, scene_image)


@pytest.fixture(scope="module")
def crowded():
    """Sixteen explanations of an image that no JPEG makes small."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    noise = noise.repeat(5, 0).repeat(5, 1)  # which is noise at 300 pixels, too
    made = detcam.explain(FakeDetector(), IMAGE, method="layercam", conf=0)
    explanations = [replace(one, image=noise, heatmap=_at(one, noise)) for one in made for _ in range(4)]
    return ImageResult("<noise> & more", noise, made.detections, tuple(explanations))


def _at(explanation, image):
    return replace(explanation.heatmap, letterbox=replace(explanation.heatmap.letterbox, original=image.shape[:2]))


@pytest.mark.parametrize("what", ["result", "first"])
def test_a_notebook_shows_pictures_and_sentences_in_few_bytes(result, crowded, what):
    for given in (result, crowded):
        shown = given if what == "result" else given[0]
        html = shown._repr_html_()
        assert len(html.encode()) < 200_000
        pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
        assert len(pictures) == (1 if what == "first" else min(len(given), 8))
        assert all(base64.b64decode(one).startswith(b"\xff\xd8") for one in pictures)
    html = (result if what == "result" else result[0])._repr_html_()
    assert all(escape(one.sentence) in html for one in (result if what == "result" else [result[0]]))


def test_a_name_is_no_html(crowded):
    assert "&lt;noise&gt; &amp; more" in crowded._repr_html_()
    assert "<noise>" not in crowded._repr_html_()
    assert "and 24 more" in crowded._repr_html_()


def test_an_image_without_detections_shows_itself_too(demo_detector):
    empty = detcam.explain(demo_detector, np.full((64, 96, 3), 114, np.uint8), conf=0.9)
    assert "96 x 64 pixels: 0 of 0 explained" in empty._repr_html_()
    assert len(empty.to_polars()) == 0
    assert empty.to_polars().schema == pl.DataFrame(schema=FRAME).schema
    assert empty.to_dict()["explanations"] == []


def test_a_repr_is_one_line(result, crowded):
    for one in (result, result[0], result[0].detection, result[0].heatmap, result[0].detection, crowded):
        assert "\n" not in repr(one)
        assert len(repr(one)) < 300
    assert repr(result) == "ImageResult('image 0', 256 x 256 pixels, 4 of 4 detections explained)"
    assert repr(result[0]).startswith(f"Explanation('{result[0].detection.caption}', effect of class: ok")
    assert repr(result[0].heatmap).startswith("Heatmap(256 x 256 over an image of 256 x 256 pixels, peak ")


def test_pictures_are_those_that_are_saved(result, tmp_path):
    for one in (result, result[0]):
        one.save(tmp_path / "new" / "picture.png")
        with Image.open(tmp_path / "new" / "picture.png") as saved:
            assert np.array_equal(np.asarray(saved), np.asarray(one.to_pil()))
    assert np.array_equal(np.asarray(result.to_pil()), result.plot())


def test_dictionaries_are_json_and_say_all(result):
    read = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (read["width"], read["height"], read["source"]) == (256, 256, "image 0")
    assert len(read["detections"]) == len(read["explanations"]) == 4
    for one, said in zip(result, read["explanations"], strict=True):
        assert said == json.loads(json.dumps(one.to_dict()))
        assert said["detection"]["xyxy"] == pytest.approx(one.detection.xyxy.tolist())
        assert (said["sentence"], said["status"], said["method"]) == (one.sentence, one.status, "effect")
        assert said["receipt"]["score"] == one.receipt.score
    assert any(said["evidence"] and said["evidence"]["patches"] for said in read["explanations"])


@pytest.mark.parametrize("to", ["to_polars", "to_pandas"])
def test_frames_are_the_runs_table(demo_detector, scene_image, tmp_path, to):
    if to == "to_pandas":
        pytest.importorskip("pandas", reason="pandas is not installed")
    Image.fromarray(scene_image).save(tmp_path / "a.png")
    command = ["explain", str(tmp_path / "a.png"), "--weights", str(WEIGHTS), "--out", str(tmp_path / "run")]
    assert main([*command, "--save", "none"]) == 0
    table = read_detections(tmp_path / "run")
    frame = getattr(detcam.explain(demo_detector, str(tmp_path / "a.png")), to)()
    assert list(frame.columns) == [name for name in COLUMNS if name in FRAME]
    for name in frame.columns:
        if FRAME[name] is float:
            stored = table[name].cast(pl.Float64).to_list()
            assert [*frame[name]] == pytest.approx(stored, rel=1e-4, abs=1e-4, nan_ok=True)
        elif name not in ("receipt", "evidence"):  # numbers in their text have last bits
            assert [*frame[name]] == table[name].to_list()
    assert [json.loads(text)["patches"] for text in frame["evidence"] if isinstance(text, str)] == [
        json.loads(text)["patches"] for text in table["evidence"].drop_nulls()
    ]


def test_what_is_missing_is_named_with_what_to_do(result, monkeypatch):
    for package in ("pandas", "supervision"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(detcam.UsageError, match=r"needs pandas: pip install pandas, or take to_polars\(\)"):
        result.to_pandas()
    with pytest.raises(detcam.UsageError, match=r"needs supervision: pip install supervision"):
        result.to_supervision()


def test_supervision_has_the_detections_and_maps(result):
    sv = pytest.importorskip("supervision", reason="supervision is not installed: pip install '.[supervision]'")
    found = result.to_supervision()
    assert isinstance(found, sv.Detections)
    assert found.xyxy == pytest.approx(np.array([one.detection.xyxy for one in result]))
    assert found.class_id.tolist() == [one.detection.class_id for one in result]
    assert found.data["class_name"].tolist() == [one.detection.class_name for one in result]
    assert found.data["sentence"].tolist() == [one.sentence for one in result]
    assert np.array_equal(found[2].data["heatmaps"][0], result[2].heatmap.array)
    assert sv.BoxAnnotator().annotate(photograph(256, 256).copy(), found).shape == (256, 256, 3)


def test_an_image_without_detections_for_supervision(demo_detector):
    pytest.importorskip("supervision", reason="supervision is not installed: pip install '.[supervision]'")
    empty = detcam.explain(demo_detector, np.full((64, 96, 3), 114, np.uint8), conf=0.9)
    assert len(empty.to_supervision()) == 0
