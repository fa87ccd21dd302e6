"""Labelled sets in formats from outside: registered, or brought by another package; read by Python and by commands."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import detcam
from detcam.cli import main
from detcam.data import DATA_FORMATS, LabelledImage, LabelledSet, Truth, read_data
from detcam.data.labels import Problem
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.errors import InputError, UsageError
from detcam.runs.loading import find_items

MODEL = {4: "Traffic light", 7: "cat"}


def toy_set(folder, **changes):
    """Three truths in one image, in classes of its own, one of which no model here has."""
    image = folder / "a.png"
    if not image.is_file():
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(image)
    truths = tuple(
        Truth(f"t{class_id}", np.array([1, 2, 30, 20]), class_id, name, crowd=name == "cat")
        for class_id, name in enumerate(("cat", "traffic_light", "moose"))
    )
    given = {"images": (LabelledImage(image, (40, 50), truths),), "names": {0: "cat", 1: "traffic_light", 2: "moose"}}
    return LabelledSet(**(given | changes))


@pytest.fixture
def toy(tmp_path, doors):
    """The path of a set that the format ``toy`` reads."""
    path = tmp_path / "a.toy"
    path.touch()
    detcam.register_data_format("toy", lambda given: toy_set(tmp_path) if str(given).endswith(".toy") else None)
    return path


def test_a_registered_format_is_read_in_its_own_classes(toy):
    found = read_data(toy)
    assert found.names == {0: "cat", 1: "traffic_light", 2: "moose"}
    assert [truth.class_name for truth in found.images[0].truths] == ["cat", "traffic_light", "moose"]


def test_its_classes_are_matched_with_the_models(toy):
    found = read_data(str(toy), names=MODEL)
    assert [(truth.id, truth.class_id, truth.class_name, truth.crowd) for truth in found.images[0].truths] == [
        ("t0", 7, "cat", True),
        ("t1", 4, "Traffic light", False),
    ]
    assert (found.names, found.unmapped) == (MODEL, {"moose": 1})
    assert found.notes == ("class 'traffic_light' is taken for the model's 'Traffic light'",)
    renamed = read_data(toy, names=MODEL, rename={"moose": "cat"})
    assert [truth.class_id for truth in renamed.images[0].truths] == [7, 4, 7]
    with pytest.raises(UsageError, match="rename: the set has no class 'mouse'; did you mean 'moose'"):
        read_data(toy, names=MODEL, rename={"mouse": "cat"})


def test_other_paths_are_left_to_the_next_reader(toy, tmp_path):
    detcam.register_data_format("second", lambda path: toy_set(tmp_path, labelled=False))
    assert read_data(toy).labelled
    assert not read_data("anything").labelled


def test_a_path_that_nothing_reads_is_told_which_formats_there_are(toy, tmp_path):
    (tmp_path / "a.other").touch()
    for name, reason in (("a.other", "not a labelled set"), ("gone", "no such file or folder")):
        with pytest.raises(UsageError, match=rf"{name}: {reason}.*, or what a registered format takes \(toy\)$"):
            read_data(tmp_path / name)


def test_a_reader_gets_the_settings_that_it_names(tmp_path, doors):
    asked = []

    def split_alone(path, split):
        asked.append((path, split))
        return toy_set(tmp_path) if path == "one" else None

    def both(path, *, split="val", images_dir=None, **further):
        asked.append((path, split, images_dir, further))
        return toy_set(tmp_path)

    detcam.register_data_format("split-alone", split_alone)
    detcam.register_data_format("both", both)
    read_data("one", "train")
    read_data("two", "test", images_dir=tmp_path)
    assert asked == [("one", "train"), ("two", "test"), ("two", "test", tmp_path, {})]
    with pytest.raises(UsageError, match="images_dir='here' means nothing to data format 'split-alone'"):
        read_data("one", images_dir="here")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: None, r"function of a path that may also take split and images_dir, and this one is .* \(\)"),
        (lambda path, names: None, r"a function of \(path, names\)"),
        ("reader", "got 'reader'"),
    ],
)
def test_what_cannot_read_is_refused(given, message, doors):
    with pytest.raises(UsageError, match=message):
        detcam.register_data_format("toy", given)


def fails(path):
    raise ValueError("line 3 is broken")


def refuses(path):
    raise UsageError("this set has no split")


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (fails, "^here: data format 'odd' failed: ValueError: line 3 is broken$"),
        (refuses, "^this set has no split$"),
        (lambda path: [], "^here: data format 'odd' has to give a detcam.data.LabelledSet or None, and gave a list$"),
        (lambda path: LabelledSet((), {}), "^here: data format 'odd' found no image that can be read$"),
        (
            lambda path: LabelledSet((), {}, (Problem(Path("a.png"), "is gone"),)),
            "found no image that can be read: a.png: is gone$",
        ),
    ],
)
def test_a_reader_that_goes_wrong_is_named(reader, message, doors):
    detcam.register_data_format("odd", reader)
    with pytest.raises(UsageError, match=message):
        read_data("here")


def test_a_truth_of_no_class_of_the_set_is_refused(tmp_path, doors):
    detcam.register_data_format("odd", lambda path: toy_set(tmp_path, names={0: "cat", 1: "dog", 2: "moose"}))
    with pytest.raises(UsageError, match=r"a.png: data format 'odd' gave truth 't1' the class 1, 'traf"):
        read_data("here", names=MODEL)


def test_its_images_are_sources(toy, tmp_path):
    (tmp_path / "b.odd").touch()
    (tmp_path / "list.txt").write_text("a.toy\n")
    items = list(find_items([str(toy), str(tmp_path / "list.txt"), str(tmp_path / "b.odd")]))
    assert [item.name for item in items] == [str(tmp_path / "a.png"), str(tmp_path / "b.odd")]
    assert items[0].read().shape == (40, 50, 3)
    with pytest.raises(InputError, match="not an image that can be decoded"):  # taken for an image, as ever
        items[1].read()


READER = """
import json
from pathlib import Path
import numpy as np
from detcam.data import LabelledImage, LabelledSet, Truth, image_size

def read_boxes(path, split):
    path = Path(path)
    if path.suffix != ".boxes":
        return None
    images = []
    for file, boxes in json.loads(path.read_text())[split].items():
        file = path.parent / file
        truths = [Truth(f"{file.name}:{n}", np.array(box), 0, "KITE") for n, box in enumerate(boxes)]
        images.append(LabelledImage(file, image_size(file), tuple(truths)))
    return LabelledSet(tuple(images), {0: "KITE"})
"""


@pytest.fixture
def installed(tmp_path):
    """The folder of a package that brings a format, and a set of two splits in that format."""
    site = tmp_path / "site"
    info = site / "boxes-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: boxes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[detcam.data_formats]\nboxes = boxes:read_boxes\n")
    (site / "boxes.py").write_text(READER)
    for seed in (3, 5):
        Image.fromarray(render(make_scene(seed))).save(tmp_path / f"{seed}.png")
    labels = tmp_path / "labels.boxes"
    labels.write_text(json.dumps({"val": {"3.png": [[10, 10, 60, 60]]}, "train": {"5.png": []}}))
    return site, labels


@pytest.fixture
def brought(installed, monkeypatch, doors):
    """The set, while the package is installed."""
    site, labels = installed
    monkeypatch.syspath_prepend(site)
    DATA_FORMATS._complete = False
    yield labels
    sys.modules.pop("boxes", None)


def test_commands_read_what_a_package_brings(brought, tmp_path, capsys):
    given = ["--weights", str(WEIGHTS), "--data", str(brought)]
    assert main(["review", *given, "--out", str(tmp_path / "review"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["images"] == 1
    truths = detcam.open_run(tmp_path / "review").table("truths")
    assert truths["class_name"].to_list() == ["kite"]  # the model's name of the set's KITE
    evaluate = ["evaluate", *given, "--out", str(tmp_path / "evaluate"), "--methods", "box,random", "--limit", "1"]
    assert main([*evaluate, "--split", "train", "--json"]) == 0
    assert [json.loads(line)["method"] for line in capsys.readouterr().out.splitlines()] == ["box", "random"]
    explain = ["explain", str(brought), "--weights", str(WEIGHTS), "--out", str(tmp_path / "explain")]
    assert main([*explain, "--method", "box", "--save", "none"]) == 0
    images = {row.image for row in detcam.open_run(tmp_path / "explain").rows()}
    assert images == {str(tmp_path / "3.png")}
    assert main(["review", *given, "--images-dir", ".", "--out", str(tmp_path / "again")]) == 2
    assert "images_dir='.' means nothing to data format 'boxes'" in capsys.readouterr().err


def test_a_package_that_is_only_installed_is_enough(installed, tmp_path):
    """In a process of its own, as people call it, where nothing but the entry point names the reader."""
    site, labels = installed
    script = f"import sys; sys.path.insert(0, {str(site)!r}); from detcam.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["plant", "--weights", str(WEIGHTS), "--data", str(labels), "--out", str(tmp_path / "plant")]
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no object in the data has sides of at least" in done.stderr  # so it was read: the split has no boxes
