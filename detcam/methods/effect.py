"""detcam's own method: the measured effect of each region, from windows and places that were taken away.

1. A frame is chosen in which the box keeps its score (:mod:`detcam.probing.frames`), and one question asked: how much
   is left when everything but the box is replaced? Where that costs the score, places outside are tried too, anywhere
   in the frame (:mod:`detcam.methods.outlook`); those that count stay in place while the box is looked at.
2. Windows slid over the box are taken away one by one; where one window holds most of the effect, and for any other
   target than the score (a logit, a distance, ...), the most promising regions are taken away one by one as well. A
   Gaussian process over the regions, which expects nothing anywhere, turns what the windows cost into what each region
   is worth. How that lies within a window LayerCAM says, where the model has gradients.
3. Of the rest of the box, and then of one ring around it after the other, it is asked what the score gains when they
   are shown too.

The map is what the target loses without a region, or gains with it, per pixel and in the target's own unit. There is no
prior about places in it: what was not found to count is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from detcam.methods.belief import NOISE, Belief
from detcam.methods.outlook import Allowance, Outlook, look_outside
from detcam.methods.regions import segmented
from detcam.methods.subject import Subject
from detcam.probing.frames import Frame, choose_frame

REGIONS = 100
"""Superpixels of a box."""
MARGIN = 0.04
"""How far the regions reach beyond the box, in its sides, altogether."""
WINDOWS, FEW_WINDOWS = 4, 3
"""Windows along each side of the box; fewer where there are too many boxes for the image's budget."""
OVERLAP = 1.36
"""Side of a window, in the side of the grid's cells: what lies on an edge is whole in one of them."""
CONCENTRATED = 0.5
"""Where one window costs this share of the target, and twice what the middle one does, its regions are hidden alone."""
MOST_SINGLE = 16
ROUNDS = 4
"""Where another target than the score is asked about, up to so many rounds of that many regions, the most promising
first, are hidden alone: logits and distances are sums, in which no cause hides behind another."""
ALONE = 0.01
"""What is taken for noise then, as a share of the target's change: a region alone has nothing to interact with."""
FINDS = 0.05
"""A round that finds no region that costs this share of it is the last."""
FULL = 2.0
"""What all regions together are worth to :class:`~detcam.methods.belief.Belief`."""
EVEN = 0.1
"""Of a window's effect this part, to LayerCAM's one at its peak, is spread evenly: it sees less than the score does."""
RINGS = (1.25, 1.6, 2.2, 3.2, 5.0)
"""Outer sides of the rings around the box, in the box's."""
CONTEXT = 0.5
"""Share of the score that replacing all but the box has to cost before places outside are tried."""
BUDGET = 200
"""Passes over the whole image that all its detections together may cost, but for those of LayerCAM."""
SEARCH = 80
"""Passes over its frame that a search outside a box is given at least, as long as there are any."""
ASKED = 5
"""Images asked about before any window is hidden."""


@dataclass(frozen=True, eq=False)
class Domain:
    """The regions that patches are made of: int64 (h, w), -1 for none; their areas (region,), in areas of the box."""

    labels: Tensor
    areas: Tensor


@dataclass(frozen=True, eq=False)
class Question:
    """What has been asked of a detection before its patches.

    Attributes:
        frame: where it is asked.
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
    def counts(self) -> bool:
        """Whether replacing anything costs anything; of a sum, one part may outweigh another."""
        return not self.frame.tracked or self.full > min(self.blank, self.alone)

    @property
    def looks_outside(self) -> bool:
        """Whether replacing all but the box costs so much that places outside are tried."""
        lost = self.full - self.alone
        return self.counts and lost > 0 and lost > CONTEXT * (self.full - min(self.blank, self.alone))


def effect(subject: Subject) -> Tensor:
    """The effect of each region on each detection's target, per pixel, in the target's own unit: (K, h, w).

    Zero where nothing was tried or found. The budget is that of the image: passes over all of it that the search for
    its detections may cost together; most frames are a small part of it. What their windows leave goes to places
    outside the boxes of those that rest on them.
    """
    wholes = [subject.frame(number) for number in range(len(subject.boxes))]
    questions = [ask(choose_frame(whole, float(before))) for whole, before in zip(wholes, subject.before, strict=True)]
    prices = sum(one.frame.price for one in questions)
    side = WINDOWS if least_passes(WINDOWS) * prices <= subject.budget else FEW_WINDOWS
    left = max(subject.budget - least_passes(side) * prices, 0.0)
    looking = sum(one.looks_outside for one in questions)
    fine = subject.layer_maps("layercam") if subject.has_layers and any(one.counts for one in questions) else None
    maps = []
    for number, (whole, one) in enumerate(zip(wholes, questions, strict=True)):
        share = max(left / max(looking, 1), SEARCH * one.frame.price)  # too little for a search would be lost
        allowance = Allowance(min(share, left) if one.looks_outside else 0.0)
        own = None if fine is None else _within(one.frame, fine[number], whole_shape(whole))
        heat = _learn(one, side, allowance, subject.seed, own)
        maps.append(one.frame.to_input(heat, whole_shape(whole)))
        left -= allowance.spent
        looking -= one.looks_outside
    return torch.stack(maps)


def least_passes(side: int) -> int:
    """Passes over its frame that each detection costs: questions, windows, rings."""
    return ASKED + side**2 + len(RINGS) + 3


def _within(frame: Frame, heat: Tensor, shape: tuple[int, int]) -> Tensor | None:
    """A map (h', w') of the whole input within a frame, at its size, from 0 to 1; None where it says nothing."""
    left, top, right, bottom = frame.window
    whole = F.interpolate(heat[None, None].float(), shape, mode="bilinear")[..., top:bottom, left:right]
    own = F.interpolate(whole, frame.inside.shape, mode="bilinear")[0, 0].clamp(min=0)
    peak = float(own.max())
    return own.cpu() / peak if 0 < peak < float("inf") else None


def whole_shape(frame: Frame) -> tuple[int, int]:
    """(height, width) of a frame."""
    return frame.inside.shape[0], frame.inside.shape[1]


def learn_effects(frame: Frame, budget: float = BUDGET, seed: int = 0) -> Tensor:
    """The map of one frame alone, (h, w), nowhere negative."""
    return _learn(ask(frame), WINDOWS, Allowance(budget), seed)


def ask(frame: Frame) -> Question:
    """The questions that come before any patch."""
    near = near_box(frame)
    outside = (~near).float()
    parts = torch.stack([torch.ones_like(outside), outside])
    images = torch.cat([*(frame.without(parts, fill) for fill in frame.fills), frame.image[None]])
    *changed, full = frame.values(images).tolist()
    told = {fill: (changed[2 * i], changed[2 * i + 1]) for i, fill in enumerate(frame.fills)}
    fill, *others = sorted(told, key=lambda name: told[name][1])
    return Question(frame, near, fill, (*others, fill)[0], *told[fill], full)


def _learn(question: Question, side: int, allowance: Allowance, seed: int, fine: Tensor | None = None) -> Tensor:
    """The map of one frame, (h, w): what places outside the box count, then what its own regions and its rings do.

    Args:
        question: what was asked before.
        side: windows along each side of the box.
        allowance: for places outside.
        seed: of what is random.
        fine: (h, w) in [0, 1] in the box, how an effect lies within a window; evenly if None.
    """
    frame, near, span = question.frame, question.near, question.full - question.alone
    heat = torch.zeros(frame.inside.shape)
    if not question.counts:
        return heat
    kept = near
    if question.looks_outside:
        outlook = Outlook(
            frame, near, question.fill, question.other, question.full, question.alone, torch.zeros_like(near), allowance
        )
        for place in look_outside(outlook):
            heat = torch.maximum(heat, (place.density * span / 2).cpu())  # lost without it, and gained with it
            kept = kept | place.part
    own = _learned(question, kept & ~near, side, seed)
    own = own + _gained(question, torch.maximum(heat, own) > 0, kept)
    if fine is not None and own.any():
        finer = own * (EVEN + fine)
        own = finer * (own.sum() / finer.sum())
    return torch.maximum(heat, own)


def _gained(question: Question, hot: Tensor, kept: Tensor) -> Tensor:
    """What the target gains with the rest of the box, and then with each ring around it, per pixel of these: (h, w).

    Args:
        question: what was asked before.
        hot: bool (h, w), what is known to count.
        kept: bool (h, w), the box, and the places outside it that count.
    """
    frame = question.frame
    rest = frame.inside & ~hot.to(kept.device)
    if not frame.tracked or not rest.any():
        return torch.zeros(frame.inside.shape)
    left_out = [rest]
    for part in (kept, *(_grown(frame, growth) for growth in RINGS)):
        smaller = left_out[-1] & ~part
        if smaller.any() and int(smaller.sum()) < int(left_out[-1].sum()):
            left_out.append(smaller)
    values = [*frame.values(frame.without(torch.stack(left_out).float(), question.fill)).tolist(), question.full]
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


def _learned(question: Question, always: Tensor, side: int, seed: int) -> Tensor:
    """What the target loses without the box's regions, per pixel, (h, w).

    Args:
        question: what was asked before.
        always: bool (h, w), the places outside that count.
        side: windows along each side of the box.
        seed: of what is random.
    """
    frame, full = question.frame, question.full
    domain = make_domain(frame, question.near)
    process = Belief(domain.labels, domain.areas, frame.box, seed)
    (bare,) = frame.values(frame.without((~always)[None].float(), question.fill)).tolist()
    windows = [block for block in _windows(frame, domain, side) if len(block)]
    costs = full - _hidden(frame, domain, windows, question.fill) if windows else torch.zeros(1)
    # What speaks against another target may outweigh what speaks for it.
    scale = full - bare if frame.tracked else max(abs(full - bare), float(costs.abs().max()))
    if scale <= 0:
        return torch.zeros(question.near.shape)

    def learn_losses(blocks: list[Tensor], noise: float = NOISE) -> list[float]:
        """What the target loses without each block, as a share."""
        losses: list[float] = ((full - _hidden(frame, domain, blocks, question.fill)) / scale).tolist()
        process.learn(blocks, [FULL * loss for loss in losses], noise)
        return losses

    losses: list[float] = (costs / scale).tolist()
    process.learn(windows, [FULL * loss for loss in losses[: len(windows)]])
    if not frame.tracked:
        _learn_singles(process, lambda singles: learn_losses(singles, ALONE))
    elif max(losses) >= max(CONCENTRATED, 2 * sorted(losses)[len(losses) // 2]):
        learn_losses([number.view(1) for number in windows[losses.index(max(losses))][:MOST_SINGLE]])
    pixels = torch.bincount(domain.labels[domain.labels >= 0], minlength=len(domain.areas)).float().cpu()
    worth = process.mean
    if not frame.tracked:  # what holds a number up has to stand out of what it is known to within
        worth = worth * (worth > process.spread.diagonal().clamp(min=0).sqrt())
    density = worth.float() * domain.areas.cpu() / pixels * scale / FULL
    return torch.cat([density, torch.zeros(1)]).clamp(min=0)[domain.labels.cpu()]


def _learn_singles(process: Belief, learn_losses: Callable[[list[Tensor]], list[float]]) -> None:
    """Hide the most promising regions one by one, round by round, while that finds anything."""
    tried: set[int] = set()
    for _ in range(ROUNDS):
        ranked = process.mean.argsort(descending=True, stable=True).tolist()
        singles = [number for number in ranked if number not in tried][:MOST_SINGLE]
        tried.update(singles)
        if not singles or max(learn_losses([torch.tensor([number]) for number in singles])) < FINDS:
            return


def near_box(frame: Frame) -> Tensor:
    """The box and a margin around it, bool (h, w)."""
    x1, y1, x2, y2 = frame.box.tolist()
    spare = MARGIN / 2 * max(x2 - x1, y2 - y1)
    height, width = frame.inside.shape
    near = torch.zeros_like(frame.inside)
    top, left = max(int(y1 - spare), 0), max(int(x1 - spare), 0)
    near[
        top : min(max(int(y2 + spare) + 1, top + 2), height), left : min(max(int(x2 + spare) + 1, left + 2), width)
    ] = 1
    return near & frame.inside


def make_domain(frame: Frame, near: Tensor) -> Domain:
    """Superpixels of the box and its margin."""
    box_area = float((frame.box[2:] - frame.box[:2]).clamp(min=1).prod())
    rows, columns = (torch.where(near.any(axis))[0] for axis in (1, 0))
    window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    labels = torch.full(near.shape, -1, dtype=torch.int64, device=near.device)
    labels[window] = segmented(frame.image[:, window[0], window[1]], round(REGIONS * float(near.sum()) / box_area))
    labels[~near] = -1
    numbers, inverse = torch.unique(labels[labels >= 0], return_inverse=True)
    labels[labels >= 0] = inverse
    return Domain(labels, torch.bincount(inverse, minlength=len(numbers)).float() / box_area)


def _windows(frame: Frame, domain: Domain, side: int) -> list[Tensor]:
    """The regions of windows slid over the box, each region in the windows that its centre lies in."""
    x1, y1, x2, y2 = frame.box.tolist()
    inside = domain.labels >= 0
    rows, columns = torch.where(inside)
    numbers = domain.labels[inside]
    counts = torch.bincount(numbers, minlength=len(domain.areas)).clamp(min=1)
    centre_x, centre_y = (
        torch.zeros(len(domain.areas), device=numbers.device).index_add_(0, numbers, places.float()) / counts
        for places in (columns, rows)
    )
    found = []
    share = OVERLAP / side
    for down in range(side):
        for across in range(side):
            left, top = (
                low + place * (1 - share) / (side - 1) * (high - low)
                for low, high, place in ((x1, x2, across), (y1, y2, down))
            )
            within = (centre_x >= left) & (centre_x <= left + share * (x2 - x1))
            within &= (centre_y >= top) & (centre_y <= top + share * (y2 - y1))
            found.append(torch.where(within)[0])
    return found


def _hidden(frame: Frame, domain: Domain, blocks: list[Tensor], fill: str) -> Tensor:
    """The target without each block of regions: (n,), on the CPU."""
    patches = _patches(domain, blocks)
    return frame.values(frame.without(patches, fill)).double().cpu()


def _patches(domain: Domain, blocks: list[Tensor]) -> Tensor:
    """Blocks of regions as masks (n, h, w)."""
    masks = torch.zeros(len(blocks), len(domain.areas) + 1, device=domain.labels.device)
    for mask, block in zip(masks, blocks, strict=True):
        mask[block] = 1
    return masks[:, domain.labels]
