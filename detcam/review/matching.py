"""COCO's average precision, by pycocotools' own COCOeval. Nothing else in the library imports it."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detcam.data import LabelledImage
from detcam.types import Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DETECTIONS = 100
"""COCO's limit: of each image and class only this many detections count, the most confident."""


@dataclass(frozen=True)
class AveragePrecision:
    """How well a detector does on a labelled set; every value in [0, 1].

    Attributes:
        map50: the mean over classes of the average precision at IoU 0.5; nan where no class has a truth.
        map: the same over the IoU thresholds 0.5, 0.55, ..., 0.95.
        ap50: by class id, for every class that has a truth or a detection; nan for a class without truths, which counts
            in neither mean. Crowds are no truths.
    """

    map50: float
    map: float
    ap50: Mapping[int, float]


def average_precision(images: Sequence[LabelledImage], detections: Sequence[Sequence[Detection]]) -> AveragePrecision:
    """Average precision as COCO defines it: precision at 101 recalls, at most 100 detections to an image and class.

    A detection with at least the threshold's share of itself in a crowd of its class counts neither way. A box that is
    turned inside out (x2 < x1) overlaps nothing and counts as wrong. Boxes only: rotated boxes and masks count as what
    encloses them.

    ``yolo val`` says more of the same detector: it lets one box be of several classes, where ``predict`` answers with
    the best, and pads images otherwise.

    Args:
        images: with their truths.
        detections: one sequence for each image, in any order. Every one counts, so average precision proper asks for a
            very low score threshold, such as 0.001.

    Raises:
        ValueError: not one sequence of detections for each image.
    """
    if len(images) != len(detections):
        raise ValueError(f"each image needs its detections: got {len(images)} images and {len(detections)} sequences")
    truths = [
        {"image_id": number, "category_id": truth.class_id, "iscrowd": int(truth.crowd), **_box(truth.xyxy)}
        for number, image in enumerate(images)
        for truth in image.truths
    ]
    answers = [
        {"image_id": number, "category_id": one.class_id, "score": one.confidence, **_box(one.xyxy)}
        for number, several in enumerate(detections)
        for one in several
    ]
    classes = sorted(
        {mark["category_id"] for mark in truths if not mark["iscrowd"]} | {mark["category_id"] for mark in answers}
    )
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress there
        evaluation = COCOeval(_index(len(images), classes, truths), _index(len(images), classes, answers), "bbox")
        evaluation.params.areaRng = evaluation.params.areaRng[:1]  # objects of all sizes
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0].mean(1)  # (threshold, class); -1 for a class without truths
    labelled = precision[0] >= 0
    if not labelled.any():
        return AveragePrecision(math.nan, math.nan, dict.fromkeys(classes, math.nan))
    ap50 = {name: float(value) if value >= 0 else math.nan for name, value in zip(classes, precision[0], strict=True)}
    return AveragePrecision(float(precision[0, labelled].mean()), float(precision[:, labelled].mean()), ap50)


def _box(xyxy: NDArray[Any]) -> dict[str, Any]:
    """A box as COCO writes it. COCOeval would leave out a detection of negative area instead of counting it."""
    x1, y1, x2, y2 = xyxy.tolist()
    width, height = max(x2 - x1, 0.0), max(y2 - y1, 0.0)
    return {"bbox": [x1, y1, width, height], "area": width * height}


def _index(images: int, classes: Iterable[int], marks: Sequence[dict[str, Any]]) -> Any:
    """What COCOeval reads: marks numbered from 1, because it takes the number 0 for no match."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in range(images)],
        "categories": [{"id": class_id} for class_id in classes],
        "annotations": [{"id": number, **mark} for number, mark in enumerate(marks, 1)],
    }
    coco.createIndex()
    return coco
