"""The causal receipt: what a detection's score does when the hottest part of its map is taken away, or left alone.

Sixteen forward passes for each detection, in one batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from detcam.fills import FILLS, gaussian_blur
from detcam.methods.subject import Subject
from detcam.types import Receipt

HOT = 0.35
"""The hottest part covers at most this share of the box's area."""
SOFT = 0.012
"""Width of its edges and of the controls', as a share of the image's longer side: a hard edge is a shape of its own."""
AROUND = 2.0
"""Random controls lie within the box enlarged this many times about its centre, and what the hottest part needs."""
MARGIN = 0.1
"""A map is supported where its hottest part counts this share of the score more than random parts do."""
LEAST = 0.01
"""And at least this much score: what is hardly there at all has no cause to be found."""
CONTROLS = 2
TRIES = 16


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
    for number, one in enumerate(maps):
        box = subject.boxes[number]
        # Its own generator: a receipt does not depend on which other detections were asked about.
        generator = torch.Generator().manual_seed(subject.seed + int(box.double().mul(16).sum()))
        hot, boxes = _masks(subject, number, one, generator)
        soft = softened(hot, subject.inside)
        # What is kept: all but the hottest part, it alone, the box alone, each with its random controls.
        kept = torch.cat([1 - soft, soft, boxes.float()])[:, None]
        images = torch.cat([torch.lerp(fill, subject.image, torch.where(subject.inside, kept, 1)) for fill in fills])
        scores = subject.scores(images, [number])[:, 0].view(len(fills), -1).tolist()
        share = float(hot[0].sum() / subject.inside.sum())
        receipts.append(_receipt(float(subject.before[number]), scores, share, len(images)))
    return receipts


def check(subject: Subject, maps: Sequence[Tensor]) -> list[Receipt]:
    """Quick receipts: the hottest part against one random part, and all outside the box, under both fills.

    Six images for each detection, the whole image at full size. Supported by the same rule, of removal alone.
    """
    fills = [fill(subject.image, subject.inside) for fill in FILLS.values()]
    receipts = []
    for number, one in enumerate(maps):
        box = subject.boxes[number]
        generator = torch.Generator().manual_seed(subject.seed + int(box.double().mul(16).sum()))
        hot, boxes = _masks(subject, number, one, generator)
        kept = torch.cat([1 - softened(hot[:2], subject.inside), boxes[:1].float()])[:, None]
        images = torch.cat([torch.lerp(fill, subject.image, torch.where(subject.inside, kept, 1)) for fill in fills])
        scores = subject.scores(images, [number])[:, 0].view(len(fills), -1).tolist()
        removed, moved, alone = ({fill: own[i] for fill, own in zip(FILLS, scores, strict=True)} for i in range(3))
        before = float(subject.before[number])
        costs = all(moved[fill] - removed[fill] >= max(MARGIN * before, LEAST) for fill in FILLS)
        receipts.append(
            Receipt(
                before,
                float(hot[0].sum() / subject.inside.sum()),
                removed,
                moved,
                {},
                {},
                alone,
                {},
                context_dependence=_context(before, alone),
                supported=costs,
                forwards=len(images),
            )
        )
    return receipts


def _context(before: float, alone: Mapping[str, float]) -> float:
    """The relative drop when all outside the box goes, from -1 to 1; 0 where there is next to no score."""
    return max(1 - sum(alone.values()) / len(alone) / before, -1.0) if before >= LEAST else 0.0


def hottest_part(subject: Subject, number: int, one: Tensor) -> tuple[Tensor, Tensor]:
    """Bool (h, w) each: the hottest part of a detection's map (h', w'), and a random part as large."""
    generator = torch.Generator().manual_seed(subject.seed + int(subject.boxes[number].double().mul(16).sum()))
    hot, _ = _masks(subject, number, one, generator)
    return hot[0], hot[1]


def _masks(subject: Subject, number: int, one: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Bool (3, h, w): the hottest part of a map and its controls; (2, h, w): the box, and one as large elsewhere."""
    shape = subject.image.shape[-2:]
    heat = F.interpolate(one[None, None].float(), shape, mode="bilinear")[0, 0]
    heat = torch.where(subject.inside, heat, -torch.inf)
    box = _rectangle(subject.boxes[number].tolist(), subject.inside)
    count = min(max(round(HOT * int(box.sum())), 1), int((heat > 0).sum()))
    noise = torch.rand(heat.shape, generator=generator).to(heat)
    order = torch.argsort(noise.flatten())  # ties fall at random
    order = order[torch.argsort(heat.flatten()[order], descending=True, stable=True)]
    hot = torch.zeros_like(subject.inside)
    hot.view(-1)[order[:count]] = True
    x1, y1, x2, y2 = subject.boxes[number].tolist()
    spread_x, spread_y = ((AROUND - 1) / 2 * side for side in (x2 - x1, y2 - y1))
    around = _rectangle([x1 - spread_x, y1 - spread_y, x2 + spread_x, y2 + spread_y], subject.inside)
    moved = _moved(hot, around, CONTROLS, generator)
    elsewhere = _moved(box, subject.inside, 1, generator)
    return torch.stack([hot, *moved]), torch.stack([box, *elsewhere])


def softened(parts: Tensor, inside: Tensor) -> Tensor:
    """Parts (n, h, w), bool, grown by a few pixels and with edges that fade over as many: float in [0, 1]."""
    rows, columns = (int(inside.any(axis).sum()) for axis in (1, 0))
    sigma = SOFT * max(rows, columns)
    radius = math.ceil(sigma)
    tall = F.max_pool2d(
        parts[:, None].float(), (2 * radius + 1, 1), 1, (radius, 0)
    )  # one way, then the other: a square
    grown = F.max_pool2d(tall, (1, 2 * radius + 1), 1, (0, radius))
    covered = gaussian_blur(inside[None].float(), sigma).clamp(min=1e-6)  # nothing fades at the image's own edge
    return (gaussian_blur(grown[:, 0] * inside, sigma) / covered * inside).clamp(0, 1)


def _rectangle(xyxy: Sequence[float], inside: Tensor) -> Tensor:
    """The pixels of a box that are in the image; at least one."""
    height, width = inside.shape
    x1, y1 = min(max(int(xyxy[0]), 0), width - 1), min(max(int(xyxy[1]), 0), height - 1)
    found = torch.zeros_like(inside)
    found[y1 : max(int(-(-xyxy[3] // 1)), y1 + 1), x1 : max(int(-(-xyxy[2] // 1)), x1 + 1)] = True
    return found & inside if (found & inside).any() else found


def _moved(part: Tensor, around: Tensor, count: int, generator: torch.Generator) -> list[Tensor]:
    """A part (h, w) shifted at random, round a window that holds it: the least overlapping of some tries."""
    rows, columns = (torch.where((part | around).any(axis))[0] for axis in (1, 0))
    window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    own = part[window]
    tries = []
    for _ in range(TRIES):
        shift = [int(torch.randint(side, (), generator=generator)) for side in own.shape]
        rolled = own.roll(shift, (0, 1))
        tries.append((int((rolled & own).sum()), rolled))
    best = sorted(tries, key=lambda pair: pair[0])[:count]
    found = []
    for _, rolled in best:
        placed = torch.zeros_like(part)
        placed[window] = rolled
        found.append(placed)
    return found


def _receipt(before: float, scores: Sequence[Sequence[float]], share: float, forwards: int) -> Receipt:
    """A receipt from the scores (fill, mask) of the masks in the order they were scored."""
    fills = dict(zip(FILLS, scores, strict=True))
    told = {
        "removed": {fill: own[0] for fill, own in fills.items()},
        "removed_random": {fill: sum(own[1 : 1 + CONTROLS]) / CONTROLS for fill, own in fills.items()},
        "kept": {fill: own[1 + CONTROLS] for fill, own in fills.items()},
        "kept_random": {fill: sum(own[2 + CONTROLS : 2 + 2 * CONTROLS]) / CONTROLS for fill, own in fills.items()},
        "box_only": {fill: own[2 + 2 * CONTROLS] for fill, own in fills.items()},
        "box_random": {fill: own[3 + 2 * CONTROLS] for fill, own in fills.items()},
    }
    margin = max(MARGIN * before, LEAST)
    costs = all(told["removed_random"][fill] - told["removed"][fill] >= margin for fill in fills)
    keeps = all(told["kept"][fill] - told["kept_random"][fill] >= margin for fill in fills)
    context = _context(before, told["box_only"])
    return Receipt(before, share, **told, context_dependence=context, supported=costs or keeps, forwards=forwards)
