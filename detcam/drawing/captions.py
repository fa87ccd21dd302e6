"""Words below pictures, wrapped to their width: what was found, and how far it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from detcam.drawing.fonts import typeface, wrapped
from detcam.drawing.labels import letter_size
from detcam.drawing.overlays import overlay
from detcam.drawing.reduced import resized
from detcam.drawing.words import note_of, shown_sentence
from detcam.drawing.zooms import is_small, zoom
from detcam.types import ImageResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detcam.types import Explanation

    Colour = tuple[int, int, int]
    Picture = NDArray[np.uint8]

PAPER, INK, MUTED = (255, 255, 255), (25, 25, 30), (95, 95, 105)
TINY_SIDE_PX, LEGIBLE_SIDE_PX, MOST_ENLARGEMENT = 400, 720, 8
"""An image whose longer side is below the first is enlarged to about the second, by the third factor at most."""
LEAST_WIDTH_PX = 360
"""Narrower pictures get margins on both sides, so that words fit below them."""
MOST_LINES = 8
LINE_HEIGHT = 1.35
"""Height of a line over the size of its letters."""


def captioned(explanation: Explanation, colormap: str = "inferno", opacity: float = 0.6) -> Picture:
    """The overlay of one detection with its sentence below; a small box is also shown close up.

    An image too small to put words under is enlarged.

    Args:
        explanation: what is drawn.
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].

    Returns:
        RGB uint8 (H', W', 3), at least 360 pixels wide.

    Raises:
        UsageError: no such colour map, or an opacity outside [0, 1].
    """
    height, width = explanation.image.shape[:2]
    if max(height, width) < TINY_SIDE_PX:
        times = round(LEGIBLE_SIDE_PX / max(height, width, LEGIBLE_SIDE_PX // MOST_ENLARGEMENT))
        result = ImageResult("", explanation.image, (), (explanation,))
        (explanation,) = resized(result, (height * times, width * times))
    picture = overlay(explanation, colormap, opacity)
    height, width = picture.shape[:2]
    wide, size = max(width, LEAST_WIDTH_PX), letter_size(picture.shape)
    pad, small = round(size * 0.7), small_letters(size)
    close = zoom(explanation, colormap, opacity, wide // 3) if is_small(explanation) else None
    left = pad if close is None else 2 * pad + close.shape[1]
    lines = wrapped(shown_sentence(explanation), size, wide - left - pad, MOST_LINES)
    notes = wrapped(note_of(explanation), small, wide - left - pad, MOST_LINES)
    down = line_height(size) * len(lines) + line_height(small) * len(notes)
    down = max(down, 0 if close is None else len(close)) + 2 * pad
    page = Image.new("RGB", (wide, height + down), PAPER)
    page.paste(Image.fromarray(picture), ((wide - width) // 2, 0))
    if close is not None:
        page.paste(Image.fromarray(close), (pad, height + pad))
    pen = ImageDraw.Draw(page)
    top = draw_lines(pen, lines, left, height + pad, size, INK)
    draw_lines(pen, notes, left, top, small, MUTED)
    return np.array(page, np.uint8)


def draw_lines(pen: ImageDraw.ImageDraw, lines: list[str], left: int, top: int, size: int, ink: Colour) -> int:
    """Write lines of text below each other.

    Args:
        pen: of the picture that is drawn into.
        lines: of text.
        left: x of the lines' start, pixels.
        top: y of the first line, pixels.
        size: of the letters, pixels.
        ink: RGB colour.

    Returns:
        The y at which a next line would begin, pixels.
    """
    for line in lines:
        pen.text((left, top), line, font=typeface(line, size), fill=ink)
        top += line_height(size)
    return top


def line_height(size: int) -> int:
    """The distance in pixels from one line of text to the next, for letters ``size`` pixels high."""
    return round(size * LINE_HEIGHT)


def small_letters(size: int) -> int:
    """The size in pixels of secondary text beside letters of ``size`` pixels."""
    return max(round(size * 0.8), 10)
