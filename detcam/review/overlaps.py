"""How much detections overlap truths, by what the detector is for: boxes, rotated boxes, masks or keypoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from pycocotools import mask as coco_mask

from detcam.adapters.base import RawOutput
from detcam.adapters.similarity import keypoint_similarity, rotated_boxes, rotated_iou
from detcam.data import LabelledImage, Truth
from detcam.errors import UsageError
from detcam.types import Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

MatchedBy: TypeAlias = Literal["box", "rotated box", "mask", "keypoints"]
"""What is compared: upright boxes, rotated boxes by ProbIoU, masks by the IoU of their pixels, keypoints by OKS."""
RunLengths: TypeAlias = Mapping[str, Any]
"""A mask as pycocotools has it: ``size`` (height, width) and ``counts``."""
_OWN = {"box": "xyxy", "rotated box": "outline", "mask": "outline", "keypoints": "keypoints"}
"""Where a truth has what is compared."""


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Of the N detections of an image with its M truths.

    Attributes:
        matched_by: what was compared.
        iou: float64 (N, M) in [0, 1]; with a truth that is left out, the share of the detection that lies in it.
        left_out: bool (M,), truths that are neither found nor missed: crowds, and those without what is compared.
    """

    matched_by: MatchedBy
    iou: Array
    left_out: Array

    def first(self, number: int) -> Overlaps:
        """Of the first detections only.

        Args:
            number: how many.
        """
        return Overlaps(self.matched_by, self.iou[:number], self.left_out)


def told_shape(raw: RawOutput) -> MatchedBy | None:
    """The shape of a detector's predictions, where its raw output tells.

    Args:
        raw: of any batch.
    """
    shapes: dict[str, MatchedBy] = {"rotated": "rotated box", "mask": "mask", "keypoints": "keypoints"}
    return next((shape for name, shape in shapes.items() if name in raw.extras), None)


def seen_shape(detections: Iterable[Detection], truths: Iterable[Truth]) -> MatchedBy:
    """The shape that detections have. Four corners are taken for a rotated box where all labels have four, else a mask.

    Args:
        detections: of one detector.
        truths: of the set.
    """
    found = list(detections)
    if any(one.keypoints is not None for one in found):
        return "keypoints"
    outlines = [one.polygons for one in found if one.polygons is not None]
    labelled = [truth.outline for truth in truths if truth.outline is not None and not truth.crowd]
    if not outlines:
        return "box"
    return "rotated box" if all(map(_is_rotated_box, [*labelled, *outlines])) else "mask"


def choose(shape: MatchedBy, truths: Iterable[Truth]) -> MatchedBy:
    """What a detector is judged by: the shape of its detections if any truth has it too, else boxes.

    Args:
        shape: of the detections.
        truths: of the set.
    """
    has_it = any(getattr(truth, _OWN[shape]) is not None for truth in truths if not truth.crowd)
    return shape if has_it else "box"


def matching_notes(images: Sequence[LabelledImage], shape: MatchedBy, by: MatchedBy) -> list[str]:
    """What one should know of how a set is judged, in sentences.

    Args:
        images: with their truths.
        shape: of the detections.
        by: what is compared.
    """
    truths = [truth for image in images for truth in image.truths if not truth.crowd]
    if shape != by:
        what = {"rotated box": "rotated boxes", "mask": "masks"}.get(shape, shape)
        return [f"the detector gives {what} and no label has any: detections are matched by their upright boxes"]
    notes = []
    if by in ("mask", "keypoints") and (number := sum(getattr(truth, _OWN[by]) is None for truth in truths)):
        what = "mask" if by == "mask" else "keypoint"
        notes.append(
            f"{number} of {len(truths)} truths have no labelled {what}: they count neither as found nor as missed, "
            "and detections in their boxes not as errors"
        )
    hidden = sum(truth.keypoints is not None and not truth.keypoints[:, 2].any() for truth in truths)
    if by == "keypoints" and hidden:
        notes.append(
            f"{hidden} of {len(truths)} truths have keypoints of visibility 0 only: nothing can find them, "
            "and they count as missed, as in Ultralytics' val"
        )
    return notes


def measure_set(images: Sequence[LabelledImage], detections: Sequence[Sequence[Detection]]) -> list[Overlaps]:
    """The overlaps of a set, by the detections' own shape where truths have it.

    Args:
        images: with their truths.
        detections: one sequence for each image.
    """
    truths = [truth for image in images for truth in image.truths]
    by = choose(seen_shape((one for several in detections for one in several), truths), truths)
    return [
        measure(image.truths, several, by, size=image.size) for image, several in zip(images, detections, strict=True)
    ]


def measure(
    truths: Sequence[Truth],
    detections: Sequence[Detection],
    by: MatchedBy,
    *,
    size: tuple[int, int] | None = None,
    sigmas: Sequence[float] | None = None,
    masks: tuple[Array, Array] | None = None,
) -> Overlaps:
    """The overlaps of one image.

    A truth that has only an upright box is that box where rotated ones are compared, and is left out where masks or
    keypoints are. Crowds hold a detection by its box, or its mask where those are compared.

    Args:
        truths: in original-image pixels.
        detections: likewise.
        by: what is compared.
        size: (height, width) of the image, pixels; None for the smallest that holds all masks.
        sigmas: as :attr:`detcam.data.LabelledSet.keypoint_sigmas`.
        masks: of the detections (N, h, w) and of the truths (M, h, w), 0 or 1; None draws their outlines into an
            image.

    Raises:
        UsageError: the detector has another number of keypoints than the set.
    """
    own = "xyxy" if by == "rotated box" else _OWN[by]
    left_out = np.array([truth.crowd or getattr(truth, own) is None for truth in truths], bool)
    if not len(truths) or not len(detections):
        return Overlaps(by, np.zeros((len(detections), len(truths))), left_out)
    if by == "mask":
        if masks is None:
            size = size or _extent([*truths, *detections])
            found = [run_lengths(one.polygons, one.xyxy, size) for one in detections]
            regions = [run_lengths(truth.outline, truth.xyxy, size) for truth in truths]
        else:
            found, regions = ([coco_mask.encode(np.asfortranarray(mask)) for mask in several] for several in masks)
        return Overlaps(by, coco_mask.iou(found, regions, left_out), left_out)
    boxes, places = _boxes(detections), _boxes(truths)
    iou: Array = coco_mask.iou(_xywh(boxes), _xywh(places), left_out)
    counted = [truth for truth, out in zip(truths, left_out, strict=True) if not out]
    if by == "rotated box" and counted:
        rotated = [rotated_boxes([outline_points(mark) for mark in marks]) for marks in (detections, counted)]
        iou[:, ~left_out] = rotated_iou(*rotated)
    if by == "keypoints" and counted:
        points = np.stack([truth.keypoints for truth in counted if truth.keypoints is not None])
        iou[:, ~left_out] = keypoint_similarity(_keypoints(detections, points), points, places[~left_out], sigmas)
    return Overlaps(by, iou, left_out)


def run_lengths(polygons: Sequence[Array] | RunLengths | None, xyxy: Array, size: tuple[int, int]) -> RunLengths:
    """A mask as pycocotools compares it; without an outline its box.

    Args:
        polygons: each (n, 2), or run lengths, or None; original-image pixels.
        xyxy: (4,), the same.
        size: (height, width) of the image, pixels.
    """
    if isinstance(polygons, Mapping):
        compressed = isinstance(polygons["counts"], str | bytes)
        mask: RunLengths = polygons if compressed else coco_mask.frPyObjects(polygons, *size)
    elif polygons is None:
        (mask,) = coco_mask.frPyObjects(_xywh(xyxy[None]), *size)
    elif flat := [polygon.ravel().tolist() for polygon in polygons if len(polygon) > 2]:
        mask = coco_mask.merge(coco_mask.frPyObjects(flat, *size))
    else:
        mask = coco_mask.encode(np.zeros(size, np.uint8, "F"))
    return mask


def _is_rotated_box(outline: object) -> bool:
    return isinstance(outline, tuple) and [len(polygon) for polygon in outline] == [4]


def outline_points(mark: Truth | Detection) -> Array:
    """Points whose smallest rotated box is that of a truth or a detection, (n, 2), original-image pixels.

    Args:
        mark: with an outline, or an upright box.
    """
    outline = mark.outline if isinstance(mark, Truth) else mark.polygons
    if isinstance(mark, Truth) and isinstance(outline, Mapping):
        height, width = outline["size"]
        rows, columns = np.nonzero(np.asarray(mark.mask(height, width)))
        return np.concatenate([np.stack([columns + x, rows + y], 1) for x in (0, 1) for y in (0, 1)])
    if not outline:
        x1, y1, x2, y2 = mark.xyxy
        return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    return np.concatenate([np.asarray(polygon) for polygon in outline])


def _keypoints(detections: Sequence[Detection], labelled: Array) -> Array:
    """x and y of the detections' keypoints, (N, n, 2); one without any has none in its place."""
    points = np.full((len(detections), labelled.shape[1], 2), np.inf)
    for number, one in enumerate(detections):
        if one.keypoints is None:
            continue
        if len(one.keypoints) != len(points[number]):
            raise UsageError(
                f"the detector gives {len(one.keypoints)} keypoints and the set labels {len(points[number])}: "
                "they are not the same points, so neither can be judged by the other"
            )
        points[number] = one.keypoints[:, :2]
    return points


def _extent(marks: Sequence[Truth | Detection]) -> tuple[int, int]:
    """The (height, width) that holds all masks, pixels."""
    sizes = [mark.outline["size"] for mark in marks if isinstance(mark, Truth) and isinstance(mark.outline, Mapping)]
    if not sizes:
        sizes = [np.ceil(np.concatenate([outline_points(mark) for mark in marks]).max(0)).astype(int).tolist()[::-1]]
    height, width = sizes[0]
    return height, width


def _boxes(marks: Sequence[Truth] | Sequence[Detection]) -> Array:
    return np.array([mark.xyxy for mark in marks], np.float64).reshape(-1, 4)


def _xywh(boxes: Array) -> Array:
    """Boxes as pycocotools reads them; one that is turned inside out has no size."""
    boxes = np.asarray(boxes, np.float64)
    return np.concatenate([boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]).clip(0)], 1)
