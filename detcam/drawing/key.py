"""What the signs in pictures mean: the box, the evidence, the lines around the hottest parts, the colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from detcam.drawing.captions import INK, MUTED, PAPER, draw_lines, line_height
from detcam.drawing.fonts import wrapped
from detcam.drawing.heat import DARKEST_COLOUR, blend, colourmap, draw_contours, shows_heat
from detcam.drawing.shapes import BOX_COLOUR, draw_outline, draw_patch
from detcam.drawing.view import View
from detcam.drawing.words import method_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detcam.types import Explanation

    Picture = NDArray[np.uint8]

SIGN_SIZE_PX = (64, 40)
"""Width and height of a sign."""
TEXT_PX, SMALL_TEXT_PX = 15, 12
"""Sizes of letters."""
SIGN_GREY = (150, 150, 155)
"""Behind a sign, as a photograph would be."""


def draw_key(shown: Sequence[Explanation], title: str, colormap: str, width: int) -> Image.Image:
    """The legend of a page: a title, then the signs that occur in the explanations' pictures and what they mean.

    Args:
        shown: the explanations on the pages.
        title: the first line.
        colormap: of the pictures; any of matplotlib's names.
        width: of the legend, pixels.

    Returns:
        An RGB image, as high as it needs to be.
    """
    rows = [(_box_sign(), ["the box that is explained"])]
    if any(e.evidence is not None for e in shown):
        rows.append((_patch_sign(), ["without this part the box is lost,", "or becomes something else"]))
    if any(shows_heat(e) for e in shown):
        rows.append((_heat_sign(colormap), ["white lines: the hottest parts of the box's map"]))
    texts = sorted({method_of(e) for e in shown})
    methods = [line for text in texts for line in wrapped(text, SMALL_TEXT_PX, width, 3)]
    row = SIGN_SIZE_PX[1] + 10
    top = line_height(TEXT_PX) + 8
    down = top + row * (len(rows) + 1) + line_height(SMALL_TEXT_PX) * len(methods)
    page = Image.new("RGB", (width, down), PAPER)
    pen = ImageDraw.Draw(page)
    draw_lines(pen, wrapped(title, TEXT_PX, width, 1), 0, 0, TEXT_PX, INK)
    for sign, lines in rows:
        page.paste(Image.fromarray(sign), (0, top))
        middle = (SIGN_SIZE_PX[1] - line_height(TEXT_PX) * len(lines)) // 2
        draw_lines(pen, lines, SIGN_SIZE_PX[0] + 12, top + middle, TEXT_PX, INK)
        top += row
    if any(shows_heat(e) for e in shown):
        page.paste(Image.fromarray(_ramp(colormap, 3 * SIGN_SIZE_PX[0], SIGN_SIZE_PX[1] // 3)), (0, top))
        draw_lines(
            pen,
            ["weak to strong, as a share of each map's own peak"],
            3 * SIGN_SIZE_PX[0] + 12,
            top - 1,
            SMALL_TEXT_PX,
            MUTED,
        )
    draw_lines(pen, methods, 0, top + SIGN_SIZE_PX[1] // 2 + 10, SMALL_TEXT_PX, MUTED)
    return page


def _box_sign() -> Picture:
    sign = _blank()
    draw_outline(sign, np.array([[10, 8], [54, 8], [54, 32], [10, 32]]), BOX_COLOUR, 2)
    return sign


def _patch_sign() -> Picture:
    sign = _blank()
    draw_patch(sign, np.array([12, 10, 52, 30]), View.whole(sign.shape), 2)
    return sign


def _heat_sign(colormap: str) -> Picture:
    rows, columns = np.indices(SIGN_SIZE_PX[::-1])
    heat = np.exp(-(((columns - 31.5) / 15) ** 2) - ((rows - 19.5) / 10) ** 2).astype(np.float32)
    sign = blend(_blank(), heat, colormap)
    draw_contours(sign, heat, 2)
    return sign


def _blank() -> Picture:
    return np.full((*SIGN_SIZE_PX[::-1], 3), SIGN_GREY, np.uint8)


def _ramp(colormap: str, width: int, height: int) -> Picture:
    """The colours that are used of a colour map, from left to right."""
    colours = colourmap(colormap)[np.linspace(DARKEST_COLOUR, 255, width).astype(int)]
    return np.repeat(np.rint(colours).astype(np.uint8)[None], height, 0)
