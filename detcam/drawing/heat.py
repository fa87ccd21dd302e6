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

PIXELWISE_LEAST_CELLS = 64
"""A raw map of the detector's own input size, with a longer side above this, has a value for every pixel."""
STRIPE_ROWS = 512
"""Rows of the image that are blended at once."""
CONTOUR_LEVELS = ((0.4, 0.5), (0.75, 0.9))
"""Where contour lines are drawn, as shares of a map's peak, and their widths as shares of a box's line."""
CONTOUR_MAP_SIDE_PX = 640
"""Longer side at most of the map that contours are found in. It is smoothed, because contours of single cells would
cover the picture in small rings."""
CONTOUR_SMOOTHING = 64
"""The smoothing's standard deviation is the longer side over this."""
LEAST_CONTOUR_SHARE = 0.0004
"""A contour that encloses less than this share of the picture is left out, unless it is the largest."""
MOST_CONTOUR_SHARE = 0.25
"""Where a level covers more than this share of the picture it gets no contours: they would point at nothing."""
DARKEST_COLOUR = 80
"""Index of the first of a colour map's 256 colours that is used: darker ones would look like shadows."""
STATUSES_WITHOUT_HEAT = frozenset({"no_signal", "no_evidence"})
"""With these statuses no heat is drawn: there is none, or it means nothing."""


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
    """Lay a map over an image: the hotter a pixel, the more colour it gets; where the map is zero the image stays.

    Args:
        image: RGB uint8 (H, W, 3).
        heat: float32 (H, W) in [0, 1].
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].

    Returns:
        A new RGB uint8 (H, W, 3) picture.

    Raises:
        UsageError: no such colour map, or an opacity outside [0, 1].
    """
    if not 0 <= opacity <= 1:
        raise UsageError(f"opacity must lie in [0, 1], got {opacity!r}")
    colours, picture = colourmap(colormap), np.array(image, np.uint8)
    for top in range(0, len(image), STRIPE_ROWS):  # of a large image the whole would take tens of gigabytes
        rows = slice(top, top + STRIPE_ROWS)
        if heat[rows].any():
            alpha = (opacity * heat[rows] ** 0.75)[..., None]
            colour = colours[np.rint(DARKEST_COLOUR + heat[rows] * (255 - DARKEST_COLOUR)).astype(np.uint8)]
            picture[rows] = np.rint(image[rows] + (colour - image[rows]) * alpha)
    return picture


def draw_contours(picture: Picture, heat: Heat, line: int) -> None:
    """Draw white lines with dark rims around the hottest parts of a map, at :data:`CONTOUR_LEVELS`.

    Args:
        picture: RGB uint8 (H, W, 3), drawn into.
        heat: float32 (H, W) in [0, 1].
        line: width of the boxes' lines, pixels; these lines are thinner.
    """
    if not heat.any():
        return
    gain = min(CONTOUR_MAP_SIDE_PX / max(heat.shape), 1)
    size = max(round(heat.shape[1] * gain), 1), max(round(heat.shape[0] * gain), 1)
    smooth = cv2.resize(heat, size, interpolation=cv2.INTER_AREA) if gain < 1 else heat
    smooth = cv2.GaussianBlur(smooth, (0, 0), max(size) / CONTOUR_SMOOTHING)
    for level, share in CONTOUR_LEVELS:
        inside = (smooth >= level * smooth.max()).astype(np.uint8)
        if inside.mean() > MOST_CONTOUR_SHARE:
            continue
        found, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        areas = [cv2.contourArea(outline) for outline in found]
        least = min(LEAST_CONTOUR_SHARE * smooth.size, max(areas))
        kept = [outline for outline, area in zip(found, areas, strict=True) if area >= least]
        outlines = [np.rint((_rounded(o) if gain < 1 else o) / gain).astype(np.int32) for o in kept]
        thick = max(int(line * share), 1)
        cv2.polylines(picture, outlines, True, (0, 0, 0), thick + 2 * max(line // 4, 1), cv2.LINE_AA)
        cv2.polylines(picture, outlines, True, (255, 255, 255), thick, cv2.LINE_AA)


def _rounded(outline: NDArray[np.int32]) -> NDArray[np.float64]:
    """A closed outline (n, 1, 2) without the steps between pixels: each point the mean of five."""
    return np.asarray(np.mean([np.roll(outline, shift, 0) for shift in range(-2, 3)], 0), np.float64)


def heat_of(explanation: Explanation) -> Heat:
    """The map as it is drawn, float32 (H, W) in [0, 1]: a map with a value for every pixel is smoothed.

    Single pixels cannot be seen over a photograph. The standard deviation is a hundredth of the longer side.
    """
    heat = explanation.heatmap.array
    if not is_pixelwise(explanation):
        return heat
    smooth = cv2.GaussianBlur(heat, (0, 0), max(heat.shape) / 100)
    return np.asarray(smooth / max(float(smooth.max()), float(np.finfo(np.float32).tiny)), np.float32)


def shows_heat(explanation: Explanation) -> bool:
    """Whether the map is drawn: its status allows it, and where evidence was found, no check rejected the map."""
    receipt = explanation.receipt
    proven = explanation.heatmap.raw.any() and (receipt is None or receipt.supported)
    return explanation.status not in STATUSES_WITHOUT_HEAT and (explanation.evidence is None or bool(proven))


def shown_heat(explanation: Explanation) -> Heat:
    """The map as it is drawn, float32 (H, W) in [0, 1]; zeros where :func:`shows_heat` says that none is."""
    if not shows_heat(explanation):
        return np.zeros(explanation.heatmap.letterbox.original, np.float32)
    return heat_of(explanation)


def is_pixelwise(explanation: Explanation) -> bool:
    """Whether the raw map has a value for every pixel of the detector's input."""
    heatmap = explanation.heatmap
    return heatmap.raw.shape == heatmap.letterbox.network and max(heatmap.raw.shape) > PIXELWISE_LEAST_CELLS
