"""The patches that may be evidence, and what they are compared with.

Proposed are rectangles around the hottest parts of a map, in and outside the box, and two of them together; controls
are rectangles of the same sizes elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from detcam.probing.frames import Frame
from detcam.tensors.fills import SOFT_EDGE_SHARE

HOT_AREA_SHARES = (0.03, 0.1, 0.25)
"""Areas, in those of the box, of the hottest pixels whose connected parts are tried."""
PARTS_PER_SHARE = 2
"""Connected parts tried of each."""
RIM_SHARE = 0.04
"""Heat within this share of the box's longer side around it counts as the box's."""
OUTSIDE_PEAK_SHARES = (0.03, 0.1, 0.3, 0.6)
"""Outside the box, what is at least such a share of the hottest there is one part."""
PATCH_GROWTHS = (1.4, 2.0)
"""The first parts outside the box are tried enlarged so many times as well."""
PAIRED_PATCHES = 3
"""Every two of the first so many patches are tried together."""
MAX_AREA_SHARE = 0.6
"""No patch is larger than this share of the box's area, twice that outside it, or a tenth of the frame on a side."""
MIN_SIDE_SHARE = 0.03
"""No patch is narrower than this share of the frame's longer side."""
SAME_PATCH_IOU = 0.6
"""Patches that overlap by this IoU or more count as one."""
MAX_TRIES = 200
"""Random places tried for a control."""

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom, pixels of a frame."""


def propose_patches(frame: Frame, heat: Tensor, outside: bool = True) -> list[list[Rectangle]]:
    """Patches, and pairs of them, around the hottest parts of a map (h, w) of the detector's input.

    Args:
        frame: where they are.
        heat: the map.
        outside: look outside the box too.
    """
    left, top, right, bottom = frame.window
    shape = frame.inside.shape
    local = F.interpolate(heat[None, None, top:bottom, left:right].float(), shape, mode="bilinear")[0, 0]
    local = local.clamp(min=0).to(frame.inside.device) * frame.inside
    x1, y1, x2, y2 = (round(side) for side in frame.box.tolist())
    box = torch.zeros_like(frame.inside)
    box[max(y1, 0) : max(y2, 1), max(x1, 0) : max(x2, 1)] = True
    area = max(int((box & frame.inside).sum()), 1)
    most = max(MAX_AREA_SHARE * area, (max(shape) / 10) ** 2)
    patches: list[Rectangle] = []
    pairs: list[list[Rectangle]] = []
    spare = math.ceil(RIM_SHARE * max(x2 - x1, y2 - y1))
    beyond = local.clone()
    beyond[max(y1 - spare, 0) : max(y2 + spare, 1), max(x1 - spare, 0) : max(x2 + spare, 1)] = 0
    if not outside:
        local, beyond = local - beyond, torch.zeros_like(local)
    if float(beyond.max()) > 0:
        for share in OUTSIDE_PEAK_SHARES:
            parts = _connected(frame, beyond >= share * beyond.max(), beyond)
            pairs += [parts] if len(parts) == PARTS_PER_SHARE else []
            patches += parts
        for growth in PATCH_GROWTHS:
            pairs += [[_grown(frame, patch, growth) for patch in pair] for pair in pairs[:1]]
            patches += [_grown(frame, patch, growth) for patch in patches[:PARTS_PER_SHARE]]
    for share in HOT_AREA_SHARES:
        least = local.flatten().topk(max(round(share * area), 1)).values[-1]
        parts = _connected(frame, (local >= least) & (local > 0), local)
        patches += parts + [_grown(frame, patch, PATCH_GROWTHS[0]) for patch in parts]
    kept: list[Rectangle] = []
    for patch in patches:
        limit = 2 * most if is_outside(patch, (x1, y1, x2, y2)) else most
        if area_of(patch) <= limit and all(iou_of(patch, other) < SAME_PATCH_IOU for other in kept):
            kept.append(patch)
    together = [list(pair) for pair in [*pairs, *combinations(kept[:PAIRED_PATCHES], 2)] if iou_of(*pair) == 0]
    return [[patch] for patch in kept] + together


def _connected(frame: Frame, hot: Tensor, heat: Tensor) -> list[Rectangle]:
    """Rectangles around the connected parts with the most heat."""
    labels, number = ndimage.label(hot.cpu().numpy(), np.ones((3, 3)))
    if not number:
        return []
    masses = np.asarray(ndimage.sum_labels(heat.cpu().numpy(), labels, range(1, number + 1)))
    places = ndimage.find_objects(labels)
    patches = []
    for part in np.argsort(-masses, kind="stable")[:PARTS_PER_SHARE]:
        rows, columns = places[part]
        patches.append(_widened(frame, (columns.start, rows.start, columns.stop, rows.stop)))
    return patches


def _widened(frame: Frame, patch: Rectangle) -> Rectangle:
    """A patch made at least as wide as is sensible, within the frame."""
    height, width = frame.inside.shape
    least = max(round(MIN_SIDE_SHARE * max(height, width)), 3)
    ends = []
    for low, high, side in ((patch[0], patch[2], width), (patch[1], patch[3], height)):
        spare = max(least - (high - low), 0)
        start = min(max(low - (spare + 1) // 2, 0), max(side - least, 0)) if spare else low
        ends.append((start, min(max(high, start + least), side)))
    (left, right), (top, bottom) = ends
    return left, top, right, bottom


def _grown(frame: Frame, patch: Rectangle, growth: float) -> Rectangle:
    """A patch made larger about its centre, cut to the frame: the map may have found but a corner of what counts."""
    left, top, right, bottom = patch
    spare_x, spare_y = (round((growth - 1) / 2 * side) for side in (right - left, bottom - top))
    return clip_to_frame(frame, (left - spare_x, top - spare_y, right + spare_x, bottom + spare_y))


def propose_controls(frame: Frame, patches: Sequence[Rectangle], count: int) -> list[list[Rectangle]]:
    """As many sets of patches of the same sizes elsewhere in the frame, none of which meets the patches.

    A patch outside the box is compared with others outside, for the object itself is a cause of its box as well; one
    inside the box with others that reach into it. A set for which no place is found in 200 tries is left out.

    Args:
        frame: where they are.
        patches: what they are compared with, within the frame.
        count: sets wanted.
    """
    height, width = frame.inside.shape
    box = [round(side) for side in frame.box.tolist()]
    spare = math.ceil(2 * SOFT_EDGE_SHARE * max(height, width))  # what fades around a patch
    rng = np.random.default_rng([count, *(max(value, 0) for patch in patches for value in patch)])
    controls = []
    for _ in range(count):
        for _ in range(MAX_TRIES):
            moved: list[Rectangle] = []
            for left, top, right, bottom in patches:
                x = int(rng.integers(0, width - (right - left) + 1))
                y = int(rng.integers(0, height - (bottom - top) + 1))
                moved.append((x, y, x + right - left, y + bottom - top))
            apart = all(shared_area(one, pad_rectangle(own, spare)) == 0 for one in moved for own in patches)
            alike = all(
                shared_area(one, pad_rectangle(box, spare)) == 0
                if is_outside(own, box)
                else shared_area(one, box) >= 0.1 * area_of(one)
                for one, own in zip(moved, patches, strict=True)
            )
            if apart and alike:
                controls.append(moved)
                break
    return controls


def area_of(patch: Sequence[int]) -> int:
    """Pixels of a rectangle; 0 where it is turned inside out.

    Args:
        patch: xyxy, whole pixels.

    >>> area_of([1, 1, 4, 3]), area_of([4, 1, 1, 3])
    (6, 0)
    """
    return max(patch[2] - patch[0], 0) * max(patch[3] - patch[1], 0)


def is_outside(patch: Sequence[int], box: Sequence[int]) -> bool:
    """Whether more than half of a patch lies outside a box.

    Args:
        patch: xyxy, whole pixels.
        box: xyxy in the same frame.
    """
    return shared_area(patch, box) < area_of(patch) / 2


def shared_area(one: Sequence[int], other: Sequence[int]) -> int:
    """Pixels that two rectangles share.

    Args:
        one: xyxy, whole pixels.
        other: xyxy in the same frame.

    >>> shared_area([0, 0, 2, 2], [1, 1, 5, 5])
    1
    """
    return area_of([max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])])


def iou_of(one: Sequence[int], other: Sequence[int]) -> float:
    """Intersection over union of two rectangles.

    Args:
        one: xyxy, whole pixels.
        other: xyxy in the same frame.

    Returns:
        In [0, 1].

    >>> iou_of([0, 0, 2, 2], [0, 0, 2, 4])
    0.5
    """
    shared = shared_area(one, other)
    return shared / max(area_of(one) + area_of(other) - shared, 1)


def clip_to_frame(frame: Frame, patch: Sequence[int]) -> Rectangle:
    """A patch cut to the frame.

    Args:
        frame: whose size counts.
        patch: xyxy, whole pixels of the frame.
    """
    height, width = frame.inside.shape
    return max(patch[0], 0), max(patch[1], 0), min(patch[2], width), min(patch[3], height)


def pad_rectangle(patch: Sequence[int], spare: int) -> Rectangle:
    """A rectangle made larger by the same width on each side.

    Args:
        patch: xyxy, whole pixels.
        spare: that width, pixels.
    """
    return patch[0] - spare, patch[1] - spare, patch[2] + spare, patch[3] + spare
