"""The causal receipt: what a detection's score does when the hottest part of its map is taken away, or left alone.

Sixteen forward passes for each detection, in one batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from detcam.methods.subject import Subject
from detcam.tensors.fills import FILLS, soften_masks
from detcam.types import Receipt

HOT_AREA_SHARE = 0.35
"""The hottest part covers at most this share of the box's area."""
CONTROL_WINDOW_GROWTH = 2.0
"""Random controls lie within the box enlarged this many times about its centre, and what the hottest part needs."""
MARGIN_SHARE = 0.1
"""A map is supported where removing its hottest part costs this share of the score more than random parts cost."""
MIN_MARGIN = 0.01
"""And at least this much score: lower scores are too small to explain."""
ROOM_BOX_SHARE, MIN_ROOM_IMAGE_SHARE = 0.25, 0.03
"""Detections share images where this much room is free around each: a share of its box's longer side, but at least a
share of the image's."""
CONTROL_COUNT = 2
"""Random parts that the hottest part is compared with."""
SHIFTS_TRIED = 16
"""Random shifts from which controls are chosen: those that overlap the part least."""


def verify(subject: Subject, maps: Sequence[Tensor]) -> list[Receipt]:
    """The receipts of some detections' maps.

    Supported are maps where, under both fills, taking the hottest part away costs at least a tenth of the score more
    than taking away random parts of equal area and shape does; or keeping it alone keeps that much more.

    Args:
        subject: the image and its K detections.
        maps: K maps (h', w') over the detector's input, not all zero.
    """
    fills = [fill(subject.image, subject.inside) for fill in FILLS.values()]
    receipts = []
    for number, heat in enumerate(maps):
        hot, boxes = _masks(subject, number, heat, _generator(subject, number))
        soft = soften_masks(hot, subject.inside)
        # What is kept: all but the hottest part, it alone, the box alone, each with its random controls.
        kept = torch.cat([1 - soft, soft, boxes.float()])[:, None]
        images = torch.cat([torch.lerp(fill, subject.image, torch.where(subject.inside, kept, 1)) for fill in fills])
        scores = subject.scores(images, [number])[:, 0].view(len(fills), -1).tolist()
        share = float(hot[0].sum() / subject.inside.sum())
        receipts.append(_receipt(float(subject.before[number]), scores, share, len(images)))
    return receipts


def make_quick_receipts(subject: Subject, maps: Mapping[int, Tensor]) -> list[Receipt]:
    """Quick receipts: the hottest part against one random part, and all outside the box, under both fills.

    On the whole image at full size. Detections that lie far apart share the images in which parts are taken away; the
    box alone takes two of each detection's own. Supported by the same rule as in :func:`verify`, of removal alone.

    Args:
        subject: the image and its K detections.
        maps: of some of them, by number: (h', w') over the detector's input, not all zero.
    """
    fills = [fill(subject.image, subject.inside) for fill in FILLS.values()] if maps else []
    parts = {}
    for number, heat in maps.items():
        hot, boxes = _masks(subject, number, heat, _generator(subject, number))
        parts[number] = torch.stack([hot[0], hot[1], boxes[0]])
    receipts: list[Receipt] = []
    measured: dict[int, tuple[list[list[float]], float]] = {}
    for group in far_apart({number: _reach(subject, number, own) for number, own in parts.items()}):
        taken = soften_masks(torch.stack([parts[number][:2] for number in group]).any(0), subject.inside)
        kept = torch.cat([1 - taken, *(parts[number][2:].float() for number in group)])[:, None]
        images = torch.cat([torch.lerp(fill, subject.image, torch.where(subject.inside, kept, 1)) for fill in fills])
        images = images.view(len(fills), len(kept), *subject.image.shape)
        shared = subject.scores(images[:, :2].flatten(0, 1), group).view(len(fills), 2, len(group))
        for place, number in enumerate(group):
            own = subject.scores(images[:, 2 + place], [number])
            measured[number] = torch.cat([shared[:, :, place], own], 1).tolist(), len(fills) * (2 / len(group) + 1)
    for number, part in parts.items():
        scores, forwards = measured[number]
        removed, moved, alone = ({fill: of[i] for fill, of in zip(FILLS, scores, strict=True)} for i in range(3))
        before = float(subject.before[number])
        costs = all(moved[fill] - removed[fill] >= max(MARGIN_SHARE * before, MIN_MARGIN) for fill in FILLS)
        share = float(part[0].sum() / subject.inside.sum())
        context = _context(before, alone)
        receipts.append(Receipt(before, share, removed, moved, {}, {}, alone, {}, context, costs, forwards))
    return receipts


def far_apart(reaches: Mapping[int, tuple[int, int, int, int]]) -> list[list[int]]:
    """Rectangles in groups in which no two meet; each joins the first group that it can.

    Args:
        reaches: xyxy by number, whole pixels of one frame.

    Returns:
        The numbers in each group.

    >>> far_apart({0: (0, 0, 4, 4), 1: (2, 2, 6, 6), 2: (4, 0, 8, 2)})
    [[0, 2], [1]]
    """
    groups: list[list[int]] = []
    for number, (x1, y1, x2, y2) in reaches.items():
        for group in groups:
            others = (reaches[other] for other in group)
            if all(x2 <= left or right <= x1 or y2 <= top or bottom <= y1 for left, top, right, bottom in others):
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def _reach(subject: Subject, number: int, parts: Tensor) -> tuple[int, int, int, int]:
    """What holds a detection's parts (n, h, w) and its box, with room around them: xyxy.

    The room is as wide as the box, so that what is taken away for another detection is at least two such rooms off.
    """
    rows, columns = (torch.where(parts.any(0).any(axis))[0] for axis in (1, 0))
    x1, y1, x2, y2 = subject.boxes[number].tolist()
    room = math.ceil(max(ROOM_BOX_SHARE * max(x2 - x1, y2 - y1), MIN_ROOM_IMAGE_SHARE * max(subject.inside.shape)))
    return int(columns[0]) - room, int(rows[0]) - room, int(columns[-1]) + 1 + room, int(rows[-1]) + 1 + room


def _generator(subject: Subject, number: int) -> torch.Generator:
    """A detection's own: a receipt does not depend on which other detections were asked about."""
    return torch.Generator().manual_seed(subject.seed + int(subject.boxes[number].double().mul(16).sum()))


def _context(before: float, alone: Mapping[str, float]) -> float:
    """The relative drop when all outside the box goes, from -1 to 1; 0 where there is next to no score."""
    return max(1 - sum(alone.values()) / len(alone) / before, -1.0) if before >= MIN_MARGIN else 0.0


def hottest_part(subject: Subject, number: int, raw_map: Tensor) -> tuple[Tensor, Tensor]:
    """The hottest part of a detection's map, at most 35 % of its box's area, and a random part as large.

    Args:
        subject: the image and its detections.
        number: of the detection.
        raw_map: (h', w'), its map over the detector's input.

    Returns:
        Two masks, bool (h, w).
    """
    hot, _ = _masks(subject, number, raw_map, _generator(subject, number))
    return hot[0], hot[1]


def _masks(subject: Subject, number: int, raw_map: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Bool (3, h, w): the hottest part of a map and its controls; (2, h, w): the box, and one as large elsewhere."""
    shape = subject.image.shape[-2:]
    heat = F.interpolate(raw_map[None, None].float(), shape, mode="bilinear")[0, 0]
    heat = torch.where(subject.inside, heat, -torch.inf)
    box = _rectangle(subject.boxes[number].tolist(), subject.inside)
    count = min(max(round(HOT_AREA_SHARE * int(box.sum())), 1), int((heat > 0).sum()))
    noise = torch.rand(heat.shape, generator=generator).to(heat)
    order = torch.argsort(noise.flatten())  # ties fall at random
    order = order[torch.argsort(heat.flatten()[order], descending=True, stable=True)]
    hot = torch.zeros_like(subject.inside)
    hot.view(-1)[order[:count]] = True
    x1, y1, x2, y2 = subject.boxes[number].tolist()
    spread_x, spread_y = ((CONTROL_WINDOW_GROWTH - 1) / 2 * side for side in (x2 - x1, y2 - y1))
    around = _rectangle([x1 - spread_x, y1 - spread_y, x2 + spread_x, y2 + spread_y], subject.inside)
    moved = _moved(hot, around, CONTROL_COUNT, generator)
    elsewhere = _moved(box, subject.inside, 1, generator)
    return torch.stack([hot, *moved]), torch.stack([box, *elsewhere])


def _rectangle(xyxy: Sequence[float], inside: Tensor) -> Tensor:
    """The pixels of a box that are in the image; at least one."""
    height, width = inside.shape
    x1, y1 = min(max(int(xyxy[0]), 0), width - 1), min(max(int(xyxy[1]), 0), height - 1)
    mask = torch.zeros_like(inside)
    mask[y1 : max(int(-(-xyxy[3] // 1)), y1 + 1), x1 : max(int(-(-xyxy[2] // 1)), x1 + 1)] = True
    return mask & inside if (mask & inside).any() else mask


def _moved(part: Tensor, around: Tensor, count: int, generator: torch.Generator) -> list[Tensor]:
    """A part (h, w) shifted at random, round a window that holds it: the least overlapping of some tries."""
    rows, columns = (torch.where((part | around).any(axis))[0] for axis in (1, 0))
    window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    own = part[window]
    tries = []
    for _ in range(SHIFTS_TRIED):
        shift = [int(torch.randint(side, (), generator=generator)) for side in own.shape]
        rolled = own.roll(shift, (0, 1))
        tries.append((int((rolled & own).sum()), rolled))
    best = sorted(tries, key=lambda pair: pair[0])[:count]
    controls = []
    for _, rolled in best:
        placed = torch.zeros_like(part)
        placed[window] = rolled
        controls.append(placed)
    return controls


def _receipt(before: float, scores: Sequence[Sequence[float]], share: float, forwards: int) -> Receipt:
    """A receipt from the scores (fill, mask) of the masks in the order they were scored."""
    fills = dict(zip(FILLS, scores, strict=True))
    by_part = {
        "removed": {fill: own[0] for fill, own in fills.items()},
        "removed_random": {fill: sum(own[1 : 1 + CONTROL_COUNT]) / CONTROL_COUNT for fill, own in fills.items()},
        "kept": {fill: own[1 + CONTROL_COUNT] for fill, own in fills.items()},
        "kept_random": {
            fill: sum(own[2 + CONTROL_COUNT : 2 + 2 * CONTROL_COUNT]) / CONTROL_COUNT for fill, own in fills.items()
        },
        "box_only": {fill: own[2 + 2 * CONTROL_COUNT] for fill, own in fills.items()},
        "box_random": {fill: own[3 + 2 * CONTROL_COUNT] for fill, own in fills.items()},
    }
    margin = max(MARGIN_SHARE * before, MIN_MARGIN)
    costs = all(by_part["removed_random"][fill] - by_part["removed"][fill] >= margin for fill in fills)
    keeps = all(by_part["kept"][fill] - by_part["kept_random"][fill] >= margin for fill in fills)
    context = _context(before, by_part["box_only"])
    return Receipt(before, share, **by_part, context_dependence=context, supported=costs or keeps, forwards=forwards)
