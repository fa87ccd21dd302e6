"""Labels beside what they name: inside the picture, on no patch and no other label, and off what is hot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from detcam.drawing.fonts import shortened, typeface

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Box = NDArray[np.floating]
    Colour = tuple[int, int, int]
    Picture = NDArray[np.uint8]

HOT_LEVEL = 0.4
"""Share of a map's peak from which a place counts as hot, and is better left free."""
BOX_COST, HEAT_COST = 10, 100
"""What a label pays for covering a box, or hot pixels, counted in places further down the list of places."""
GRID_PLACES = 25
"""Places tried along either side of a picture, where no place beside the named thing is free."""
MOST_DISTANCE = 2
"""How far a label may be from what it names, in heights of the label: beyond, nobody would connect the two."""


@dataclass(frozen=True)
class Label:
    """A text and what it stands beside.

    Attributes:
        text: in one line.
        beside: (4,), xyxy in the picture's pixels.
        ink, ground: RGB colours of the letters and of what is behind them.
    """

    text: str
    beside: Box
    ink: Colour
    ground: Colour


def letter_size(size: tuple[int, ...]) -> int:
    """The height of letters, in pixels, for a picture.

    Args:
        size: (height, width, ...) of the picture, pixels.
    """
    return int(np.clip(round(max(size[:2]) / 42), 11, 96))


def draw_labels(
    picture: Picture,
    labels: Sequence[Label],
    heat: NDArray[np.float32] | None,
    free: Sequence[Box],
    boxes: Sequence[Box],
    size: int,
    gap: int,
) -> Picture:
    """A copy of a picture with those labels that there is room for.

    Args:
        picture: RGB uint8 (H, W, 3).
        labels: the first chooses its place first.
        heat: float32 (H, W) in [0, 1], or None.
        free: boxes (4,), xyxy in the picture's pixels, that no label may touch.
        boxes: boxes (4,) that labels avoid covering where they can.
        size: of the letters, pixels.
        gap: between a label and what it names, pixels.
    """
    canvas = Image.fromarray(picture)
    pen, taken = ImageDraw.Draw(canvas), list(free)
    pad = max(size // 5, 2)
    for label in labels:
        text = shortened(label.text, size, picture.shape[1] - 2 * pad)
        if not text:
            continue
        font = typeface(text, size)
        extent = np.array([font.getlength(text) + 2 * pad, sum(font.getmetrics()) + pad])
        place = find_place(np.ceil(extent), label.beside, picture.shape, heat, taken, boxes, gap)
        if place is not None:
            taken.append(place)
            x1, y1, x2, y2 = place.tolist()
            pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=label.ground)
            pen.text((x1 + pad, y1 + pad / 2), text, font=font, fill=label.ink)
    return np.array(canvas, np.uint8)


def find_place(
    extent: Box,
    beside: Box,
    shape: tuple[int, ...],
    heat: NDArray[np.float32] | None,
    taken: Sequence[Box],
    boxes: Sequence[Box],
    gap: int,
) -> Box | None:
    """The best free place for a label.

    Args:
        extent: (width, height) of the label, pixels.
        beside: (4,), xyxy, the box that it names.
        shape: (H, W, ...) of the picture.
        heat: float32 (H, W) in [0, 1] that had better not be covered, or None.
        taken: boxes (4,) that the label may not touch.
        boxes: boxes (4,) that had better not be covered.
        gap: between the label and what it names, pixels.

    Returns:
        The place (4,), xyxy in the picture's pixels; None where none is free.
    """
    room = np.array([shape[1], shape[0]]) - extent
    if (room < 0).any():
        return None
    corners = np.floor(_corners(extent, beside, room, gap))
    places = np.concatenate([corners, corners + extent], 1)
    inside = ((corners >= 0) & (corners <= room)).all(1)
    away = np.maximum(places[:, :2] - beside[2:], beside[:2] - places[:, 2:]).max(1)
    free = inside & (away <= MOST_DISTANCE * extent[1]) & ~(_common(places, taken) > 0).any(1)
    if not free.any():
        return None
    cost = np.arange(len(places)) + BOX_COST * _common(places, boxes).max(1, initial=0) / extent.prod()
    if heat is not None and heat.any():
        cost[free] += [HEAT_COST * _hot_share(heat, place) for place in places[free]]
    best: Box = places[np.where(free, cost, np.inf).argmin()]
    return best


def _corners(extent: Box, beside: Box, room: Box, gap: int) -> Box:
    """Upper left corners (n, 2) to try, the best first: around the box, in its corners, then anywhere."""
    (x1, y1, x2, y2), (width, height) = beside.tolist(), extent.tolist()
    along, down = np.clip([x1, x2 - width], 0, room[0]), np.clip([y1, y2 - height], 0, room[1])
    around = [
        *((x, y) for y in (y1 - height - gap, y2 + gap) for x in along),
        *((x, y) for x in (x2 + gap, x1 - width - gap) for y in down),
        *((x, y) for y in (y1 + gap, y2 - height - gap) for x in (x1 + gap, x2 - width - gap)),
    ]
    grid = np.stack(np.meshgrid(*(np.linspace(0, edge, GRID_PLACES) for edge in room)), -1).reshape(-1, 2)
    distance = np.abs(grid + extent / 2 - [(x1 + x2) / 2, (y1 + y2) / 2]).sum(1)
    return np.concatenate([around, grid[np.argsort(distance, kind="stable")]])


def _common(places: Box, boxes: Sequence[Box]) -> Box:
    """Pixels that each of the places (n, 4) has in common with each box: (n, boxes)."""
    others = np.reshape(boxes, (-1, 4))
    both = np.minimum(places[:, None, 2:], others[:, 2:]) - np.maximum(places[:, None, :2], others[:, :2])
    return np.asarray(both.clip(0, None).prod(-1))


def _hot_share(heat: NDArray[np.float32], place: Box) -> float:
    """The share of a place that is hot, in [0, 1], looked at in every fourth pixel."""
    x1, y1, x2, y2 = place.astype(int).tolist()
    return float((heat[y1:y2:4, x1:x2:4] >= HOT_LEVEL).mean())
