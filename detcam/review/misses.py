"""Where a missed object died: among the raw predictions, before any threshold or suppression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from detcam.adapters.base import RawOutput
from detcam.data import Truth
from detcam.geometry import Letterbox, iou_matrix
from detcam.types import Detection

NEAR = 0.5
"""Least IoU of a raw prediction that could have found the object."""
FIRED = 0.05
"""A class probability below this is no answer at all."""


@dataclass(frozen=True)
class Death:
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


def trace(
    truth: Truth,
    raw: RawOutput,
    index: int,
    letterbox: Letterbox,
    found: Sequence[Detection],
    names: Mapping[int, str],
    conf: float,
) -> Death:
    """Follow a missed object through the raw predictions.

    Args:
        truth: what was missed.
        raw: the image's raw output.
        index: its position there.
        letterbox: where the image is in it.
        found: the reported detections.
        names: the model's classes.
        conf: the threshold they passed.
    """
    box = letterbox.to_network(letterbox.clip(truth.xyxy))
    with torch.no_grad():
        every = raw.probability(index, slice(None), slice(None)).float().cpu().numpy()
        boxes = raw.boxes_for(truth.class_id)[index].float().cpu().numpy()
    overlap = iou_matrix(box[None], boxes)[0]
    own = every[:, truth.class_id]
    # The best of those that overlap enough; where none does, what speaks most for the box.
    near = overlap >= NEAR
    best = int(np.where(near, own, -1).argmax()) if near.any() else int((overlap * own).argmax())
    others = every.copy()
    others[:, truth.class_id] = -1
    others[:, : raw.first_class] = -1
    others[~near] = -1
    rival, class_id = np.unravel_index(others.argmax(), others.shape)

    def told(anchor: int, as_class: int) -> Detection:
        where = letterbox.clip(letterbox.to_original(boxes[anchor]))
        sure = float(np.clip(every[anchor, as_class], 0, 1))
        return Detection(where, as_class, names[as_class], sure, anchor, int(raw.strides[anchor]), asked=truth.xyxy)

    name, sure = truth.class_name, float(own[best])
    if near.any() and sure >= conf:
        taker = _taker(told(best, truth.class_id), found)
        text = f"a raw prediction was {sure:.0%} sure of {name} here; "
        text += "no box took it: the limit of boxes per image did" if taker is None else "a box beside it was kept"
        return Death("suppressed", taker, told(best, truth.class_id), float(overlap[best]), text)
    if near.any() and others.max() >= conf:
        taken = told(int(rival), int(class_id))
        text = f"seen as {taken.class_name} ({taken.confidence:.0%}) rather than {name} ({own[rival]:.0%})"
        return Death("other_class", None, taken, float(overlap[rival]), text)
    if near.any() and sure >= FIRED:
        text = f"the best raw prediction was {sure:.0%} sure of {name}, below the threshold of {conf:.0%}"
        return Death("below_threshold", None, told(best, truth.class_id), float(overlap[best]), text)
    text = f"no raw prediction over it was more than {sure:.1%} sure of {name}"
    if not near.any():
        text = f"no raw prediction overlaps it by half: the closest has IoU {overlap.max():.2f}"
    return Death("never_fired", None, told(best, truth.class_id), float(overlap[best]), text)


def _taker(raw: Detection, found: Sequence[Detection]) -> int | None:
    """The reported box of the same class that overlaps a raw prediction most, its own among them."""
    alike = [number for number, other in enumerate(found) if other.class_id == raw.class_id]
    if not alike:
        return None
    overlap = iou_matrix(raw.xyxy[None], np.stack([found[number].xyxy for number in alike]))[0]
    return alike[int(overlap.argmax())] if overlap.max() > 0 else None
