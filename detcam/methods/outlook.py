"""Where outside its box a detection's evidence is: places anywhere in a frame, taken away and shown beside the box.

Tiles of the frame are taken away one by one, and shown one by one beside the box. Of two marks either of which is
enough, showing one brings the score back; of two that are both needed, removing one costs it. The tile that counts most
is halved, and its pieces are tried, until it is about as large as a part of the box. That place is then enlarged while
this brings more, and narrowed to the superpixels that carry it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from detcam.methods.regions import segment_image
from detcam.probing.frames import Frame
from detcam.tensors.fills import gaussian_blur

TILE_GROWTH = 1.4
"""How much larger the first tiles are than the grid that they are laid on, so that little falls between two."""
TILES_PER_SIDE = 3
"""Tiles along the longer side of a frame, at first; each tile that counts most is halved until it is small."""
MIN_PIECE_SHARE = 0.25
"""A tile is halved further only where a piece of it carries this share of what it does: the rest is diffuse."""
MIN_PLACE_SHARE = 0.25
"""A place counts that carries at least this share of what all outside the box does."""
SECOND_PLACE_SHARE = 0.5
"""A second place is looked for where the first leaves this share unexplained."""
CONCENTRATED_EFFECT = 0.5
"""A place that carries this share, of 2, is cut into superpixels; less is diffuse, and shown as the tile that it is."""
SMALL_TILE_BOX_SIDES = 0.35
"""Tiles are halved until their side is about this share of the box's."""
PLACE_GROWTHS = (1.0, 1.6, 2.4)
"""How many times larger a place is tried about its centre."""
NEARLY_BEST_SHARE = 0.9
"""Of places that carry this share of what the best of them does the smallest is taken."""
SUPERPIXEL_WINDOW_GROWTH = 1.8
"""How much larger what is cut into superpixels is: what counts may reach beyond the tile that found it."""
REGION_AREA_PX = 16
"""Area of a region outside the box, pixels of the frame; larger ones where there would be too many."""
MAX_REGIONS = 16
"""Superpixels of a place, at most."""
MAX_ROUNDS = 4
"""How often the place is narrowed to the superpixels that carry the most, and cut anew."""
CARRIED_SHARES = (0.15, 0.3, 0.5, 0.7)
"""The bounds of superpixels that carry these shares of what the best does are tried as narrower places."""
CARRYING_PART_GROWTH = 1.2
"""How much larger than what carries the place then is, about each connected part of it."""
NARROWED_AREA_SHARE = 0.8
"""It is narrowed where that leaves less than this share of its area."""
SMOOTHING_PLACE_SIDES = 0.12
"""Width of the smoothing over a place's superpixels, in its sides: one alone may cost little where others do."""
MIN_EVEN_SHARE = 0.5
"""Share of a place's effect, at least, that is spread evenly over it: its parts count more together than one by one."""
MIN_TILE_AREA_PX = 4
"""Smaller tiles are not tried, pixels of the frame."""
MIN_SCORE = 0.01
"""Scores are cut to [this, 1 - this] before they become log-odds."""


class PassBudget:
    """How many passes a search may still cost.

    Attributes:
        passes: passes over the whole image, altogether.
        spent: of these, so far.
    """

    def __init__(self, passes: float) -> None:
        self.passes, self.spent = passes, 0.0

    def affords(self, passes: float) -> bool:
        """Whether there is room for more passes.

        Args:
            passes: how many, in passes over the whole image.
        """
        return self.spent + passes <= self.passes


@dataclass(frozen=True, eq=False)
class OutsideSearch:
    """The search for what counts outside a box.

    Attributes:
        frame: the image.
        near: bool (h, w), the box and its margin, which always stays.
        fill: what stands for "removed" where a part is taken away.
        other: the fill where a part is shown beside the box. Two different fills, so that an edge which one of them
            draws does not count in both.
        full: the target in the frame as it is.
        alone: the target with all but ``near`` replaced.
        removed: bool (h, w), what is replaced whatever is tried.
        budget: what the search may cost.
    """

    frame: Frame
    near: Tensor
    fill: str
    other: str
    full: float
    alone: float
    removed: Tensor
    budget: PassBudget

    def affords(self, parts: int) -> bool:
        """Whether the effects of more parts can be paid for.

        Args:
            parts: how many.
        """
        return self.budget.affords(2 * parts * self.frame.price)

    def effects(self, parts: list[Tensor]) -> Tensor:
        """What the target loses without each part, plus what it gains with that part beside the box alone.

        Args:
            parts: bool (h, w) each.

        Returns:
            (n,), not negative, in shares of what all outside the box carries.
        """
        stacked = torch.maximum(torch.stack(parts), self.removed).float()
        rest = (~(torch.stack(parts) | self.near) | self.removed).float()
        frame = self.frame
        self.budget.spent += 2 * len(parts) * frame.price
        images = torch.cat([frame.without(stacked, self.fill), frame.without(rest, self.other)])
        hidden, shown = self.scaled(frame.values(images).cpu()).view(2, -1)
        full, alone = self.scaled(torch.tensor([self.full, self.alone])).tolist()
        carried: Tensor = ((full - hidden).clamp(min=0) + (shown - alone).clamp(min=0)) / max(full - alone, 1e-6)
        return carried

    def scaled(self, values: Tensor) -> Tensor:
        """Scores as log-odds, so that half a cause shows as half; other targets as they are.

        Args:
            values: (n,).

        Returns:
            (n,).
        """
        if not self.frame.tracked:
            return values
        return torch.logit(values.clamp(MIN_SCORE, 1 - MIN_SCORE))

    def part(self, tile: list[int]) -> Tensor:
        """A tile as a mask, without the box and without padding.

        Args:
            tile: xyxy, whole pixels of the frame.

        Returns:
            Bool (h, w).
        """
        part = torch.zeros_like(self.frame.inside)
        part[tile[1] : tile[3], tile[0] : tile[2]] = True
        return self.allowed(part)

    def allowed(self, part: Tensor) -> Tensor:
        """A mask without the box and without padding.

        Args:
            part: bool (h, w).

        Returns:
            Bool (h, w).
        """
        return part & self.frame.inside & ~self.near & ~self.removed


def search_outside(search: OutsideSearch) -> list[Place]:
    """The places outside the box that count, at most two.

    The second depends on what the first leaves open: where the score stays without the first, what else keeps it is
    looked for; where the first alone does not bring the score back, what else is needed.

    Args:
        search: what is asked, of which frame, at which cost.
    """
    first = _look(search)
    if first is None or first.diffuse or not search.affords(TILES_PER_SIDE**2):
        return [] if first is None else [first]
    frame, part = search.frame, first.part.float()
    rest = (~(first.part | search.near)).float()
    images = torch.cat([frame.without(part[None], search.fill), frame.without(rest[None], search.other)])
    without, beside = frame.values(images).tolist()
    least = SECOND_PLACE_SHARE * (search.full - search.alone)
    if without - search.alone > least:
        second = _look(replace(search, removed=first.part, full=without))
    elif search.full - beside > least:
        second = _look(replace(search, near=search.near | first.part, alone=beside))
    else:
        second = None
    return [first] if second is None else [first, second]


def _look(search: OutsideSearch) -> Place | None:
    """The place outside the box that counts most."""
    image = _bounds(search.frame.inside)
    side = max(max(image[2] - image[0], image[3] - image[1]) / TILES_PER_SIDE, 1)
    tiles = [_scaled(tile, TILE_GROWTH, image) for tile in _tiles(image, side)]
    box = search.frame.box
    goal = SMALL_TILE_BOX_SIDES * math.sqrt(max(float((box[2:] - box[:2]).clamp(min=1).prod()), 1))
    best, carried = None, 0.0
    while tiles and search.affords(len(tiles)):
        parts = [(tile, part) for tile in tiles if int((part := search.part(tile)).sum()) >= MIN_TILE_AREA_PX]
        if not parts:
            break
        effects = search.effects([part for _, part in parts])
        if float(effects.max()) < max(MIN_PLACE_SHARE, MIN_PIECE_SHARE * carried):
            break
        best, carried = parts[int(effects.argmax())][0], float(effects.max())
        if max(best[2] - best[0], best[3] - best[1]) <= goal:
            break
        tiles = _pieces(best, image)
    return None if best is None else _settled(search, best, carried, image)


def _settled(search: OutsideSearch, tile: list[int], carried: float, image: list[int]) -> Place:
    """A tile grown while that brings more, narrowed to what carries most, as the effects of its parts."""
    if not search.affords(len(PLACE_GROWTHS) + MAX_REGIONS):
        part = search.part(tile)
        return Place(part, carried / part.sum() * part, carried, diffuse=True)
    tiles = [_scaled(tile, growth, image) for growth in PLACE_GROWTHS]
    parts = [search.part(tile) for tile in tiles]
    part, carried = _smallest(search, parts)
    if carried < CONCENTRATED_EFFECT:
        return Place(part, carried / part.sum() * part, carried, diffuse=True)
    box = search.frame.box
    side = max(float((box[2:] - box[:2]).clamp(min=1).prod()) ** 0.5, 1)
    tile = _bounds(part)
    own = max(tile[2] - tile[0], tile[3] - tile[1], 1)
    part = _narrowed(search, search.part(_scaled(tile, max(SUPERPIXEL_WINDOW_GROWTH, side / own), image)), image)
    labels = _superpixels(search, part)
    count = int(labels.max()) + 1
    effects = search.effects([labels >= 0, *(labels == number for number in range(count))])
    whole, single = float(effects[0]), effects[1:]
    areas = torch.bincount(labels[labels >= 0], minlength=count).float().cpu()
    together = max(whole - float(single.sum()), MIN_EVEN_SHARE * whole)
    single = single * min((whole - together) / max(float(single.sum()), 1e-6), 1.0)
    least = float(areas.median())  # a sliver's effect over its own few pixels would outshine everything
    density = torch.cat([single / areas.clamp(min=least) + together / areas.sum(), torch.zeros(1)])[labels.cpu()]
    smooth = gaussian_blur(density[None], SMOOTHING_PLACE_SIDES * float(areas.sum()) ** 0.5)[0]
    return Place(part, smooth.to(part.device) * part, whole)


def _narrowed(search: OutsideSearch, part: Tensor, image: list[int]) -> Tensor:
    """A part, bool (h, w), narrowed to rectangles around the superpixels that carry nearly all of what it does."""
    for _ in range(MAX_ROUNDS):
        if not search.affords(2 * MAX_REGIONS + len(CARRIED_SHARES)):  # a round, and the last look at what is left
            break
        labels = _superpixels(search, part)
        count = int(labels.max()) + 1
        effects = search.effects([labels == number for number in range(count)])
        options = [part]
        for share in CARRIED_SHARES:
            carrying = torch.isin(labels, torch.where(effects >= share * effects.max())[0].to(labels.device))
            option = search.allowed(_rectangles(carrying, image))
            if not any(bool((option == other).all()) for other in options):
                options.append(option)
        narrower, _ = _smallest(search, options)
        if int(narrower.sum()) > NARROWED_AREA_SHARE * int(part.sum()):
            break
        part = narrower
    return part


def _rectangles(carrying: Tensor, image: list[int]) -> Tensor:
    """The bounds of each connected part of a mask, made larger, as a mask."""
    filled = torch.zeros_like(carrying)
    for rows, columns in ndimage.find_objects(ndimage.label(carrying.cpu().numpy(), np.ones((3, 3)))[0]):
        left, top, right, bottom = _scaled(
            [columns.start, rows.start, columns.stop, rows.stop], CARRYING_PART_GROWTH, image
        )
        filled[top:bottom, left:right] = True
    return filled


def _smallest(search: OutsideSearch, parts: list[Tensor]) -> tuple[Tensor, float]:
    """Of parts that carry nearly as much as the best of them the smallest, and what it carries."""
    carried = search.effects(parts).tolist()
    enough = [
        (part, value) for part, value in zip(parts, carried, strict=True) if value >= NEARLY_BEST_SHARE * max(carried)
    ]
    return min(enough, key=lambda one: int(one[0].sum()))


def _superpixels(search: OutsideSearch, part: Tensor) -> Tensor:
    """Regions of a part, int64 (h, w), numbered from 0, -1 elsewhere."""
    left, top, right, bottom = _bounds(part)
    window = slice(top, bottom), slice(left, right)
    labels = torch.full(part.shape, -1, dtype=torch.int64, device=part.device)
    pixels = int(part.sum())
    wanted = min(max(pixels // REGION_AREA_PX, 1), MAX_REGIONS) * part[window].numel() // pixels
    if wanted > 1 and min(part[window].shape) > 1:
        labels[window] = segment_image(search.frame.image[:, window[0], window[1]], wanted)
    else:
        labels[window] = 0
    labels[~part] = -1
    labels[labels >= 0] = torch.unique(labels[labels >= 0], return_inverse=True)[1]
    return labels


@dataclass(frozen=True, eq=False)
class Place:
    """A place outside the box that counts.

    Attributes:
        part: bool (h, w), where it is.
        density: (h, w), the effect per pixel, in shares of what all outside the box carries; zero elsewhere.
        carried: the effect of the whole place, in [0, 2].
        diffuse: it carries little of what all outside does, and is not narrowed.
    """

    part: Tensor
    density: Tensor
    carried: float
    diffuse: bool = False


def _bounds(inside: Tensor) -> list[int]:
    rows, columns = (torch.where(inside.any(axis))[0] for axis in (1, 0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _tiles(image: list[int], side: float) -> list[list[int]]:
    """A grid of tiles, xyxy, over a rectangle."""
    left, top, right, bottom = image
    across, down = (max(round((high - low) / side), 1) for low, high in ((left, right), (top, bottom)))
    xs = [round(left + (right - left) * i / across) for i in range(across + 1)]
    ys = [round(top + (bottom - top) * i / down) for i in range(down + 1)]
    return [[xs[i], ys[j], xs[i + 1], ys[j + 1]] for j in range(down) for i in range(across)]


def _pieces(tile: list[int], image: list[int]) -> list[list[int]]:
    """Nine pieces half as large as a tile, overlapping, that reach a quarter of it beyond its edges."""
    x1, y1, x2, y2 = tile
    wide, tall = max((x2 - x1) // 2, 2), max((y2 - y1) // 2, 2)
    pieces = []
    for down in (-0.25, 0.25, 0.75):
        for across in (-0.25, 0.25, 0.75):
            left, top = round(x1 + across * (x2 - x1)), round(y1 + down * (y2 - y1))
            piece = [max(left, image[0]), max(top, image[1]), min(left + wide, image[2]), min(top + tall, image[3])]
            if piece[2] - piece[0] >= 2 and piece[3] - piece[1] >= 2:
                pieces.append(piece)
    return pieces


def _scaled(tile: list[int], factor: float, image: list[int]) -> list[int]:
    """A tile made larger about its centre, by three pixels at least where it is, cut to the image."""
    x1, y1, x2, y2 = tile
    spare_x, spare_y = (
        max(math.ceil((factor - 1) / 2 * (high - low)), 3) if factor > 1 else 0 for low, high in ((x1, x2), (y1, y2))
    )
    return [max(x1 - spare_x, image[0]), max(y1 - spare_y, image[1]),
            min(x2 + spare_x, image[2]), min(y2 + spare_y, image[3])]  # fmt: skip
