"""detcam's own method: the measured effect of each region, from windows and places that were taken away.

1. A frame is chosen in which the box keeps its score (:mod:`detcam.probing.frames`), and one question asked: how much
   is left when everything but the box is replaced? Where that costs the score, places outside are tried too, anywhere
   in the frame (:mod:`detcam.methods.outlook`); those that count stay in place while the box is looked at.
2. Windows slid over the box are taken away one by one; where one window holds most of the effect, and for any other
   target than the score (a logit, a distance, ...), the most promising regions are taken away one by one as well. A
   Gaussian process over the regions, which expects nothing anywhere, turns what the windows cost into what each region
   is worth; where no window costs much, patches are drawn from it and tried. How that lies within a window LayerCAM
   says, where the model has gradients.
3. Of the rest of the box, and then of one ring around it after the other, it is asked what the score gains when they
   are shown too.

The map is what the target loses without a region, or gains with it, per pixel and in the target's own unit. There is no
prior about places in it: what did not change the target is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from detcam.methods.box_regions import PATCH_PASSES, measure_regions, near_box
from detcam.methods.outlook import OutsideSearch, PassBudget, search_outside
from detcam.methods.subject import Subject
from detcam.probing.frames import Frame, choose_frame

WINDOWS_PER_SIDE, FEWER_WINDOWS_PER_SIDE = 4, 3
"""Windows along each side of the box; fewer where there are too many boxes for the image's budget."""
EVEN_SHARE = 0.1
"""Added to LayerCAM, whose peak is 1, before a window's effect is spread by it: LayerCAM may miss what counts."""
RING_BOX_SIDES = (1.25, 1.6, 2.2, 3.2, 5.0)
"""Outer sides of the rings around the box, in the box's."""
CONTEXT_SHARE = 0.5
"""Share of the score that replacing all but the box has to cost before places outside are tried."""
IMAGE_BUDGET_PASSES = 200
"""Passes over the whole image that all its detections together may cost, but for those of LayerCAM."""
SEARCH_PASSES = 80
"""Passes over its frame that a search outside a box is given at least, as long as there are any."""
REFERENCE_IMAGES = 5
"""Images asked about before any window is hidden."""
MIN_SCORE_CHANGE = 0.01
"""A score that changes by less than this when everything is replaced is too small to explain."""


@dataclass(frozen=True, eq=False)
class ReferenceValues:
    """What a target is before any patch is tried.

    Attributes:
        frame: where it is measured.
        near: bool (h, w), the box and its margin.
        fill, other: what stands for "removed": the fill under which replacing all but the box costs most, and another.
        blank, alone, full: the target with everything replaced, with all but ``near`` replaced, and as it is.
    """

    frame: Frame
    near: Tensor
    fill: str
    other: str
    blank: float
    alone: float
    full: float

    @property
    def has_effect(self) -> bool:
        """Whether replacing anything costs a score; of another target's sum, one part may outweigh another."""
        return not self.frame.tracked or self.full - min(self.blank, self.alone) >= MIN_SCORE_CHANGE

    @property
    def needs_outside_search(self) -> bool:
        """Whether replacing all but the box costs so much that places outside are tried."""
        lost = self.full - self.alone
        return self.has_effect and lost > 0 and lost > CONTEXT_SHARE * (self.full - min(self.blank, self.alone))


def effect(subject: Subject) -> Tensor:
    """The effect of each region on each detection's target, per pixel, in the target's own unit: (K, h, w).

    Zero where nothing was tried or found. The budget is that of the image: passes over all of it that the search for
    its detections may cost together; most frames are a small part of it. What their windows leave goes to places
    outside the boxes of those that rest on them.

    Args:
        subject: the image and its K scalars; ``subject.budget`` passes over the whole image for all of them.
    """
    wholes = [subject.frame(number) for number in range(len(subject.boxes))]
    measured = [
        measure_references(choose_frame(whole, float(before)))
        for whole, before in zip(wholes, subject.before, strict=True)
    ]
    prices = sum(one.frame.price for one in measured)
    side = WINDOWS_PER_SIDE if min_passes(WINDOWS_PER_SIDE) * prices <= subject.budget else FEWER_WINDOWS_PER_SIDE
    left = max(subject.budget - min_passes(side) * prices, 0.0)
    looking = sum(one.needs_outside_search for one in measured)
    fine = subject.layer_maps("layercam") if subject.has_layers and any(one.has_effect for one in measured) else None
    maps = []
    for number, (whole, one) in enumerate(zip(wholes, measured, strict=True)):
        share = max(left / max(looking, 1), SEARCH_PASSES * one.frame.price)  # too little for a search would be lost
        budget = PassBudget(min(share if one.needs_outside_search else PATCH_PASSES * one.frame.price, left))
        own = None if fine is None else _within(one.frame, fine[number], frame_shape(whole))
        heat = _learn(one, side, budget, subject.seed, own)
        maps.append(one.frame.to_input(heat, frame_shape(whole)))
        left -= budget.spent
        looking -= one.needs_outside_search
    return torch.stack(maps)


def min_passes(side: int) -> int:
    """Passes over its frame that each detection costs: reference images, windows, rings.

    Args:
        side: windows along each side of the box.
    """
    return REFERENCE_IMAGES + side**2 + len(RING_BOX_SIDES) + 3


def _within(frame: Frame, heat: Tensor, shape: tuple[int, int]) -> Tensor | None:
    """A map (h', w') of the whole input within a frame, at its size, from 0 to 1; None where it says nothing."""
    left, top, right, bottom = frame.window
    whole = F.interpolate(heat[None, None].float(), shape, mode="bilinear")[..., top:bottom, left:right]
    own = F.interpolate(whole, frame.inside.shape, mode="bilinear")[0, 0].clamp(min=0)
    peak = float(own.max())
    return own.cpu() / peak if 0 < peak < float("inf") else None


def frame_shape(frame: Frame) -> tuple[int, int]:
    """(height, width) of a frame, pixels.

    Args:
        frame: any.
    """
    return frame.inside.shape[0], frame.inside.shape[1]


def learn_effects(frame: Frame, budget: float = IMAGE_BUDGET_PASSES, seed: int = 0) -> Tensor:
    """The map of one frame alone.

    Args:
        frame: of one detection.
        budget: passes over the whole image that places outside the box and patches of it may cost.
        seed: of what is random.

    Returns:
        float32 (h, w), nowhere negative, in the target's unit per pixel.
    """
    return _learn(measure_references(frame), WINDOWS_PER_SIDE, PassBudget(budget), seed)


def measure_references(frame: Frame) -> ReferenceValues:
    """The target with everything, with all but the box, and with nothing replaced: five forward passes over the frame.

    Args:
        frame: of one detection.
    """
    near = near_box(frame)
    outside = (~near).float()
    parts = torch.stack([torch.ones_like(outside), outside])
    images = torch.cat([*(frame.without(parts, fill) for fill in frame.fills), frame.image[None]])
    *changed, full = frame.values(images).tolist()
    changed_by_fill = {fill: (changed[2 * i], changed[2 * i + 1]) for i, fill in enumerate(frame.fills)}
    fill, *others = sorted(changed_by_fill, key=lambda name: changed_by_fill[name][1])
    return ReferenceValues(frame, near, fill, (*others, fill)[0], *changed_by_fill[fill], full)


def _learn(references: ReferenceValues, side: int, budget: PassBudget, seed: int, fine: Tensor | None = None) -> Tensor:
    """The map of one frame, (h, w): what places outside the box count, then what its own regions and its rings do.

    Args:
        references: the target before any patch is tried.
        side: windows along each side of the box.
        budget: for places outside.
        seed: of what is random.
        fine: (h, w) in [0, 1] in the box, how an effect lies within a window; evenly if None.
    """
    frame, near, span = references.frame, references.near, references.full - references.alone
    heat = torch.zeros(frame.inside.shape)
    if not references.has_effect:
        return heat
    kept = near
    if references.needs_outside_search:
        search = OutsideSearch(
            frame,
            near,
            references.fill,
            references.other,
            references.full,
            references.alone,
            torch.zeros_like(near),
            budget,
        )
        for place in search_outside(search):
            heat = torch.maximum(heat, (place.density * span / 2).cpu())  # lost without it, and gained with it
            kept = kept | place.part
    own = measure_regions(frame, references.full, references.fill, kept & ~near, side, budget, seed)
    own = own + _gained(references, torch.maximum(heat, own) > 0, kept)
    if fine is not None and own.any():
        finer = own * (EVEN_SHARE + fine)
        own = finer * (own.sum() / finer.sum())
    return torch.maximum(heat, own)


def _gained(references: ReferenceValues, hot: Tensor, kept: Tensor) -> Tensor:
    """What the target gains with the rest of the box, and then with each ring around it, per pixel of these: (h, w).

    Args:
        references: the target before any patch is tried.
        hot: bool (h, w), what is known to count.
        kept: bool (h, w), the box, and the places outside it that count.
    """
    frame = references.frame
    rest = frame.inside & ~hot.to(kept.device)
    if not frame.tracked or not rest.any():
        return torch.zeros(frame.inside.shape)
    left_out = [rest]
    for part in (kept, *(_grown(frame, growth) for growth in RING_BOX_SIDES)):
        smaller = left_out[-1] & ~part
        if smaller.any() and int(smaller.sum()) < int(left_out[-1].sum()):
            left_out.append(smaller)
    values = [*frame.values(frame.without(torch.stack(left_out).float(), references.fill)).tolist(), references.full]
    heat = torch.zeros(frame.inside.shape)
    best = values[0]
    for before, after, value in zip(left_out, [*left_out[1:], torch.zeros_like(rest)], values[1:], strict=True):
        if value > best:
            ring = (before & ~after).cpu()
            heat[ring] = (value - best) / int(ring.sum())
            best = value
    return heat


def _grown(frame: Frame, growth: float) -> Tensor:
    """The box made larger about its centre, bool (h, w)."""
    x1, y1, x2, y2 = frame.box.tolist()
    spare_x, spare_y = ((growth - 1) / 2 * (high - low) for low, high in ((x1, x2), (y1, y2)))
    grown = torch.zeros_like(frame.inside)
    rows = slice(max(int(y1 - spare_y), 0), max(int(y2 + spare_y) + 1, 0))
    grown[rows, max(int(x1 - spare_x), 0) : max(int(x2 + spare_x) + 1, 0)] = True
    return grown
