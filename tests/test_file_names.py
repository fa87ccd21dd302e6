"""Classes and images of any name as files' names, and pictures saved where no folder is yet."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import detcam
from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.export import export
from detcam.filenames import safe_name
from detcam.runs.schema import read_detections
from support.fake_detector import IMAGE, FakeDetector
from support.images import SCENE_WITH_TWO_ALIKE

STRANGE = ["traffic light/red", "../up", "/etc/passwd", "nul\0l", "", "x" * 300, "кот\n🐈", "C:\\a?*", ".", "a.b"]


@pytest.fixture
def explanation():
    return detcam.explain(FakeDetector(), IMAGE, method="layercam", conf=0)[0]


@pytest.mark.parametrize("name", STRANGE, ids=ascii)
def test_a_class_of_any_name_gets_a_picture_where_it_was_asked_for(name, explanation, tmp_path):
    named = replace(explanation, detection=replace(explanation.detection, class_name=name))
    named.save(tmp_path / f"{named.file_name}.png")
    (written,) = tmp_path.rglob("*")
    assert written.name == f"{safe_name(name)}-{named.detection.anchor}.png"
    with Image.open(written) as picture:
        assert picture.width >= 4


def test_names_of_explanations_of_one_class_differ():
    result = detcam.explain(FakeDetector(), IMAGE, method="layercam", conf=0)
    assert len({one.file_name for one in result}) == len(result) > 1


def test_a_slash_in_the_class_is_no_dead_end(explanation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = replace(explanation, detection=replace(explanation.detection, class_name="car/van"))
    named.save(f"{named.detection.class_name}.png")
    assert Path("car/van.png").is_file()


@pytest.mark.parametrize("place", ["new/why.png", "new/newer/why.jpg", "memory://new/why.png"])
def test_a_folder_that_is_missing_is_made(place, explanation, tmp_path):
    from detcam.io.files import locate

    path = place if "://" in place else str(tmp_path / place)
    explanation.save(path)
    assert locate(path).read_bytes()


def test_a_picture_that_cannot_be_written_names_its_file(explanation, tmp_path):
    (tmp_path / "file").write_text("")
    cases = {
        tmp_path / "file" / "why.png": "its folder cannot be made",
        tmp_path / f"{'x' * 300}.png": "File name too long",
    }
    for path, reason in cases.items():
        with pytest.raises(OSError, match=reason) as caught:
            explanation.save(path)
        assert caught.value.filename == str(path)
        assert "partial" not in str(caught.value)
    for path, reason in {"a\0b.png": "null byte", "folder/": "use .png or .jpg"}.items():
        with pytest.raises(detcam.UsageError, match=reason):
            explanation.save(path)


@pytest.fixture
def strange_weights(tmp_path):
    """The bundled detector, its classes called as no file can be."""
    checkpoint = torch.load(WEIGHTS, weights_only=False)
    for model in filter(None, (checkpoint["model"], checkpoint.get("ema"))):
        model.names = dict(enumerate(STRANGE[: len(model.names)]))
    torch.save(checkpoint, tmp_path / "strange.pt")
    return tmp_path / "strange.pt"


def test_a_run_of_classes_that_no_file_can_be_called(strange_weights, tmp_path):
    image = tmp_path / "a:b?" / "x y\n.png"
    image.parent.mkdir()
    Image.fromarray(render(make_scene(SCENE_WITH_TWO_ALIKE))).save(image)
    out = tmp_path / "run"
    command = ["explain", str(image), "--weights", str(strange_weights), "--out", str(out), "--method", "box"]
    assert main([*command, "--save", "overlay,heatmap,panel"]) == 0
    rows = read_detections(out)
    assert set(rows["class_name"]) <= set(STRANGE)
    assert any("/" in name for name in rows["class_name"])
    pictures = {path.name for path in (out / "overlays").iterdir()}
    for row in rows.iter_rows(named=True):
        assert {f"{row['id']}-{safe_name(row['class_name'])}{end}.png" for end in ("", "-heatmap")} <= pictures
    for to in ("coco", "csv"):
        export(out, to, tmp_path / to)
    assert json.loads((out / "run.json").read_text())["state"] == "finished"
    assert not list(tmp_path.parent.rglob("passwd*"))
