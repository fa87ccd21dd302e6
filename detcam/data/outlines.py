"""Outlines of labelled objects, checked before C code fills memory along them: polygons, and COCO's run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from detcam.data.fields import shortened

Polygons: TypeAlias = tuple[NDArray[np.float64], ...]  # each (n, 2)
LONGEST_OUTLINE = 100
"""How often an outline may go around its image: along it, memory is filled."""
_LONGEST_RUN = 65  # bits: thirteen characters of five


def check_outline(polygons: Polygons, size: tuple[int, int]) -> None:
    """Refuse polygons along which pycocotools would fill memory until it is killed, or read numbers that are none.

    Args:
        polygons: in the image's pixels.
        size: the image's (height, width).

    Raises:
        ValueError: one reaches more than an image's size beyond the image, or they go around it too often.
    """
    height, width = size
    length = 0.0
    for polygon in polygons:
        if not np.abs(polygon / (width, height) - 0.5).max() <= 1.5:
            raise ValueError(
                f"a polygon reaches more than an image's size beyond its image: {shortened(polygon.tolist())}"
            )
        length += float(np.abs(np.diff(polygon, axis=0, append=polygon[:1])).max(1).sum())
    if length > LONGEST_OUTLINE * 2 * (height + width):
        raise ValueError(
            f"an outline that is longer than {LONGEST_OUTLINE} times around its image: {length:,.0f} pixels"
        )


def decoded(size: Sequence[int], counts: str | Sequence[int]) -> NDArray[np.bool_]:
    """The pixels of run lengths, bool (height, width).

    Not by pycocotools, which warns of NumPy 2 and hands out unset memory where run lengths fall short.

    Args:
        size: (height, width), pixels.
        counts: run lengths, as numbers or as COCO's compressed string.

    Raises:
        ValueError: they are not the lengths of that many pixels.
    """
    height, width = size
    runs = check_runs(size, counts)
    flags = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.asarray(flags.reshape(width, height).T, bool)


def check_runs(size: Sequence[int], counts: str | Sequence[int]) -> Sequence[int]:
    """Run lengths as numbers.

    Args:
        size: (height, width), pixels.
        counts: as for :func:`decoded`.

    Raises:
        ValueError: they are not the lengths of that many pixels.
    """
    runs = uncompressed(counts) if isinstance(counts, str) else counts
    if not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError(f"run lengths must be whole numbers from 0 on, got {shortened(counts)}")
    if (total := sum(runs)) != size[0] * size[1]:
        raise ValueError(f"run lengths must add up to the image's {size[0] * size[1]} pixels, not {shortened(total)}")
    return runs


def uncompressed(text: str) -> list[int]:
    """The run lengths in COCO's compressed string: five bits a character; from the third length on, differences.

    Args:
        text: the ``counts`` of an annotation.

    Raises:
        ValueError: a character that the format does not have, a string that breaks off, or a length beyond 64 bits.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"compressed run lengths with the character {character!r}: {shortened(text)}")
        value |= (code & 31) << shift
        shift += 5
        if shift > _LONGEST_RUN:
            raise ValueError(f"compressed run lengths with a length beyond 64 bits: {shortened(text)}")
        if not code & 32:
            value -= (code & 16 > 0) << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError(f"compressed run lengths that break off: {shortened(text)}")
    return runs
