"""Overlaps and average precision on photographs' masks, against Ultralytics' and pycocotools' own functions."""

import contextlib
import io
import warnings
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils.metrics import OKS_SIGMA, ap_per_class, batch_probiou, kpt_iou, mask_iou
from ultralytics.utils.ops import xyxyxyxy2xywhr

from detcam.data import LabelledImage, Truth, read_data
from detcam.review.matching import average_precision
from detcam.review.overlaps import measure_set
from detcam.types import Detection
from support.data import real

LEVELS = torch.linspace(0.5, 0.95, 10)
KINDS = ["mask", "rotated box", "keypoints"]


def points_of(polygon):
    """Seventeen points along an outline."""
    return polygon[np.linspace(0, len(polygon) - 1, 17).astype(int)]


def moved(kind, truth, random):
    """A detection near a truth: shifted, sized and scored by chance, now and then of another class."""
    centre, size = (truth.xyxy[:2] + truth.xyxy[2:]) / 2, truth.xyxy[2:] - truth.xyxy[:2]
    shift, scale = random.normal(0, 0.12, 2) * size, random.uniform(0.8, 1.2)
    move = lambda points: np.float32((points - centre) * scale + centre + shift)  # noqa: E731
    class_id = truth.class_id if random.random() < 0.9 else 0
    box = move(truth.xyxy.reshape(2, 2)).ravel()
    shape = {
        "keypoints": lambda: {"keypoints": move(truth.keypoints[:, :2]) + random.normal(0, 3, (17, 2))},
        "rotated box": lambda: {"polygons": tuple(map(move, truth.outline))},
        "mask": lambda: {"polygons": tuple(map(move, truth.outline))},
    }[kind]()
    return Detection(box, class_id, str(class_id), float(random.uniform(0.05, 1)), 0, 8, **shape)


def photographs(kind):
    """The photographs' labelled masks as what is compared, with detections near them."""
    random = np.random.default_rng(3)
    images, detections = [], []
    for image in read_data(real("coco/instances.json")).images[:30]:
        truths = []
        for truth in image.truths:
            if truth.crowd or not isinstance(truth.outline, tuple):
                continue
            polygon = max(truth.outline, key=len)
            own = {
                "mask": lambda polygon=polygon, truth=truth: {"outline": truth.outline},
                "rotated box": lambda polygon=polygon, truth=truth: {
                    "outline": (cv2.boxPoints(cv2.minAreaRect(np.float32(polygon))),)
                },
                "keypoints": lambda polygon=polygon, truth=truth: {
                    "keypoints": np.column_stack([points_of(polygon), random.integers(0, 3, 17)])
                },
            }[kind]()
            truths.append(Truth(truth.id, truth.xyxy, truth.class_id, truth.class_name, **own))
        images.append(LabelledImage(image.path, image.size, tuple(truths)))
        near = [moved(kind, truths[number], random) for number in random.integers(0, len(truths), 2 * len(truths))]
        detections.append(near if truths else [])
    return images, detections


def pixels(outline, size):
    """A mask as Ultralytics compares it: its pixels in one row."""
    flat = [polygon.ravel().tolist() for polygon in outline]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy 2
        mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, *size)))
    return torch.from_numpy(mask).flatten().float()


def their_overlaps(kind, image, found):
    """(M, N), as Ultralytics' validators take them."""
    if kind == "rotated box":
        boxes = [xyxyxyxy2xywhr(torch.from_numpy(np.float32([one[0] for one in several]))) for several in (
            [truth.outline for truth in image.truths], [one.polygons for one in found])]  # fmt: skip
        return batch_probiou(*boxes)
    if kind == "keypoints":
        boxes = np.array([truth.xyxy for truth in image.truths])
        areas = torch.from_numpy((boxes[:, 2:] - boxes[:, :2]).prod(1) * 0.53)
        labelled, answered = ([torch.tensor(mark.keypoints) for mark in marks] for marks in (image.truths, found))
        return kpt_iou(torch.stack(labelled), torch.stack(answered), area=areas, sigma=OKS_SIGMA)
    outlines = [truth.outline for truth in image.truths], [one.polygons for one in found]
    return mask_iou(*(torch.stack([pixels(one, image.size) for one in several]) for several in outlines))


@pytest.mark.parametrize("kind", KINDS)
def test_photographs_agree_with_ultralytics(kind):
    images, detections = photographs(kind)
    hits, confidences, answered, labelled = [], [], [], []
    ours = measure_set(images, detections)
    for image, found, overlaps in zip(images, detections, ours, strict=True):
        assert overlaps.matched_by == kind or not found
        labelled += [truth.class_id for truth in image.truths]
        if not found:
            continue
        theirs = their_overlaps(kind, image, found)
        np.testing.assert_allclose(overlaps.iou, theirs.T.numpy(), atol=2e-3 if kind == "rotated box" else 1e-5)
        order = sorted(range(len(found)), key=lambda number: -found[number].confidence)
        classes = torch.tensor([found[number].class_id for number in order])
        own = torch.tensor([truth.class_id for truth in image.truths])
        validator = SimpleNamespace(iouv=LEVELS)
        hits.append(BaseValidator.match_predictions(validator, classes, own, theirs[:, order]).numpy())
        confidences += [found[number].confidence for number in order]
        answered += classes.tolist()
    theirs = ap_per_class(np.concatenate(hits), np.array(confidences), np.array(answered), np.array(labelled))[5]
    precision = average_precision(images, detections)
    assert 0.05 < precision.map < precision.map50 < 0.99
    assert (precision.map50, precision.map) == pytest.approx((theirs[:, 0].mean(), theirs.mean()), abs=1 / 101)


def test_masks_of_photographs_agree_with_pycocotools():
    images, detections = photographs("mask")
    classes = sorted({truth.class_id for image in images for truth in image.truths} | {0})
    files = []
    for marks in ([image.truths for image in images], detections):
        annotations = []
        for number, (image, several) in enumerate(zip(images, marks, strict=True)):
            for mark in several:
                outline = mark.outline if isinstance(mark, Truth) else mark.polygons
                flat = [polygon.ravel().tolist() for polygon in outline]
                runs = coco_mask.merge(coco_mask.frPyObjects(flat, *image.size))
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, "category_id": mark.class_id, "iscrowd": 0,
                     "segmentation": runs, "area": 1, "score": getattr(mark, "confidence", 0)}
                )  # fmt: skip
        file = COCO()
        file.dataset = {
            "images": [{"id": n, "height": image.size[0], "width": image.size[1]} for n, image in enumerate(images)],
            "categories": [{"id": class_id} for class_id in classes],
            "annotations": annotations,
        }
        with contextlib.redirect_stdout(io.StringIO()):
            file.createIndex()
        files.append(file)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*files, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = average_precision(images, detections)
    assert (precision.map, precision.map50) == pytest.approx(evaluation.stats[:2], abs=1e-9)
