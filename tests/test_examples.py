import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.demo.scenes import GEM, make_scene, write_dataset

ROOT = Path(__file__).parents[1]


@pytest.fixture
def image(tmp_path, scene_image):
    path = tmp_path / "photos" / "scene.png"
    path.parent.mkdir()
    Image.fromarray(scene_image).save(path)
    return path


def test_explain_one_image(image, tmp_path, capsys):
    runpy.run_path(str(ROOT / "examples/explain_one_image.py"))["main"](WEIGHTS, image, tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list((tmp_path / "out").glob("*.png"))) >= 4


def test_why_this_class(image, tmp_path, capsys):
    runpy.run_path(str(ROOT / "examples/why_this_class.py"))["main"](WEIGHTS, image, "ball", tmp_path / "c.png")
    assert "rather than ball: ok" in capsys.readouterr().out
    with Image.open(tmp_path / "c.png") as picture, Image.open(image) as original:
        assert picture.width > original.width  # a tiny image is enlarged
        assert picture.height > picture.width  # and words stand below it


def run_example(name, *given):
    runpy.run_path(str(ROOT / "examples" / name))["main"](*given)


def test_ask_many(image, capsys):
    run_example("ask_many.py", WEIGHTS, image)
    said = capsys.readouterr().out
    assert re.search(r"^4 detections, \d+ at a confidence of 0.05$", said, re.M)
    assert re.search(r"^layercam: confidence 0.97 -> .*supported$", said, re.M)
    assert re.search(r"^0\.\d\d is left without the square at \(\d+, \d+\)$", said, re.M)
    assert "no kite here: it scores" in said


def test_own_method(image, tmp_path, capsys, doors):
    run_example("own_method.py", WEIGHTS, image, tmp_path)
    assert capsys.readouterr().out == "hidden_cells and hidden-cells: the same map\n"
    assert (tmp_path / "hidden-cells.png").is_file()


def test_own_layer_method(image, tmp_path, capsys, doors):
    run_example("own_layer_method.py", WEIGHTS, image, tmp_path)
    assert re.fullmatch(r"\w+ 0\.\d\d, near-the-box at model\.\d.*: ok\n", capsys.readouterr().out)
    assert (tmp_path / "near-the-box.png").is_file()


def test_own_target(image, tmp_path, capsys, doors):
    run_example("own_target.py", WEIGHTS, image, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(", ")[2] for line in lines] == ["layercam of margin: ok", "effect of margin: ok"]


def test_compare_methods(image, tmp_path, capsys):
    (image.parent / "broken.png").write_bytes(b"no picture")
    run_example("compare_methods.py", WEIGHTS, image.parent, tmp_path / "run", 1)
    failure, *leads, last = capsys.readouterr().out.splitlines()
    assert failure.startswith(f"{image.parent / 'broken.png'}: ")
    assert sorted(line.partition(":")[0] for line in leads) == ["box", "effect", "layercam"]
    assert "box: lead on a Gaussian in the box +0.00 [+0.00, +0.00], 0 forward passes" in leads
    assert last.startswith("effect is least faithful about the ")
    assert last.endswith(f" in {image}")


def test_own_adapter(tmp_path, capsys, doors):
    (tmp_path / "night.level").write_text("200")
    night = np.full((64, 96, 3), 20, np.uint8)
    night[16:40, 24:60] = 240
    Image.fromarray(night).save(tmp_path / "night.png")
    run_example("own_adapter.py", tmp_path / "night.level", tmp_path / "night.png", tmp_path)
    assert capsys.readouterr().out == "bright 1.00: ok\n"
    assert (tmp_path / "bright.png").is_file()


def test_own_torch_adapter(tmp_path, capsys, doors):
    dark = np.full((128, 256, 3), 20, np.uint8)
    dark[40:56, 96:128] = 255
    Image.fromarray(dark).save(tmp_path / "dark.png")
    run_example("own_torch_adapter.py", tmp_path / "dark.png", tmp_path)
    assert capsys.readouterr().out == "bright 0.98, layercam at cells: ok\n"
    assert (tmp_path / "bright.png").is_file()


def test_own_data(image, tmp_path, capsys, doors):
    labels = image.parent / "labels.lines"
    labels.write_text(f"{image.name} kite 0 0 9 9\n{image.name} gem 20 20 40 40\n")
    run_example("own_data.py", WEIGHTS, labels, tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mAP50 0.00"
    assert len(lines) == 4  # the fourth thing found there is of a class that these labels do not have
    assert all(re.fullmatch(r"\w+ 0\.\d\d \w+ (no map|\(\d+, \d+\))", line) for line in lines[1:])


def test_review(tmp_path, capsys):
    data = write_dataset(
        tmp_path / "set", range(0), range(630_002, 630_003), lambda seed: make_scene(seed).with_marks(True, GEM)
    )
    run_example("review.py", WEIGHTS, data, tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mAP50 0.")
    assert any(line.startswith("Cls: kite in ") and "gem taken for kite" in line for line in lines)
    assert lines[-1] == f"open {tmp_path / 'run' / 'report' / 'index.html'}"


def test_the_page_on_extending_shows_what_the_examples_run():
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), re.S)
    run = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("own_*.py"))
    assert len(shown) == 5
    assert all(part in run for part in shown)


def test_the_page_on_python_shows_what_the_examples_run():
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.S)
    examples = ["ask_many.py", "hand_over.py", "hand_over.py"]
    for part, name in zip(shown, examples, strict=True):
        run = (ROOT / "examples" / name).read_text(encoding="utf-8")
        assert all(line.strip() in run for line in part.splitlines())


def test_hand_over(image, tmp_path, capsys):
    run_example("hand_over.py", WEIGHTS, image, tmp_path / "new")
    counts, one, alone = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"4 boxes, 4 rows, \d{4,} letters of JSON", counts)
    assert one.startswith(f"ImageResult('{image}', 256 x 256 pixels, 4 of 4")
    assert alone.endswith("and by layercam")
    assert len(list((tmp_path / "new").glob("*.png"))) == 2


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("explain*.yaml")), ids=lambda path: path.name)
def test_configurations_run(config, image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "--config", str(config), "--weights", str(WEIGHTS)]) == 0
    assert (tmp_path / "runs" / "explain" / "detections.parquet").exists()


def test_gradcam_by_hand_is_the_librarys_map(image, capsys):
    runpy.run_path(str(ROOT / "examples/gradcam_by_hand.py"))["main"](WEIGHTS, image)
    raw, resized = (float(line.rpartition(" ")[2]) for line in capsys.readouterr().out.splitlines())
    assert raw < 1e-5
    assert resized < 1e-5


def test_the_comparison_of_methods_runs(image, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = ROOT / "configs" / "compare-methods.yaml"
    choices = ["--weights", str(WEIGHTS), "--data", str(image.parent), "--limit", "1", "--imgsz", "128", "--json"]
    assert main(["evaluate", "--config", str(config), *choices]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 11
    assert (tmp_path / "runs" / "evaluate" / "ranking.png").exists()
