"""Where the images of a data.yaml lie: beside it, in the working folder, or where Ultralytics keeps data sets."""

import json
import os
import subprocess
import sys

import pytest

from detcam.data import read_data
from detcam.data.places import datasets_folder
from detcam.errors import UsageError
from support.labelled_sets import NAMES, only, yolo

LABEL = {"a": "0 0.5 0.5 0.2 0.1"}


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """Ultralytics' datasets folder as its settings have it."""
    folder = tmp_path / "config" / "Ultralytics"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({"datasets_dir": str(tmp_path / "datasets")}))
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "datasets"


def described(folder, root="animals", val="images/val"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "animals.yaml"
    path.write_text(f"path: {root}\nval: {val}\nnames: [cat, traffic light]\n")
    return path


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("set/animals", None),
        ("work/animals", "in the working folder"),
        ("datasets/animals", "in Ultralytics' datasets folder"),
    ],
)
def test_a_relative_path_is_tried_as_ultralytics_tries_it(tmp_path, monkeypatch, datasets, place, words):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yolo(tmp_path / place, LABEL)
    found = read_data(described(tmp_path / "set"))
    assert found.images[0].path == tmp_path / place / "images" / "val" / "a.png"
    assert only(found)[0].id == "images/val/a.png:1"
    told = f"path 'animals' was found {words}: {tmp_path / place}"
    assert found.notes == (() if words is None else (told,))
    assert not found.problems


def test_a_set_that_lies_in_several_places_is_that_beside_the_file(tmp_path, monkeypatch, datasets):
    monkeypatch.chdir(tmp_path)
    for place in ("set/animals", "animals", "datasets/animals"):
        yolo(tmp_path / place, LABEL)
    found = read_data(described(tmp_path / "set"))
    assert found.images[0].path == tmp_path / "set" / "animals" / "images" / "val" / "a.png"
    assert found.notes == (
        f"path 'animals' was found beside the file: {tmp_path / 'set' / 'animals'}; there is one in the working folder "
        f"too: {tmp_path / 'animals'}; there is one in Ultralytics' datasets folder too: {datasets / 'animals'}",
    )


def test_an_empty_folder_of_that_name_does_not_count(tmp_path, monkeypatch, datasets):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set" / "animals").mkdir(parents=True)
    yolo(datasets / "animals", LABEL)
    found = read_data(described(tmp_path / "set"))
    assert found.notes == (f"path 'animals' was found in Ultralytics' datasets folder: {datasets / 'animals'}",)


def test_a_path_of_another_machine_is_told(tmp_path):
    path = yolo(tmp_path, LABEL)
    path.write_text("path: /data/of/another/machine\nval: images/val\nnames: [cat]\n")
    assert read_data(path).notes == (
        f"path '/data/of/another/machine' is nowhere here; taken for the folder of data.yaml: {tmp_path}",
    )


def test_the_datasets_folder_is_ultralytics_own(tmp_path):
    """In processes of their own: Ultralytics writes its settings where there are none."""
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path)}

    def ask(code):
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return run.stdout.strip().splitlines()[-1]

    theirs = ask("from ultralytics.utils import SETTINGS; print(SETTINGS['datasets_dir'])")
    assert ask("from detcam.data.places import datasets_folder; print(datasets_folder())") == theirs


def test_no_settings_or_damaged_ones_are_no_datasets_folder(datasets, tmp_path):
    assert datasets_folder() == datasets
    settings = tmp_path / "config" / "Ultralytics" / "settings.json"
    for text in ("{", "{}", "[]", '{"datasets_dir": 5}'):
        settings.write_text(text)
        assert datasets_folder() is None
    settings.unlink()
    assert datasets_folder() is None


def test_classes_without_names_are_the_models_by_index(tmp_path):
    path = yolo(tmp_path, {"a": "1 0.5 0.5 0.2 0.1"}, "\nnc: 2.0")
    found = read_data(path, names=NAMES)
    assert [truth.class_name for truth in only(found)] == ["traffic light"]
    assert found.notes == ("nc: 2 without names: its classes are taken for the model's, by index",)
    found = read_data(path, names={0: "cat", 1: "dog", 2: "cow"})
    assert found.unmapped == {"class_0": 0, "class_1": 1}
    assert found.notes == ("nc: 2 without names, and the model has 3 classes",)
    assert read_data(path).names == {0: "class_0", 1: "class_1"}
    renamed = read_data(path, names=NAMES, rename={"class_1": "cat"})
    assert [truth.class_name for truth in only(renamed)] == ["cat"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cat, dog]\nnc: 3", "'names' has 2 classes and nc is 3"),
        ("[cat, dog]\nnc: many", "nc must be a whole number, got 'many'"),
        ("\nnc: 1.5", "nc must be a whole number, got 1.5"),
        ("\nnc: 0", "'names' must be a list of class names"),
    ],
)
def test_an_nc_that_cannot_be(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read_data(yolo(tmp_path, {"a": ""}, text))
