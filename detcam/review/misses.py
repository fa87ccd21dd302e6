"""Where a missed object was lost: traced through the raw predictions, before any threshold or suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from detcam.adapters.base import RawOutput
from detcam.adapters.similarity import keypoint_similarity, rotated_boxes, rotated_iou
from detcam.data import Truth
from detcam.errors import InputError
from detcam.geometry import Letterbox, iou_matrix
from detcam.probing.prepared_image import PreparedImage
from detcam.review.overlaps import MatchedBy, outline_points
from detcam.types import Detection

NEAR_IOU = 0.5
"""Least IoU of a raw prediction that could have found the object."""
IOU_SLACK = 0.02
"""Boxes are cut to the image and scaled back after suppression, so their overlap is not quite what it was."""
FIRED_PROBABILITY = 0.05
"""Below this probability, a raw prediction does not count as one of the class."""
_NAMES = {"box": "IoU", "rotated box": "rotated IoU", "mask": "a box of IoU", "keypoints": "keypoint similarity"}


@dataclass(frozen=True)
class MissTrace:
    """What became of the raw prediction that came closest to a missed object.

    Attributes:
        where: ``never_fired``: no prediction over the object has 5 % for its class; ``below_threshold``: one has, but
            less than the threshold; ``suppressed``: one has enough, but a reported box of its class took it;
            ``other_class``: one over the object has enough for another class.
        suppressor: index among the reported detections of the box that took it, or None.
        detection: the raw prediction, as its own box, with the class to be explained: the object's, for ``other_class``
            the class it was taken for.
        iou: of that box with the object.
        text: the same in a sentence.
    """

    where: Literal["never_fired", "below_threshold", "suppressed", "other_class"]
    suppressor: int | None
    detection: Detection
    iou: float
    text: str


def trace_miss(
    truth: Truth,
    prepared: PreparedImage,
    detections: Sequence[Detection],
    conf: float,
    iou: float,
    by: MatchedBy = "box",
    sigmas: Sequence[float] | None = None,
) -> MissTrace:
    """Follow a missed object through the raw predictions.

    Args:
        truth: what was missed.
        prepared: the image.
        detections: the reported detections.
        conf: the threshold they passed.
        iou: the overlap above which the weaker of two boxes was suppressed.
        by: what detections are matched by. Raw predictions have no masks yet: they are compared by their boxes.
        sigmas: as :attr:`detcam.data.LabelledSet.keypoint_sigmas`.

    Raises:
        InputError: the detector made no raw prediction at all.
    """
    raw, index, letterbox, names = prepared.raw, prepared.index, prepared.letterbox, prepared.model.names
    box = letterbox.to_network(letterbox.clip(truth.xyxy))
    with torch.no_grad():
        every = raw.probability(index, slice(None), slice(None)).float().cpu().numpy()
        boxes = raw.boxes_for(truth.class_id)[index].float().cpu().numpy()
    if not len(boxes):
        raise InputError("the detector made no raw prediction for this image")
    overlap = _overlap(truth, raw, index, letterbox, by, sigmas)
    if overlap is None:
        overlap = iou_matrix(box[None], boxes)[0]
    own = every[:, truth.class_id]
    # The best of those that overlap enough; where none does, what speaks most for the box.
    near = overlap >= NEAR_IOU
    best = int(np.where(near, own, -1).argmax()) if near.any() else int((overlap * own).argmax())
    if not overlap.any():  # nothing touches it: then the prediction made nearest to it
        centre = torch.tensor((box[:2] + box[2:]) / 2)
        best = int((raw.places(index).double().cpu() - centre).norm(dim=1).argmin())
    others = every.copy()
    others[:, truth.class_id] = -1
    others[:, : raw.first_class] = -1
    others[~near] = -1
    rival, class_id = np.unravel_index(others.argmax(), others.shape)

    def raw_detection(anchor: int, as_class: int) -> Detection:
        own_box = raw.box_of(index, anchor, as_class).detach().float().cpu().numpy()
        where = letterbox.clip(letterbox.to_original(own_box))
        sure = float(np.clip(every[anchor, as_class], 0, 1))
        return Detection(where, as_class, names[as_class], sure, anchor, int(raw.strides[anchor]), asked=truth.xyxy)

    name, sure = truth.class_name, float(own[best])
    if near.any() and sure >= conf:
        own_raw = raw_detection(best, truth.class_id)
        text = f"a raw prediction was {sure:.0%} sure of {name} here; "
        reported = next((n for n, other in enumerate(detections) if other.anchor == best), None)
        if reported is not None and detections[reported].class_id != truth.class_id:
            taken = raw_detection(best, detections[reported].class_id)
            text += f"the same box was reported as {taken.class_name} ({taken.confidence:.0%})"
            return MissTrace("other_class", reported, taken, float(overlap[best]), text)
        if reported is not None:
            text += (
                "its box was reported, but its mask did not find this object"
                if by == "mask"
                else "its box was reported, and found another object"
            )
            return MissTrace("suppressed", reported, own_raw, float(overlap[best]), text)
        top = int(every[best, raw.first_class :].argmax()) + raw.first_class
        if top != truth.class_id:  # a prediction is suppressed as what it is most sure of
            taken = raw_detection(best, top)
            text += f"the same one was more sure of {taken.class_name} ({taken.confidence:.0%}), and went as that"
            return MissTrace("other_class", None, taken, float(overlap[best]), text)
        taker = _taker(own_raw, detections, iou)
        text += "the limit of boxes per image cut it off" if taker is None else "a stronger box beside it was kept"
        return MissTrace("suppressed", taker, own_raw, float(overlap[best]), text)
    if near.any() and others.max() >= conf:
        taken = raw_detection(int(rival), int(class_id))
        text = f"seen as {taken.class_name} ({taken.confidence:.0%}) rather than {name} ({own[rival]:.0%})"
        return MissTrace("other_class", None, taken, float(overlap[rival]), text)
    if near.any() and sure >= FIRED_PROBABILITY:
        text = f"the best raw prediction was {sure:.0%} sure of {name}, below the threshold of {conf:.0%}"
        return MissTrace("below_threshold", None, raw_detection(best, truth.class_id), float(overlap[best]), text)
    text = f"no raw prediction over it was more than {sure:.1%} sure of {name}"
    if not near.any():
        text = f"no raw prediction overlaps it by half: the closest has {_NAMES[by]} {overlap[best]:.2f}"
    return MissTrace("never_fired", None, raw_detection(best, truth.class_id), float(overlap[best]), text)


def _overlap(
    truth: Truth, raw: RawOutput, index: int, letterbox: Letterbox, by: MatchedBy, sigmas: Sequence[float] | None
) -> NDArray[np.floating] | None:
    """Of an object with every raw prediction, (anchor,), by what those carry besides boxes; None where it is boxes."""
    carried = raw.extras.get({"rotated box": "rotated"}.get(by, by))
    if carried is None or by not in ("rotated box", "keypoints"):
        return None
    found = carried[index].detach().double().cpu().numpy()
    if by == "rotated box":
        return rotated_iou(found, rotated_boxes([letterbox.to_network(outline_points(truth))]))[:, 0]
    points, box = np.array([truth.keypoints], np.float64), letterbox.to_network(truth.xyxy[None])
    points[..., :2] = letterbox.to_network(points[..., :2])
    return keypoint_similarity(found, points, box, sigmas)[:, 0]


def _taker(raw: Detection, detections: Sequence[Detection], iou: float) -> int | None:
    """The reported box of the same class that overlaps a raw prediction most, if it overlaps it enough to take it."""
    alike = [number for number, other in enumerate(detections) if other.class_id == raw.class_id]
    if not alike:
        return None
    overlap = iou_matrix(raw.xyxy[None], np.stack([detections[number].xyxy for number in alike]))[0]
    return alike[int(overlap.argmax())] if overlap.max() > iou - IOU_SLACK else None
