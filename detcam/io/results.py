"""What other libraries' results hold: Ultralytics' ``Results`` and its parts, and supervision's ``Detections``.

Neither library is imported: objects are known by the names of their classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detcam.errors import UsageError
from detcam.options import find_class

PARTS = {"Boxes": "boxes", "OBB": "obb", "Masks": "masks", "Keypoints": "keypoints"}
"""Classes of Ultralytics' parts of a result, and what the result calls them."""
ROUNDING = 1e-3
"""How much a confidence may differ that was computed in a batch of another size."""
_KNOWN = {("ultralytics", name) for name in ("Results", "Probs", *PARTS)} | {("supervision", "Detections")}


class ResultsLike(Protocol):
    """Ultralytics' ``Results`` of one image."""

    orig_img: Any
    path: Any
    names: Any


class BoxesLike(Protocol):
    """Boxes that another library reports: Ultralytics' ``Boxes``, ``OBB``, ..., or supervision's ``Detections``."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class ReportedBoxes:
    """Boxes of one image that were reported elsewhere.

    Attributes:
        xyxy: float64 (n, 4), original pixels; what encloses a rotated box.
        class_ids: (n,), of the model that explains them.
        confidences: float64 (n,) in [0, 1], or None where nothing tells them.
    """

    xyxy: NDArray[np.float64]
    class_ids: tuple[int, ...]
    confidences: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.class_ids)

    @property
    def least_confidence(self) -> float:
        """Just below the lowest confidence: no threshold that they passed was higher; 1 where none is told."""
        if self.confidences is None or not len(self.confidences):
            return 1.0
        return max(float(self.confidences.min()) - ROUNDING, 0.0)


def holds_boxes(given: object) -> bool:
    """Whether boxes are given that another library reports, or a list of such."""
    several = given if isinstance(given, list | tuple) else [given]
    return len(several) > 0 and all(map(kind_of, several))


def kind_of(given: object) -> str:
    """``Results``, ``Boxes``, ``OBB``, ``Masks``, ``Keypoints``, ``Probs`` or ``Detections``; empty for all else."""
    for kind in type(given).__mro__:
        if (kind.__module__.partition(".")[0], kind.__name__) in _KNOWN:
            return kind.__name__
    return ""


def pixels_of(results: Any) -> NDArray[np.uint8]:
    """The image that Ultralytics' ``Results`` are of, BGR uint8 (H, W, 3)."""
    return np.asarray(_array(results.orig_img))


def reported_boxes(given: Any, names: Mapping[int, str], image: Any = None) -> ReportedBoxes | None:
    """The boxes that another library's object holds, or None where it holds none: of a classifier, for one.

    Args:
        given: an object of which :func:`kind_of` knows the kind, or a list of such.
        names: the class names, by index, of the model that explains them.
        image: the ``Results`` that ``given`` is a part of, where it is known: masks and keypoints have no boxes.

    Raises:
        UsageError: no box can be told, or a class is not the model's.
    """
    if isinstance(given, list | tuple):
        return _joined([one for one in (reported_boxes(part, names, image) for part in given) if one is not None])
    kind = kind_of(given)
    if kind == "Results":
        boxes = given.obb if given.boxes is None else given.boxes
        return None if boxes is None else _of_ultralytics(boxes, names, given.names)
    if kind == "Detections":
        return _of_supervision(given, names)
    if kind_of(image) == "Results" and kind in PARTS and (rows := _rows_of(given, image)) is not None:
        boxes = image.obb if image.boxes is None else image.boxes
        return _of_ultralytics(boxes[rows], names, image.names)
    if kind in ("Boxes", "OBB"):
        return _of_ultralytics(given, names, None)
    raise UsageError(
        f"a {kind} alone tells no box and no class; give the results that they are of as the image, and beside them "
        f"detection=results[0].{PARTS.get(kind, 'boxes')}[3]"
    )


def _joined(parts: Sequence[ReportedBoxes]) -> ReportedBoxes | None:
    """Boxes of several objects; None of none. Where one does not tell confidences, none are told."""
    told = [part.confidences for part in parts if part.confidences is not None]
    confidences = np.concatenate(told) if len(told) == len(parts) > 0 else None
    class_ids = tuple(class_id for part in parts for class_id in part.class_ids)
    return ReportedBoxes(np.concatenate([part.xyxy for part in parts]), class_ids, confidences) if parts else None


def _rows_of(part: Any, results: Any) -> list[int] | None:
    """Which rows of the results a part's rows are; None where one is none of them."""
    whole = getattr(results, PARTS[kind_of(part)])
    if whole is None:
        return None
    known, rows = _array(whole.data), []
    for one in _array(part.data).reshape(-1, *known.shape[1:]):
        same = [i for i, other in enumerate(known) if np.array_equal(one, other)]
        if not same:
            return None
        rows.append(same[0])
    return rows


def _of_ultralytics(boxes: Any, names: Mapping[int, str], own_names: Mapping[int, str] | None) -> ReportedBoxes:
    xyxy, class_ids, confidences = (_array(part) for part in (boxes.xyxy, boxes.cls, boxes.conf))
    numbers = [int(number) for number in np.ravel(class_ids)]
    for number in sorted(set(numbers)):
        there = names.get(number) if own_names is None else own_names.get(number)
        if number not in names or there != names[number]:
            here = repr(names[number]) if number in names else "none"
            raise UsageError(f"these boxes are another model's: class {number} is {there!r} there and {here} here")
    return ReportedBoxes(_boxes(xyxy), tuple(numbers), np.asarray(np.ravel(confidences), np.float64))


def _of_supervision(detections: Any, names: Mapping[int, str]) -> ReportedBoxes:
    called, numbers = detections.data.get("class_name"), detections.class_id
    if called is None and numbers is None and len(detections):
        raise UsageError("supervision's detections have neither class_id nor data['class_name']: a box needs its class")
    asked: list[str | int] = (
        [*map(str, called)] if called is not None else [*map(int, [] if numbers is None else numbers)]
    )
    confidences = None if detections.confidence is None else np.asarray(detections.confidence, np.float64)
    return ReportedBoxes(_boxes(detections.xyxy), tuple(find_class(one, names) for one in asked), confidences)


def _boxes(xyxy: Any) -> NDArray[np.float64]:
    return np.asarray(xyxy, np.float64).reshape(-1, 4)


def _array(values: Any) -> NDArray[Any]:
    """An array of a tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
