"""Several layers' maps become one, and how far a gradient reaches: pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda maps: maps.sum(0),
    "mean": lambda maps: maps.mean(0),
    "max": lambda maps: maps.amax(0),
}
"""How the unscaled maps (layer, h, w) of several layers become one (h, w)."""


def gradient_support(gradient: Tensor) -> float:
    """The share of a layer's cells at which a target has any gradient.

    Args:
        gradient: (channel, h, w).

    Returns:
        In [0, 1].

    >>> gradient_support(torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]))
    0.25
    """
    return float((gradient != 0).any(0).float().mean())


def box_reach(gradient: Tensor, box: Tensor, size: tuple[int, int]) -> float:
    """The share of a box that lies within the bounds of the cells with any gradient, in [0, 1].

    Args:
        gradient: at one layer, (channel, h, w).
        box: (4,) xyxy, pixels of the detector's input.
        size: (height, width) of that input.
    """
    cells = (gradient != 0).any(0)
    share = 1.0
    for axis, low, high in ((0, float(box[1]), float(box[3])), (1, float(box[0]), float(box[2]))):
        reached = cells.any(1 - axis).nonzero().view(-1)
        if not len(reached):
            return 0.0
        cell = size[axis] / cells.shape[axis]
        low, high = min(max(low, 0), size[axis]), min(max(high, 0), size[axis])
        inside = min(high, (int(reached[-1]) + 1) * cell) - max(low, int(reached[0]) * cell)
        share *= max(inside, 0) / (high - low) if high > low else 1
    return share


def fuse_maps(maps: Sequence[Tensor], fusion: str = "sum") -> Tensor:
    """Several layers' maps as one, at the resolution of the finest; the others are enlarged bilinearly.

    Args:
        maps: one (h, w) per layer, unscaled, of any sizes.
        fusion: one of :data:`FUSIONS`.

    Returns:
        (h, w) of the map with the most cells.

    >>> fuse_maps([torch.ones(1, 1), torch.tensor([[0.0, 2.0]])], "sum").tolist()
    [[1.0, 3.0]]
    """
    height, width = max((tuple(part.shape) for part in maps), key=lambda shape: shape[0] * shape[1])
    enlarged = [F.interpolate(part[None, None], (height, width), mode="bilinear")[0, 0] for part in maps]
    return FUSIONS[fusion](torch.stack(enlarged))


def combine_maps(maps: Sequence[Tensor]) -> Tensor:
    """The largest of several targets' maps, cell by cell, each divided by its own peak first (ODAM, arXiv:2304.06354).

    Args:
        maps: one (h, w) per target, all of one shape. One map alone is returned as it is, unscaled.

    Returns:
        (h, w).

    >>> combine_maps([torch.tensor([[0.0, 4.0]]), torch.tensor([[1.0, 0.0]])]).tolist()
    [[1.0, 1.0]]
    """
    if len(maps) == 1:
        return maps[0]
    peaks = [part.amax() for part in maps]
    return torch.stack([part / peak if peak > 0 else part for part, peak in zip(maps, peaks, strict=True)]).amax(0)
