"""The generator's scenes as sets of masks, rotated boxes and keypoints, and a small detector trained on each."""

from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from ultralytics import YOLO

from detcam.demo import WEIGHTS
from detcam.demo.scenes import CLASSES, SIZE, make_scene, render

HEADS = {"segment": ["Segment", ["nc", 32, 64]], "obb": ["OBB", ["nc", 1]], "pose": ["Pose", ["nc", [4, 3]]]}
KEYPOINTS = {"kpt_shape": [4, 3], "flip_idx": [0, 3, 2, 1], "kpt_oks_sigmas": [0.05, 0.1, 0.05, 0.1]}
TRAINED, REVIEWED = range(0, 64), range(700_000, 700_024)


def write_set(folder, task, train=TRAINED, val=REVIEWED):
    """A YOLO set of scenes, labelled for a task."""
    for split, seeds in (("train", train), ("val", val)):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            scene = make_scene(seed)
            image = render(scene)
            turn = _turn(seed) if task == "obb" else np.eye(2, 3)
            if task == "obb":
                image = cv2.warpAffine(image, turn, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)
            cv2.imwrite(str(images / f"{seed}.png"), image[..., ::-1])
            rows = [_row(thing, task, turn, seed) for thing in scene.things]
            (labels / f"{seed}.txt").write_text("\n".join(row for row in rows if row) + "\n")
    extra = KEYPOINTS if task == "pose" else {}
    description = {"path": str(folder), "train": "images/train", "val": "images/val", **extra}
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump({**description, "names": dict(enumerate(CLASSES))}))
    return path


def _turn(seed):
    """Half as high, then turned about the centre, (2, 3)."""
    turn = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), float(np.random.default_rng(seed).uniform(0, 180)), 1.0)
    squeeze = np.array([[1, 0, 0], [0, 0.5, SIZE / 4], [0, 0, 1]])
    return turn @ squeeze


def _row(thing, task, turn, seed):
    x1, y1, x2, y2 = thing.xyxy
    name = CLASSES[thing.class_id]
    top, right, bottom, left = (thing.x, y1), (x2, thing.y), (thing.x, y2), (x1, thing.y)
    if task == "detect":
        return f"{thing.class_id} {thing.x / SIZE} {thing.y / SIZE} {2 * thing.half / SIZE} {2 * thing.half / SIZE}"
    if task == "pose":
        hidden = (seed + thing.x) % 4
        box = [thing.x / SIZE, thing.y / SIZE, 2 * thing.half / SIZE, 2 * thing.half / SIZE]
        points = [
            value
            for number, (x, y) in enumerate((top, right, bottom, left))
            for value in ((0, 0, 0) if number == hidden else (x / SIZE, y / SIZE, 2))
        ]
        return " ".join(map(str, [thing.class_id, *box, *points]))
    outline = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], float)
    if task == "segment" and name == "ball":
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        outline = np.stack([thing.x + thing.half * np.cos(angles), thing.y + thing.half * np.sin(angles)], 1)
    elif task == "segment" and name != "crate":
        outline = np.array([top, (x2, y2), (x1, y2)] if name == "cone" else [top, right, bottom, left], float)
    outline = (outline @ turn[:, :2].T + turn[:, 2]) / SIZE
    if outline.min() < 0 or outline.max() > 1:
        return None
    return " ".join(map(str, [thing.class_id, *outline.ravel().round(6)]))


def label_row(detection, shift, random):
    """A detection as a label, moved by ``shift`` pixels; None where it is not all inside the image."""
    if detection.keypoints is not None:
        points = detection.keypoints[:, :2] + shift + random.normal(0, 1, (len(detection.keypoints), 2))
        x1, y1, x2, y2 = detection.xyxy / SIZE
        values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        values += [value for x, y in points / SIZE for value in (x, y, 2)]
    else:
        points = max(detection.polygons, key=len) + shift
        values = (points / SIZE).ravel().tolist()
    if len(points) < 3 or points.min() < 0 or points.max() > SIZE:
        return None
    return " ".join(map(str, [detection.class_id, *np.round(values, 6)]))


def untrained(folder, task):
    """A detector of a task that finds boxes as the demo's does, with masks, angles or keypoints by chance."""
    torch.manual_seed(0)
    model = _model(folder, task)
    model.model.names = dict(enumerate(CLASSES))
    path = folder / "untrained.pt"
    model.save(path)
    return path


def _model(folder, task):
    described = yaml.safe_load(Path(WEIGHTS).with_name("detector.yaml").read_text())
    described["head"][-1] = [[15, 18, 21], 1, *HEADS[task]]
    if task == "pose":
        described["kpt_shape"] = KEYPOINTS["kpt_shape"]
    network = folder / "network.yaml"
    network.write_text(yaml.safe_dump(described))
    return YOLO(network, task=task).load(WEIGHTS)


def train(folder, task, epochs=15):
    """A detector of a task, trained on a set of :func:`write_set` from the demo's weights on; its checkpoint."""
    model = _model(folder, task)
    model.train(
        data=str(folder / "data.yaml"), epochs=epochs, imgsz=SIZE, batch=8, freeze=22, device="cpu",
        seed=0, deterministic=True, workers=0, optimizer="AdamW", lr0=0.005, lrf=0.05, warmup_epochs=0,
        cos_lr=True, cache="ram", mosaic=0.0, fliplr=0.0, translate=0.1, scale=0.2, erasing=0.0, plots=False, val=False,
        amp=False, project=str(folder), name="run", exist_ok=True, verbose=False,
    )  # fmt: skip
    return folder / "run" / "weights" / "last.pt"
