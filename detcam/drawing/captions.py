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
TINY, LEGIBLE, MOST_TIMES = 400, 720, 8
"""Pixels: an image with fewer than the first along its longer side is enlarged to about the second; the most times."""
NARROWEST = 360
"""Pixels: narrower pictures stand between margins, for words to fit below."""
MOST_LINES = 8
LEADING = 1.35
"""Height of a line, in sizes of its letters."""


def captioned(explanation: Explanation, colormap: str = "inferno", opacity: float = 0.6) -> Picture:
    """The overlay above a strip that says in words what it shows, and shows a small box close up: RGB uint8.

    An image too tiny for words is enlarged.
    """
    height, width = explanation.image.shape[:2]
    if max(height, width) < TINY:
        times = round(LEGIBLE / max(height, width, LEGIBLE // MOST_TIMES))
        result = ImageResult("", explanation.image, (), (explanation,))
        (explanation,) = resized(result, (height * times, width * times))
    picture = overlay(explanation, colormap, opacity)
    height, width = picture.shape[:2]
    wide, size = max(width, NARROWEST), letter_size(picture.shape)
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
    """Write lines below each other; returns where the next would begin."""
    for line in lines:
        pen.text((left, top), line, font=typeface(line, size), fill=ink)
        top += line_height(size)
    return top


def line_height(size: int) -> int:
    """Pixels from one line of letters of that size to the next."""
    return round(size * LEADING)


def small_letters(size: int) -> int:
    """Pixels of what is said in passing, beside letters of ``size``."""
    return max(round(size * 0.8), 10)
