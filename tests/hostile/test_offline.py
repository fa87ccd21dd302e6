"""Every command, in a process with nothing set: no process, no connection, no file elsewhere."""

import json

import numpy as np
import pytest
from PIL import Image

import detcam
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from support.images import SCENE_WITH_TWO_ALIKE
from support.offline import run_apart

pytestmark = pytest.mark.hostile
RUN = "from detcam.cli import main\ntold = [main(command) for command in {commands!r}]\n"
HERE = ["--weights", str(WEIGHTS)]
COMMANDS = {
    "review of a YOLO set": [["review", *HERE, "--data", "SET/data.yaml"], ["report", "runs/review"]],
    "review of a COCO set": [["review", *HERE, "--data", "SET/coco.json"], ["export", "runs/review", "--to", "coco"]],
    "evaluate": [["evaluate", *HERE, "--data", "SET/data.yaml", "--methods", "box,layercam", "--limit", "2"]],
    "evaluate planted": [["evaluate", "--planted", "--methods", "box,random", "--limit", "3"]],
    "explain": [["explain", "SET/images/val", *HERE, "--method", "layercam", "--verify"]],
    "explain under odd letters": [["explain", "SET/images/val", *HERE, "--method", "box", "--out", "\u65e5\u672c"]],
}


@pytest.fixture
def labelled(tmp_path):
    """A set in both forms of two images, one of them damaged."""
    images, labels = tmp_path / "set" / "images" / "val", tmp_path / "set" / "labels" / "val"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    Image.fromarray(np.asarray(render(make_scene(SCENE_WITH_TWO_ALIKE)))).save(images / "a.png")
    (images / "b.png").write_bytes(b"no image at all")
    names = list(detcam.load(WEIGHTS).names.values())
    for name in "ab":
        (labels / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "set" / "data.yaml").write_text(f"train: images/val\nval: images/val\nnames: {names}\n")
    coco = {
        "images": [{"id": n, "file_name": f"images/val/{name}.png"} for n, name in enumerate("ab")],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 0, "bbox": [9, 9, 40, 40]}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
    }
    (tmp_path / "set" / "coco.json").write_text(json.dumps(coco))
    return tmp_path / "set"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_stays_at_home(tmp_path, labelled, record_property, name):
    commands = [[word.replace("SET", str(labelled)) for word in command] for command in COMMANDS[name]]
    ran = run_apart(tmp_path, RUN.format(commands=commands))
    wrong = bool(ran["deeds"]) or not set(ran["told"]) <= {0, 1}
    record_property("hostile", ["offline", 1, int(wrong)])
    assert not wrong, ran
