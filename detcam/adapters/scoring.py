"""What is left of a detection in raw output: scores over all anchors, without thresholds, so without cliffs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from detcam.adapters.base import RawOutput


def tracked_scores(raw: RawOutput, boxes: Tensor, class_ids: Sequence[int]) -> Tensor:
    """The tracked score of some detections: the largest IoU x probability over all anchors, differentiable.

    Rotated boxes count as what encloses them.

    Args:
        raw: of a batch of images.
        boxes: (K, 4) xyxy, pixels of the detector's input.
        class_ids: their K classes.

    Returns:
        (batch, K) in [0, 1].
    """
    return tracked_score_parts(raw, boxes, class_ids)[..., 0]


def tracked_scores_by_class(raw: RawOutput, box: Tensor, class_ids: Sequence[int]) -> Tensor:
    """:func:`tracked_scores` of one box as each of some classes.

    Args:
        raw: of a batch of images.
        box: (4,) xyxy, pixels of the detector's input.
        class_ids: the classes.

    Returns:
        (batch, class) in [0, 1].
    """
    if raw.boxes_by_class:
        return tracked_scores(raw, box.expand(len(class_ids), 4), class_ids)
    scores = []
    for index in range(len(raw.logits)):
        probabilities = raw.probability(index, slice(None), slice(None))[:, list(class_ids)]
        overlaps = _overlaps(raw, index, box[None], class_ids[:1])[0]
        scores.append((overlaps[:, None] * probabilities).amax(0))
    return torch.stack(scores)


def tracked_score_parts(raw: RawOutput, boxes: Tensor, class_ids: Sequence[int]) -> Tensor:
    """:func:`tracked_scores` with their factors.

    Args:
        raw: of a batch of images.
        boxes: (K, 4) xyxy, pixels of the detector's input.
        class_ids: their K classes.

    Returns:
        (batch, K, 3) in [0, 1]: the product, its IoU and its probability.
    """
    scores = []
    for index in range(len(raw.logits)):
        probabilities = raw.probability(index, slice(None), slice(None))[:, list(class_ids)].T
        overlaps = _overlaps(raw, index, boxes, class_ids)
        products = overlaps * probabilities
        best = products.argmax(-1, keepdim=True)
        scores.append(torch.cat([part.gather(-1, best) for part in (products, overlaps, probabilities)], -1))
    return torch.stack(scores)


def similarities(raw: RawOutput, boxes: Tensor, probabilities: Tensor, class_ids: Sequence[int]) -> Tensor:
    """D-RISE's similarity to some detections: the largest IoU x cosine of class probabilities x confidence.

    Args:
        raw: of a batch of images.
        boxes: (K, 4) xyxy, pixels of the detector's input.
        probabilities: (K, class), the detections' own; a background's column, where there is one, is left out.
        class_ids: their K classes.

    Returns:
        (batch, K) in [0, 1].
    """
    scores = []
    wanted = normalize(probabilities[:, raw.first_class :], dim=-1)
    for index in range(len(raw.logits)):
        others = raw.probability(index, slice(None), slice(None))[:, raw.first_class :]
        cosines = wanted @ normalize(others, dim=-1).T
        scores.append((_overlaps(raw, index, boxes, class_ids) * cosines * others.amax(-1)).amax(-1))
    return torch.stack(scores)


def _overlaps(raw: RawOutput, index: int, boxes: Tensor, class_ids: Sequence[int]) -> Tensor:
    """IoU (K, anchor) of boxes with one image's anchors, differentiable."""
    by_class = {class_id: raw.boxes_for(class_id)[index] for class_id in set(class_ids)}
    own = torch.stack([by_class[class_id] for class_id in class_ids]).to(boxes)
    low, high = torch.maximum(own[..., :2], boxes[:, None, :2]), torch.minimum(own[..., 2:], boxes[:, None, 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    area, own_area = ((part[..., 2:] - part[..., :2]).clamp(min=0).prod(-1) for part in (boxes, own))
    return inter / (area[:, None] + own_area - inter).clamp(min=torch.finfo(inter.dtype).tiny)
