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
from detcam.tensors.fills import SOFT

SHARES = (0.03, 0.1, 0.25)
"""Areas, in those of the box, of the hottest pixels whose connected parts are tried."""
PARTS = 2
"""Connected parts tried of each."""
RIM = 0.04
"""What is as near to the box as this share of its longer side belongs to it."""
OUTSIDE = (0.001, 0.1, 0.3, 0.6)
"""Outside the box, what is at least such a share of the hottest there is one part."""
GROWTH = 1.8
"""The first parts outside the box are tried enlarged so many times as well."""
PAIRS = 3
"""Of so many first parts every two are tried together."""
LARGEST = 0.6
"""No patch is larger than this share of the box's area, twice that outside it, or a tenth of the frame on a side."""
LEAST_SIDE = 0.03
"""No patch is narrower than this share of the frame's longer side."""
APART = 0.6
"""Patches that overlap more than this (IoU) are one."""
TRIES = 200

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom, pixels of a frame."""


def propose(frame: Frame, heat: Tensor, outside: bool = True) -> list[list[Rectangle]]:
    """Patches, and pairs of them, around the hottest parts of a map (h, w) of the detector's input.

    Args:
        frame: where they are.
        heat: the map.
        outside: look outside the box too.
    """
    left, top, right, bottom = frame.window
    shape = frame.inside.shape
    own = F.interpolate(heat[None, None, top:bottom, left:right].float(), shape, mode="bilinear")[0, 0]
    own = own.clamp(min=0).to(frame.inside.device) * frame.inside
    x1, y1, x2, y2 = (round(side) for side in frame.box.tolist())
    box = torch.zeros_like(frame.inside)
    box[max(y1, 0) : max(y2, 1), max(x1, 0) : max(x2, 1)] = True
    area = max(int((box & frame.inside).sum()), 1)
    most = max(LARGEST * area, (max(shape) / 10) ** 2)
    found: list[Rectangle] = []
    pairs: list[list[Rectangle]] = []
    spare = math.ceil(RIM * max(x2 - x1, y2 - y1))
    beyond = own.clone()
    beyond[max(y1 - spare, 0) : max(y2 + spare, 1), max(x1 - spare, 0) : max(x2 + spare, 1)] = 0
    if not outside:
        own, beyond = own - beyond, torch.zeros_like(own)
    if float(beyond.max()) > 0:
        for share in OUTSIDE:
            parts = _connected(frame, beyond >= share * beyond.max(), beyond)
            pairs += [parts] if len(parts) == PARTS else []
            found += parts
        pairs += [[_grown(frame, patch) for patch in pair] for pair in pairs[:1]]
        found += [_grown(frame, patch) for patch in found[:PARTS]]
    for share in SHARES:
        least = own.flatten().topk(max(round(share * area), 1)).values[-1]
        found += _connected(frame, (own >= least) & (own > 0), own)
    kept: list[Rectangle] = []
    for patch in found:
        limit = 2 * most if is_outside(patch, (x1, y1, x2, y2)) else most
        if area_of(patch) <= limit and all(overlap_of(patch, other) < APART for other in kept):
            kept.append(patch)
    together = [list(pair) for pair in [*pairs, *combinations(kept[:PAIRS], 2)] if overlap_of(*pair) == 0]
    return [[patch] for patch in kept] + together


def _connected(frame: Frame, hot: Tensor, heat: Tensor) -> list[Rectangle]:
    """Rectangles around the connected parts with the most heat."""
    labels, number = ndimage.label(hot.cpu().numpy(), np.ones((3, 3)))
    if not number:
        return []
    masses = np.asarray(ndimage.sum_labels(heat.cpu().numpy(), labels, range(1, number + 1)))
    places = ndimage.find_objects(labels)
    patches = []
    for part in np.argsort(-masses, kind="stable")[:PARTS]:
        rows, columns = places[part]
        patches.append(_widened(frame, (columns.start, rows.start, columns.stop, rows.stop)))
    return patches


def _widened(frame: Frame, patch: Rectangle) -> Rectangle:
    """A patch made at least as wide as is sensible, within the frame."""
    height, width = frame.inside.shape
    least = max(round(LEAST_SIDE * max(height, width)), 3)
    ends = []
    for low, high, side in ((patch[0], patch[2], width), (patch[1], patch[3], height)):
        spare = max(least - (high - low), 0)
        start = min(max(low - (spare + 1) // 2, 0), max(side - least, 0)) if spare else low
        ends.append((start, min(max(high, start + least), side)))
    (left, right), (top, bottom) = ends
    return left, top, right, bottom


def _grown(frame: Frame, patch: Rectangle) -> Rectangle:
    """A patch made larger about its centre, cut to the frame: the map may have found but a corner of what counts."""
    left, top, right, bottom = patch
    spare_x, spare_y = (round((GROWTH - 1) / 2 * side) for side in (right - left, bottom - top))
    return cut_to(frame, (left - spare_x, top - spare_y, right + spare_x, bottom + spare_y))


def controls_of(frame: Frame, patches: Sequence[Rectangle], count: int) -> list[list[Rectangle]]:
    """As many sets of patches of the same sizes elsewhere in the frame, none of which meets the patches.

    A patch outside the box is compared with others outside, for the object itself is a cause of its box as well; one
    inside the box with others that reach into it.
    """
    height, width = frame.inside.shape
    box = [round(side) for side in frame.box.tolist()]
    spare = math.ceil(2 * SOFT * max(height, width))  # what fades around a patch
    rng = np.random.default_rng([count, *(max(value, 0) for patch in patches for value in patch)])
    found = []
    for _ in range(count):
        for _ in range(TRIES):
            moved: list[Rectangle] = []
            for left, top, right, bottom in patches:
                x = int(rng.integers(0, max(width - (right - left), 0) + 1))
                y = int(rng.integers(0, max(height - (bottom - top), 0) + 1))
                moved.append((x, y, x + right - left, y + bottom - top))
            apart = all(shared_area(one, padded(own, spare)) == 0 for one in moved for own in patches)
            alike = all(
                shared_area(one, padded(box, spare)) == 0
                if is_outside(own, box)
                else shared_area(one, box) >= 0.1 * area_of(one)
                for one, own in zip(moved, patches, strict=True)
            )
            if apart and alike:
                found.append(moved)
                break
    return found


def area_of(patch: Sequence[int]) -> int:
    """Pixels of a rectangle; 0 where it is turned inside out."""
    return max(patch[2] - patch[0], 0) * max(patch[3] - patch[1], 0)


def is_outside(patch: Sequence[int], box: Sequence[int]) -> bool:
    """Whether more than half of a patch lies outside a box."""
    return shared_area(patch, box) < area_of(patch) / 2


def shared_area(one: Sequence[int], other: Sequence[int]) -> int:
    """Pixels that two rectangles share."""
    return area_of([max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])])


def overlap_of(one: Sequence[int], other: Sequence[int]) -> float:
    """Intersection over union of two rectangles."""
    shared = shared_area(one, other)
    return shared / max(area_of(one) + area_of(other) - shared, 1)


def cut_to(frame: Frame, patch: Sequence[int]) -> Rectangle:
    """A patch cut to the frame."""
    height, width = frame.inside.shape
    return max(patch[0], 0), max(patch[1], 0), min(patch[2], width), min(patch[3], height)


def padded(patch: Sequence[int], spare: int) -> Rectangle:
    """A rectangle made larger by so many pixels on each side."""
    return patch[0] - spare, patch[1] - spare, patch[2] + spare, patch[3] + spare
