"""The evidence patch: the smallest part of an image without which a box is lost or becomes something else.

A map proposes: its hottest parts, in and outside the box, and two of them together. Each is taken away under every
fill, in the detection's own frame; of those that cost the box under all of them the smallest is taken. As many patches
of its size elsewhere as were proposed are blurred too, and none of them may cost the box. What is found is
tried once more on the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detcam.attribution.patches import (
    Rectangle,
    area_of,
    clip_to_frame,
    is_outside,
    pad_rectangle,
    propose_controls,
    propose_patches,
    shared_area,
)
from detcam.geometry import Letterbox
from detcam.probing.frames import Frame
from detcam.tensors.fills import fade_edges
from detcam.types import Evidence

ENOUGH_SHARE = 0.8
"""A patch outside the box is sufficient if, shown with nothing but the box, it brings back this share of the score."""
CLOSE_MARGIN = 0.2
"""Among patches whose margin (own score less the best other) is within this of the lowest, the smallest is taken."""
NEARLY_IN_SHARE = 0.8
"""A patch lies in another that holds this share of its area."""
PATCHES_CHECKED = 2
"""Of the patches that cost the box, so many are compared with controls and tried on the whole image, and the one that
costs most if they fail."""
CONTROLS_AT_ONCE = 4
"""Controls tried before it is asked whether one of them costs the box as well."""
SURROUNDINGS_GROWTHS = (2.0, 0.0)
"""Surroundings are removed within the box enlarged so many times, and then everywhere (0)."""


def find_evidence(
    whole: Frame, frame: Frame, heat: Tensor, letterbox: Letterbox, conf: float, before: float, outside: bool = True
) -> Evidence | None:
    """The patch or two that a box hangs on, or None where none was found.

    Args:
        whole: the whole image as a frame.
        frame: the part of it in which the box keeps its score.
        heat: (h', w') over the detector's input, of any size, not negative.
        letterbox: places the input in the original image.
        conf: the detector's threshold, below which a box is lost.
        before: the tracked score of the box in the whole image.
        outside: False where the box is known to stand alone, so that no patch outside it can be what it hangs on.
    """
    over_input = F.interpolate(heat[None, None].float(), whole.inside.shape, mode="bilinear")[0, 0]
    proposed = propose_patches(frame, over_input, outside)
    if not proposed or is_gone(frame.own_class_scores, conf):
        return None
    fills = list(frame.fills)
    first = _lost_first(frame, proposed, fills[0], conf)
    if not first:
        return None
    patches = [proposed[i] for i in first]
    after = torch.cat([torch.stack(list(first.values()))[:, None], _scores_without(frame, patches, fills[1:])], 1)
    flips = [i for i in range(len(patches)) if all(is_gone(scores, conf) for scores in after[i])]
    if not flips:
        return None
    # A change of class says more than a loss. Among patches that cost about as much, the smallest is taken.
    becomes = {i: bool(_rival(after[i], conf)) for i in flips}
    margins = {i: _margin(after[i]) for i in flips}
    least = {becomes[i]: min(margins[j] for j in flips if becomes[j] == becomes[i]) for i in flips}
    brings = _bring_back(frame, [patches[i] for i in flips], conf)
    sufficient = dict(zip(flips, brings, strict=True))

    def rank(i: int) -> tuple[bool, bool, bool, int]:
        costs = margins[i] > least[becomes[i]] + CLOSE_MARGIN
        return not becomes[i], not sufficient[i], costs, sum(map(area_of, patches[i]))

    ranked = sorted(flips, key=rank)
    surest = min(flips, key=lambda i: (not becomes[i], margins[i], -sum(map(area_of, patches[i]))))
    for best in dict.fromkeys((*ranked[:PATCHES_CHECKED], surest)):
        controls = propose_controls(frame, patches[best], len(proposed))
        if not controls:
            continue
        left = _least_without(frame, controls, fills[0], conf)
        if left is None:
            continue
        placed = [_in_whole(whole, frame, patch) for patch in patches[best]]
        final = after[best]
        if frame is not whole:
            (final,) = _scores_without(whole, [placed], fills[:1])
            if is_gone(final[0], conf):
                final = torch.cat([final, _scores_without(whole, [placed], fills[1:])[0]])
        if all(is_gone(scores, conf) for scores in final):
            return _evidence(whole, placed, final, before, left, letterbox, conf)
    return None


def _lost_first(frame: Frame, proposed: Sequence[Sequence[Rectangle]], fill: str, conf: float) -> dict[int, Tensor]:
    """The scores (class,) without each of the proposed patches without which the box is gone under one fill, by number.

    Those that lie in no other are tried first; of the others, those that lie in one of which the box is gone.
    """
    holders = [[n for n, other in enumerate(proposed) if _lies_in(own, other)] for own in proposed]
    lost: dict[int, Tensor] = {}
    for held in (False, True):
        numbers = [i for i, own in enumerate(holders) if bool(own) == held and (not held or lost.keys() & set(own))]
        if numbers:
            scores = _scores_without(frame, [proposed[i] for i in numbers], [fill])[:, 0]
            lost |= {i: own for i, own in zip(numbers, scores, strict=True) if is_gone(own, conf)}
    return dict(sorted(lost.items()))


def _least_without(frame: Frame, controls: Sequence[Sequence[Rectangle]], fill: str, conf: float) -> float | None:
    """The least score without one of the controls; None as soon as the box is gone without one."""
    least = math.inf
    for first in range(0, len(controls), CONTROLS_AT_ONCE):
        scores = _scores_without(frame, controls[first : first + CONTROLS_AT_ONCE], [fill])[:, 0]
        if any(is_gone(one, conf) for one in scores):
            return None
        least = min(least, float(scores[:, 0].min()))
    return least


def _lies_in(own: Sequence[Rectangle], others: Sequence[Rectangle]) -> bool:
    """Whether each of some patches lies in one of others, nearly, and is smaller."""
    if sum(map(area_of, own)) >= sum(map(area_of, others)):
        return False
    return all(any(shared_area(one, other) >= NEARLY_IN_SHARE * area_of(one) for other in others) for one in own)


def find_surroundings(whole: Frame, letterbox: Letterbox, conf: float, before: float) -> Evidence | None:
    """All around a box, near it or everywhere, where the box is lost or becomes something else without it, or None.

    Tried where no patch was found: a background, for example, is in no single patch.

    Args:
        whole: the whole image as a frame.
        letterbox: places the input in the original image.
        conf: the detector's threshold, below which a box is lost.
        before: the tracked score of the box in the whole image.
    """
    height, width = whole.inside.shape
    x1, y1, x2, y2 = clip_to_frame(whole, pad_rectangle([round(side) for side in whole.box.tolist()], 1))
    rings = []
    for growth in SURROUNDINGS_GROWTHS:
        spare = round((growth - 1) / 2 * max(x2 - x1, y2 - y1)) if growth else max(height, width)
        left, top, right, bottom = clip_to_frame(whole, (x1 - spare, y1 - spare, x2 + spare, y2 + spare))
        ring = [(left, top, right, y1), (left, y2, right, bottom), (left, y1, x1, y2), (x2, y1, right, y2)]
        rings.append([patch for patch in ring if area_of(patch)])
    for ring in filter(None, rings):
        (scores,) = _scores_without(whole, [ring], list(whole.fills))
        if all(is_gone(one, conf) for one in scores):
            return _evidence(whole, ring, scores, before, None, letterbox, conf)
    return None


def _bring_back(frame: Frame, sets: Sequence[Sequence[Rectangle]], conf: float) -> list[bool]:
    """Whether each set of patches outside the box, with nothing but the box beside it, is enough for the box to stand.

    Always so for patches inside the box. Of patches without which a box is lost some hold but a corner of its cause:
    what brings it back holds the whole.
    """
    box = clip_to_frame(frame, [round(side) for side in frame.box.tolist()])
    beyond = [i for i, patches in enumerate(sets) if all(is_outside(patch, box) for patch in patches)]
    enough = [i not in beyond for i in range(len(sets))]
    if beyond:
        kept = _masks(frame, [[*sets[i], box] for i in beyond])
        images = frame.without(1 - fade_edges(kept, frame.inside), "mean")
        own = frame.own_class_scores.cpu()
        for i, scores in zip(beyond, frame.class_scores(images).cpu(), strict=True):
            enough[i] = not is_gone(scores, conf) and bool(scores[0] >= ENOUGH_SHARE * own[0])
    return enough


def is_gone(scores: Tensor, conf: float) -> bool:
    """Whether a box is lost or something else, by its scores (class,), its own class first.

    Args:
        scores: (class,) in [0, 1].
        conf: the detector's threshold.

    >>> is_gone(torch.tensor([0.6, 0.1]), 0.25), is_gone(torch.tensor([0.3, 0.5]), 0.25)
    (False, True)
    """
    return bool(scores[0] < conf or scores[0] < scores.max())


def _margin(after: Tensor) -> float:
    """What is left of a box's own class over the best other, by its scores (fill, class): a mean over fills."""
    means = after.mean(0)
    return float(means[0] - means[1:].max()) if len(means) > 1 else float(means[0])


def _rival(after: Tensor, conf: float) -> int:
    """Which class a box becomes, by its scores (fill, class); 0, its own, where it becomes none."""
    means = after.mean(0)
    best = int(means.argmax())
    return best if float(means[best]) >= conf else 0


def _scores_without(frame: Frame, sets: Sequence[Sequence[Rectangle]], fills: Sequence[str]) -> Tensor:
    """The scores (set, fill, class) without each set of patches, under some fills."""
    masks = _masks(frame, sets)
    soft = fade_edges(masks, frame.inside)
    images = torch.cat([frame.without(soft, fill) for fill in fills])
    return frame.class_scores(images).float().view(len(fills), len(sets), -1).transpose(0, 1).cpu()


def _masks(frame: Frame, sets: Sequence[Sequence[Rectangle]]) -> Tensor:
    """Sets of rectangles within the frame as masks, bool (set, h, w)."""
    masks = torch.zeros(len(sets), *frame.inside.shape, dtype=torch.bool, device=frame.inside.device)
    for mask, patches in zip(masks, sets, strict=True):
        for left, top, right, bottom in patches:
            mask[top:bottom, left:right] = True
    return masks


def _in_whole(whole: Frame, frame: Frame, patch: Rectangle) -> Rectangle:
    """A patch of a frame in the pixels of the whole input, outwards to whole ones."""
    x1, y1, x2, y2 = frame.box_to_input(patch)
    return clip_to_frame(whole, (math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)))


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
    inside = sum(shared_area(patch, box) for patch in patches)
    placed = letterbox.clip(letterbox.to_original(np.array(patches, np.float64)))
    return Evidence(
        patches=np.concatenate([np.floor(placed[:, :2]), np.ceil(placed[:, 2:])], 1).astype(np.int64),
        becomes=whole.model.names[whole.class_ids[rival]] if rival else None,
        confidence=float(means[rival]),
        before=before,
        after=float(means[0]),
        control=control,
        outside=1 - inside / sum(map(area_of, patches)),
    )
