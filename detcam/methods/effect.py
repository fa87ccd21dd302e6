"""detcam's own method: the measured effect of each region, learned from patches that were taken away and shown alone.

1. A frame is chosen in which the box keeps its score (:mod:`detcam.probing.frames`), and one question asked: how much
   is left when everything but the box is replaced? Where that costs the score, places outside are tried too, anywhere
   in the frame (:mod:`detcam.methods.outlook`); those that count stay in place while the box is looked at.
2. Windows slid over the box are taken away one by one, then patches of its regions are taken away, and shown alone.
   What the score gains with a patch plus what it loses without it is the patch's effect. Of any other target (a logit,
   a distance, ...) the most promising regions are taken away one by one as well.
3. A Gaussian process over the regions, which expects nothing anywhere, learns from each patch how much a region is
   worth; later patches are drawn from what was learned (Thompson sampling), so that passes go where they tell most.

The map is the effect of a region per pixel, in the target's own unit: that process's mean where it is positive, and
what was measured of the places outside. There is no prior about places in it: what was not found to count is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
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
SIZES = (0.1, 0.25, 0.45, 0.7, 1.0)
"""Areas of the patches, in those of the box."""
WINDOWS, WINDOW = 4, 0.34
"""Windows along each side of the box that are hidden first, and their side, in the box's."""
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
DRAWN = 3
"""Patches tried before the process learns from them."""
CONTEXT = 0.5
"""Share of the score that replacing all but the box has to cost before places outside are tried."""
BUDGET = 4
"""Passes over the whole image that a detection's patches may cost; the questions before them are not counted."""
FEWEST, MOST = 32, 112
"""Passes over its frame that they take at least and at most: in a small crop many cost little."""
IMAGE_BUDGETS = 50
"""All detections of an image together may cost so many times the budget of one: 200 passes."""
SCARCE = 20
"""Passes over its frame that a detection's patches take where there are too many detections for that."""
SEARCH = 80
"""Passes over its frame that a search outside a box is given at least, as long as there are any."""
ASKED = 5
"""Images asked about before any patch."""


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

    Zero where nothing was tried or found. The budget is what each detection's patches may cost, in passes over the
    whole image; most frames are a small part of it. All of an image's detections together may cost fifty times that:
    what their patches leave goes to places outside the boxes of those that rest on them.
    """
    wholes = [subject.frame(number) for number in range(len(subject.boxes))]
    questions = [ask(choose_frame(whole, float(before))) for whole, before in zip(wholes, subject.before, strict=True)]
    passes = [_patch_passes(one.frame.price, subject.budget) for one in questions]
    costs = sum((ASKED + count) * one.frame.price for one, count in zip(questions, passes, strict=True))
    left = float(IMAGE_BUDGETS * subject.budget)
    if costs > left:
        passes = [max(int(count * left / costs), SCARCE) for count in passes]
    left = max(left - costs, 0.0)
    looking = sum(one.looks_outside for one in questions)
    maps = []
    for whole, one, count in zip(wholes, questions, passes, strict=True):
        share = max(left / max(looking, 1), SEARCH * one.frame.price)  # too little for a search would be lost
        allowance = Allowance(min(share, left) if one.looks_outside else 0.0)
        maps.append(one.frame.to_input(_learn(one, count, allowance, subject.seed), whole_shape(whole)))
        left -= allowance.spent
        looking -= one.looks_outside
    return torch.stack(maps)


def _patch_passes(price: float, budget: int) -> int:
    """How many passes over a frame of that price a detection's patches may take."""
    return min(max(int(budget / price), FEWEST), MOST)


def whole_shape(frame: Frame) -> tuple[int, int]:
    """(height, width) of a frame."""
    return frame.inside.shape[0], frame.inside.shape[1]


def learn_effects(frame: Frame, budget: int = BUDGET, seed: int = 0) -> Tensor:
    """The map of one frame alone, (h, w), nowhere negative."""
    return _learn(ask(frame), _patch_passes(frame.price, budget), Allowance(IMAGE_BUDGETS * budget), seed)


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


def _learn(question: Question, passes: int, allowance: Allowance, seed: int) -> Tensor:
    """The map of one frame, (h, w): what places outside the box count, then what its own regions do."""
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
            heat = torch.maximum(heat, (place.density * span).cpu())
            kept = kept | place.part
    return torch.maximum(heat, _learned(frame, near, kept & ~near, question.fill, question.full, passes, seed))


def _learned(frame: Frame, near: Tensor, always: Tensor, fill: str, full: float, passes: int, seed: int) -> Tensor:
    """The effect of the box's regions per pixel, (h, w), while the places outside that count always stay."""
    domain = make_domain(frame, near)
    process = Belief(domain.labels, domain.areas, frame.box, seed)
    nothing = torch.zeros(0, dtype=torch.int64)
    shown, hidden = _both(frame, domain, [nothing], always, fill)
    span = float(hidden[0] - shown[0])
    windows = [block for block in _windows(frame, domain) if len(block)]
    costs = full - _hidden(frame, domain, windows, fill) if windows else torch.zeros(1)
    # What speaks against another target may outweigh what speaks for it.
    scale = span if frame.tracked else max(abs(span), float(costs.abs().max()))
    if scale <= 0:
        return torch.zeros(near.shape)
    times = 1 if frame.tracked else 2

    def learn_losses(blocks: list[Tensor], noise: float = NOISE) -> list[float]:
        """What the target loses without each block; that one so small brings a score nothing alone, and a sum as much
        as it costs, is taken as given.
        """
        losses: list[float] = ((full - _hidden(frame, domain, blocks, fill)) / scale).tolist()
        process.learn(blocks, [times * loss for loss in losses], noise)
        return losses

    losses: list[float] = (costs / scale).tolist()
    process.learn(windows, [times * loss for loss in losses[: len(windows)]])
    passes -= len(windows)
    if not frame.tracked:
        _learn_singles(process, lambda singles: learn_losses(singles, ALONE))
    elif max(losses) >= max(CONCENTRATED, 2 * sorted(losses)[len(losses) // 2]):
        learn_losses([number.view(1) for number in windows[losses.index(max(losses))][:MOST_SINGLE]])
    turn = 0
    while passes >= 2:
        count = min(DRAWN, passes // 2)
        draws = process.draws(count + 1)[1:]
        blocks = [block_of(draw, domain.areas, SIZES[(turn * DRAWN + i) % len(SIZES)]) for i, draw in enumerate(draws)]
        shown, hidden = _both(frame, domain, blocks, always, fill)
        process.learn(blocks, ((shown - hidden + span) / scale).tolist())
        passes -= 2 * count
        turn += 1
    pixels = torch.bincount(domain.labels[domain.labels >= 0], minlength=len(domain.areas)).float().cpu()
    worth = process.mean
    if not frame.tracked:  # what holds a number up has to stand out of what it is known to within
        worth = worth * (worth > process.spread.diagonal().clamp(min=0).sqrt())
    density = worth.float() * domain.areas.cpu() / pixels * scale
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


def block_of(values: Tensor, areas: Tensor, size: float) -> Tensor:
    """The regions of the highest values, as many as ``size`` areas of the box; at least one."""
    ranked = values.argsort(descending=True, stable=True).to(areas.device)
    enough = int((areas[ranked].cumsum(0) < size).sum())
    return ranked[: enough + 1]


def _windows(frame: Frame, domain: Domain) -> list[Tensor]:
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
    for down in range(WINDOWS):
        for across in range(WINDOWS):
            left, top = (
                low + place * (1 - WINDOW) / (WINDOWS - 1) * (high - low)
                for low, high, place in ((x1, x2, across), (y1, y2, down))
            )
            within = (centre_x >= left) & (centre_x <= left + WINDOW * (x2 - x1))
            within &= (centre_y >= top) & (centre_y <= top + WINDOW * (y2 - y1))
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


def _both(frame: Frame, domain: Domain, blocks: list[Tensor], always: Tensor, fill: str) -> tuple[Tensor, Tensor]:
    """The target with nothing but each patch of regions and ``always`` shown, and with only it hidden: (n,) each."""
    patches = _patches(domain, blocks)
    rest = 1 - torch.maximum(patches, always.float())
    values = frame.values(torch.cat([frame.without(rest, fill), frame.without(patches, fill)]))
    shown, hidden = values.double().cpu().view(2, -1)
    return shown, hidden
