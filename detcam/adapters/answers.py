"""From raw predictions to the answers ``predict()`` reports: suppression, boxes, rotated boxes, masks and keypoints.

Suppression, mask assembly and the way back to original pixels are Ultralytics' own functions, so the answers are
its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detcam.adapters.base import RawOutput
from detcam.adapters.decoding import DecodeSettings
from detcam.adapters.heads import HeadOutput
from detcam.adapters.torch_base import Outline, Selection
from detcam.alone import alone
from detcam.geometry import Letterbox

with alone():
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import process_mask, scale_boxes, scale_coords


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
    """The corners of a rotated box, in order.

    Args:
        xywhr: (5,) centre, width, height, in pixels, and angle in radians.

    Returns:
        (4, 2) x, y in the same frame.

    >>> corners_of(np.array([1.0, 2.0, 2.0, 4.0, 0.0])).tolist()
    [[2.0, 4.0], [2.0, 0.0], [0.0, 0.0], [0.0, 4.0]]
    """
    x, y, width, height, angle = xywhr
    along = np.array([math.cos(angle), math.sin(angle)]) * width / 2
    across = np.array([-math.sin(angle), math.cos(angle)]) * height / 2
    offsets = np.array([along + across, along - across, -along - across, across - along])
    corners: NDArray[np.floating] = offsets + np.array([x, y])
    return corners


def enclosing_boxes(out: HeadOutput) -> tuple[Tensor, dict[str, Tensor]]:
    """The upright boxes of a head's answer, and its extras.

    Args:
        out: of any head.

    Returns:
        (batch, anchor, 4) xyxy, pixels of the detector's input; and the extras, in which ``rotated`` (batch, anchor,
            5), xywhr, stands in the place of ``angle``.
    """
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


def suppress(raw: RawOutput, index: int, settings: DecodeSettings, agnostic: bool = False) -> Selection:
    """Ultralytics' non-maximum suppression of one image's predictions, without its wall-clock limit.

    Args:
        raw: of a batch.
        index: the image's place in it.
        settings: which predictions are reported.
        agnostic: a box suppresses those of other classes too.
    """
    scores, rotated = raw.logits[index].detach().sigmoid(), raw.extras.get("rotated")
    if rotated is None:
        boxes = raw.boxes[index].detach()
        parts = [(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2], scores]
    else:
        xywhr = rotated[index].detach()
        parts = [xywhr[:, :4], scores, xywhr[:, 4:]]
    (row,), (anchors,) = non_max_suppression(
        torch.cat(parts, -1).T[None], settings.conf, settings.iou, classes=settings.classes, max_det=settings.max_det,
        nc=scores.shape[1], agnostic=agnostic, max_time_img=math.inf, rotated=rotated is not None, return_idxs=True,
    )  # fmt: skip
    return Selection(anchors.long().view(-1), row[:, 5].long(), row[:, 4])


def best_pairs(scores: Tensor, anchors: int, pairs: int, settings: DecodeSettings, agnostic: bool = False) -> Selection:
    """The best (anchor, class) pairs, for heads whose answers need no suppression.

    The best anchors are chosen by their best class, then the best pairs among those; thresholds come after.

    Args:
        scores: (anchor, class) in [0, 1], one image's.
        anchors: how many are chosen at most.
        pairs: how many are chosen at most.
        settings: which of them are reported.
        agnostic: an anchor answers with its best class only.
    """
    if agnostic:
        scores = torch.where(scores == scores.amax(1, keepdim=True), scores, 0)
    best = scores.amax(1).topk(min(anchors, len(scores))).indices
    flat = scores[best].flatten()
    confidences, places = flat.topk(min(pairs, len(flat)))
    chosen, class_ids = best[places // scores.shape[1]], places % scores.shape[1]
    keep = ((confidences > settings.conf) & settings.keeps(class_ids)).nonzero().view(-1)[: settings.max_det]
    return Selection(chosen[keep], class_ids[keep], confidences[keep])


def outlines_of(
    raw: RawOutput, index: int, anchors: Tensor, letterbox: Letterbox, stretched: bool = False
) -> list[Outline]:
    """Where predictions of one image are. A mask without a single pixel has no polygon: ``()``.

    Args:
        raw: of a batch.
        index: the image's place in it.
        anchors: int64 (N,), the predictions.
        letterbox: where the image is in the input.
        stretched: the image fills the input, whatever its shape.
    """
    boxes = raw.boxes[index, anchors].detach()
    if "rotated" in raw.extras:
        return _rotated_outlines(raw.extras["rotated"][index, anchors].detach().clone(), letterbox)
    # Not the letterbox's own inverse, from which this differs by up to a network pixel: the boxes people know.
    if stretched:
        original = letterbox.to_original(boxes.cpu().numpy())
    else:
        original = scale_boxes(letterbox.network, boxes.clone(), letterbox.original).cpu().numpy()
    if "mask" in raw.extras and len(anchors):
        coefficients, prototypes = raw.extras["mask"][index, anchors], raw.extras["prototypes"][index]
        masks = process_mask(prototypes.detach(), coefficients.detach(), boxes, letterbox.network, upsample=True)
        polygons = [_mask_outlines(mask.cpu().numpy(), letterbox) for mask in masks]
        return [Outline(*parts) for parts in zip(original, polygons, strict=True)]
    if "keypoints" in raw.extras:
        points = raw.extras["keypoints"][index, anchors].detach().clone()
        points[..., 2:] = points[..., 2:].sigmoid()
        points = scale_coords(letterbox.network, points, letterbox.original).cpu().numpy()
        return [Outline(xyxy, None, p) for xyxy, p in zip(original, points, strict=True)]
    return [Outline(xyxy) for xyxy in original]


def _rotated_outlines(xywhr: Tensor, letterbox: Letterbox) -> list[Outline]:
    """Outlines of rotated boxes (N, 5) in the detector's input; ``xywhr`` is written to."""
    xywhr[:, :4] = scale_boxes(letterbox.network, xywhr[:, :4], letterbox.original, xywh=True)
    outlines = []
    for corners in map(corners_of, xywhr.double().cpu().numpy()):
        xyxy = letterbox.clip(np.concatenate([corners.min(0), corners.max(0)]))
        outlines.append(Outline(xyxy.astype(np.float32), (corners.astype(np.float32),)))
    return outlines


def _mask_outlines(mask: NDArray[np.uint8], letterbox: Letterbox) -> tuple[NDArray[np.float32], ...]:
    """The outer contours of a mask over the network's input, in original pixels."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    edge = letterbox.original[::-1]
    points = (np.clip(letterbox.to_original(contour[:, 0] + 0.5), 0, edge) for contour in contours)
    return tuple(outline.astype(np.float32) for outline in points)
