"""Boxes and the letterbox: where an original image's pixels are in the detector's input, and back. NumPy only.

Coordinates are continuous: pixel ``(column i, row j)`` covers ``[i, i+1] x [j, j+1]``, and boxes are ``xyxy``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

PADDING_GREY = 114
STRIPE_ROWS = 512
"""Rows of a map made at once."""


def iou_matrix(a: Floats, b: Floats) -> Floats:
    """Intersection over union of every box with every other; boxes without area overlap nothing.

    Args:
        a: (N, 4) xyxy.
        b: (M, 4) xyxy in the same frame.

    Returns:
        float64 (N, M) in [0, 1].

    >>> iou_matrix([[0, 0, 2, 2]], [[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]]).round(2).tolist()
    [[1.0, 0.33, 0.0]]
    """
    a, b = np.asarray(a, np.float64).reshape(-1, 4), np.asarray(b, np.float64).reshape(-1, 4)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).clip(0, None).prod(-1) for box in (a, b))
    union = area_a[:, None] + area_b[None] - inter
    overlap: Floats = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return overlap


@dataclass(frozen=True)
class Letterbox:
    """An image scaled and placed in the network's input: letterboxed, stretched, or cropped.

    Attributes:
        original: (height, width) of the image, pixels.
        network: (height, width) of the network's input.
        resized: (height, width) that the image is scaled to.
        offset: (top, left) of the scaled image in that input; negative where it is cropped.
    """

    original: tuple[int, int]
    network: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("original", "network", "resized"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"letterbox {name} must be at least 1 x 1 pixels, got {getattr(self, name)}")
        for start, side, size in zip(self.offset, self.resized, self.network, strict=True):
            if start >= size or start + side <= 0:
                raise ValueError(f"the image {self.resized} at {self.offset} lies outside the input {self.network}")

    @classmethod
    def fit(cls, original: tuple[int, int], imgsz: tuple[int, int], stride: int, minimal: bool = True) -> Letterbox:
        """The letterbox Ultralytics' ``predict()`` uses.

        Args:
            original: (height, width) of the image.
            imgsz: (height, width) of the box to fit, multiples of ``stride``.
            stride: the detector's largest stride, pixels.
            minimal: pad only to the next multiple of ``stride`` (what ``predict()`` does with images of one shape)
                instead of to all of ``imgsz``.

        >>> Letterbox.fit((100, 200), (320, 320), 32)
        Letterbox(original=(100, 200), network=(160, 320), resized=(160, 320), offset=(0, 0))
        """
        gain = min(imgsz[0] / original[0], imgsz[1] / original[1])
        height, width = (max(round(side * gain), 1) for side in original)
        spare_h, spare_w = imgsz[0] - height, imgsz[1] - width
        if minimal:
            spare_h, spare_w = spare_h % stride, spare_w % stride
        top, left = round(spare_h / 2 - 0.1), round(spare_w / 2 - 0.1)
        return cls(original, (height + spare_h, width + spare_w), (height, width), (top, left))

    @property
    def gain(self) -> tuple[float, float]:
        """(vertical, horizontal) scale from original to network pixels; the two differ by rounding only."""
        return self.resized[0] / self.original[0], self.resized[1] / self.original[1]

    def to_network(self, points: Floats) -> Floats:
        """Points of the original image in network pixels.

        Args:
            points: (..., 2n) x, y pairs, original pixels: points (..., 2) or xyxy boxes (..., 4).

        Returns:
            float64, the same shape.

        >>> box = Letterbox.fit((100, 200), (320, 320), 32, minimal=False)
        >>> box.to_network([10, 10, 20, 30]).tolist()  # 1.6 times as large, with 80 rows of padding above
        [16.0, 96.0, 32.0, 128.0]
        """
        scale, shift = self._affine(points)
        return np.asarray(points, np.float64) * scale + shift

    def to_original(self, points: Floats) -> Floats:
        """The exact inverse of :meth:`to_network`, not clipped to the image.

        Args:
            points: (..., 2n) x, y pairs, network pixels.

        Returns:
            float64 (..., 2n), original pixels.
        """
        scale, shift = self._affine(points)
        return (np.asarray(points, np.float64) - shift) / scale

    def clip(self, boxes: Floats) -> Floats:
        """Boxes cut to the image.

        Args:
            boxes: (..., 4) xyxy, original pixels.

        Returns:
            The same shape.

        >>> Letterbox.fit((100, 200), (320, 320), 32).clip([-5, 10, 250, 90]).tolist()
        [0, 10, 200, 90]
        """
        height, width = self.original
        return np.clip(boxes, 0, [width, height, width, height])

    def _affine(self, points: Floats) -> tuple[Floats, Floats]:
        pairs = np.shape(points)[-1] // 2
        gain_y, gain_x = self.gain
        top, left = self.offset
        return np.tile([gain_x, gain_y], pairs), np.tile(np.array([left, top], float), pairs)

    def map_to_original(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sample a map over the network input at the centre of every original pixel, bilinearly.

        Padding is left out, and what a crop left out is zero: the network did not see it.

        Args:
            raw: (h, w), its cells dividing the network input evenly.

        Returns:
            float32 (height, width) of the original image.
        """
        rows, columns = (self._cells(axis, raw.shape[axis]) for axis in (0, 1))
        low, high, part = rows
        tall = raw[low] * (1 - part)[:, None] + raw[high] * part[:, None]
        low, high, part = columns
        full = np.empty(self.original, np.float32)
        for top in range(0, len(full), STRIPE_ROWS):  # what is made on the way is three times as large
            stripe = tall[top : top + STRIPE_ROWS]
            full[top : top + STRIPE_ROWS] = stripe[:, low] * (1 - part) + stripe[:, high] * part
        for axis in (0, 1):
            network = self._centres(axis)
            np.moveaxis(full, axis, 0)[(network < 0) | (network > self.network[axis])] = 0
        return full

    def _centres(self, axis: int) -> Floats:
        """Where the centre of each original pixel along ``axis`` lies in the network input."""
        centres: Floats = (np.arange(self.original[axis]) + 0.5) * self.gain[axis] + self.offset[axis]
        return centres

    def _cells(self, axis: int, cells: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
        """For each original pixel along ``axis``: the two nearest cells and the weight of the second."""
        network = self._centres(axis)
        position = np.clip(network * cells / self.network[axis] - 0.5, 0, cells - 1)
        low = np.floor(position).astype(np.intp)
        return low, np.minimum(low + 1, cells - 1), (position - low).astype(np.float32)

    def padding_share(self, raw: NDArray[np.floating]) -> float:
        """Share of a map's absolute mass that lies in the grey padding.

        Args:
            raw: (h, w), its cells dividing the network input evenly.

        Returns:
            In [0, 1]; NaN for an all-zero map.
        """
        mass = np.abs(np.asarray(raw, np.float64))
        inside = [self._inside(axis, mass.shape[axis]) for axis in (0, 1)]
        total = mass.sum()
        return float(1 - inside[0] @ mass @ inside[1] / total) if total > 0 else math.nan

    def _inside(self, axis: int, cells: int) -> Floats:
        """For each cell along ``axis``: the fraction of it covered by the image."""
        size = self.network[axis] / cells
        start = np.arange(cells) * size
        first, last = self.offset[axis], self.offset[axis] + self.resized[axis]
        covered: Floats = np.clip(np.minimum(start + size, last) - np.maximum(start, first), 0, None) / size
        return covered
