"""Gradients of several scalars at one tensor, each kept to the box of cells that it reaches; all else is zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Offsets = tuple[int, ...]
"""Where a box starts, an index for each dimension of the tensor."""


@dataclass(frozen=True, eq=False)
class Windows:
    """The gradients of some scalars at one tensor of d dimensions.

    Attributes:
        owners: which scalars, by number, ascending.
        offsets: for each of them where its box starts; every box lies within the tensor.
        values: (owner, *sizes), the boxes, all of one size.
        own: whether nothing else holds the values, so that a sum may be made in them.
    """

    owners: tuple[int, ...]
    offsets: tuple[Offsets, ...]
    values: Tensor
    own: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of every box, d numbers."""
        return tuple(self.values.shape[1:])

    def full(self, dimension: int, shape: Sequence[int]) -> bool:
        """Whether every box is as long as the tensor in one dimension."""
        return self.sizes[dimension] == shape[dimension]

    def dense(self, number: int, shape: Sequence[int]) -> Tensor:
        """One scalar's gradient as a tensor of its own.

        Args:
            number: the position among :attr:`owners`.
            shape: of the tensor.
        """
        if self.sizes == tuple(shape):
            return self.values[number]
        whole = self.values.new_zeros(tuple(shape))
        whole[_slices(self.offsets[number], self.sizes)] = self.values[number]
        return whole

    def cells(self, shape: Sequence[int]) -> Tensor:
        """Bool (height, width): where the first scalar has any gradient.

        Args:
            shape: of the tensor, (batch, channel, height, width).
        """
        top, left = self.offsets[0][2:]
        height, width = self.sizes[2:]
        reached = self.values.new_zeros(tuple(shape[2:]), dtype=torch.bool)
        reached[top : top + height, left : left + width] = (self.values[0] != 0).flatten(0, 1).any(0)
        return reached

    def crops(self, tensor: Tensor) -> Tensor:
        """(owner, *sizes): another tensor's values in the boxes; a view where all boxes are one and the same.

        Args:
            tensor: of the shape that the gradients have, or that broadcasts to it with as many dimensions.
        """
        starts = [
            tuple(0 if length == 1 else start for start, length in zip(offset, tensor.shape, strict=True))
            for offset in self.offsets
        ]
        sizes = tuple(min(size, length) for size, length in zip(self.sizes, tensor.shape, strict=True))
        if len(set(starts)) == 1:
            return tensor[_slices(starts[0], sizes)][None]
        return torch.stack([tensor[_slices(start, sizes)] for start in starts])

    def of(self, owner: int) -> Windows | None:
        """One scalar's gradient alone; None where it has none here.

        Args:
            owner: its number.
        """
        if owner not in self.owners:
            return None
        number = self.owners.index(owner)
        return Windows((owner,), self.offsets[number : number + 1], self.values[number : number + 1])

    def moved(self, dimension: int, by: int) -> Windows:
        """The same boxes, further on in one dimension."""
        offsets = tuple(_replaced(offset, dimension, offset[dimension] + by) for offset in self.offsets)
        return Windows(self.owners, offsets, self.values)

    def fitted(self, shape: Sequence[int]) -> Windows:
        """The same gradients where boxes may overhang the tensor's borders: what lies outside is dropped."""
        sizes = tuple(min(size, length) for size, length in zip(self.sizes, shape, strict=True))
        inside = all(
            0 <= start <= length - size
            for offset in self.offsets
            for start, size, length in zip(offset, self.sizes, shape, strict=True)
        )
        if inside:
            return self
        offsets = tuple(
            tuple(min(max(start, 0), length - size) for start, size, length in zip(offset, sizes, shape, strict=True))
            for offset in self.offsets
        )
        values = zeros(self.values, len(self.owners), sizes)
        for number, (old, new) in enumerate(zip(self.offsets, offsets, strict=True)):
            _copy(self.values[number], old, values[number], new)
        return Windows(self.owners, offsets, values)


def zeros(like: Tensor, count: int, sizes: Sequence[int]) -> Tensor:
    """(count, *sizes) of zeros; of four dimensions with the channels last, which convolutions are quickest on.

    Args:
        like: of the same device and dtype.
        count: of owners.
        sizes: of each one's box.
    """
    if len(sizes) != 4:
        return like.new_zeros((count, *sizes))
    batch, channels, height, width = sizes
    return like.new_zeros((count, batch, height, width, channels)).permute(0, 1, 4, 2, 3)


def from_dense(gradients: Sequence[tuple[int, Tensor]]) -> Windows | None:
    """Gradients that are not zero everywhere, cut to the cells that they reach.

    Args:
        gradients: (scalar, gradient), all of one shape.
    """
    kept, boxes = [], []
    for owner, gradient in gradients:
        box = _bounds(gradient)
        if box is not None:
            kept.append((owner, gradient))
            boxes.append(box)
    if not kept:
        return None
    shape = kept[0][1].shape
    sizes = tuple(max(box[d][1] - box[d][0] for box in boxes) for d in range(len(shape)))
    offsets = tuple(
        tuple(min(low, length - size) for (low, _), size, length in zip(box, sizes, shape, strict=True))
        for box in boxes
    )
    pieces = [gradient[_slices(start, sizes)] for (_, gradient), start in zip(kept, offsets, strict=True)]
    return Windows(tuple(owner for owner, _ in kept), offsets, torch.stack(pieces))


def added(parts: Sequence[Windows], shape: Sequence[int]) -> Windows:
    """The sum of gradients at one tensor that came by different ways.

    Args:
        parts: at least one.
        shape: of the tensor.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    lows: dict[int, Offsets] = {}
    highs: dict[int, Offsets] = {}
    for part in parts:
        for owner, offset in zip(part.owners, part.offsets, strict=True):
            high = tuple(start + size for start, size in zip(offset, part.sizes, strict=True))
            lows[owner] = tuple(map(min, lows.get(owner, offset), offset))
            highs[owner] = tuple(map(max, highs.get(owner, high), high))
    owners = tuple(sorted(lows))
    sizes = tuple(max(highs[owner][d] - lows[owner][d] for owner in owners) for d in range(len(shape)))
    offsets = {
        owner: tuple(min(low, length - size) for low, size, length in zip(lows[owner], sizes, shape, strict=True))
        for owner in owners
    }
    ready = next((part for part in parts if part.own and part.owners == owners and part.sizes == sizes), None)
    values = zeros(first.values, len(owners), sizes) if ready is None else ready.values
    places = {owner: number for number, owner in enumerate(owners)}
    for part in parts:
        if part is ready:
            continue
        if part.owners == owners and part.sizes == sizes:
            values += part.values
            continue
        for number, (owner, offset) in enumerate(zip(part.owners, part.offsets, strict=True)):
            start = tuple(a - b for a, b in zip(offset, offsets[owner], strict=True))
            values[places[owner]][_slices(start, part.sizes)] += part.values[number]
    return Windows(owners, tuple(offsets[owner] for owner in owners), values)


def _bounds(gradient: Tensor) -> list[tuple[int, int]] | None:
    """(first, past the last) index of what is not zero in each dimension; None where all is zero."""
    reached = gradient != 0
    bounds = []
    for dimension in range(gradient.ndim):
        others = [d for d in range(gradient.ndim) if d != dimension]
        places = (reached.any(others) if others else reached).nonzero()
        if not len(places):
            return None
        bounds.append((int(places[0]), int(places[-1]) + 1))
    return bounds if bounds else ([] if bool(reached) else None)


def _slices(offset: Offsets, sizes: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(offset, sizes, strict=True))


def _copy(source: Tensor, start: Offsets, target: Tensor, origin: Offsets) -> None:
    """Copy what two boxes have in common; each is a tensor and where it starts."""
    lows = tuple(map(max, start, origin))
    highs = tuple(min(a + m, b + n) for a, m, b, n in zip(start, source.shape, origin, target.shape, strict=True))
    sizes = tuple(high - low for low, high in zip(lows, highs, strict=True))
    if min(sizes, default=1) > 0:
        here = _slices(tuple(low - a for low, a in zip(lows, start, strict=True)), sizes)
        there = _slices(tuple(low - b for low, b in zip(lows, origin, strict=True)), sizes)
        target[there] = source[here]


def _replaced(offset: Offsets, dimension: int, value: int) -> Offsets:
    return (*offset[:dimension], value, *offset[dimension + 1 :])
