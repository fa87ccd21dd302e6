"""Weights as files: saved, fused, in half precision, or trained for an epoch; the boxes are those of ``predict()``."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from ultralytics import RTDETR, YOLO, YOLOE, YOLOWorld

import detcam
from detcam.demo.scenes import make_scene, render
from support.comparison import paired
from test_tasks import IMAGE, build

SETTINGS = {"conf": 1e-6, "max_det": 6}
SMALL = ["yolov8n", "yolo26n", "yolo11n-seg", "yolov8n-obb"]
OTHERS = [
    "yolov3-tiny", "yolov5n", "yolov6n", "yolov9t", "yolov10n", "yolo12n", "yolo26n-seg", "yolo11n-pose",
    "yolo26n-pose", "yolo26n-obb", "yolov8s-world", "yolov8s-worldv2", "yoloe-11s", "yoloe-v8s-seg", "yoloe-26n",
    "rtdetr-l",
]  # fmt: skip
TRAINED_SIDE = 64


def plain(yolo, folder):
    yolo.save(folder / "plain.pt")
    return folder / "plain.pt"


def fused(yolo, folder):
    yolo.model.eval().fuse(verbose=False)
    yolo.save(folder / "fused.pt")
    return folder / "fused.pt"


def half(yolo, folder):
    """In float16, as a training leaves it."""
    torch.save({"model": None, "ema": yolo.model.half(), "train_args": {"imgsz": 256}}, folder / "half.pt")
    return folder / "half.pt"


def label(task, class_id, box, side, keypoints):
    """A line of a label file: a box, its corners, or a box and points in it."""
    x1, y1, x2, y2 = (value / side for value in box)
    if task in ("segment", "obb"):
        numbers = [x1, y1, x2, y1, x2, y2, x1, y2]
    else:
        numbers = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    points = [(x1 + x2) / 2, (y1 + y2) / 2, 2] * keypoints if task == "pose" else []
    return f"{class_id} " + " ".join(f"{number:.5f}" for number in [*numbers, *points])


def trained(yolo, folder):
    """After one tiny epoch on the generator's scenes."""
    for part in ("images", "labels"):
        (folder / "data" / part).mkdir(parents=True)
    keypoints = yolo.model.yaml.get("kpt_shape", [0])[0]
    for number in range(4):
        scene = make_scene(number)
        image = Image.fromarray(render(scene))
        image.resize((TRAINED_SIDE, TRAINED_SIDE)).save(folder / "data" / "images" / f"{number}.png")
        lines = [label(yolo.task, 0, one.xyxy, image.width, keypoints) for one in scene.things]
        (folder / "data" / "labels" / f"{number}.txt").write_text("\n".join(lines))
    points = f"kpt_shape: [{keypoints}, 3]\n" if keypoints else ""
    yaml = folder / "data.yaml"
    yaml.write_text(f"path: {folder / 'data'}\ntrain: images\nval: images\n{points}names: [thing, other]\n")
    with mock.patch("ultralytics.data.utils.check_font"):  # which would download one
        yolo.train(
            data=str(yaml), epochs=1, imgsz=TRAINED_SIDE, batch=4, workers=0, device="cpu", plots=False, val=False,
            project=str(folder), name="run", verbose=False, amp=False,
        )  # fmt: skip
    return folder / "run" / "weights" / "best.pt"


WAYS = {"plain": plain, "fused": fused, "half": half, "trained": trained}


def answers_agree(name, way, folder):
    """A model of a family, saved in a way, is read sealed and trusted, and answers as the vendor's from that file."""
    path = WAYS[way](build(name), Path(folder))
    kind = {"rtdetr": RTDETR, "world": YOLOWorld, "yoloe": YOLOE}
    vendor = next((made for part, made in kind.items() if part in name), YOLO)(path)
    theirs = vendor.predict(IMAGE[..., ::-1], imgsz=256, verbose=False, **SETTINGS)[0]
    boxes = theirs.obb if theirs.obb is not None else theirs.boxes
    for trust in (False, True):
        detector = detcam.load(path, imgsz=256, trust_weights=trust)
        batch, letterboxes = detector.prepare([IMAGE])
        (found,) = detector.decode(detector.forward(batch), letterboxes, detcam.DecodeSettings(**SETTINGS))
        assert len(found) == len(boxes) > 0
        for n, m in paired(found, boxes.cls, boxes.conf, boxes.xyxy, within=1e-3):
            if theirs.obb is None:
                assert np.abs(found[n].xyxy - boxes.xyxy[m].numpy()).max() <= 1


@pytest.mark.parametrize("way", ["plain", "fused", "half"])
@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_boxes_from_a_file_are_those_of_predict(name, way, tmp_path):
    answers_agree(name, way, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`get_trial_id` is meant")
@pytest.mark.parametrize(
    "name", [name for name in [*SMALL, *OTHERS] if not name.startswith(("yoloe", "yolov8s-world"))]
)
def test_boxes_after_an_epoch_are_those_of_predict(name, tmp_path):
    answers_agree(name, "trained", tmp_path)


@pytest.mark.filterwarnings("ignore:`get_trial_id` is meant")  # Ray's, where it is installed, about each training
def test_a_training_leaves_a_checkpoint_that_is_read_sealed(tmp_path):
    answers_agree("yolov8n", "trained", tmp_path)
