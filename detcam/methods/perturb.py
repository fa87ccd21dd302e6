"""Maps from scores of masked images: forward passes only, for any detector.

Each takes a :class:`~detcam.methods.subject.Subject` and returns maps (K, h', w') over the input, of all detections at
once: they share every masked image. Masks are made lazily, in blocks, from the seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from detcam.methods.regions import segment_image
from detcam.methods.subject import Subject
from detcam.tensors.fills import blur_image

MASKS_PER_PASS = 16
"""Masks made and scored together."""
GRID_CELLS = 16
"""Cells along each side of D-RISE's grids."""
MAP_REDUCTION = 4
"""Maps are kept at a resolution this much lower than the input's."""
ERROR_TOLERANCE_SHARE = 0.03
"""Masks stop when the mean standard error of every map is less than this share of its range."""
MIN_MASKS = 128
"""Masks before that is asked."""
SEGMENT_COUNTS = (50, 100, 200, 400, 800)
"""Superpixels of D-CRISP's segmentations."""
SEGMENTED_SIDE_PX = 256
"""Longer side of the picture that is segmented."""

Masks = Callable[[int], Tensor]
"""How many -> masks (n, h, w) in [0, 1]: what of the image is kept."""


class RunningMap:
    """Mean of (weight - mean weight) x mask over masks so far, and its standard error; its memory does not grow."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, weights: Tensor, masks: Tensor) -> None:
        """Add weights (n, K) and their masks (n, h, w).

        Args:
            weights: (n, K), one weight for each mask and map.
            masks: (n, h, w) in [0, 1].
        """
        self.count += len(masks)
        self._shape = masks.shape[1:]
        flat, weights = masks.flatten(1).double(), weights.double()
        new = {
            "w": weights.sum(0)[:, None],
            "m": flat.sum(0)[None],
            "mm": (flat**2).sum(0)[None],
            "wm": weights.T @ flat,
            "wmm": weights.T @ flat**2,
            "wwmm": (weights**2).T @ flat**2,
        }
        self._sums = {name: self._sums.get(name, 0) + part for name, part in new.items()}

    def maps(self) -> Tensor:
        """The mean of (weight - mean weight) x mask so far: float64 (K, h, w)."""
        mean = self._sums["w"] / self.count
        flat = (self._sums["wm"] - mean * self._sums["m"]) / self.count
        return flat.view(-1, *self._shape)

    def errors(self) -> Tensor:
        """Standard error of every value: (K, h, w)."""
        mean = self._sums["w"] / self.count
        square = (self._sums["wwmm"] - 2 * mean * self._sums["wmm"] + mean**2 * self._sums["mm"]) / self.count
        variance = (square.view(-1, *self._shape) - self.maps() ** 2).clamp(min=0)
        return (variance / self.count).sqrt()

    def relative_error(self) -> float:
        """The largest of the maps' mean standard errors, each over its map's range; infinite for a map without one."""
        maps = self.maps().flatten(1)
        ranges = maps.amax(1) - maps.amin(1)
        shares = self.errors().flatten(1).mean(1) / ranges
        return float(torch.where(ranges > 0, shares, torch.inf).max())


def drise(subject: Subject, tolerance: float = ERROR_TOLERANCE_SHARE) -> Tensor:
    """D-RISE: random grids, black where they are off, weighted by likeness (Petsiuk et al. 2021, arXiv:2006.03204).

    The weights' mean is taken off them, which changes no expectation and lowers the variance. Stops at the budget, or
    when the mean standard error of every map falls below a share of its range.

    Args:
        subject: the image, its detections and the detector; ``subject.budget`` masks at most.
        tolerance: that share, 3 % by default; 0 takes every mask of the budget.
    """
    generator = torch.Generator().manual_seed(subject.seed)
    return _weighted(subject, lambda n: grid_masks(n, subject.image, 0.5, generator), tolerance)


def dcrisp(subject: Subject) -> Tensor:
    """D-CRISP: half random grids, half random superpixels, each a quarter on, weighted as D-RISE's.

    Superpixels of five sizes follow the picture's own edges.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h / 4, w / 4), signed.
    """
    generator = torch.Generator().manual_seed(subject.seed)
    regions = segmentations(subject.image)

    def masks(count: int) -> Tensor:
        grids = grid_masks(count - count // 2, subject.image, 0.25, generator)
        return torch.cat([grids, *(superpixel_mask(regions, 0.25, generator)[None] for _ in range(count // 2))])

    return _weighted(subject, masks)


def occlusion(subject: Subject) -> Tensor:
    """The score lost when a sliding patch is blurred (Zeiler & Fergus 2014, arXiv:1311.2901), signed.

    Patches of two cells by two of a grid, one cell apart; as many cells as the budget allows. A cell's value is the
    mean loss of the patches over it.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, n, n), where n is one more than the budget's root, rounded down; signed, a share of the score.
    """
    sides = math.isqrt(subject.budget) + 1
    height, width = subject.image.shape[-2:]
    rows, columns = (torch.arange(n, device=subject.image.device) * sides // n for n in (height, width))
    fill = blur_image(subject.image, subject.inside)
    total = torch.zeros(len(subject.before), sides, sides, device=fill.device)
    counts = torch.zeros(sides, sides, device=fill.device)
    corners = [(row, column) for row in range(sides - 1) for column in range(sides - 1)]
    for start in range(0, len(corners), MASKS_PER_PASS):
        part = corners[start : start + MASKS_PER_PASS]
        hidden = torch.stack(
            [((rows == r) | (rows == r + 1))[:, None] & ((columns == c) | (columns == c + 1)) for r, c in part]
        )
        losses = subject.before - subject.scores(torch.where((hidden & subject.inside)[:, None], fill, subject.image))
        for (row, column), loss in zip(part, losses, strict=True):
            total[:, row : row + 2, column : column + 2] += loss[:, None, None]
            counts[row : row + 2, column : column + 2] += 1
    return total / counts


def grid_masks(count: int, image: Tensor, keep: float, generator: torch.Generator) -> Tensor:
    """RISE's masks: random grids enlarged bilinearly and shifted by part of a cell (Petsiuk et al. 2018,
    arXiv:1806.07421).

    Args:
        count: how many.
        image: (3, h, w), for its size and device.
        keep: probability that a cell is on.
        generator: of the grids and shifts, on the CPU.

    Returns:
        (count, h, w) in [0, 1].
    """
    height, width = image.shape[-2:]
    tall, wide = math.ceil(height / GRID_CELLS), math.ceil(width / GRID_CELLS)
    grids = (torch.rand(count, 1, GRID_CELLS, GRID_CELLS, generator=generator) < keep).float().to(image)
    shifts = torch.stack([torch.randint(n, (count,), generator=generator) for n in (tall, wide)], 1).tolist()
    large = F.interpolate(grids, ((GRID_CELLS + 1) * tall, (GRID_CELLS + 1) * wide), mode="bilinear")[:, 0]
    return torch.stack([one[y : y + height, x : x + width] for one, (y, x) in zip(large, shifts, strict=True)])


def segmentations(image: Tensor) -> list[Tensor]:
    """SLIC superpixels of an image at several sizes, found on a copy at most 256 pixels a side.

    Args:
        image: (3, h, w), the detector's input.

    Returns:
        For each of :data:`SEGMENT_COUNTS` int64 (h, w).
    """
    height, width = image.shape[-2:]
    scale = min(SEGMENTED_SIDE_PX / max(height, width), 1)
    small = F.interpolate(image[None], scale_factor=scale, mode="area")[0] if scale < 1 else image
    segmented = [segment_image(small, count)[None, None].float() for count in SEGMENT_COUNTS]
    return [F.interpolate(labels, (height, width), mode="nearest")[0, 0].long() for labels in segmented]


def superpixel_mask(regions: list[Tensor], keep: float, generator: torch.Generator) -> Tensor:
    """One segmentation, chosen at random, with each of its regions kept at random.

    Args:
        regions: segmentations, int64 (h, w) each.
        keep: probability that a region is kept.
        generator: of the choices, on the CPU.

    Returns:
        float32 (h, w), 0 or 1.
    """
    labels = regions[int(torch.randint(len(regions), (), generator=generator))]
    on = torch.rand(int(labels.max()) + 1, generator=generator) < keep
    return on.float().to(labels.device)[labels]


def _weighted(subject: Subject, make: Masks, tolerance: float = ERROR_TOLERANCE_SHARE) -> Tensor:
    """The map of each detection over lazily made masks; what a mask turns off is black."""
    running = RunningMap()
    coarse = [math.ceil(side / MAP_REDUCTION) for side in subject.image.shape[-2:]]
    while running.count < subject.budget:
        masks = make(min(MASKS_PER_PASS, subject.budget - running.count))
        kept = torch.where(subject.inside, masks, 1)[:, None]
        weights = subject.similarities(subject.image * kept)
        running.add(weights, F.interpolate(masks[:, None], coarse, mode="area")[:, 0])
        if running.count >= MIN_MASKS and running.relative_error() < tolerance:
            break
    return running.maps().float()
