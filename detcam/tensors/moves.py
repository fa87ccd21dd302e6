"""How windows of gradients pass backwards through operations that move cells and change none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from detcam.tensors.windows import Windows


class NotApplicableError(Exception):
    """A rule does not cover what a node does."""


def input_shapes(node: Any) -> list[tuple[int, ...] | None]:
    """The shape of each input of a graph node that a gradient goes on to, else None.

    Args:
        node: of an autograd graph.
    """
    return [
        tuple(before._input_metadata[number].shape) if before is not None else None
        for before, number in node.next_functions
    ]


def input_shape(node: Any) -> tuple[int, ...]:
    """The shape of what a node of one input was computed from.

    Args:
        node: of an autograd graph.

    Raises:
        NotApplicableError: no gradient goes on to it.
    """
    shape = input_shapes(node)[0]
    if shape is None:
        raise NotApplicableError
    return shape


def unchanged(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Copies."""
    return [replace(windows, own=False)]


def select(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """One index of a dimension."""
    shape = input_shape(node)
    dimension, index = (
        _wrap(node._saved_dim, len(shape)),
        _wrap(node._saved_index, shape[_wrap(node._saved_dim, len(shape))]),
    )
    offsets = tuple((*offset[:dimension], index, *offset[dimension:]) for offset in windows.offsets)
    return [Windows(windows.owners, offsets, windows.values.unsqueeze(1 + dimension))]


def take_slice(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """A range of a dimension."""
    shape = input_shape(node)
    dimension = _wrap(node._saved_dim, len(shape))
    if node._saved_step != 1:
        raise NotApplicableError
    start = node._saved_start or 0
    start = min(max(start + shape[dimension] if start < 0 else start, 0), shape[dimension])
    return [windows.moved(dimension, start)]


def transpose(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Two dimensions exchanged."""
    order = list(range(len(windows.sizes)))
    one, other = (_wrap(axis, len(order)) for axis in (node._saved_dim0, node._saved_dim1))
    order[one], order[other] = order[other], order[one]
    return [_permuted(windows, order)]


def permute(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Dimensions in another order."""
    dims = [_wrap(axis, len(windows.sizes)) for axis in node._saved_dims]
    return [_permuted(windows, [dims.index(axis) for axis in range(len(dims))])]


def concatenate(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Inputs side by side: each gets what of the boxes lies on it."""
    shapes = input_shapes(node)
    shape = tuple(node._input_metadata[0].shape)
    dimension = _wrap(node._saved_dim, len(shape))
    known = [one[dimension] for one in shapes if one is not None]
    unknown = len(shapes) - len(known)
    if unknown > 1:
        raise NotApplicableError
    start, parts = 0, []
    for one in shapes:
        length = one[dimension] if one is not None else shape[dimension] - sum(known)
        parts.append(_narrowed(windows, dimension, start, length) if one is not None else None)
        start += length
    return parts


def split(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """One of the equal ranges that a dimension was cut into."""
    dimension = _wrap(node._saved_dim, len(windows.sizes))
    return [windows.moved(dimension, output * node._saved_split_size)]


def split_sizes(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """One of the ranges that a dimension was cut into."""
    dimension = _wrap(node._saved_dim, len(windows.sizes))
    return [windows.moved(dimension, sum(node._saved_split_sizes[:output]))]


def reshape(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Some neighbouring dimensions as one, where boxes are one cell long in it or as long as it; or cut up again."""
    old = input_shape(node)
    new = tuple(node._input_metadata[0].shape)
    before = 0
    while before < min(len(old), len(new)) and old[before] == new[before]:
        before += 1
    after = 0
    while after < min(len(old), len(new)) - before and old[-1 - after] == new[-1 - after]:
        after += 1
    inner_old, inner_new = old[before : len(old) - after], new[before : len(new) - after]
    sizes = windows.sizes[before : len(new) - after]
    head, tail = windows.sizes[:before], windows.sizes[len(new) - after :]
    count = len(windows.owners)
    if sizes == inner_new:  # whole
        values = windows.values.reshape(count, *head, *inner_old, *tail)
        inner = [(0,) * len(inner_old)] * count
    elif math.prod(sizes) == 1:
        values = windows.values.reshape(count, *head, *[1] * len(inner_old), *tail)
        inner = [
            _unravel(_ravel(offset[before : len(new) - after], inner_new), inner_old) for offset in windows.offsets
        ]
    else:
        raise NotApplicableError
    offsets = tuple(
        (*offset[:before], *place, *offset[len(new) - after :])
        for offset, place in zip(windows.offsets, inner, strict=True)
    )
    return [Windows(windows.owners, offsets, values)]


def _permuted(windows: Windows, order: Sequence[int]) -> Windows:
    offsets = tuple(tuple(offset[axis] for axis in order) for offset in windows.offsets)
    return Windows(windows.owners, offsets, windows.values.permute(0, *(1 + axis for axis in order)))


def _narrowed(windows: Windows, dimension: int, start: int, length: int) -> Windows | None:
    """What of the boxes lies within a range of a dimension, counted from its start; None where nothing does."""
    size = windows.sizes[dimension]
    kept = [
        number
        for number, offset in enumerate(windows.offsets)
        if offset[dimension] < start + length and offset[dimension] + size > start
    ]
    if not kept:
        return None
    moved = tuple(
        (*windows.offsets[n][:dimension], windows.offsets[n][dimension] - start, *windows.offsets[n][dimension + 1 :])
        for n in kept
    )
    owners = tuple(windows.owners[n] for n in kept)
    values = windows.values if len(kept) == len(windows.owners) else windows.values[kept]
    if len({offset[dimension] for offset in moved}) == 1:
        low = moved[0][dimension]
        first, last = max(low, 0), min(low + size, length)
        offsets = tuple((*offset[:dimension], first, *offset[dimension + 1 :]) for offset in moved)
        return Windows(owners, offsets, values.narrow(1 + dimension, first - low, last - first))
    shape = [max(offset[d] for offset in moved) + size for d, size in enumerate(windows.sizes)]
    shape[dimension] = length
    return Windows(owners, moved, values).fitted(shape)


def _wrap(index: int, length: int) -> int:
    """An index from 0 on, of one that may be counted from the end; autograd keeps those as unsigned 64-bit numbers."""
    if index >= 2**63:
        index -= 2**64
    return index + length if index < 0 else index


def _ravel(index: Sequence[int], shape: Sequence[int]) -> int:
    number = 0
    for one, length in zip(index, shape, strict=True):
        number = number * length + one
    return number


def _unravel(number: int, shape: Sequence[int]) -> tuple[int, ...]:
    index: list[int] = []
    for length in reversed(shape):
        number, one = divmod(number, length)
        index.append(one)
    return tuple(reversed(index))
