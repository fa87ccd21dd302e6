"""What of a labelled set, and which of a detector's classes, a review judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detcam.data import LabelledSet, Truth
from detcam.errors import UsageError
from detcam.geometry import iou_matrix
from detcam.options import find_classes, several
from detcam.types import Detection

COVERED_IOU = 0.5
"""IoU from which a detection covers a labelled object, whatever its class: from there on it is an error of class."""
NAMED_CLASSES = 5
"""Classes that a message names at most."""


def require_truths(labelled: LabelledSet, source: object) -> None:
    """Refuse a set whose labels have all fallen away: every detection would be judged wrong.

    A set of images in which there is nothing stays one.

    Args:
        labelled: the set, read for the model.
        source: what it was read from.

    Raises:
        UsageError: there were labels, and none of them can be used.
    """
    unmapped = sum(labelled.unmapped.values())
    if any(image.truths for image in labelled.images) or not labelled.lost + unmapped:
        return
    reasons = list(labelled.notes)
    if unmapped:
        theirs, ours = ([name for name, count in labelled.unmapped.items() if count], list(labelled.names.values()))
        reasons.append(
            f"{unmapped} are of classes that the model does not have: the set has {listing(theirs)}, the model "
            f"{listing(ours)}; rename those that are the same"
        )
    if labelled.lost:
        first = labelled.problems[0]
        reasons.append(f"{labelled.lost} cannot be read, or their images cannot: {first.path}: {first.reason}")
    total = labelled.lost + unmapped
    raise UsageError(f"{source}: of {total} labels not one can be used, so nothing can be judged: {'; '.join(reasons)}")


@dataclass(frozen=True)
class Judged:
    """The classes that a review judges.

    Attributes:
        class_ids: the model's indices.
        asked: whether they were asked for.
    """

    class_ids: frozenset[int]
    asked: bool

    @classmethod
    def of(
        cls, labelled: LabelledSet, names: Mapping[int, str], asked: Sequence[str | int] | str | int | None
    ) -> Judged:
        """The classes asked for, else those that the set labels; all, where it labels nothing.

        Args:
            labelled: the set, in the model's classes.
            names: the model's.
            asked: names or indices, or None.

        Raises:
            UsageError: no such class, or an empty list.
        """
        if asked is not None:
            return cls(frozenset(find_classes(several(asked, "classes"), names)), True)
        labels = frozenset(truth.class_id for image in labelled.images for truth in image.truths)
        return cls(labels or frozenset(names), False)

    def keep(self, labelled: LabelledSet) -> LabelledSet:
        """The set without the truths of other classes.

        Args:
            labelled: the set.
        """
        images = [
            replace(image, truths=tuple(truth for truth in image.truths if truth.class_id in self.class_ids))
            for image in labelled.images
        ]
        return replace(labelled, images=tuple(images))

    def split(
        self, detections: Sequence[Detection], truths: Sequence[Truth]
    ) -> tuple[tuple[Detection, ...], tuple[Detection, ...]]:
        """Detections that are judged, and the others.

        Where no classes were asked for, a detection of another class that covers a labelled object is judged too: the
        object was taken for something that the set has none of.

        Args:
            detections: of one image.
            truths: its labels.
        """
        judged = np.array([one.class_id in self.class_ids for one in detections], bool)
        objects = [truth.xyxy for truth in truths if not truth.crowd]
        if not self.asked and objects and len(detections):
            overlaps = iou_matrix(np.array([one.xyxy for one in detections]), np.array(objects))
            judged |= (overlaps >= COVERED_IOU).any(1)
        pairs = list(zip(detections, judged.tolist(), strict=True))
        return tuple(one for one, own in pairs if own), tuple(one for one, own in pairs if not own)

    def tell(self, unjudged: Mapping[str, int]) -> list[str]:
        """A sentence on detections that are not judged, where there are any.

        Args:
            unjudged: how many, by class.
        """
        if not unjudged:
            return []
        counts = listing([f"{name} {count}" for name, count in Counter(unjudged).most_common()])
        total = sum(unjudged.values())
        if self.asked:
            return [f"{total} detections of classes that were not asked for are not judged ({counts})"]
        return [
            f"{total} detections of classes that the set never labels cover none of its objects and are not judged "
            f"({counts}); name them in classes to judge them"
        ]


def beside_val(conf: float, iou: float, max_det: int, low: float, counted: int) -> str:
    """How a review's figures are made, and what ``yolo val`` does otherwise.

    Args:
        conf: confidence from which a detection is reported, in [0, 1].
        iou: overlap above which the weaker of two boxes is suppressed, in [0, 1].
        max_det: most detections of an image.
        low: confidence from which detections count for average precision, in [0, 1].
        counted: most detections of an image and class that count for it.
    """
    return (
        f"Counts are of detections from confidence {conf:g}; mAP is COCO's, of all from {low:g} (NMS at IoU {iou:g}, "
        f"at most {max_det} an image and {counted} an image and class). yolo val takes 0.001, 0.7 and 300, lets a box "
        "be of several classes, pads images otherwise and integrates the curve otherwise, so its mAP may differ by "
        "several hundredths; its P and R are at the confidence where F1 is best."
    )


def listing(names: Sequence[Any]) -> str:
    """The first few of some names, and how many more there are.

    Args:
        names: to be listed.
    """
    more = len(names) - NAMED_CLASSES
    return ", ".join(map(str, names[:NAMED_CLASSES])) + (f" and {more} more" if more > 0 else "")
