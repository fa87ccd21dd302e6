"""Greedy searches for the regions a detection rests on: many forward passes for each detection, any detector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from detcam.methods.regions import RegionScorer, paint_order, superpixels
from detcam.methods.subject import Subject

REGION_COUNT = 48
"""Superpixels around a box."""
RIVALS_PER_PHASE = 6
"""How many of a phase's best regions compete for its further picks."""
PICKS_PER_PHASE = 4
"""Regions picked in a phase."""

Search = Callable[[RegionScorer, float], tuple[list[int], Tensor]]
"""(regions, area to cover) -> regions in the order they were picked, and the last value seen of each."""


def vps(subject: Subject) -> Tensor:
    """Visual Precision Search: each step adds the region that raises s(S) + 1 - s(all but S) most (arXiv:2411.16198).

    Chen et al. 2024. About 48 superpixels of the box's surroundings; it ends when as much as the box's area is covered,
    and what is left follows by its last value.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h, w) in (0, 1].
    """
    return _each(subject, _greedy)


def phasewin(subject: Subject) -> Tensor:
    """:func:`vps` pruned in phases: all regions are tried once a phase, then its best few compete for further picks.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h, w) in (0, 1].
    """
    return _each(subject, _phased)


def _each(subject: Subject, search: Search) -> Tensor:
    maps = []
    for number, box in enumerate(subject.boxes):

        def score(images: Tensor, number: int = number) -> Tensor:
            return subject.scores(images, [number])[:, 0]

        labels = superpixels(subject.image, box, subject.inside, REGION_COUNT)
        scorer = RegionScorer(subject.image, labels, score, subject.inside)
        order, last = search(scorer, float((box[2:] - box[:2]).clamp(min=1).prod()))
        maps.append(paint_order(labels, order, last, box))
    return torch.stack(maps)


def _greedy(scorer: RegionScorer, area: float) -> tuple[list[int], Tensor]:
    return _phased(scorer, area, 1, 1)


def _phased(
    scorer: RegionScorer, area: float, rivals: int = RIVALS_PER_PHASE, picks: int = PICKS_PER_PHASE
) -> tuple[list[int], Tensor]:
    single = torch.eye(scorer.count, dtype=torch.bool, device=scorer.image.device)
    chosen, last = torch.zeros_like(single[0]), torch.zeros(scorer.count, device=scorer.image.device)
    order: list[int] = []
    while float(scorer.areas[chosen].sum()) < area and not chosen.all():
        left = torch.where(~chosen)[0]
        last[left] = scorer.value(chosen | single[left])
        best = left[last[left].argsort(descending=True, stable=True)][:rivals]
        for pick in range(min(picks, len(best))):
            if pick:
                last[best] = scorer.value(chosen | single[best])
            winner = int(best[last[best].argmax()])
            order.append(winner)
            chosen[winner] = True
            best = best[best != winner]
    return order, last
