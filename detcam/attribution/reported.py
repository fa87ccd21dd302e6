"""Which detections of an image are asked about: by their numbers, or by boxes that were reported elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detcam.attribution.unreported import Question, answer
from detcam.errors import InputError
from detcam.geometry import iou_matrix
from detcam.io.results import ReportedBoxes
from detcam.probing.prepared_image import PreparedImage
from detcam.types import Detection

SAME_BOX_IOU, SAME_BOX_PX = 0.9, 2.0
"""A box is a detection's if it overlaps it so much, or no side is further away: reported boxes are rounded."""
SAME_CONFIDENCE = 0.02


def find_reported(
    name: str, boxes: ReportedBoxes, prepared: PreparedImage, found: Sequence[Detection]
) -> tuple[Detection, ...]:
    """The detection that each box is, in their order.

    A box that is none of the detector's is asked about as a place, as by ``box`` and ``class_name``. The log warns of
    these, and of other confidences than were given.

    Args:
        name: the image's, for the log.
        boxes: with the detector's classes.
        prepared: the image.
        found: what the detector reports there at a threshold that the boxes passed.

    Raises:
        InputError: no prediction at all overlaps a box, or it lies outside the image.
    """
    left, detections, strange = list(found), list[Detection](), 0
    inside = prepared.letterbox.clip(boxes.xyxy)  # a rotated box may enclose more than the image
    for number, (xyxy, class_id) in enumerate(zip(inside, boxes.class_ids, strict=True)):
        told = None if boxes.confidences is None else float(boxes.confidences[number])
        same = _same(left, xyxy, class_id, told)
        if same is None:
            x1, y1, x2, y2 = (float(side) for side in xyxy)
            place = Question((x1, y1, x2, y2), class_id)
            detection = answer(place, prepared)
        else:
            detection = left.pop(same)
        strange += same is None or (told is not None and abs(told - detection.confidence) > SAME_CONFIDENCE)
        detections.append(detection)
    if strange:
        logging.getLogger("detcam").warning(
            "%s: %d of the %d boxes given are not what this model reports with these options, and are explained as it "
            "sees them; give weights, imgsz, iou and nms as they were predicted with", name, strange, len(boxes),
        )  # fmt: skip
    return tuple(detections)


def pick_detections(name: str, found: Sequence[Detection], numbers: Sequence[int]) -> list[Detection]:
    """The detections of an image that have some numbers.

    Args:
        name: the image's, for the message.
        found: its detections, in descending confidence.
        numbers: from 0 on.

    Raises:
        InputError: one has none of them.
    """
    if missing := [number for number in numbers if number >= len(found)]:
        have = f"has {len(found)}, counted from 0" if found else "has none"
        raise InputError(f"{name}: no detection {missing[0]}; at these thresholds this image {have}")
    return [found[number] for number in numbers]


def _same(found: Sequence[Detection], xyxy: NDArray[np.float64], class_id: int, confidence: float | None) -> int | None:
    """Which of some detections a box is, by class and place; of several the one of its confidence, or the nearest."""
    alike = [i for i, one in enumerate(found) if one.class_id == class_id]
    if not alike:
        return None
    places = np.stack([found[i].xyxy for i in alike]).astype(np.float64)
    overlaps, away = iou_matrix(xyxy[None], places)[0], np.abs(places - xyxy).max(1)
    there = np.flatnonzero((overlaps >= SAME_BOX_IOU) | (away <= SAME_BOX_PX)).tolist()
    if confidence is None:
        return alike[max(there, key=lambda i: float(overlaps[i]))] if there else None
    return min((alike[i] for i in there), key=lambda i: abs(found[i].confidence - confidence), default=None)
