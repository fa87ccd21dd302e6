"""The part of an image around a box, enlarged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from detcam.drawing.heat import shown_heat
from detcam.drawing.overlays import draw_view, outlined
from detcam.drawing.reduced import reduced
from detcam.drawing.shapes import rotated_corners
from detcam.drawing.view import View, upright
from detcam.types import ImageResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from detcam.types import Explanation

    Picture = NDArray[np.uint8]

SMALL_BOX_SHARE = 0.02
"""A box that covers less of the image than this is also shown close up."""
NO_PATCHES = np.zeros((0, 4), np.int64)


def zoom(explanation: Explanation, colormap: str = "inferno", opacity: float = 0.6, side: int = 480) -> Picture:
    """The part of the overlay around a box and its evidence, enlarged; a rotated box is turned upright.

    Args:
        explanation: what is drawn.
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].
        side: the picture's longer side, pixels.

    Returns:
        A new RGB uint8 picture.

    Raises:
        UsageError: no such colour map, or an opacity outside [0, 1].
    """
    (drawn,) = reduced(ImageResult("", explanation.image, (), (explanation,)))
    heat = shown_heat(drawn)
    if (corners := rotated_corners(drawn.detection)) is not None:
        return draw_view(drawn, upright(corners, patches_of(drawn), side), heat, "", colormap, opacity)
    view = View.fitted(zoom_window(explanation), side, side)
    return draw_view(explanation, view, heat, "", colormap, opacity)


def zoom_window(explanation: Explanation) -> tuple[int, int, int, int]:
    """The square around a box of three times its longer side, at least 48 pixels, cut to the image.

    Where the evidence reaches further, so does the window.

    Returns:
        x1, y1, x2, y2, whole original pixels.
    """
    height, width = explanation.image.shape[:2]
    x1, y1, x2, y2 = explanation.detection.xyxy.tolist()
    half = max(1.5 * max(abs(x2 - x1), abs(y2 - y1)), 24)
    centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
    patches = patches_of(explanation) + np.array([-1, -1, 1, 1]) * round(half / 6)
    left, top = patches[:, :2].min(0, initial=2**31).tolist()
    right, bottom = patches[:, 2:].max(0, initial=0).tolist()
    left, top = max(min(math.floor(centre_x - half), left), 0), max(min(math.floor(centre_y - half), top), 0)
    right = min(max(math.ceil(centre_x + half), right), width)
    bottom = min(max(math.ceil(centre_y + half), bottom), height)
    return min(left, width - 1), min(top, height - 1), max(right, 1), max(bottom, 1)


def is_small(explanation: Explanation) -> bool:
    """Whether the box covers less than 2 % of the image, so that it is also shown close up."""
    height, width = explanation.image.shape[:2]
    return is_small_box(explanation.detection.xyxy.tolist(), height, width)


def is_small_box(xyxy: Sequence[float], height: int, width: int) -> bool:
    """Whether a box covers less than 2 % of an image, original pixels."""
    x1, y1, x2, y2 = xyxy
    return bool(abs((x2 - x1) * (y2 - y1)) < SMALL_BOX_SHARE * width * height)


def patches_of(explanation: Explanation) -> NDArray[np.int64]:
    """The patches to outline, int64 (n, 4), xyxy in the original image's pixels; (0, 4) where there are none."""
    return next((one.patches for one in outlined(explanation)), NO_PATCHES)
