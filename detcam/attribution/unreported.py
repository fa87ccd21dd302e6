"""A box the detector did not report: why not this class *here*?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detcam.errors import InputError
from detcam.geometry import iou_matrix
from detcam.options import check_question, find_class
from detcam.probing.prepared_image import PreparedImage
from detcam.types import Detection

SAME_PLACE_IOU = 0.5
"""IoU from which a prediction is in the place asked about; others answer only where none is."""


@dataclass(frozen=True)
class Question:
    """A box the detector did not report.

    Attributes:
        xyxy: original pixels.
        class_id: the class it might have been.
    """

    xyxy: tuple[float, float, float, float]
    class_id: int


def make_question(
    box: Sequence[float] | None, class_name: str | int | None, names: Mapping[int, str]
) -> Question | None:
    """The question about a box and a class, or None where neither is given.

    Raises:
        UsageError: one without the other, a box that is none, an unknown class, or a name of several.

    Args:
        box: xyxy, original pixels, or None.
        class_name: a class's name or index, or None.
        names: the model's class names by index.
    """
    check_question(box, class_name)
    if box is None or class_name is None:
        return None
    x1, y1, x2, y2 = map(float, box)
    return Question((x1, y1, x2, y2), find_class(class_name, names))


def answer(question: Question, prepared: PreparedImage) -> Detection:
    """The raw prediction that speaks most for a box the detector did not report: the largest IoU x class probability.

    Predictions that overlap the box by an IoU of at least 0.5 go before all others.

    Args:
        question: the box and its class.
        prepared: the image.

    Returns:
        That prediction, with the box asked about in ``asked``.

    Raises:
        InputError: the box lies outside the image, or no prediction overlaps it.
    """
    raw, index, letterbox = prepared.raw, prepared.index, prepared.letterbox
    asked = letterbox.clip(np.array(question.xyxy))
    if (asked[2:] <= asked[:2]).any():
        height, width = letterbox.original
        raise InputError(f"box {question.xyxy} lies outside the image, which is {width} x {height} pixels")
    network = letterbox.to_network(asked)
    anchor, _ = raw.tracked_anchor(index, network, question.class_id, SAME_PLACE_IOU)
    own = raw.box_of(index, anchor, question.class_id).detach().float().cpu().numpy()
    if iou_matrix(network[None], own[None])[0, 0] == 0:
        raise InputError(f"no raw prediction overlaps box {question.xyxy}")
    return Detection(
        xyxy=letterbox.clip(letterbox.to_original(own)),
        class_id=question.class_id,
        class_name=prepared.model.names[question.class_id],
        confidence=float(raw.probability(index, anchor, question.class_id).detach()),
        anchor=anchor,
        stride=int(raw.strides[anchor]),
        asked=asked,
    )
