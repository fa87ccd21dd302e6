"""How many pixels an image may have: told from its header, before a small file takes a large memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from detcam.errors import InputError
from detcam.options import MAX_PIXELS, check_counts

_limits = [MAX_PIXELS]


@contextmanager
def at_most_pixels(most: int) -> Iterator[None]:
    """Let every image that this process reads meanwhile, in any thread, have so many pixels; for commands.

    Args:
        most: at least 1.

    Raises:
        UsageError: it is not.
    """
    check_counts(max_pixels=most)
    _limits.append(most)
    try:
        yield
    finally:
        _limits.remove(most)


def most_pixels(asked: int | None = None) -> int:
    """How many pixels an image may have.

    Args:
        asked: by whoever reads it; None takes what :func:`at_most_pixels` says, or else ``options.MAX_PIXELS``.
    """
    return _limits[-1] if asked is None else asked


def check_pixels(width: int, height: int, most: int, weight: int = 1) -> None:
    """Refuse an image without pixels, or of too many.

    Args:
        width: in pixels.
        height: likewise.
        most: pixels.
        weight: how many times the memory of a common pixel one takes.

    Raises:
        InputError: it is so.
    """
    if width < 1 or height < 1:
        raise InputError(f"an image needs at least one pixel, got {width} x {height}")
    if width * height * weight > most:
        deep = f", of {weight} times the depth of 16-bit RGBA," if weight > 1 else ""
        raise InputError(
            f"{width:,} x {height:,} pixels{deep} are more than {most:,}; where it should be read, raise max_pixels "
            "(--max-pixels)"
        )
