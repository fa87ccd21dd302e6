"""Plausibility of a map: whether it lies where a person would look. It says nothing about what the detector used.

Pure NumPy. A heat map is (H, W) over the original image, finite and nowhere negative, as
:attr:`detcam.types.Heatmap.array` gives it; a region is bool (H, W); a box is xyxy, original pixels. No measure changes
when the map is scaled. An all-zero map has no place, so each measure of it is nan. What is of another shape, type or
range raises ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.floating]
    Mask = NDArray[np.bool_]

THRESHOLDS = tuple(float(threshold) for threshold in np.linspace(0.05, 0.95, 19))
"""Shares of a map's peak at which it is cut into a mask."""


class MaskOverlap(NamedTuple):
    """IoU of a map cut at several thresholds with a region.

    Attributes:
        best: the largest IoU, in [0, 1].
        threshold: the lowest threshold that gives it, a share of the map's peak.
        curve: float64 (threshold,), the IoU at each.
    """

    best: float
    threshold: float
    curve: NDArray[np.float64]


def pointing_game(heat: Floats, region: Mask) -> float:
    """Whether the hottest pixel lies in the region (Zhang et al. 2018, arXiv:1608.00507): 0 or 1.

    Where several pixels are equally hot, the share of them in the region, in [0, 1].

    Args:
        heat: (H, W), finite and nowhere negative.
        region: bool (H, W).

    Raises:
        ValueError: another shape, dtype or range.

    >>> pointing_game(np.array([[0.0, 1.0, 0.5]]), np.array([[False, True, False]]))
    1.0
    """
    heat, region = _checked(heat, region)
    peak = heat.max()
    return float(region[heat == peak].mean()) if peak > 0 else math.nan


def energy_inside(heat: Floats, region: Mask) -> float:
    """The share of the map's mass in the region, in [0, 1]: energy-based pointing game.

    ``sum_{p in region} h_p / sum_p h_p`` (Wang et al. 2020, Score-CAM, arXiv:1910.01279).

    Args:
        heat: (H, W), finite and nowhere negative.
        region: bool (H, W).

    Raises:
        ValueError: another shape, dtype or range.

    >>> energy_inside(np.array([[1.0, 2.0, 1.0]]), np.array([[False, True, True]]))
    0.75
    """
    heat, region = _checked(heat, region)
    return _quotient(_mass(heat, region), _mass(heat))


def discrimination(heat: Floats, own: Mask, others: Sequence[Mask]) -> float:
    """Object Discrimination Index (Zhao & Chan 2023, ODAM): mass in other objects over mass in all objects, in [0, 1].

    0 is best. Pixels shared with the own object count as its own; ODAM's released code counts them as others'.

    Args:
        heat: the map.
        own: the region of the object that was explained.
        others: those of the image's other objects.

    Returns:
        nan without others, and where none of the map's mass is in any object.

    Raises:
        ValueError: another shape, dtype or range.

    >>> discrimination(np.array([[3.0, 1.0, 5.0]]), np.array([[True, False, False]]), [np.array([[True, True, False]])])
    0.25
    """
    heat, own = _checked(heat, own)
    if not len(others):
        return math.nan
    rest = np.logical_or.reduce([_checked(heat, other)[1] for other in others]) & ~own
    return _quotient(_mass(heat, rest), _mass(heat, own | rest))


def compactness(heat: Floats, box: ArrayLike) -> float:
    """How far the map's mass is spread, in units of the object's size; from 0, a single pixel; smaller is tighter.

    ``sqrt(sum_p h_p |p - c|^2 / sum_p h_p) / sqrt(area)``: h_p the heat of pixel p, c the map's centre of mass, area
    the box's. A map even over a square box as large as itself has sqrt(1/6) = 0.41. ODAM's compactness (Zhao & Chan
    2023) is this with c the hottest pixel and half of the box's diagonal for the root of its area: the two cannot be
    compared.

    Returns:
        nan for a box without area.

    Args:
        heat: (H, W), finite and nowhere negative.
        box: (4,), xyxy in original pixels.

    Raises:
        ValueError: another shape or range.

    >>> round(compactness(np.ones((100, 100)), (0, 0, 100, 100)), 2)
    0.41
    """
    heat = _checked_heat(heat)
    x1, y1, x2, y2 = _checked_box(box)
    # Distances along the two axes add up in the square, so the sums over rows and over columns are enough.
    spread = sum(_variance(heat.sum(axis, dtype=np.float64)) for axis in (0, 1))
    area = (x2 - x1) * (y2 - y1) if x2 > x1 and y2 > y1 else 0.0
    return math.sqrt(spread / area) if area > 0 else math.nan


def mask_iou(heat: Floats, region: Mask, thresholds: Sequence[float] | Floats = THRESHOLDS) -> MaskOverlap:
    """IoU of the region with what reaches each threshold, and the best of them.

    Args:
        heat: the map.
        region: the object's.
        thresholds: in [0, 1], shares of the map's peak.

    Raises:
        ValueError: no threshold, or one outside [0, 1].

    >>> overlap = mask_iou(np.array([[0.2, 1.0, 0.6]]), np.array([[False, True, True]]))
    >>> overlap.best, round(overlap.threshold, 2)
    (1.0, 0.25)
    """
    heat, region = _checked(heat, region)
    cuts = np.asarray(thresholds, np.float64)
    if cuts.ndim != 1 or not cuts.size or not ((cuts >= 0) & (cuts <= 1)).all():
        raise ValueError(f"thresholds must be one or more numbers in [0, 1], got {thresholds!r}")
    peak = heat.max()
    if not peak > 0:
        return MaskOverlap(math.nan, math.nan, np.full(len(cuts), math.nan))
    shares = heat / peak
    size = np.count_nonzero(region)
    curve = np.empty(len(cuts))
    for number, cut in enumerate(cuts):
        hot = shares >= cut
        shared = np.count_nonzero(hot & region)
        curve[number] = shared / (np.count_nonzero(hot) + size - shared)  # the peak is always hot
    best = curve.max()
    return MaskOverlap(float(best), float(cuts[curve == best].min()), curve)


def box_mask(xyxy: ArrayLike, shape: tuple[int, int]) -> Mask:
    """The pixels whose centres lie in a box: bool (H, W).

    No pixel is set where the box is outside the image, has swapped sides, or is so thin that it holds no centre.

    Args:
        xyxy: (4,), original pixels: pixel (column i, row j) covers [i, i+1] x [j, j+1].
        shape: (H, W) of the image.

    Raises:
        ValueError: the box is not four finite numbers.

    >>> box_mask((1, 0, 3, 1), (2, 4)).tolist()
    [[False, True, True, False], [False, False, False, False]]
    """
    x1, y1, x2, y2 = _checked_box(xyxy)
    rows, columns = (np.arange(side) + 0.5 for side in shape)
    return ((rows >= y1) & (rows < y2))[:, None] & ((columns >= x1) & (columns < x2))


def plausibility(
    heat: Floats, box: ArrayLike, mask: Mask | None = None, others: Sequence[Any] = ()
) -> dict[str, float]:
    """Every measure of one object's map.

    Args:
        heat: the map.
        box: the object's, (4,).
        mask: its region, or None.
        others: the image's other objects, each a mask (H, W), or a box (4,). The own object counts as its mask where
            there is one, so give masks where ``mask`` is given, else boxes.

    Returns:
        ``pointing_box``, ``pointing_mask``, ``energy_box``, ``energy_mask``, ``discrimination``, ``compactness`` and
        ``mask_iou``, the best over the thresholds; nan where what it needs is missing, or is without a single pixel.

    Raises:
        ValueError: another shape, dtype or range.
    """
    heat = _checked_heat(heat)
    boxed = box_mask(box, heat.shape)
    own = boxed if mask is None else _checked(heat, mask)[1]
    rest = [box_mask(other, heat.shape) if np.ndim(other) == 1 else other for other in others]
    in_box, in_mask = bool(boxed.any()), mask is not None and bool(own.any())
    return {
        "pointing_box": pointing_game(heat, boxed) if in_box else math.nan,
        "pointing_mask": pointing_game(heat, own) if in_mask else math.nan,
        "energy_box": energy_inside(heat, boxed) if in_box else math.nan,
        "energy_mask": energy_inside(heat, own) if in_mask else math.nan,
        "discrimination": discrimination(heat, own, rest) if own.any() else math.nan,
        "compactness": compactness(heat, box),
        "mask_iou": mask_iou(heat, own).best if in_mask else math.nan,
    }


def _mass(heat: Floats, region: Mask | bool = True) -> float:
    """The sum over a region, in double precision: a photograph has more pixels than float32 can count."""
    return float(heat.sum(dtype=np.float64, where=region))


def _quotient(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _variance(weights: NDArray[np.float64]) -> float:
    """Of places 0, 1, 2, ... under weights that need not sum to one; nan where all are zero."""
    total = float(weights.sum())
    if not total > 0:
        return math.nan
    places = np.arange(len(weights))
    mean = float(weights @ places) / total
    return float(weights @ (places - mean) ** 2) / total


def _checked_heat(heat: Floats) -> Floats:
    heat = np.asarray(heat)
    if heat.ndim != 2 or not heat.size:
        raise ValueError(f"a heat map must be (H, W), got shape {heat.shape}")
    if not (np.isfinite(heat).all() and heat.min() >= 0):
        raise ValueError("a heat map must be finite and nowhere negative")
    return heat


def _checked(heat: Floats, region: Mask) -> tuple[Floats, Mask]:
    heat, region = _checked_heat(heat), np.asarray(region)
    if region.dtype != np.bool_ or region.shape != heat.shape:
        raise ValueError(f"a region must be bool {heat.shape} as the map is, got {region.dtype} {region.shape}")
    return heat, region


def _checked_box(box: ArrayLike) -> tuple[float, float, float, float]:
    corners = np.asarray(box, np.float64)
    if corners.shape != (4,) or not np.isfinite(corners).all():
        raise ValueError(f"a box must be four finite numbers x1, y1, x2, y2, got {box!r}")
    x1, y1, x2, y2 = corners.tolist()
    return x1, y1, x2, y2
