"""What a detection's target loses without each region of its box, from windows that are hidden one by one.

A Gaussian process over the regions, which expects nothing anywhere, turns what the windows cost into what each region
is worth. Where one window holds most of it, and for any other target than the score, the most promising regions are
hidden one by one as well; where no window costs much, because parts stand in for each other, patches of many regions
are hidden and shown alone, each drawn from what is known by then (Thompson sampling).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from detcam.methods.belief import NOISE_SHARE, Belief
from detcam.methods.outlook import PassBudget
from detcam.methods.regions import segment_image
from detcam.probing.frames import Frame

REGION_COUNT = 100
"""Superpixels of a box."""
MARGIN_BOX_SIDES = 0.04
"""How far the regions reach beyond the box, both sides together, in its longer side."""
WINDOW_SIDE_CELLS = 1.36
"""Side of a window, in the side of the grid's cells: what lies on an edge is whole in one of them."""
CONCENTRATED_SHARE = 0.5
"""Where one window costs this share of the target, and twice what the middle one does, its regions are hidden alone."""
REDUNDANT_SHARE = 0.25
"""Where no window costs this share of the target, patches are tried."""
PATCH_AREAS = (0.25, 0.45, 0.7)
"""Areas of the patches of a round, in those of the box."""
PATCH_ROUNDS = 4
PATCH_PASSES = 2 * len(PATCH_AREAS) * PATCH_ROUNDS
"""Passes over the frame that they cost."""
REGIONS_PER_ROUND = 16
MAX_ROUNDS = 4
"""Where another target than the score is asked about, up to so many rounds of that many regions, the most promising
first, are hidden alone: logits and distances are sums, in which no cause hides behind another."""
SINGLE_NOISE_SHARE = 0.01
"""The noise assumed for regions hidden alone, as a share of the target's change: they interact with nothing."""
MIN_FOUND_SHARE = 0.05
"""A round that finds no region that costs this share of it is the last."""
TOTAL_WORTH = 2.0
"""What all regions together are worth to :class:`~detcam.methods.belief.Belief`."""


@dataclass(frozen=True, eq=False)
class Domain:
    """The regions that patches are made of.

    Attributes:
        labels: int64 (h, w), the region of each pixel, -1 for none.
        areas: (region,), in areas of the box.
    """

    labels: Tensor
    areas: Tensor


def measure_regions(
    frame: Frame, full: float, fill: str, always: Tensor, side: int, budget: PassBudget, seed: int
) -> Tensor:
    """What the target loses without the box's regions, per pixel, (h, w).

    Args:
        frame: where it is asked.
        full: the target in the frame as it is.
        fill: what stands for "removed".
        always: bool (h, w), places outside the box that stay where nothing else does.
        side: windows along each side of the box.
        budget: what patches may cost.
        seed: of what is random.
    """
    domain = make_domain(frame, near_box(frame))
    process = Belief(domain.labels, domain.areas, frame.box, seed)
    (bare,) = frame.values(frame.without((~always)[None].float(), fill)).tolist()
    windows = [block for block in _windows(frame, domain, side) if len(block)]
    costs = full - _hidden(frame, domain, windows, fill) if windows else torch.zeros(1)
    # For another target than the score, evidence against may outweigh evidence for.
    scale = full - bare if frame.tracked else max(abs(full - bare), float(costs.abs().max()))
    if scale <= 0:
        return torch.zeros(frame.inside.shape)

    def learn_losses(blocks: list[Tensor], noise: float = NOISE_SHARE) -> list[float]:
        """What the target loses without each block, as a share."""
        losses: list[float] = ((full - _hidden(frame, domain, blocks, fill)) / scale).tolist()
        process.learn(blocks, [TOTAL_WORTH * loss for loss in losses], noise)
        return losses

    losses: list[float] = (costs / scale).tolist()
    process.learn(windows, [TOTAL_WORTH * loss for loss in losses[: len(windows)]])
    if not frame.tracked:
        _learn_singles(process, lambda singles: learn_losses(singles, SINGLE_NOISE_SHARE))
    elif max(losses) >= max(CONCENTRATED_SHARE, 2 * sorted(losses)[len(losses) // 2]):
        learn_losses([number.view(1) for number in windows[losses.index(max(losses))][:REGIONS_PER_ROUND]])
    elif max(losses) < REDUNDANT_SHARE and budget.affords(PATCH_PASSES * frame.price):
        budget.spent += PATCH_PASSES * frame.price
        for _ in range(PATCH_ROUNDS):
            draws = process.draws(1 + len(PATCH_AREAS))[1:]
            blocks = [_largest(draw, domain.areas, area) for draw, area in zip(draws, PATCH_AREAS, strict=True)]
            patches = _patches(domain, blocks)
            alone = frame.values(frame.without(1 - torch.maximum(patches, always.float()), fill)).double().cpu()
            gained = alone - bare + full - _hidden(frame, domain, blocks, fill)
            process.learn(blocks, (gained / scale).tolist())
    pixels = torch.bincount(domain.labels[domain.labels >= 0], minlength=len(domain.areas)).float().cpu()
    worth = process.mean
    if not frame.tracked:  # only regions whose worth exceeds its standard deviation
        worth = worth * (worth > process.spread.diagonal().clamp(min=0).sqrt())
    density = worth.float() * domain.areas.cpu() / pixels * scale / TOTAL_WORTH
    return torch.cat([density, torch.zeros(1)]).clamp(min=0)[domain.labels.cpu()]


def _learn_singles(process: Belief, learn_losses: Callable[[list[Tensor]], list[float]]) -> None:
    """Hide the most promising regions one by one, round by round, while that finds anything."""
    tried: set[int] = set()
    for _ in range(MAX_ROUNDS):
        ranked = process.mean.argsort(descending=True, stable=True).tolist()
        singles = [number for number in ranked if number not in tried][:REGIONS_PER_ROUND]
        tried.update(singles)
        if not singles or max(learn_losses([torch.tensor([number]) for number in singles])) < MIN_FOUND_SHARE:
            return


def _largest(worths: Tensor, areas: Tensor, area: float) -> Tensor:
    """The numbers of the regions of the highest worths (region,), as many as make up an area, at least one."""
    ranked = worths.argsort(descending=True, stable=True).to(areas.device)
    return ranked[: int((areas[ranked].cumsum(0) < area).sum()) + 1]


def near_box(frame: Frame) -> Tensor:
    """The box and a margin around it, 4 % of its longer side altogether.

    Args:
        frame: where the box is.

    Returns:
        Bool (h, w), False in the padding.
    """
    x1, y1, x2, y2 = frame.box.tolist()
    spare = MARGIN_BOX_SIDES / 2 * max(x2 - x1, y2 - y1)
    height, width = frame.inside.shape
    near = torch.zeros_like(frame.inside)
    top, left = max(int(y1 - spare), 0), max(int(x1 - spare), 0)
    near[
        top : min(max(int(y2 + spare) + 1, top + 2), height), left : min(max(int(x2 + spare) + 1, left + 2), width)
    ] = 1
    return near & frame.inside


def make_domain(frame: Frame, near: Tensor) -> Domain:
    """Superpixels of the box and its margin.

    Args:
        frame: where the box is.
        near: bool (h, w), the box and its margin.
    """
    box_area = float((frame.box[2:] - frame.box[:2]).clamp(min=1).prod())
    rows, columns = (torch.where(near.any(axis))[0] for axis in (1, 0))
    window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    labels = torch.full(near.shape, -1, dtype=torch.int64, device=near.device)
    labels[window] = segment_image(
        frame.image[:, window[0], window[1]], round(REGION_COUNT * float(near.sum()) / box_area)
    )
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
    windows = []
    share = WINDOW_SIDE_CELLS / side
    for down in range(side):
        for across in range(side):
            left, top = (
                low + place * (1 - share) / (side - 1) * (high - low)
                for low, high, place in ((x1, x2, across), (y1, y2, down))
            )
            within = (centre_x >= left) & (centre_x <= left + share * (x2 - x1))
            within &= (centre_y >= top) & (centre_y <= top + share * (y2 - y1))
            windows.append(torch.where(within)[0])
    return windows


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
