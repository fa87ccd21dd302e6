"""A map over a photograph: a light fill, and lines around its hottest parts. Nothing is painted where it is zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import matplotlib as mpl
import numpy as np

from detcam.errors import UsageError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detcam.types import Explanation

    Heat = NDArray[np.float32]
    Picture = NDArray[np.uint8]

PIXELWISE = 64
"""A raw map as large as the detector's input and larger than this has single pixels for cells."""
STRIPE = 512
"""Rows blended at once."""
LEVELS = ((0.4, 0.5), (0.75, 0.9))
"""Where lines are drawn, as shares of a map's peak, and their widths as shares of a box's line."""
LINE_SIDE = 640
"""Pixels: lines are looked for in a map at most so long, smoothed by a part of it: else they would be confetti."""
SMOOTH = 64
"""Deviations of that smoothing along the longer side."""
LEAST_AREA = 0.0004
"""Share of the picture that a line encloses at least; the largest is drawn even so."""
MOST_AREA = 0.25
"""Share of the picture that lines enclose at most: around more of it they would say nothing and hide much."""
DARKEST = 80
"""Of a colour map's 256 colours the first that is used: darker ones would look like shadows."""
HIDDEN = frozenset({"no_signal", "no_evidence"})
"""Statuses of which no heat is shown: there is none, or it means nothing."""


def colourmap(name: str) -> NDArray[np.float32]:
    """A colour map as float32 (256, 3) RGB in [0, 255]: any of matplotlib's names.

    Raises:
        UsageError: no such colour map.
    """
    if name not in mpl.colormaps:
        raise UsageError(
            f"no colour map {name!r}{nearest(name, ['inferno', 'magma', 'viridis', 'cividis', 'turbo', 'jet'])}"
        )
    return np.asarray(mpl.colormaps[name](np.arange(256), bytes=True)[:, :3], np.float32)


def blend(image: Picture, heat: Heat, colormap: str = "inferno", opacity: float = 0.6) -> Picture:
    """Lay a map over an image: the hotter, the more of the colour; what is cold stays the photograph that it is.

    Args:
        image: RGB uint8 (H, W, 3).
        heat: float32 (H, W) in [0, 1].
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise UsageError(f"opacity must lie in [0, 1], got {opacity!r}")
    colours, picture = colourmap(colormap), np.array(image, np.uint8)
    for top in range(0, len(image), STRIPE):  # of a large image the whole would take tens of gigabytes
        rows = slice(top, top + STRIPE)
        if heat[rows].any():
            alpha = (opacity * heat[rows] ** 0.75)[..., None]
            colour = colours[np.rint(DARKEST + heat[rows] * (255 - DARKEST)).astype(np.uint8)]
            picture[rows] = np.rint(image[rows] + (colour - image[rows]) * alpha)
    return picture


def draw_contours(picture: Picture, heat: Heat, line: int) -> None:
    """Draw into ``picture`` the lines of :data:`LEVELS`, white with dark rims, beside boxes' of ``line`` pixels."""
    if not heat.any():
        return
    gain = min(LINE_SIDE / max(heat.shape), 1)
    size = max(round(heat.shape[1] * gain), 1), max(round(heat.shape[0] * gain), 1)
    smooth = cv2.resize(heat, size, interpolation=cv2.INTER_AREA) if gain < 1 else heat
    smooth = cv2.GaussianBlur(smooth, (0, 0), max(size) / SMOOTH)
    for level, share in LEVELS:
        inside = (smooth >= level * smooth.max()).astype(np.uint8)
        if inside.mean() > MOST_AREA:
            continue
        found, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        areas = [cv2.contourArea(outline) for outline in found]
        least = min(LEAST_AREA * smooth.size, max(areas))
        kept = [outline for outline, area in zip(found, areas, strict=True) if area >= least]
        outlines = [np.rint((_rounded(o) if gain < 1 else o) / gain).astype(np.int32) for o in kept]
        thick = max(int(line * share), 1)
        cv2.polylines(picture, outlines, True, (0, 0, 0), thick + 2 * max(line // 4, 1), cv2.LINE_AA)
        cv2.polylines(picture, outlines, True, (255, 255, 255), thick, cv2.LINE_AA)


def _rounded(outline: NDArray[np.int32]) -> NDArray[np.float64]:
    """A closed outline (n, 1, 2) without the steps between pixels: each point the mean of five."""
    return np.asarray(np.mean([np.roll(outline, shift, 0) for shift in range(-2, 3)], 0), np.float64)


def heat_of(explanation: Explanation) -> Heat:
    """What of a map can be drawn, float32 (H, W) in [0, 1]: itself, or smoothed where each value is one pixel's.

    Single pixels cannot be seen over a photograph; the smoothing's deviation is a hundredth of the longer side.
    """
    heat = explanation.heatmap.array
    if not is_pixelwise(explanation):
        return heat
    smooth = cv2.GaussianBlur(heat, (0, 0), max(heat.shape) / 100)
    return np.asarray(smooth / max(float(smooth.max()), float(np.finfo(np.float32).tiny)), np.float32)


def shows_heat(explanation: Explanation) -> bool:
    """Whether the map means something: its status says so, and where evidence was found the check bears it out too."""
    receipt = explanation.receipt
    proven = explanation.heatmap.raw.any() and (receipt is None or receipt.supported)
    return explanation.status not in HIDDEN and (explanation.evidence is None or bool(proven))


def shown_heat(explanation: Explanation) -> Heat:
    """:func:`heat_of` where the map means something, else zeros."""
    if not shows_heat(explanation):
        return np.zeros(explanation.heatmap.letterbox.original, np.float32)
    return heat_of(explanation)


def is_pixelwise(explanation: Explanation) -> bool:
    """Whether the raw map has a value for every pixel of the detector's input."""
    heatmap = explanation.heatmap
    return heatmap.raw.shape == heatmap.letterbox.network and max(heatmap.raw.shape) > PIXELWISE
