"""How true a map is to the detector: deletion and insertion (Petsiuk et al. 2018, arXiv:1806.07421), in box areas.

Deletion removes the hottest pixels, insertion shows them alone; a map is faithful where the score falls early in the
one and rises early in the other. Pure functions of tensors. ``score`` takes images (n, 3, h, w) and returns, for each,
how much of one detection is left: (n, parts), the first part the one that counts (``tracked``: the largest IoU x class
probability of any raw prediction).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from detcam.tensors.fills import FILLS

Score = Callable[[Tensor], Tensor]

STEPS = 10
"""Of a curve, up to the box's area."""
PARTS = ("tracked", "iou", "class", "anchor")
"""What is measured: the product, its overlap and its probability, and the probability at the detection's own anchor."""
SUFFICIENT_SHARE = 0.9
"""Pixels are sufficient if they bring back this share of the score."""
BOOTSTRAP_DRAWS = 10_000


def ranking(heat: Tensor, inside: Tensor, seed: int = 0) -> Tensor:
    """Each pixel's place, hottest first: int64 (h, w). Ties fall at random, and padding is behind everything.

    Args:
        heat: (h', w'), enlarged bilinearly where it is not (h, w).
        inside: bool (h, w), False in the padding.
        seed: of the ties.

    >>> ranking(torch.tensor([[0.1, 0.9], [0.4, 0.2]]), torch.ones(2, 2, dtype=torch.bool)).tolist()
    [[3, 0], [1, 2]]
    """
    if heat.shape != inside.shape:
        heat = F.interpolate(heat[None, None].float(), inside.shape, mode="bilinear")[0, 0]
    values = heat.double().masked_fill(~inside, -torch.inf).flatten().cpu()
    shuffled = torch.randperm(values.numel(), generator=torch.Generator().manual_seed(seed))
    order = shuffled[torch.argsort(values[shuffled], descending=True, stable=True)]
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel())
    return place.reshape(inside.shape).to(inside.device)


def areas(box: Tensor, inside: Tensor) -> Tensor:
    """How many pixels each of the steps 0 .. 10 covers: tenths of the box's area within the image.

    Args:
        box: (4,) xyxy, pixels of the detector's input.
        inside: bool (h, w), False in the padding.

    Returns:
        int64 (11,), from 0; never more than the image has.

    >>> areas(torch.tensor([2.0, 0, 12, 10]), torch.ones(10, 20, dtype=torch.bool)).tolist()
    [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    """
    rows, columns = (torch.where(inside.any(axis))[0] for axis in (1, 0))
    low = box[:2].maximum(box.new_tensor([columns[0], rows[0]]))
    high = box[2:].minimum(box.new_tensor([columns[-1] + 1, rows[-1] + 1]))
    area = float((high - low).clamp(min=0).prod())
    return (torch.arange(STEPS + 1) / STEPS * area).round().clamp(max=int(inside.sum())).long().to(inside.device)


def curves(
    place: Tensor, counts: Tensor, image: Tensor, fill: Tensor, score: Score, ends: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Deletion and insertion curves, each (step, part), unscaled.

    Step i replaces by the fill, or shows in it, as many of the hottest pixels as ``counts[i]``.

    Args:
        place: from :func:`ranking`, (h, w).
        counts: from :func:`areas`, (step,).
        image: (3, h, w), the detector's input.
        fill: (3, h, w), what stands for "removed".
        score: see the module.
        ends: the scores of the image and of the fill, each (part,), where they are known: every map starts there.
    """
    whole, blank = score(torch.stack([image, fill])) if ends is None else ends
    hot = (place < counts[1:, None, None])[:, None]
    both = score(torch.cat([torch.where(hot, fill, image), torch.where(hot, image, fill)]))
    deletion, insertion = both.chunk(2)
    return torch.cat([whole[None], deletion]), torch.cat([blank[None], insertion])


def outside(place: Tensor, counts: Tensor, box: Tensor, image: Tensor, fill: Tensor, score: Score) -> Tensor:
    """Deletion of the pixels outside the box alone, (step, part), unscaled: does the map find the context that matters?

    Args:
        place: from :func:`ranking`, (h, w).
        counts: (step,), pixels; a step ends where the image outside the box does.
        box: (4,) xyxy in the image's pixels; a pixel is within it where its centre is.
        image: (3, h, w), the detector's input.
        fill: (3, h, w), what stands for "removed".
        score: see the module.
    """
    rows, columns = (torch.arange(side, device=place.device) + 0.5 for side in place.shape)
    own = ((rows >= box[1]) & (rows < box[3]))[:, None] & ((columns >= box[0]) & (columns < box[2]))
    order = torch.argsort(place.masked_fill(own, place.numel()).flatten())
    rest = torch.empty_like(order)
    rest[order] = torch.arange(order.numel(), device=order.device)
    hot = (rest.view(place.shape) < counts[:, None, None]) & ~own
    return score(torch.where(hot[:, None], fill, image))


def area_under(curve: Sequence[float] | NDArray[np.floating]) -> float:
    """The area under a curve of evenly spaced steps, over a width of 1, by trapezoids.

    Args:
        curve: (n,), at least two values.

    >>> area_under([1, 0.5, 0])
    0.5
    """
    values = np.asarray(curve, np.float64)
    return float((values[:-1] + values[1:]).mean() / 2)


def sufficient(insertion: Sequence[float] | NDArray[np.floating]) -> float:
    """The least share of the box's area, hottest first, that brings 90 % of the score back; NaN if none does.

    Args:
        insertion: the curve over the unperturbed score, evenly spaced from 0 to the box's area.

    >>> sufficient([0, 0.5, 0.95, 0.9, 1])
    0.5
    """
    reached = np.flatnonzero(np.asarray(insertion) >= SUFFICIENT_SHARE)
    return float(reached[0] / (len(insertion) - 1)) if len(reached) else float("nan")


def faithfulness(
    heat: Tensor,
    image: Tensor,
    box: Tensor,
    inside: Tensor,
    before: Tensor,
    score: Score,
    seed: int = 0,
    blank: Mapping[str, Tensor] | None = None,
) -> dict[str, float | list[float]]:
    """A map's figures under every fill.

    Args:
        heat: (h', w') over the detector's input.
        image: (3, h, w), that input.
        box: (4,) xyxy in its pixels.
        inside: bool (h, w), False in the padding.
        before: (part,), the score of the image as it is; curves are over it.
        score: see the module.
        seed: breaks ties.
        blank: the score (part,) of each fill alone, where it is known, for every map of a detection has it.

    Returns:
        By fill: ``insertion_blur``, ``deletion_blur`` and their difference ``faithfulness_blur`` (higher is better),
        the same at the fixed anchor (``..._anchor_blur``) and for overlap and class apart, ``sufficient_blur``, and the
        curves; ``outside_blur``, the area under the deletion curve of the pixels outside the box (lower is better).
    """
    place, counts = ranking(heat, inside, seed), areas(box, inside)
    figures: dict[str, float | list[float]] = {}
    for name, make in FILLS.items():
        fill = make(image, inside)
        ends = None if blank is None else (before, blank[name])
        pair = curves(place, counts, image, fill, score, ends)
        deletion, insertion = (np.divide(c.cpu().numpy(), before.cpu().numpy()) for c in pair)
        for part, label in enumerate(PARTS):
            suffix = f"{name}" if label == "tracked" else f"{label}_{name}"
            figures[f"insertion_{suffix}"] = area_under(insertion[:, part])
            figures[f"deletion_{suffix}"] = area_under(deletion[:, part])
            figures[f"faithfulness_{suffix}"] = area_under(insertion[:, part]) - area_under(deletion[:, part])
        figures[f"sufficient_{name}"] = sufficient(insertion[:, 0])
        figures[f"curve_insertion_{name}"] = insertion[:, 0].tolist()
        figures[f"curve_deletion_{name}"] = deletion[:, 0].tolist()
        if name == "blur":  # a fill leaves the padding as it is, so what falls on it changes nothing
            beyond = outside(place, counts[2::2], box, image, fill, score)[:, 0] / before[0]
            figures["outside_blur"] = area_under([1.0, *beyond.tolist()])
    return figures


def interval(values: NDArray[np.floating], seed: int = 0) -> tuple[float, float, float]:
    """The mean of values (n,) and its bootstrap 95 % interval.

    Args:
        values: (n,); those that are not finite are left out.
        seed: of the 10,000 draws.

    Returns:
        The mean and the 2.5th and 97.5th percentile of the draws' means; NaN where no value is left.

    >>> interval(np.array([2.0, 2.0, np.nan]))
    (2.0, 2.0, 2.0)
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(values), size=(BOOTSTRAP_DRAWS, len(values)))
    low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def strata(side: float, confidence: float) -> Mapping[str, str]:
    """The strata of a detection.

    Args:
        side: the geometric mean of its box's sides, pixels of the detector's input.
        confidence: in [0, 1].

    Returns:
        ``size``: small below 32 pixels, medium below 96, large from there; ``sure``: sure from 0.5 on, else unsure.

    >>> strata(40.0, 0.3)
    {'size': 'medium', 'sure': 'unsure'}
    """
    size = "small" if side < 32 else "medium" if side < 96 else "large"
    return {"size": size, "sure": "sure" if confidence >= 0.5 else "unsure"}
