"""Superpixels around a box, and the scores of images in which some of them are kept and the rest is blurred."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor

from detcam.tensors.fills import blur_image

WINDOW_GROWTH = 1.6
"""Regions are cut from the box enlarged this many times about its centre."""

COMPACTNESSES = (10, 100, 1000, 10000)
"""Of superpixels; the first that gives at least half as many as were asked for, else the last."""

HALF_HEAT_AREA_SHARE = 0.15
"""Share of the box's area over which the heat of an order of regions halves."""

Score = Callable[[Tensor], Tensor]
"""Images (n, 3, h, w) -> how much of one detection is left in each, (n,)."""


def superpixels(image: Tensor, box: Tensor, inside: Tensor, count: int) -> Tensor:
    """About ``count`` SLIC regions of the window around a box: int64 (h, w), 0, 1, ... there and -1 elsewhere.

    Args:
        image: (3, h, w), the detector's input.
        box: (4,) xyxy in its pixels.
        inside: bool (h, w), False in the padding.
        count: how many, roughly.
    """
    top, bottom, left, right = _window(box, inside)
    labels = torch.full(inside.shape, -1, dtype=torch.int64, device=image.device)
    labels[top:bottom, left:right] = segment_image(image[:, top:bottom, left:right], count)
    return labels.masked_fill(~inside, -1)


def segment_image(image: Tensor, count: int) -> Tensor:
    """About ``count`` SLIC regions of an image, numbered from 0 without gaps.

    Args:
        image: (3, h, w) in [0, 1].
        count: how many, roughly.

    Returns:
        int64 (h, w).
    """
    picture = image.permute(1, 2, 0).cpu().numpy()
    for compactness in COMPACTNESSES:
        labels = slic(picture, n_segments=count, compactness=compactness, start_label=0, channel_axis=2)
        if labels.max() + 1 >= min(count, picture.shape[0] * picture.shape[1]) / 2:
            break
    numbers = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    return torch.from_numpy(numbers).to(image.device)


def box_gaussian(box: Tensor, shape: tuple[int, int]) -> Tensor:
    """A Gaussian over a box, whose standard deviations are a quarter of its sides: what knows only the box.

    Args:
        box: (4,) xyxy, pixels.
        shape: (height, width) of the map.

    Returns:
        (height, width) in [0, 1].

    >>> box_gaussian(torch.tensor([0.0, 0, 3, 1]), (1, 3))[0].argmax().item()
    1
    """
    x1, y1, x2, y2 = box.tolist()
    falls = []
    for low, high, length in ((y1, y2, shape[0]), (x1, x2, shape[1])):
        places = torch.arange(length, device=box.device) + 0.5
        spread = max((high - low) / 4, 0.25)
        falls.append((-(((places - (low + high) / 2) / spread) ** 2) / 2).exp())
    gaussian: Tensor = falls[0][:, None] * falls[1]
    return gaussian


class RegionScorer:
    """Images in which some regions are kept and all else is blurred, and their scores.

    Args:
        image: (3, h, w), the detector's input.
        labels: int64 (h, w), the region of each pixel, -1 for none.
        score: how much of the detection is left in images.
        inside: bool (h, w), False in the padding.

    Attributes:
        plain: (3, h, w), the image blurred.
        count: number of regions.
        areas: int64 (region,), pixels.
    """

    def __init__(self, image: Tensor, labels: Tensor, score: Score, inside: Tensor) -> None:
        self.image, self.labels, self.score = image, labels, score
        self.plain = blur_image(image, inside)
        self.count = int(labels.max()) + 1
        self.areas = torch.bincount(labels[labels >= 0], minlength=self.count)

    def images(self, on: Tensor, outside: bool) -> Tensor:
        """The image with some regions kept and the others blurred.

        Args:
            on: bool (n, region), what is kept.
            outside: whether what belongs to no region is kept.

        Returns:
            (n, 3, h, w).
        """
        rest = torch.full((len(on), 1), outside, device=on.device)
        kept = torch.cat([on, rest], 1)[:, self.labels][:, None]  # -1, outside the window, is the last column
        return torch.where(kept, self.image, self.plain)

    def shown_and_hidden(self, sets: Tensor) -> tuple[Tensor, Tensor]:
        """Scores with only some regions shown, and with only them hidden: two forward passes a set.

        Args:
            sets: bool (n, region).

        Returns:
            Two tensors (n,) in [0, 1].
        """
        scores = [
            self.score(torch.cat([self.images(sets[i : i + 8], False), self.images(~sets[i : i + 8], True)]))
            for i in range(0, len(sets), 8)
        ]
        shown, hidden = torch.cat([part.view(2, -1) for part in scores], 1)
        return shown, hidden

    def value(self, sets: Tensor) -> Tensor:
        """``s(S) + 1 - s(all but S)``, where s is the score.

        Args:
            sets: bool (n, region), each a set S.

        Returns:
            (n,) in [0, 2].
        """
        shown, hidden = self.shown_and_hidden(sets)
        return shown + 1 - hidden


def region_means(values: Tensor, labels: Tensor, count: int) -> Tensor:
    """The mean of values over each region.

    Args:
        values: (h, w).
        labels: int64 (h, w), -1 for none.
        count: number of regions.

    Returns:
        (region,); NaN for a region without a pixel.

    >>> region_means(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[0, 0, -1]]), 1).tolist()
    [2.0]
    """
    within = labels >= 0
    sums = values.new_zeros(count).scatter_add_(0, labels[within], values[within])
    return sums / torch.bincount(labels[within], minlength=count)


def paint_order(labels: Tensor, order: Sequence[int], rest: Tensor, box: Tensor) -> Tensor:
    """A map that falls with the place in an order of regions.

    Heat halves with every 15 % of the box's area that is hotter, so that the picture shows what came first and not how
    long the order is. Within a region the Gaussian in the box decides.

    Args:
        labels: int64 (h, w), the region of each pixel, -1 for none.
        order: numbers of regions, the hottest first.
        rest: (region,), by which the regions that are not in ``order`` follow.
        box: (4,) xyxy, pixels.

    Returns:
        (h, w) in (0, 1].
    """
    count = len(rest)
    ranks = torch.zeros(count + 1, device=labels.device)
    chosen = set(order)
    others = [number for number in rest.argsort(descending=True, stable=True).tolist() if number not in chosen]
    ranks[torch.tensor([*order, *others], device=labels.device)] = torch.arange(
        count, 0, -1, dtype=ranks.dtype, device=ranks.device
    )
    values = ranks[labels] + 0.5 * box_gaussian(box, (labels.shape[0], labels.shape[1]))
    hottest = values.flatten().argsort(descending=True, stable=True)
    place = torch.empty(len(hottest), device=labels.device)
    place[hottest] = torch.arange(len(hottest), dtype=place.dtype, device=place.device)
    area = float((box[2:] - box[:2]).clamp(min=1).prod())
    return torch.exp2(-place / (HALF_HEAT_AREA_SHARE * area)).view_as(values)


def _window(box: Tensor, inside: Tensor) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of the enlarged box, cut to the image; at least two pixels a side."""
    rows, columns = (torch.where(inside.any(axis))[0] for axis in (1, 0))
    (x1, y1, x2, y2), grow = box.tolist(), (WINDOW_GROWTH - 1) / 2
    ends = []
    for low, high, first, last in (
        (y1, y2, int(rows[0]), int(rows[-1]) + 1), (x1, x2, int(columns[0]), int(columns[-1]) + 1)
    ):  # fmt: skip
        spread = grow * (high - low)
        start = min(max(math.floor(low - spread), first), max(last - 2, first))
        ends += [start, min(max(math.ceil(high + spread), start + 2), last)]
    return ends[0], ends[1], ends[2], ends[3]
