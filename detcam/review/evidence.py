"""The evidence patch of a false positive: the part of the image without which the error is gone.

A map only proposes candidates: its hottest parts and, for an error of class, the worst of windows slid over the box and
its surroundings. Each is removed, and the detector's score decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from detcam.adapters.scoring import tracked_scores
from detcam.attribution.patches import iou_of
from detcam.methods.windows import Scan, clip_rectangle, image_rectangle, rectangle_mask, widen_rectangle
from detcam.probing.prepared_image import PreparedImage
from detcam.tensors.fills import soften_masks
from detcam.types import Detection

AREA_SHARES = (0.04, 0.12, 0.35)
"""Shares of the box's area: so many of the hottest pixels are taken, and their connected parts tried as patches."""
PARTS_PER_SHARE = 2
"""Connected parts tried for each share, by the heat in them."""
PATCH_GROWTHS = (1.0, 1.6, 2.4)
"""The window whose removal lowers the score most is tried as a patch at its own size and enlarged by these factors."""
SCORE_TOLERANCE = 0.05
"""Among patches within this score of the best, the smallest is taken."""
SAME_PATCH_IOU = 0.7
"""Patches that overlap more than this (IoU) are one."""
CONTROL_REACH = 2.0
"""Control patches lie within the box enlarged by this factor, or as far from it as the patch itself."""
CONTROL_TRIES = 32
IMAGES_PER_PASS = 16
MINIATURE_SIDE_PX = 8
"""Side of the miniature that stands for the features of a model that can only be called."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EvidencePatch:
    """A patch of the image that an error hangs on, and what became of the error without it.

    Attributes:
        xyxy: the patch, original pixels, whole numbers: int64 (4,).
        flipped: whether the error was gone without it, under every fill.
        control: whether it was gone without the best of as many patches of its size elsewhere near the box.
        before: the predicted class's score as it was, in [0, 1].
        after: without the patch, the mean over the fills.
        place: where the patch's centre lies from the box's, in box widths and heights: (2,).
        outside: the share of the patch that lies outside the box.
        features: what the detector sees in the patch alone, float32 (channel,).
        chance: what it sees in the control patch alone.
    """

    xyxy: NDArray[np.int64]
    flipped: bool
    control: bool
    before: float
    after: float
    place: Floats
    outside: float
    features: NDArray[np.float32]
    chance: NDArray[np.float32]


def gone(scores: Tensor, conf: float) -> Tensor:
    """Whether an error is gone: its class scores below the threshold, or less than the rival.

    Args:
        scores: (..., K) in [0, 1]: of the predicted class and, where there is one, of its rival, the true class.
        conf: the detector's threshold, in [0, 1].

    Returns:
        bool (...).
    """
    return (scores[..., 0] < conf) | (scores[..., 0] < scores[..., 1:].amax(-1) if scores.shape[-1] > 1 else False)


@torch.no_grad()
def find_evidence(
    prepared: PreparedImage,
    detection: Detection,
    rival: int | None,
    raw_map: NDArray[np.float32],
    scanned: Scan | None,
    conf: float,
    seed: int = 0,
) -> EvidencePatch | None:
    """The patch that an error hangs on: of those whose removal lowers its score most, the smallest.

    Args:
        prepared: the image.
        detection: the error.
        rival: the true class, for an error of class, or None.
        raw_map: float32 (h', w') over the detector's input; its hottest parts are candidates.
        scanned: windows, of which the worst is a candidate too, or None.
        conf: the detector's threshold, in [0, 1].
        seed: of the control's place.

    Returns:
        None where there is no candidate, or the error's score is below the threshold already.
    """
    box, rectangle = prepared.box_of(detection), image_rectangle(prepared.inside)
    patches = _candidates(prepared.inside, box, torch.tensor(raw_map, device=box.device))
    if scanned is not None:
        worst = scanned.windows[int(scanned.losses.argmax())].tolist()
        patches += [clip_rectangle(_scaled(worst, growth), rectangle) for growth in PATCH_GROWTHS]
    ids = [detection.class_id] if rival is None else [detection.class_id, rival]
    before = tracked_scores(prepared.raw, box.expand(len(ids), 4), ids)[prepared.index]
    if gone(before, conf):  # the true class scores more there already, for another box: then it is the error's own
        ids, before = ids[:1], before[:1]
    if not patches or gone(before, conf):
        return None
    boxes = box.expand(len(ids), 4)
    parts = torch.stack([rectangle_mask(patch, prepared.inside) for patch in patches])
    scores = _scores_without(prepared, parts, boxes, ids)
    best = _most(scores, patches)
    # The control is the worst of as many random patches as candidates were tried: choosing alone must not make a cause.
    controls = _elsewhere(rectangle, box, [patches[best]] * len(patches), seed)
    others = torch.stack([rectangle_mask(patch, prepared.inside) for patch in controls])
    control_scores = _scores_without(prepared, others, boxes, ids)
    control = _most(control_scores, controls)
    own = np.array(patches[best])
    x1, y1, x2, y2 = box.tolist()
    centre = (own[:2] + own[2:]) / 2 - np.array([x1 + x2, y1 + y2]) / 2
    in_box = [max(own[0], x1), max(own[1], y1), min(own[2], x2), min(own[3], y2)]
    where = prepared.letterbox.clip(prepared.letterbox.to_original(own))
    return EvidencePatch(
        xyxy=np.concatenate([np.floor(where[:2]), np.ceil(where[2:])]).astype(np.int64),
        flipped=bool(gone(scores[best], conf).all()),
        control=bool(gone(control_scores[control], conf).all()),
        before=float(before[0]),
        after=float(scores[best, :, 0].mean()),
        place=centre / np.maximum([x2 - x1, y2 - y1], 1),
        outside=1 - _area(in_box) / max(_area(patches[best]), 1),
        features=_features(prepared, parts[best]),
        chance=_features(prepared, others[control]),
    )


def _scores_without(prepared: PreparedImage, parts: Tensor, boxes: Tensor, class_ids: Sequence[int]) -> Tensor:
    """The tracked score of boxes when parts of an image are removed: the largest IoU x class probability.

    Args:
        prepared: the image.
        parts: bool (n, h, w), each removed from a copy of the image.
        boxes: (K, 4), xyxy in the detector's input.
        class_ids: K classes.

    Returns:
        (n, fill, K) in [0, 1].
    """
    fills = torch.stack(list(prepared.fills.values()))
    scores = []
    for some in torch.split(parts, IMAGES_PER_PASS):  # whole images are large: never all of them at once
        kept = 1 - soften_masks(some, prepared.inside)[:, None, None]
        images = torch.lerp(fills, prepared.pixels, kept)
        for batch in torch.split(images.flatten(0, 1).to(prepared.batch.dtype), IMAGES_PER_PASS):
            scores.append(tracked_scores(prepared.model.forward(batch), boxes, class_ids))
    return torch.cat(scores).view(len(parts), len(fills), -1)


def _features(prepared: PreparedImage, part: Tensor) -> NDArray[np.float32]:
    """What the detector sees in a part of an image when everything else is the mean colour.

    The backbone's activations, averaged over the part, those of each layer scaled to length 1. For a model that can
    only be called, the pixels of the part, reduced to 8 x 8.

    Args:
        prepared: the image.
        part: bool (h, w).

    Returns:
        float32 (channel,).
    """
    image, model = prepared.pixels, prepared.model
    if not model.differentiable:
        rows, columns = (torch.where(part.any(axis))[0] for axis in (1, 0))
        cut = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        small = F.interpolate(cut[None], (MINIATURE_SIDE_PX, MINIATURE_SIDE_PX), mode="area")[0]
        return np.asarray(small.flatten().cpu().numpy(), np.float32)
    alone = torch.where(part, image, prepared.fills["mean"])[None].to(prepared.batch.dtype)
    features = []
    for layer in model.forward(alone, model.resolve("auto")).activations.values():
        weights = F.interpolate(part[None, None].float(), layer.shape[-2:], mode="area")[0, 0]
        pooled = (layer[0].float() * weights).sum((1, 2)) / weights.sum().clamp(min=1e-6)
        features.append(F.normalize(pooled, dim=0))
    return np.asarray(torch.cat(features).cpu().numpy(), np.float32)


def _most(scores: Tensor, patches: Sequence[Sequence[int]]) -> int:
    """Which patch costs an error most, by scores (patch, fill, K); of those that cost as much, the smallest."""
    margins = _margin(scores).mean(1).cpu().numpy()
    sizes = np.array([_area(patch) for patch in patches])
    return int(np.where(margins <= margins.min() + SCORE_TOLERANCE, sizes, np.inf).argmin())


def _margin(scores: Tensor) -> Tensor:
    """The predicted class's score, less its rival's where there is one: (..., K) -> (...)."""
    return scores[..., 0] - scores[..., 1] if scores.shape[-1] > 1 else scores[..., 0]


def _scaled(patch: Sequence[int], factor: float) -> list[int]:
    """A rectangle made larger about its centre."""
    spare_x, spare_y = (round((factor - 1) / 2 * side) for side in (patch[2] - patch[0], patch[3] - patch[1]))
    return [patch[0] - spare_x, patch[1] - spare_y, patch[2] + spare_x, patch[3] + spare_y]


def _candidates(inside: Tensor, box: Tensor, heat: Tensor) -> list[list[int]]:
    """Rectangles xyxy, input pixels, around the connected hottest parts of a map at several sizes."""
    full = F.interpolate(heat[None, None].float(), inside.shape, mode="bilinear")[0, 0].clamp(min=0) * inside
    area = float((box[2:] - box[:2]).clamp(min=1).prod())
    positive = int((full > 0).sum())
    patches: list[list[int]] = []
    for share in AREA_SHARES:
        count = min(max(round(share * area), 1), positive)
        if not count:
            return []
        hot = full >= full.flatten().topk(count).values[-1]
        labels, number = ndimage.label((hot & (full > 0)).cpu().numpy())
        masses = ndimage.sum_labels(full.cpu().numpy(), labels, range(1, number + 1))
        places = ndimage.find_objects(labels)
        for part in np.argsort(-np.asarray(masses), kind="stable")[:PARTS_PER_SHARE]:
            rows, columns = places[part]
            patch = widen_rectangle([columns.start, rows.start, columns.stop, rows.stop], image_rectangle(inside))
            if all(iou_of(patch, other) < SAME_PATCH_IOU for other in patches):
                patches.append(patch)
    return patches


def _elsewhere(
    image: tuple[int, int, int, int], box: Tensor, patches: Sequence[Sequence[int]], seed: int
) -> list[list[int]]:
    """For each patch one as large, near the box, that overlaps it least of some tries."""
    x1, y1, x2, y2 = box.tolist()
    spread_x, spread_y = ((CONTROL_REACH - 1) / 2 * side for side in (x2 - x1, y2 - y1))
    rng = np.random.default_rng([seed, *np.maximum(box.cpu().numpy(), 0).astype(int).tolist()])
    controls = []
    for patch in patches:
        width, height = patch[2] - patch[0], patch[3] - patch[1]
        tries = []
        for _ in range(CONTROL_TRIES):
            left = rng.uniform(min(x1 - spread_x, patch[0]), max(x2 + spread_x, patch[2]) - width)
            top = rng.uniform(min(y1 - spread_y, patch[1]), max(y2 + spread_y, patch[3]) - height)
            left = int(np.clip(left, image[0], max(image[2] - width, image[0])))
            top = int(np.clip(top, image[1], max(image[3] - height, image[1])))
            tries.append([left, top, left + width, top + height])
        controls.append(min(tries, key=lambda other: iou_of(patch, other)))
    return controls


def _area(patch: Sequence[float]) -> float:
    return max(patch[2] - patch[0], 0) * max(patch[3] - patch[1], 0)
