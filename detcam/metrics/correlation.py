"""How alike two maps are: rank correlation and correlation, and the cells in which maps are compared and judged."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

CELLS = 48
"""Cells along the image's longer side."""


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Spearman's rank correlation of two arrays of one shape, in [-1, 1], ties at their mean rank.

    NaN where one of them is constant.

    Args:
        first: of any shape and real dtype, finite.
        second: of the same shape.

    >>> spearman(np.array([1, 2, 3]), np.array([10, 100, 1000]))
    1.0
    """
    return pearson(_ranks(first.ravel()), _ranks(second.ravel()))


def pearson(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Pearson's correlation of two arrays of one shape, in [-1, 1].

    ``sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 sum (y - mean y)^2)``; NaN where one of them is constant.

    Args:
        first: of any shape and real dtype, finite.
        second: of the same shape.

    >>> pearson(np.array([1, 2, 3]), np.array([3, 2, 1]))
    -1.0
    >>> pearson(np.array([1, 2, 3]), np.array([5, 5, 5]))
    nan
    """
    values = [np.asarray(part, np.float64).ravel() for part in (first, second)]
    if any(np.ptp(part) == 0 for part in values):
        return math.nan
    deviations = [part / np.abs(part).max() for part in (part - part.mean() for part in values)]
    size = math.sqrt(float((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum()))
    return float((deviations[0] * deviations[1]).sum() / size)


def cell_numbers(inside: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Which cell each of the image's pixels is in.

    Args:
        inside: bool (h, w), False in the padding; the image is a rectangle.

    Returns:
        int64 (h, w), the cells numbered row by row and -1 in the padding; and how many (rows, columns) there are: 48
        along the image's longer side, or as many as it has pixels.

    >>> inside = torch.ones(4, 96, dtype=torch.bool)
    >>> numbers, shape = cell_numbers(inside)
    >>> shape, numbers[0, :4].tolist(), numbers[2, :4].tolist()
    ((2, 48), [0, 0, 1, 1], [48, 48, 49, 49])
    """
    spans = [torch.where(inside.any(axis))[0] for axis in (1, 0)]
    lengths = [len(span) for span in spans]
    number = min(CELLS, max(lengths))
    rows, columns = (max(round(number * length / max(lengths)), 1) for length in lengths)
    numbers = torch.full(inside.shape, -1, dtype=torch.int64, device=inside.device)
    down, along = (
        torch.arange(length, device=inside.device) * count // length
        for length, count in zip(lengths, (rows, columns), strict=True)
    )
    (top, bottom), (left, right) = ((int(span[0]), int(span[-1]) + 1) for span in spans)
    numbers[top:bottom, left:right] = down[:, None] * columns + along
    return numbers, (rows, columns)


def in_cells(heat: Tensor, inside: Tensor) -> Tensor:
    """A map's mean in each of the image's cells, float64 (rows, columns), nothing of the padding in it.

    Args:
        heat: (h', w') over the detector's input, enlarged bilinearly where it is not (h, w).
        inside: bool (h, w), False in the padding.
    """
    if heat.shape != inside.shape:
        heat = F.interpolate(heat[None, None].float(), inside.shape, mode="bilinear")[0, 0]
    numbers, shape = cell_numbers(inside)
    values, places = heat.to(inside.device)[inside].double(), numbers[inside]
    sums = torch.zeros(shape[0] * shape[1], dtype=torch.float64, device=inside.device).index_add_(0, places, values)
    return (sums / torch.bincount(places, minlength=len(sums))).view(shape)


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks with ties at their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[inverse], np.float64)
