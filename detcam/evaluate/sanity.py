"""Whether a method's maps depend on the weights, the class and the instance, and how stable they are under noise.

Maps are compared by the rank correlation of their magnitudes (Spearman), as by Adebayo et al. 2018, arXiv:1810.03292.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detcam.adapters.base import DetectorAdapter
from detcam.explainer import Explainer
from detcam.metrics.correlation import in_cells, spearman
from detcam.probing.prepared_image import PreparedImage
from detcam.types import Detection

CASCADE_SHARES = (0.1, 0.3, 0.6, 1.0)
"""Shares of a network's layers, from its output backwards, whose parameters are shuffled."""
NOISE_SHARE = 0.02
"""Standard deviation of input noise, as a share of the input's range."""
NOISE_TRIALS = 3


@dataclass(frozen=True, eq=False)
class Case:
    """One image's detections.

    Attributes:
        prepared: the image.
        detections: in original pixels.
    """

    prepared: PreparedImage
    detections: tuple[Detection, ...]


def maps_of(
    explainer: Explainer, model: DetectorAdapter, case: Case, batch: Tensor | None = None
) -> list[NDArray[Any]]:
    """The raw maps, (h', w'), that an explainer's method makes of given detections on another model or input.

    Args:
        explainer: its method and options are used.
        model: the detector that is asked.
        case: the detections.
        batch: another input (1, 3, h, w); None takes the case's.
    """
    raw_maps = explainer.raw_maps(case.prepared.seen_again(explainer.layers, model, batch), case.detections)
    return [one.map.detach().float().cpu().numpy() for one in raw_maps]


def rank_correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Spearman's correlation of two maps' magnitudes, in [-1, 1]; NaN where one is constant.

    Args:
        first: of any shape.
        second: of the same shape.
    """
    return spearman(np.abs(first), np.abs(second))


def randomised(model: Any, share: float, seed: int) -> Any:
    """A copy of a detector whose last layers' parameters are shuffled, each within itself.

    Args:
        model: an adapter with its network in ``model``.
        share: of the layers that have parameters, from the output backwards, in (0, 1].
        seed: of the shuffles.
    """
    changed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    layers = [module for module in changed.model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers[len(layers) - max(round(share * len(layers)), 1) :]:
        for parameter in layer.parameters(recurse=False):
            flat = parameter.data.flatten()
            parameter.data = flat[torch.randperm(len(flat), generator=generator).to(flat.device)].view_as(parameter)
    return changed


def randomisation(explainer: Explainer, case: Case, seed: int) -> list[list[float]]:
    """Cascading parameter randomisation: how alike each detection's map stays, at each of the :data:`CASCADE_SHARES`.

    Args:
        explainer: whose method is checked.
        case: the detections.
        seed: of the shuffles.

    Returns:
        A list for each detection of rank correlations in [-1, 1], or NaN.
    """
    before = maps_of(explainer, explainer.model, case)
    alike: list[list[float]] = [[] for _ in before]
    for share in CASCADE_SHARES:
        after = maps_of(explainer, randomised(explainer.model, share, seed), case)
        for kept, one, other in zip(alike, before, after, strict=True):
            kept.append(_compared(one, other))
    return alike


def remaining(before: Tensor, after: Tensor, inside: Tensor) -> dict[str, float]:
    """What of a map is still there when every layer's parameters are shuffled.

    Args:
        before: (h', w') over the detector's input, of the trained detector.
        after: the same of the shuffled one.
        inside: bool (h, w), False in the padding.

    Returns:
        ``randomised``: their rank correlation over the image's cells. A map that is the same everywhere or not finite
        afterwards has gone: 0, and ``vanished`` is 1, else 0. Both are NaN for a map that was nothing before.
    """
    first, second = (in_cells(part, inside).cpu().numpy() for part in (before, after))
    if np.ptp(first) == 0:
        return {"randomised": math.nan, "vanished": math.nan}
    if not np.isfinite(second).all() or np.ptp(second) == 0:
        return {"randomised": 0.0, "vanished": 1.0}
    return {"randomised": spearman(first, second), "vanished": 0.0}


def class_swap(explainer: Explainer, case: Case) -> list[float]:
    """How alike the map of each detection is to that of another class at the same anchor: the next class by index.

    Args:
        explainer: whose method is checked.
        case: the detections.

    Returns:
        A rank correlation in [-1, 1] for each detection; NaN for a detector of one class.
    """
    names = explainer.model.names
    ids = sorted(names)
    if len(ids) < 2:
        return [float("nan")] * len(case.detections)
    other = [ids[(ids.index(detection.class_id) + 1) % len(ids)] for detection in case.detections]
    swapped = [
        replace(detection, class_id=class_id, class_name=names[class_id])
        for detection, class_id in zip(case.detections, other, strict=True)
    ]
    before = maps_of(explainer, explainer.model, case)
    after = maps_of(explainer, explainer.model, replace(case, detections=tuple(swapped)))
    return [_compared(one, two) for one, two in zip(before, after, strict=True)]


def instance_swap(explainer: Explainer, case: Case) -> list[float]:
    """How alike the maps of two detections of one class in one image are.

    Args:
        explainer: whose method is checked.
        case: the detections.

    Returns:
        A rank correlation in [-1, 1] for every pair of one class.
    """
    maps = maps_of(explainer, explainer.model, case)
    pairs = [
        (i, j)
        for i, j in combinations(range(len(maps)), 2)
        if case.detections[i].class_id == case.detections[j].class_id
    ]
    return [_compared(maps[i], maps[j]) for i, j in pairs]


def max_sensitivity(explainer: Explainer, case: Case, seed: int) -> list[float]:
    """The largest change of each map under small input noise, over its own size (Yeh et al. 2019, arXiv:1901.09392).

    Args:
        explainer: whose method is checked.
        case: the detections.
        seed: of the noise.

    Returns:
        A number from 0 for each detection; NaN for an empty map.
    """
    before = maps_of(explainer, explainer.model, case)
    generator = torch.Generator().manual_seed(seed)
    batch = case.prepared.batch
    spread = NOISE_SHARE * (batch.amax() - batch.amin())
    worst = [0.0] * len(before)
    for _ in range(NOISE_TRIALS):
        noise = torch.randn(batch.shape, generator=generator).to(batch)
        after = maps_of(explainer, explainer.model, case, batch + spread * noise)
        for number, (one, two) in enumerate(zip(before, after, strict=True)):
            size = float(np.linalg.norm(one))
            change = float(np.linalg.norm(one - two)) if one.shape == two.shape else float("nan")
            worst[number] = max(worst[number], change / size) if size > 0 else float("nan")
    return worst


def _compared(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Rank correlation; maps of other layers are first brought to the resolution of the coarser."""
    if first.shape != second.shape:
        rows, columns = (min(sides) for sides in zip(first.shape, second.shape, strict=True))
        first, second = (_pooled(part, rows, columns) for part in (first, second))
    return rank_correlation(first, second)


def _pooled(part: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    pooled = nn.functional.adaptive_avg_pool2d(torch.from_numpy(np.abs(part))[None], (rows, columns))[0]
    return np.asarray(pooled.numpy())


def sanity(explainer: Explainer, case: Case, seed: int) -> dict[str, float]:
    """All four checks as means over an image's detections; NaN where there is nothing to compare.

    Args:
        explainer: whose method is checked.
        case: the detections.
        seed: of shuffles and noise.

    Returns:
        ``randomised_10%``, ``randomised_30%``, ``randomised_60%``, ``randomised_100%``, ``class_swap``,
        ``instance_swap``
        and ``max_sensitivity``.
    """
    cascade = randomisation(explainer, case, seed)
    figures = {f"randomised_{share:.0%}": [steps[i] for steps in cascade] for i, share in enumerate(CASCADE_SHARES)}
    figures |= {
        "class_swap": class_swap(explainer, case),
        "instance_swap": instance_swap(explainer, case),
        "max_sensitivity": max_sensitivity(explainer, case, seed),
    }
    return {name: _mean(values) for name, values in figures.items()}


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
