"""What can go wrong, as one tree.

::

    DetcamError
    ├── UsageError      (also ValueError)   an argument is wrong: method, layer, class, target, option   exit code 2
    ├── WeightsError                        the weights cannot be used                                     exit code 3
    └── InputError                          one image or source cannot be used; the others can           exit code 1

Every message says what was wrong, with what value, and what would be right; in one line, whatever the value was.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from numbers import Integral

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST = 1500
_END = 400
_NAME = 80


class DetcamError(Exception):
    """Base of everything detcam raises on purpose.

    Args:
        message: line ends and a terminal's commands in it, which come with a strange value, are written as escapes, and
            the middle of a very long one is left out.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


def one_line(text: str) -> str:
    """A text as one line that can be printed and read.

    Args:
        text: line ends and other control characters in it become escapes, and of more than 1,500 characters the middle
            is left out.
    """
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - _END]} ... {text[-_END:]}"
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


class UsageError(DetcamError, ValueError):
    """An argument or a configuration value is wrong."""


class WeightsError(DetcamError):
    """The weights are missing, damaged, not allowed to be loaded, or not a detector detcam can explain."""


class InputError(DetcamError):
    """One image or source cannot be used."""


def nearest(wrong: object, right: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest right one, and the list where it is short."""
    names = [str(name)[:_NAME] for name in right]
    close = difflib.get_close_matches(str(wrong)[:_NAME], names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    listing = ", ".join(names[:24]) + (f", ... ({len(names)} in all)" if len(names) > 24 else "")
    return f"{hint} Known: {listing}" if hint else f"; known: {listing}"


def is_count(value: object) -> bool:
    """Whether a value is a whole number from 1 on, of Python's or NumPy's; a truth value is none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
