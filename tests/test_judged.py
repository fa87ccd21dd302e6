"""What a review judges: sets whose labels fell away, classes that are never labelled, figures that are undefined."""

import json
import re

import numpy as np
import pytest
import torch

import detcam
from detcam.cli import main
from detcam.data import LabelledImage, LabelledSet, Truth
from detcam.demo import WEIGHTS
from detcam.errors import UsageError
from detcam.review import run_review
from detcam.review.judged import Judged, beside_val, require_truths
from support.labelled_sets import SIZE, coco, draw, yolo

CLASSES = ["ball", "crate", "cone", "kite", "gem"]
FOUND = [(0, 2, 2, 12, 12), (1, 20, 2, 32, 12), (2, 2, 22, 12, 36), (2, 34, 22, 44, 36)]
"""What the detector below finds in every image: class and box, pixels."""


def find(images):
    scores = np.full((len(FOUND), len(CLASSES)), 0.01, np.float32)
    scores[np.arange(len(FOUND)), [class_id for class_id, *_ in FOUND]] = 0.9
    return [(np.array([box for _, *box in FOUND], np.float32), scores) for _ in images]


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    """A detector that looks at nothing, which is quick, in the place of any weights that a command reads."""
    fixed = detcam.BlackBox(find, dict(enumerate(CLASSES)))
    monkeypatch.setattr("detcam.commands.review.load_model", lambda config: fixed)
    return fixed


def labelled(folder, keep=lambda class_id: True):
    """An image with labels for what is found, of some classes."""
    height, width = SIZE
    lines = [
        f"{name} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}"
        for name, x1, y1, x2, y2 in FOUND
        if keep(name)
    ]
    return yolo(folder, {"a": "\n".join(lines)}, f"[{', '.join(CLASSES)}]")


def review(folder, path, *options):
    command = ["review", "--weights", str(WEIGHTS), "--data", str(path), "--out", str(folder / "run")]
    return main([*command, "--method", "random", *options])


def test_classes_that_the_set_never_labels_are_not_judged(tmp_path, capsys):
    assert review(tmp_path, labelled(tmp_path, lambda class_id: class_id == 0)) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {name: count for name, count in summary["counts"].items() if count} == {"TP": 1}
    assert [row["class_name"] for row in summary["per_class"]] == ["ball"]
    assert summary["unjudged"] == {"cone": 2, "crate": 1}
    told = (
        "3 detections of classes that the set never labels cover none of its objects and are not judged (cone 2, "
        "crate 1); name them in classes to judge them"
    )
    assert summary["notes"] == [told]
    assert told in " ".join(capsys.readouterr().err.split())
    assert told in (tmp_path / "run" / "report" / "index.html").read_text()


def test_an_object_taken_for_a_class_that_is_never_labelled_is_judged(tmp_path, detector):
    path = labelled(tmp_path, lambda class_id: class_id == 0)
    label = tmp_path / "labels" / "val" / "a.txt"
    lines = labelled(tmp_path / "all").parent / "labels" / "val" / "a.txt"
    label.write_text(label.read_text() + "\n0" + lines.read_text().splitlines()[1][1:])  # the crate is a ball
    result = run_review(detector, path, tmp_path / "run", method="random")
    assert {name: count for name, count in result.counts.items() if count} == {"TP": 1, "Cls": 1}
    assert result.summary["unjudged"] == {"cone": 2}
    result = run_review(detector, path, tmp_path / "asked", method="random", classes=["ball"])
    assert {name: count for name, count in result.counts.items() if count} == {"TP": 1, "Miss": 1}
    assert result.summary["unjudged"] == {"cone": 2, "crate": 1}


def test_classes_that_are_asked_for_are_judged(tmp_path, detector):
    path = labelled(tmp_path, lambda class_id: class_id == 0)
    assert review(tmp_path, path, "--classes", "ball,2") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {name: count for name, count in summary["counts"].items() if count} == {"TP": 1, "Bkg": 2}
    assert summary["notes"] == ["1 detections of classes that were not asked for are not judged (crate 1)"]
    result = run_review(detector, path, tmp_path / "python", method="random", classes=["ball", 2])
    assert result.summary == summary
    with pytest.raises(UsageError, match="another configuration"):
        run_review(detector, path, tmp_path / "python", method="random", classes=["ball"])
    with pytest.raises(UsageError, match="no class 'zebra' in this model"):
        run_review(detector, path, tmp_path / "other", classes="zebra")


def test_truths_of_classes_not_asked_for_are_left_out(tmp_path):
    assert review(tmp_path, labelled(tmp_path), "--classes", "crate") == 0
    run = detcam.open_run(tmp_path / "run")
    assert run.table("truths")["class_name"].to_list() == ["crate"]
    assert {name: count for name, count in run.summary()["counts"].items() if count} == {"TP": 1}


def test_a_set_without_anything_in_it_judges_every_class_and_has_no_map(tmp_path, capsys):
    path = labelled(tmp_path, lambda class_id: False)
    assert review(tmp_path, path) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["map50"] is summary["map"] is None
    assert summary["counts"]["Bkg"] == len(FOUND)
    printed = capsys.readouterr().out
    assert "mAP50 undefined, mAP50-95 undefined; 1 images" in printed
    assert "0.000" not in printed
    assert re.search(r"TP +│ 0 +│ +│", printed)
    assert "+undefined" not in printed
    assert "nan" not in printed
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert page.count(">undefined<") >= 2
    assert review(tmp_path, path, "--json", "--overwrite") == 0
    assert json.loads(capsys.readouterr().out)["map50"] is None


def test_a_map_of_nothing_found_is_zero(tmp_path, capsys):
    assert review(tmp_path, labelled(tmp_path, lambda class_id: class_id == 0), "--conf", "0.95") == 0
    assert "undefined, mAP50-95" not in capsys.readouterr().out


def test_how_the_figures_differ_from_those_of_yolo_val_is_said(tmp_path, capsys):
    assert review(tmp_path, labelled(tmp_path), "--conf", "0.3", "--iou", "0.6", "--max-det", "50") == 0
    words = beside_val(0.3, 0.6, 50, 0.001, 100)
    assert "from confidence 0.3;" in words
    assert "from 0.001 (NMS at IoU 0.6, at most 50 an image and 100 an image and class)" in words
    assert "yolo val takes 0.001, 0.7 and 300" in words
    assert words in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["figures"] == words
    assert words.replace("'", "&#39;") in (tmp_path / "run" / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("0 0.5 0.5 0.2 0.1", "[zebra, yak]", "the set has zebra, the model ball, crate, cone, kite, gem; rename"),
        ("0 0.5 0.5 0.2 0.1", "\nnc: 2", "nc: 2 without names, and the model has 5 classes; 1 are of classes"),
        ("0 50 50 20 10", "[ball, crate]", "1 cannot be read, .*a.txt: line 1: coordinate 50 outside"),
        ("0 0.5 0.5 0.2", "[ball, crate]", "1 cannot be read, .*4 values; a box has 5"),
    ],
)
def test_a_yolo_set_whose_labels_all_fell_away_is_not_judged(tmp_path, detector, capsys, text, names, message):
    path = yolo(tmp_path, {"a": text, "b": ""}, names)
    with pytest.raises(UsageError, match=f"of 1 labels not one can be used, so nothing can be judged: .*{message}"):
        run_review(detector, path, tmp_path / "python")
    assert review(tmp_path, path) == 2
    assert "not one can be used" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ({"image_id": "elsewhere"}, "annotation 100: no image has the id 'elsewhere'"),
        ({"category_id": "ball"}, "annotation 100: category_id 'ball' is not among the 1 categories"),
        ({"bbox": None}, "annotation 100: bbox must be four numbers"),
        ({"iscrowd": "none"}, "annotation 100: iscrowd must be 0 or 1"),
    ],
)
def test_a_coco_set_whose_labels_all_fell_away_is_not_judged(tmp_path, detector, mark, message):
    path = coco(tmp_path, [mark, mark], categories=[{"id": 3, "name": "ball"}])
    with pytest.raises(UsageError, match=f"of 2 labels not one can be used, .*{message}"):
        run_review(detector, path, tmp_path / "run")


def test_labels_of_images_that_are_gone_have_fallen_away(tmp_path, detector):
    path = yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.1\n1 0.5 0.5 0.2 0.1", "b": ""}, f"[{', '.join(CLASSES)}]")
    (tmp_path / "images" / "val" / "a.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"of 2 labels not one can be used.*a\.png: not an image"):
        run_review(detector, path, tmp_path / "run")


def test_a_set_made_by_hand_without_truths_is_one_of_nothing(tmp_path):
    image = LabelledImage(tmp_path / "a.png", (9, 9), ())
    require_truths(LabelledSet((image,), {0: "ball"}), "the set")
    with pytest.raises(UsageError, match="the set: of 3 labels not one"):
        require_truths(LabelledSet((image,), {0: "ball"}, unmapped={"zebra": 3}), "the set")


def test_crowds_are_labels_of_their_class():
    truth = Truth("1", np.float32([0, 0, 5, 5]), 2, "cone", crowd=True)
    found = LabelledSet((LabelledImage("a.png", (9, 9), (truth,)),), dict(enumerate(CLASSES)))
    assert Judged.of(found, found.names, None).class_ids == {2}
    assert Judged.of(found, found.names, ["ball"]).class_ids == {0}
    with pytest.raises(UsageError, match="classes is empty"):
        Judged.of(found, found.names, [])


@pytest.fixture(scope="module")
def classifier():
    """A classifier of two convolutions."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=4), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 3), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )  # fmt: skip
    return detcam.load(net)


def test_a_classifier_is_not_judged_by_boxes(tmp_path, classifier, monkeypatch, capsys):
    path = yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.1"}, "['0', '1', '2', '3', '4']")
    message = "this model is an image classifier: it says what is in an image and not where"
    with pytest.raises(UsageError, match=message):
        run_review(classifier, path, tmp_path / "run")
    with pytest.raises(UsageError, match=message):
        detcam.evaluate.evaluate(classifier, path, ["random"], limit=1)
    for command in ("review", "evaluate"):
        monkeypatch.setattr(f"detcam.commands.{command}.load_model", lambda config: classifier)
        out = str(tmp_path / command)
        assert main([command, "--weights", str(WEIGHTS), "--data", str(path), "--out", out]) == 2
        assert "image classifier" in capsys.readouterr().err


def test_a_classifier_is_evaluated_on_images_without_labels(tmp_path, classifier):
    draw(tmp_path / "a.png")
    result = detcam.evaluate.evaluate(classifier, tmp_path, ["random"], limit=1, conf=0.0)
    assert len(result.rows) == 1
