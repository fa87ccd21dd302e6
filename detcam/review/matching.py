"""COCO's average precision, by pycocotools' own COCOeval. Nothing else in the library imports it."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detcam.data import LabelledImage
from detcam.review.overlaps import Overlaps, measure_set
from detcam.types import Detection

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


class _Evaluation(COCOeval):  # type: ignore[misc]
    """COCOeval of overlaps that are known; what it compares by itself are boxes, masks and people."""

    def __init__(self, truths: COCO, answers: COCO, overlaps: Sequence[Overlaps]) -> None:
        super().__init__(truths, answers, "bbox")
        self.overlaps = overlaps

    def computeIoU(self, image: int, class_id: int) -> Any:  # noqa: N802, its name there
        """Of the detections of one class in descending confidence, with the truths of that class."""
        truths, answers = self._gts[image, class_id], self._dts[image, class_id]
        order = np.argsort([-one["score"] for one in answers], kind="stable")[:MAX_DETECTIONS]
        places = [answers[number]["place"] for number in order], [truth["place"] for truth in truths]
        return self.overlaps[image].iou[np.ix_(*places)] if all(places) else []


def average_precision(
    images: Sequence[LabelledImage],
    detections: Sequence[Sequence[Detection]],
    overlaps: Sequence[Overlaps] | None = None,
) -> AveragePrecision:
    """Average precision as COCO defines it: precision at 101 recalls, at most 100 detections to an image and class.

    A detection with at least the threshold's share of itself in a crowd of its class counts neither way. A box that is
    turned inside out (x2 < x1) overlaps nothing and counts as wrong.

    ``yolo val`` says more of the same detector: it lets one box be of several classes, where ``predict`` answers with
    the best, and pads images otherwise.

    Args:
        images: with their truths.
        detections: one sequence for each image, in any order. Every one counts, so average precision proper asks for a
            very low score threshold, such as 0.001.
        overlaps: of each image; None measures them by the detections' own shape, where truths have it.

    Raises:
        ValueError: not one sequence of detections for each image.
    """
    if len(images) != len(detections):
        raise ValueError(f"each image needs its detections: got {len(images)} images and {len(detections)} sequences")
    overlaps = measure_set(images, detections) if overlaps is None else overlaps
    truths: list[dict[str, Any]] = [
        {"image_id": number, "category_id": truth.class_id, "iscrowd": int(out), "place": place}
        for number, (image, own) in enumerate(zip(images, overlaps, strict=True))
        for place, (truth, out) in enumerate(zip(image.truths, own.left_out, strict=True))
    ]
    answers: list[dict[str, Any]] = [
        {"image_id": number, "category_id": one.class_id, "score": one.confidence, "place": place}
        for number, several in enumerate(detections)
        for place, one in enumerate(several)
    ]
    classes = sorted(
        {mark["category_id"] for mark in truths if not mark["iscrowd"]} | {mark["category_id"] for mark in answers}
    )
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress there
        evaluation = _Evaluation(_index(len(images), classes, truths), _index(len(images), classes, answers), overlaps)
        evaluation.params.areaRng = evaluation.params.areaRng[:1]  # objects of all sizes
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    # (threshold, recall, class, size, limit) -> (threshold, class); -1 for a class without truths
    precision = evaluation.eval["precision"].squeeze((3, 4)).mean(1)
    labelled = (precision >= 0).all(0)
    if not labelled.any():
        return AveragePrecision(math.nan, math.nan, dict.fromkeys(classes, math.nan))
    ap50 = {name: float(value) if value >= 0 else math.nan for name, value in zip(classes, precision[0], strict=True)}
    return AveragePrecision(float(precision[0, labelled].mean()), float(precision[:, labelled].mean()), ap50)


def _index(images: int, classes: Iterable[int], marks: Sequence[dict[str, Any]]) -> Any:
    """What COCOeval reads: marks numbered from 1, because it takes the number 0 for no match."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in range(images)],
        "categories": [{"id": class_id} for class_id in classes],
        "annotations": [{"id": number, "area": 1, **mark} for number, mark in enumerate(marks, 1)],
    }
    coco.createIndex()
    return coco
