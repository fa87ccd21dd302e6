"""Pages about one image: an index of its boxes by number, and below it every box with its map and its sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from detcam.drawing.captions import INK, MOST_LINES, MUTED, PAPER, draw_lines, line_height
from detcam.drawing.fonts import wrapped
from detcam.drawing.heat import shown_heat
from detcam.drawing.key import draw_key
from detcam.drawing.overlays import draw_things, draw_view
from detcam.drawing.reduced import reduced
from detcam.drawing.view import View
from detcam.drawing.words import note_of, shown_sentence
from detcam.drawing.zooms import zoom_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detcam.types import Explanation, ImageResult

    Picture = NDArray[np.uint8]

PAGE_WIDTH_PX, MARGIN_PX, GAP_PX = 1200, 20, 20
"""Width of a page, its margin, and the gap between its parts."""
HALF_WIDTH_PX = (PAGE_WIDTH_PX - 2 * MARGIN_PX - GAP_PX) // 2
FIRST_PAGE_TILES, PAGE_TILES = 8, 12
"""How many boxes are on the first page, which has the index, and on every other."""
MOST_TILES = 48
"""Boxes of one image that are shown, the most confident ones; the pages say how many are not."""
MOST_COLUMNS = 4
TILE_ASPECT = 0.75
"""Height of a tile's picture over its width."""
INDEX_HEIGHT_PX = 450
"""Height of the index of boxes at most."""
INDEX_LINE_PX = 2
"""Width of lines in the index, thin because boxes crowd there."""
MAP_SIDE_PX = 480
"""Maps are computed for the image reduced to this longer side."""
TITLE_PX, TEXT_PX, SMALL_TEXT_PX = 20, 15, 12
"""Sizes of letters."""
TEXT_GAP_PX = 6
"""Between a tile's picture and its text."""
TILE_GREY = (236, 236, 240)
"""Colour behind a picture that does not fill its tile."""


@dataclass(frozen=True)
class Tile:
    """The part of a page about one box.

    Attributes:
        title: lines above the picture.
        picture: the box close up.
        sentence: lines below it.
        note: small lines below those.
    """

    title: list[str]
    picture: Image.Image
    sentence: list[str]
    note: list[str]

    @property
    def width(self) -> int:
        """Pixels."""
        return self.picture.width

    @property
    def height(self) -> int:
        """Pixels down to the end of the text."""
        text = line_height(TEXT_PX) * (1 + len(self.sentence)) + line_height(SMALL_TEXT_PX) * len(self.note)
        return self.picture.height + TEXT_GAP_PX + text


def panel(result: ImageResult, colormap: str = "inferno", opacity: float = 0.6) -> Picture:
    """The first of :func:`pages`: the photograph with its boxes numbered, then each box with its map and its sentence.

    Args:
        result: the image with its explanations.
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].

    Returns:
        RGB uint8 (H', 1200, 3).

    Raises:
        UsageError: no such colour map, or an opacity outside [0, 1].
    """
    return next(_pages(result, colormap, opacity))


def pages(result: ImageResult, colormap: str = "inferno", opacity: float = 0.6) -> list[Picture]:
    """Everything about an image on pages: first an index of its boxes by number, then each box close up.

    Args:
        result: the image with its explanations; at most 48 are shown, the most confident ones.
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].

    Returns:
        RGB uint8 (H', 1200, 3) pictures, at least one.

    Raises:
        UsageError: no such colour map, or an opacity outside [0, 1].
    """
    return list(_pages(result, colormap, opacity))


def _pages(result: ImageResult, colormap: str, opacity: float) -> Iterator[Picture]:
    shown = result.explanations[:MOST_TILES]
    starts = [0, *range(FIRST_PAGE_TILES, len(shown), PAGE_TILES)]
    columns = max(min(len(shown), MOST_COLUMNS), 2)
    width = (PAGE_WIDTH_PX - 2 * MARGIN_PX - (columns - 1) * GAP_PX) // columns
    smaller = reduced(result, MAP_SIDE_PX)
    for number, (first, last) in enumerate(zip(starts, [*starts[1:], len(shown)], strict=True)):
        tiles = [_tile(n + 1, shown[n], smaller[n], width, colormap, opacity) for n in range(first, last)]
        title = PurePath(result.source).name + (f", page {number + 1} of {len(starts)}" if len(starts) > 1 else "")
        head = (
            [_index(result, shown), draw_key(shown, _count(result, shown), colormap, HALF_WIDTH_PX)]
            if number == 0
            else []
        )
        yield _page(title, head, tiles, columns)


def _tile(number: int, explanation: Explanation, small: Explanation, width: int, colormap: str, opacity: float) -> Tile:
    """A box close up; ``small`` is the same explanation on a smaller image, whose map is quicker to make."""
    height = round(width * TILE_ASPECT)
    view = View.fitted(_tile_window(explanation), width, height)
    picture = draw_view(explanation, view, shown_heat(small), "", colormap, opacity)
    framed = np.full((height, width, 3), TILE_GREY, np.uint8)
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    framed[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return Tile(
        wrapped(f"{number} \N{MIDDLE DOT} {explanation.detection.caption}", TEXT_PX, width, 1),
        Image.fromarray(framed),
        wrapped(shown_sentence(explanation), TEXT_PX, width, MOST_LINES),
        wrapped(note_of(explanation), SMALL_TEXT_PX, width, 2),
    )


def _tile_window(explanation: Explanation) -> tuple[int, int, int, int]:
    """The zoom's window made as wide as a tile's shape allows, or as high, within the image."""
    height, width = explanation.image.shape[:2]
    x1, y1, x2, y2 = zoom_window(explanation)
    x1, x2 = _widened(x1, x2, round((y2 - y1) / TILE_ASPECT), width)
    y1, y2 = _widened(y1, y2, round((x2 - x1) * TILE_ASPECT), height)
    return x1, y1, x2, y2


def _widened(start: int, end: int, length: int, most: int) -> tuple[int, int]:
    """A stretch within [0, most] that is made ``length`` long, as far as there is room, about its middle."""
    length = min(max(length, end - start), most)
    start = min(max((start + end - length) // 2, 0), most - length)
    return start, start + length


def _index(result: ImageResult, shown: Sequence[Explanation]) -> Image.Image:
    """The photograph with its boxes, those that are shown numbered."""
    height, width = result.image.shape[:2]
    view = View.fitted((0, 0, width, height), HALF_WIDTH_PX, INDEX_HEIGHT_PX)
    rest = [one for one in result.detections if all(one is not e.detection for e in shown)]
    detections, numbers = [e.detection for e in shown], [str(n + 1) for n in range(len(shown))]
    photograph = view.photograph(result.image)
    labels = numbers + [""] * len(rest)
    return Image.fromarray(draw_things(photograph, detections + rest, labels, [], view, None, INDEX_LINE_PX))


def _count(result: ImageResult, shown: Sequence[Explanation]) -> str:
    count = len(result.detections)
    text = f"{count} detection{'' if count == 1 else 's'}"
    if hidden := len(result.explanations) - len(shown):
        text += f"; {hidden} less confident ones are not shown"
    return text


def _page(title: str, head: Sequence[Image.Image], tiles: Sequence[Tile], columns: int) -> Picture:
    """A page: its title; the head side by side, or where there is but one tile, left of it; and the tiles in rows."""
    blocks: list[tuple[int, int, Image.Image | Tile]] = []
    top = MARGIN_PX + line_height(TITLE_PX)
    if head and len(tiles) == 1:
        blocks = [(0, top, head[0]), (0, top + head[0].height + GAP_PX, head[1]), (1, top, tiles[0])]
    else:
        blocks = [(column, top, one) for column, one in enumerate(head)]
        top += max((one.height + GAP_PX for one in head), default=0)
        for first in range(0, len(tiles), columns):
            row = tiles[first : first + columns]
            blocks += [(column, top, one) for column, one in enumerate(row)]
            top += max(one.height for one in row) + GAP_PX
    page = Image.new("RGB", (PAGE_WIDTH_PX, max(top + one.height for _, top, one in blocks) + MARGIN_PX), PAPER)
    pen = ImageDraw.Draw(page)
    draw_lines(
        pen, wrapped(title, TITLE_PX, PAGE_WIDTH_PX - 2 * MARGIN_PX, 1), MARGIN_PX, MARGIN_PX // 2, TITLE_PX, INK
    )
    for column, top, one in blocks:
        left = MARGIN_PX + column * (one.width + GAP_PX)
        if isinstance(one, Tile):
            below = draw_lines(pen, one.title, left, top, TEXT_PX, INK)
            page.paste(one.picture, (left, below))
            below = draw_lines(pen, one.sentence, left, below + one.picture.height + TEXT_GAP_PX, TEXT_PX, INK)
            draw_lines(pen, one.note, left, below, SMALL_TEXT_PX, MUTED)
        else:
            page.paste(one, (MARGIN_PX + column * (HALF_WIDTH_PX + GAP_PX), top))
    return np.array(page, np.uint8)
