"""How much of a cause that is known a map shows, and whether an evidence patch holds it. Pure NumPy.

The measures are strict: where a map leaves open which of its pixels come first, those off the cause do, and a pixel
without heat is never found. So a map that shows nothing scores nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Mask = NDArray[np.bool_]

FIGURES = ("precision", "auroc", "peak")
"""The keys that :func:`recovery` returns."""
LEAST_HELD_SHARE = 0.5
"""A patch holds a mark where it holds at least this share of its area."""
MOST_TIMES_CAUSE, SPARE_PX = 4, 200
"""Patches whose area is more than so many times the cause's and so many pixels more do not point it out."""
LEAST_OUTSIDE_SHARE = 0.8
"""Patches point out a texture where at least this share of their area is outside the box."""


def recovery(heat: Floats, cause: Mask, judged: Mask, number: int | None = None) -> dict[str, float]:
    """How much of a known cause a map shows.

    Args:
        heat: (H, W), finite and nowhere negative.
        cause: bool (H, W), at least one pixel.
        judged: bool (H, W), the pixels over which precision and AUROC are taken: those where nothing but the cause is
            known to decide.
        number: of how many of the hottest pixels; None takes as many as the cause has among those judged.

    Returns:
        ``precision``: the share of the hottest pixels that is on the cause, ties counted against the map.
        ``auroc``: the probability that a pixel of the cause is hotter than one that is not, ties counted half.
        ``peak``: the cause's greatest heat over that of the whole map.
        All in [0, 1]. The first two are NaN where nothing of the cause is judged, the second also where nothing else
        is.

    >>> heat = np.array([[0.0, 0.5, 1.0, 0.0]])
    >>> cause = np.array([[False, True, False, False]])
    >>> figures = recovery(heat, cause, np.ones_like(cause))
    >>> {name: round(value, 2) for name, value in figures.items()}
    {'precision': 0.0, 'auroc': 0.67, 'peak': 0.5}
    """
    peak = heat.max()
    return {
        "precision": precision(heat[judged], cause[judged], number),
        "auroc": auroc(heat[judged], cause[judged]),
        "peak": float(heat[cause].max() / peak) if peak > 0 else 0.0,
    }


def precision(heat: Floats, cause: Mask, number: int | None = None) -> float:
    """The share of a map's hottest pixels on the cause, ties and pixels without heat counted against the map.

    Args:
        heat: of any shape, nowhere negative.
        cause: bool, of that shape.
        number: how many pixels are hottest, from 1; None takes as many as the cause has.

    Returns:
        In [0, 1]; NaN without a cause.

    >>> precision(np.array([3.0, 2, 1, 0]), np.array([True, False, True, False]))
    0.5
    """
    size = int(np.count_nonzero(cause))
    number = size if number is None else number
    if not size:
        return math.nan
    least = np.partition(heat, -number, axis=None)[-number]
    above, level = heat > least, heat == least
    hits = int(np.count_nonzero(above & cause))
    if least > 0:
        left = number - np.count_nonzero(above) - np.count_nonzero(level & ~cause)
        hits += max(int(left), 0)
    return hits / number


def auroc(heat: Floats, cause: Mask) -> float:
    """The probability that a pixel of the cause is hotter than another, ties counted half, in [0, 1].

    Args:
        heat: of any shape.
        cause: bool, of that shape.

    Returns:
        The area under the curve of true against false positives; NaN where all pixels are the cause, or none is.

    >>> auroc(np.array([3.0, 2, 1, 0]), np.array([True, False, True, False]))
    0.75
    """
    on, off = heat[cause], np.sort(heat[~cause])
    if not len(on) or not len(off):
        return math.nan
    colder = np.searchsorted(off, on, "left") + np.searchsorted(off, on, "right")
    return float(colder.mean() / 2 / len(off))


def hottest_inside(heat: Floats, region: Mask, number: int) -> float:
    """How many of a map's ``number`` hottest pixels lie in a region.

    Where pixels are equally hot and not all of them are among the hottest, ties count in proportion.

    Args:
        heat: of any shape.
        region: bool, of that shape.
        number: from 1 to the number of pixels.

    >>> hottest_inside(np.array([1.0, 1, 0, 0]), np.array([True, False, False, False]), 1)
    0.5
    """
    least = np.partition(heat, -number, axis=None)[-number]
    above, level = heat > least, heat == least
    chance = (number - np.count_nonzero(above)) / np.count_nonzero(level)
    return float(np.count_nonzero(above & region) + chance * np.count_nonzero(level & region))


def holds(kind: str, patches: NDArray[np.int64], marks: Sequence[Mask], box: Mask) -> bool:
    """Whether evidence patches point out what a thing's class hangs on.

    They do where they hold at least half of the mark, and their area is at most four times the marks' and 200 pixels
    more. Of two marks of which ``either`` is enough, taking one away changes nothing: both have to be held. Of two of
    which ``both`` are needed, taking one away changes the class: one is enough. A ``texture`` is everywhere, and cannot
    be held: at least four fifths of the patches' area has to lie outside the object's box.

    Args:
        kind: one of :data:`detcam.demo.causes.KINDS`.
        patches: (n, 4), xyxy, original pixels.
        marks: bool (H, W), each mark that is there.
        box: bool (H, W), the object's.
    """
    patched = np.zeros(box.shape, bool)
    for x1, y1, x2, y2 in np.maximum(patches, 0).tolist():
        patched[y1:y2, x1:x2] = True
    area = int(np.count_nonzero(patched))
    if kind == "texture":
        return area > 0 and int(np.count_nonzero(patched & ~box)) >= LEAST_OUTSIDE_SHARE * area
    if area > MOST_TIMES_CAUSE * sum(int(np.count_nonzero(mark)) for mark in marks) + SPARE_PX:
        return False
    held = [bool(np.count_nonzero(patched & mark) >= LEAST_HELD_SHARE * np.count_nonzero(mark)) for mark in marks]
    return any(held) if kind == "both" else all(held)
