"""The evidence patch: the smallest part of an image without which a box is lost or becomes something else.

A map proposes: its hottest parts, in and outside the box, and two of them together. Each is taken away under every
fill, in the detection's own frame; of those that cost the box under all of them the smallest is taken. As many patches
of its size elsewhere as were proposed are blurred too, and none of them may cost the box. What is found is
tried once more on the whole image.
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

from detcam.attribution.receipt import SOFT, softened
from detcam.geometry import Letterbox
from detcam.probing.frames import Frame
from detcam.types import Evidence

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
ENOUGH = 0.8
"""A patch outside the box is enough for it that brings back this share of its score, beside nothing but the box."""
CLOSE = 0.2
"""Patches cost as much whose margins, own score less the best other, are this close."""
PAIRS = 3
"""Of so many first parts every two are tried together."""
LARGEST = 0.6
"""No patch is larger than this share of the box's area, twice that outside it, or a tenth of the frame on a side."""
LEAST_SIDE = 0.03
"""No patch is narrower than this share of the frame's longer side."""
APART = 0.6
"""Patches that overlap more than this (IoU) are one."""
TRIES = 200
AROUND = (2.0, 0.0)
"""All around the box is taken away within the box enlarged so many times, and everywhere (0)."""

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom, pixels of a frame."""


def find_evidence(
    whole: Frame, frame: Frame, heat: Tensor, letterbox: Letterbox, conf: float, before: float
) -> Evidence | None:
    """The patch or two that a box hangs on, or None where none was found.

    Args:
        whole: the whole image as a frame.
        frame: the part of it in which the box keeps its score.
        heat: (h, w) over the detector's input, not negative.
        letterbox: places the input in the original image.
        conf: the detector's threshold, below which a box is lost.
        before: the tracked score of the box in the whole image.
    """
    proposed = propose(frame, heat)
    if not proposed or is_gone(frame.raw.remains_by_class(frame.box, frame.class_ids)[0], conf):
        return None
    fills = list(frame.fills)
    first = _scores_without(frame, proposed, fills[:1])
    patches = [one for one, scores in zip(proposed, first[:, 0], strict=True) if is_gone(scores, conf)]
    if not patches:
        return None
    kept = first[[i for i, scores in enumerate(first[:, 0]) if is_gone(scores, conf)]]
    after = torch.cat([kept, _scores_without(frame, patches, fills[1:])], 1)
    flips = [i for i in range(len(patches)) if all(is_gone(scores, conf) for scores in after[i])]
    if not flips:
        return None
    # What becomes something else says more than what is merely lost; of what costs as much, the smallest.
    margins = {i: _margin(after[i]) for i in flips}
    least = {kind: min((margins[i] for i in flips if (_rival(after[i], conf) > 0) == kind), default=0.0)
             for kind in (True, False)}  # fmt: skip

    brings = _bring_back(frame, [patches[i] for i in flips], conf)
    sufficient = dict(zip(flips, brings, strict=True))

    def rank(i: int) -> tuple[bool, bool, bool, int]:
        becomes = _rival(after[i], conf) > 0
        costs = margins[i] > least[becomes] + CLOSE
        return not becomes, not sufficient[i], costs, sum(map(_area, patches[i]))

    ranked = sorted(flips, key=rank)
    for best in ranked[:PARTS]:
        controls = _controls(frame, patches[best], len(proposed))
        if not controls:
            continue
        elsewhere = _scores_without(frame, controls, fills[:1])
        worst = min(range(len(controls)), key=lambda i: float(elsewhere[i, 0, 0]))
        if any(is_gone(scores, conf) for scores in elsewhere[:, 0]):
            continue
        found = [_in_whole(whole, frame, patch) for patch in patches[best]]
        same = frame.image.shape == whole.image.shape
        final = after[best] if same else _scores_without(whole, [found], fills)[0]
        if not all(is_gone(scores, conf) for scores in final):
            continue
        return _evidence(whole, found, final, before, float(elsewhere[worst, 0, 0]), letterbox, conf)
    return None


def find_surroundings(whole: Frame, letterbox: Letterbox, conf: float, before: float) -> Evidence | None:
    """All around a box, near it or everywhere, where the box is lost or becomes something else without it, or None.

    It is asked where no patch was found: a background, say, is everywhere, and in no patch.

    Args:
        whole: the whole image as a frame.
        letterbox: places the input in the original image.
        conf: the detector's threshold, below which a box is lost.
        before: the tracked score of the box in the whole image.
    """
    height, width = whole.inside.shape
    x1, y1, x2, y2 = _within(whole, _padded([round(side) for side in whole.box.tolist()], 1))
    rings = []
    for growth in AROUND:
        spare = round((growth - 1) / 2 * max(x2 - x1, y2 - y1)) if growth else max(height, width)
        left, top, right, bottom = _within(whole, (x1 - spare, y1 - spare, x2 + spare, y2 + spare))
        ring = [(left, top, right, y1), (left, y2, right, bottom), (left, y1, x1, y2), (x2, y1, right, y2)]
        rings.append([patch for patch in ring if _area(patch)])
    rings = [ring for ring in rings if ring]
    if not rings:
        return None
    after = _scores_without(whole, rings, list(whole.fills))
    for ring, scores in zip(rings, after, strict=True):
        if all(is_gone(one, conf) for one in scores):
            return _evidence(whole, ring, scores, before, None, letterbox, conf)
    return None


def _bring_back(frame: Frame, sets: Sequence[Sequence[Rectangle]], conf: float) -> list[bool]:
    """Whether each set of patches outside the box, with nothing but the box beside it, is enough for the box to stand.

    Always so for patches inside the box. Of patches without which a box is lost some hold but a corner of its cause:
    what brings it back holds the whole.
    """
    box = tuple(round(side) for side in frame.box.tolist())
    beyond = [i for i, patches in enumerate(sets) if all(_shared(patch, box) < _area(patch) / 2 for patch in patches)]
    enough = [i not in beyond for i in range(len(sets))]
    if beyond:
        kept = _masks(frame, [[*sets[i], box] for i in beyond])
        images = frame.without(1 - softened(kept, frame.inside), "mean")
        own = frame.raw.remains_by_class(frame.box, frame.class_ids)[0].cpu()
        for i, scores in zip(beyond, frame.class_scores(images).cpu(), strict=True):
            enough[i] = not is_gone(scores, conf) and bool(scores[0] >= ENOUGH * own[0])
    return enough


def is_gone(scores: Tensor, conf: float) -> bool:
    """Whether a box is lost or something else, by its scores (class,), its own class first."""
    return bool(scores[0] < conf or (len(scores) > 1 and scores[0] < scores[1:].max()))


def _margin(after: Tensor) -> float:
    """What is left of a box's own class over the best other, by its scores (fill, class): a mean over fills."""
    means = after.mean(0)
    return float(means[0] - means[1:].max()) if len(means) > 1 else float(means[0])


def _rival(after: Tensor, conf: float) -> int:
    """Which class a box becomes, by its scores (fill, class); 0, its own, where it becomes none."""
    means = after.mean(0)
    best = int(means.argmax())
    return best if float(means[best]) >= conf else 0


def propose(frame: Frame, heat: Tensor) -> list[list[Rectangle]]:
    """Patches, and pairs of them, around the hottest parts of a map (h, w) of the detector's input."""
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
    if float(beyond.max()) > 0:
        for share in OUTSIDE:
            parts = _connected(frame, beyond >= share * beyond.max(), beyond)
            pairs += [parts] if len(parts) == PARTS else []
            found += parts
        pairs += [[_grown(frame, patch) for patch in pair] for pair in pairs[:1]]
        found += [_grown(frame, patch) for patch in found[:PARTS]]
    for share in SHARES:
        count = min(max(round(share * area), 1), int((own > 0).sum()))
        if count:
            least = own.flatten().topk(count).values[-1]
            found += _connected(frame, (own >= least) & (own > 0), own)
    kept: list[Rectangle] = []
    for patch in found:
        outside = _shared(patch, (x1, y1, x2, y2)) < _area(patch) / 2
        if _area(patch) <= (2 * most if outside else most) and all(_overlap(patch, other) < APART for other in kept):
            kept.append(patch)
    together = [list(pair) for pair in [*pairs, *combinations(kept[:PAIRS], 2)] if _overlap(*pair) == 0]
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
    return _within(frame, (left - spare_x, top - spare_y, right + spare_x, bottom + spare_y))


def _scores_without(frame: Frame, sets: Sequence[Sequence[Rectangle]], fills: Sequence[str]) -> Tensor:
    """The scores (set, fill, class) without each set of patches, under some fills."""
    masks = _masks(frame, sets)
    soft = softened(masks, frame.inside)
    images = torch.cat([frame.without(soft, fill) for fill in fills])
    return frame.class_scores(images).float().view(len(fills), len(sets), -1).transpose(0, 1).cpu()


def _masks(frame: Frame, sets: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """Sets of rectangles as masks, bool (set, h, w)."""
    masks = torch.zeros(len(sets), *frame.inside.shape, dtype=torch.bool, device=frame.inside.device)
    for mask, patches in zip(masks, sets, strict=True):
        for left, top, right, bottom in patches:
            mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return masks


def _controls(frame: Frame, patches: Sequence[Rectangle], count: int) -> list[list[Rectangle]]:
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
            apart = all(_shared(one, _padded(own, spare)) == 0 for one in moved for own in patches)
            alike = all(
                _shared(one, _padded(box, spare)) == 0
                if _shared(own, box) < 0.5 * _area(own)
                else _shared(one, box) >= 0.1 * _area(one)
                for one, own in zip(moved, patches, strict=True)
            )
            if apart and alike:
                found.append(moved)
                break
    return found


def _in_whole(whole: Frame, frame: Frame, patch: Rectangle) -> Rectangle:
    """A patch of a frame in the pixels of the whole input, outwards to whole ones."""
    height, width = whole.inside.shape
    x1, y1, x2, y2 = frame.box_to_input(patch)
    return (max(int(np.floor(x1)), 0), max(int(np.floor(y1)), 0), min(int(np.ceil(x2)), width),
            min(int(np.ceil(y2)), height))  # fmt: skip


def _evidence(
    whole: Frame,
    patches: Sequence[Rectangle],
    after: Tensor,
    before: float,
    control: float | None,
    letterbox: Letterbox,
    conf: float,
) -> Evidence:
    """What was found, in the original image's pixels; ``after`` (fill, class) are the scores without it."""
    means, rival = after.mean(0), _rival(after, conf)
    box = [round(side) for side in whole.box.tolist()]
    inside = sum(_shared(patch, box) for patch in patches)
    placed = letterbox.clip(letterbox.to_original(np.array(patches, np.float64)))
    return Evidence(
        patches=np.concatenate([np.floor(placed[:, :2]), np.ceil(placed[:, 2:])], 1).astype(np.int64),
        becomes=whole.model.names[whole.class_ids[rival]] if rival else None,
        confidence=float(means[rival]),
        before=before,
        after=float(means[0]),
        control=control,
        outside=1 - inside / max(sum(map(_area, patches)), 1),
    )


def _area(patch: Sequence[int]) -> int:
    return max(patch[2] - patch[0], 0) * max(patch[3] - patch[1], 0)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    return _area([max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])])


def _overlap(one: Sequence[int], other: Sequence[int]) -> float:
    shared = _shared(one, other)
    return shared / max(_area(one) + _area(other) - shared, 1)


def _within(frame: Frame, patch: Sequence[int]) -> Rectangle:
    """A patch cut to the frame."""
    height, width = frame.inside.shape
    return max(patch[0], 0), max(patch[1], 0), min(patch[2], width), min(patch[3], height)


def _padded(patch: Sequence[int], spare: int) -> Rectangle:
    return patch[0] - spare, patch[1] - spare, patch[2] + spare, patch[3] + spare
