"""Models with two classes of one name: a filter takes both, and what needs one class asks for its index."""

import pytest
import torch
from PIL import Image

import detcam
from detcam.cli import main
from detcam.data import read_data
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.errors import UsageError
from detcam.options import find_class, find_classes, name_class
from detcam.targets import Contrast, find_target
from support.labelled_sets import only, yolo

NAMES = {0: "ball", 1: "thing", 2: "cone", 3: "kite", 4: "thing"}
SCENE = next(
    scene for scene in map(make_scene, range(640_000, 640_100)) if {1, 4} <= {one.class_id for one in scene.things}
)
IMAGE = render(SCENE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The bundled detector, whose crates and gems are both called things."""
    path = tmp_path_factory.mktemp("weights") / "same.pt"
    checkpoint = torch.load(WEIGHTS, map_location="cpu", weights_only=False)
    checkpoint["model"].names = NAMES
    torch.save(checkpoint, path)
    return path


@pytest.fixture(scope="module")
def model(weights):
    return detcam.load(weights)


def test_a_name_of_two_classes_stands_for_both():
    assert find_classes(["thing", "ball"], NAMES) == [1, 4, 0]
    assert find_classes([4], NAMES) == [4]
    with pytest.raises(UsageError, match="2 classes of this model are called 'thing': 1, 4; name one by its index"):
        find_class("thing", NAMES)
    assert [name_class(number, NAMES) for number in NAMES] == ["ball", "1", "cone", "kite", "4"]
    assert find_target("contrast:4", NAMES) == Contrast(4)
    with pytest.raises(UsageError, match="2 classes of this model are called 'thing'"):
        find_target("contrast:thing", NAMES)


def test_every_door_takes_both(model):
    indices = {one.class_id for one in detcam.open_image(model, IMAGE, conf=0.01).detections}
    assert {1, 4} < indices
    session = detcam.open_image(model, IMAGE, conf=0.01, classes="thing")
    assert {one.class_id for one in session.detections} == {1, 4}
    assert {one.class_id for one in session.detections_at(classes=["thing", 0])} <= {0, 1, 4}
    result = detcam.explain(model, IMAGE, method="random", conf=0.01, classes=["thing"])
    assert {one.detection.class_id for one in result} == {1, 4}
    result = detcam.explain(model, IMAGE, method="random", conf=0.01, classes=[4])
    assert {one.detection.class_id for one in result} == {4}


@pytest.mark.parametrize(
    "options",
    [{"target": "contrast:thing"}, {"box": (10, 10, 60, 60), "class_name": "thing"}],
    ids=lambda options: next(iter(options)),
)
def test_every_door_that_needs_one_class_asks_for_its_index(model, options):
    with pytest.raises(UsageError, match="2 classes of this model are called 'thing': 1, 4; name one by its index"):
        detcam.explain(model, IMAGE, method="random", conf=0.01, **options)
    right = {name: value if name == "box" else value.replace("thing", "4") for name, value in options.items()}
    assert len(detcam.explain(model, IMAGE, method="random", conf=0.01, **right))


def test_the_command_takes_both_and_asks_for_an_index(weights, tmp_path, capsys):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    command = ["explain", str(tmp_path / "a.png"), "--weights", str(weights), "--method", "random", "--save", "none"]
    assert main([*command, "--out", str(tmp_path / "run"), "--conf", "0.01", "--classes", "thing"]) == 0
    table = detcam.open_run(tmp_path / "run").table()
    assert set(table["class_id"]) == {1, 4}
    assert main([*command, "--out", str(tmp_path / "other"), "--target", "contrast:thing"]) == 2
    assert "2 classes of this model are called 'thing': 1, 4" in capsys.readouterr().err


def test_a_sets_class_of_that_name_has_to_be_told_apart(tmp_path):
    path = yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.1"}, "[thing]")
    message = r"2 classes of the model are called 'thing' \(1, 4\); say which with rename, by its index: thing:1"
    with pytest.raises(UsageError, match=message):
        read_data(path, names=NAMES)
    (truth,) = only(read_data(path, names=NAMES, rename={"thing": "4"}))
    assert (truth.class_id, truth.class_name) == (4, "thing")
    with pytest.raises(UsageError, match="rename: the model has no class '7'"):
        read_data(path, names=NAMES, rename={"thing": "7"})


def test_a_set_of_the_models_own_names_is_read_by_index(tmp_path):
    path = yolo(tmp_path, {"a": "1 0.5 0.5 0.2 0.1\n4 0.5 0.5 0.2 0.1"}, str(list(NAMES.values())))
    assert [truth.class_id for truth in only(read_data(path, names=NAMES))] == [1, 4]
