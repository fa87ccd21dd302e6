"""From raw predictions to the answers ``predict()`` reports: suppression, boxes, rotated boxes, masks and keypoints.

Suppression, mask assembly and the way back to original pixels are Ultralytics' own functions, so the answers are
its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import process_mask, scale_boxes, scale_coords

from detcam.adapters.base import RawOutput
from detcam.adapters.heads import HeadOutput
from detcam.geometry import Letterbox

Kept = tuple[Tensor, Tensor, Tensor]
"""(anchor indices, class indices, confidences) of one image's answers, in descending confidence."""


@dataclass(frozen=True, eq=False)
class Shape:
    """Where one answer is, original pixels.

    Attributes:
        xyxy: (4,); what encloses it where it is rotated.
        polygons: the corners of a rotated box, or the outlines of a mask, each (n, 2); None for a plain box.
        keypoints: (n, 2), or (n, 3) with the visibility probability; None without.
    """

    xyxy: NDArray[np.float32]
    polygons: tuple[NDArray[np.float32], ...] | None = None
    keypoints: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class RotatedOutput(RawOutput):
    """Raw predictions of rotated boxes, whose overlap is that of polygons and not of what encloses them."""

    def overlap(self, index: int, box: NDArray[np.floating]) -> NDArray[np.floating]:
        """See :class:`~detcam.adapters.base.RawOutput`; the box asked about is upright."""
        overlap = super().overlap(index, box)  # an upper bound of where there is any at all
        x1, y1, x2, y2 = box
        asked = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)
        xywhr = self.extras["rotated"][index].detach().double().cpu().numpy()
        for anchor in np.flatnonzero(overlap):
            corners = corners_of(xywhr[anchor]).astype(np.float32)
            shared, _ = cv2.intersectConvexConvex(asked, corners)
            union = abs((x2 - x1) * (y2 - y1)) + abs(xywhr[anchor, 2] * xywhr[anchor, 3]) - shared
            overlap[anchor] = shared / union if union > 0 else 0
        return overlap


def corners_of(xywhr: NDArray[np.floating]) -> NDArray[np.floating]:
    """The corners (4, 2), in order, of a rotated box (5,): centre, width, height, angle in radians."""
    x, y, width, height, angle = xywhr
    along = np.array([math.cos(angle), math.sin(angle)]) * width / 2
    across = np.array([-math.sin(angle), math.cos(angle)]) * height / 2
    offsets = np.array([along + across, along - across, -along - across, across - along])
    corners: NDArray[np.floating] = offsets + np.array([x, y])
    return corners


def enclosing_boxes(out: HeadOutput) -> tuple[Tensor, dict[str, Tensor]]:
    """The xyxy boxes (B, A, 4) of a head's answer, and its extras; ``angle`` becomes ``rotated`` (B, A, 5), xywhr."""
    if "angle" not in out.extras:
        return torch.cat([out.centres - out.sides[..., :2], out.centres + out.sides[..., 2:]], -1), out.extras
    extras = dict(out.extras)
    angle = extras.pop("angle")
    cos, sin = angle.cos(), angle.sin()
    shift = (out.sides[..., 2:] - out.sides[..., :2]) / 2
    x, y = shift.unbind(-1)
    centre = out.centres + torch.stack([x * cos - y * sin, x * sin + y * cos], -1)
    size = out.sides[..., :2] + out.sides[..., 2:]
    extras["rotated"] = torch.cat([centre, size, angle[..., None]], -1)
    width, height = (size / 2).unbind(-1)
    reach = torch.stack([(width * cos).abs() + (height * sin).abs(), (width * sin).abs() + (height * cos).abs()], -1)
    return torch.cat([centre - reach, centre + reach], -1), extras


def suppress(
    raw: RawOutput,
    scores: Tensor,
    conf: float,
    iou: float,
    classes: Sequence[int] | None,
    max_det: int,
    agnostic: bool = False,
) -> list[Kept]:
    """Ultralytics' non-maximum suppression, without its wall-clock limit, of ``scores`` (B, A, class).

    ``agnostic``: a box suppresses those of other classes too.
    """
    rotated = raw.extras.get("rotated")
    if rotated is None:
        boxes = raw.boxes.detach()
        parts = [(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2], scores]
    else:
        parts = [rotated[..., :4].detach(), scores, rotated[..., 4:].detach()]
    rows, anchors = non_max_suppression(
        torch.cat(parts, -1).transpose(1, 2), conf, iou, classes=classes, max_det=max_det, nc=scores.shape[2],
        agnostic=agnostic, max_time_img=math.inf, rotated=rotated is not None, return_idxs=True,
    )  # fmt: skip
    return [(a.long().view(-1), row[:, 5].long(), row[:, 4]) for a, row in zip(anchors, rows, strict=True)]


def best_pairs(
    scores: Tensor,
    anchors: int,
    pairs: int,
    conf: float,
    classes: Sequence[int] | None,
    max_det: int,
    agnostic: bool = False,
) -> Kept:
    """The best (anchor, class) pairs of ``scores`` (A, class), for heads whose answers need no suppression.

    The best ``anchors`` are chosen by their best class, then the best ``pairs`` among those; thresholds come after.
    ``agnostic``: an anchor answers with its best class only.
    """
    if agnostic:
        scores = torch.where(scores == scores.amax(1, keepdim=True), scores, 0)
    best = scores.amax(1).topk(min(anchors, len(scores))).indices
    flat = scores[best].flatten()
    confidences, found = flat.topk(min(pairs, len(flat)))
    chosen, class_ids = best[found // scores.shape[1]], found % scores.shape[1]
    keep = confidences > conf
    if classes is not None:
        keep &= torch.isin(class_ids, torch.tensor(list(classes), device=class_ids.device))
    keep = keep.nonzero().view(-1)[:max_det]
    return chosen[keep], class_ids[keep], confidences[keep]


def shapes_of(
    raw: RawOutput, index: int, anchors: Tensor, letterbox: Letterbox, stretched: bool = False
) -> list[Shape]:
    """Where the answers of one image are. A mask without a single pixel has no polygon: ``()``."""
    boxes = raw.boxes[index, anchors].detach()
    if "rotated" in raw.extras:
        return _rotated(raw.extras["rotated"][index, anchors].detach().clone(), letterbox)
    # Not the letterbox's own inverse, from which this differs by up to a network pixel: the boxes people know.
    if stretched:
        original = letterbox.to_original(boxes.cpu().numpy())
    else:
        original = scale_boxes(letterbox.network, boxes.clone(), letterbox.original).cpu().numpy()
    if "mask" in raw.extras and len(anchors):
        coefficients, prototypes = raw.extras["mask"][index, anchors], raw.extras["prototypes"][index]
        masks = process_mask(prototypes.detach(), coefficients.detach(), boxes, letterbox.network, upsample=True)
        outlines = [_outlines(mask.cpu().numpy(), letterbox) for mask in masks]
        return [Shape(xyxy, polygons) for xyxy, polygons in zip(original, outlines, strict=True)]
    if "keypoints" in raw.extras:
        points = raw.extras["keypoints"][index, anchors].detach().clone()
        points[..., 2:] = points[..., 2:].sigmoid()
        points = scale_coords(letterbox.network, points, letterbox.original).cpu().numpy()
        return [Shape(xyxy, None, p) for xyxy, p in zip(original, points, strict=True)]
    return [Shape(xyxy) for xyxy in original]


def _rotated(xywhr: Tensor, letterbox: Letterbox) -> list[Shape]:
    xywhr[:, :4] = scale_boxes(letterbox.network, xywhr[:, :4], letterbox.original, xywh=True)
    shapes = []
    for corners in map(corners_of, xywhr.double().cpu().numpy()):
        xyxy = letterbox.clip(np.concatenate([corners.min(0), corners.max(0)]))
        shapes.append(Shape(xyxy.astype(np.float32), (corners.astype(np.float32),)))
    return shapes


def _outlines(mask: NDArray[np.uint8], letterbox: Letterbox) -> tuple[NDArray[np.float32], ...]:
    """The outer contours of a mask over the network's input, in original pixels."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    edge = letterbox.original[::-1]
    points = (np.clip(letterbox.to_original(contour[:, 0] + 0.5), 0, edge) for contour in contours)
    return tuple(outline.astype(np.float32) for outline in points)
