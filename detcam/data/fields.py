"""Single values of a label file, as people's tools write them: read as what they mean, or refused by name."""

from __future__ import annotations

import math
import re

_WHOLE = re.compile(r"\s*(-?(?:0|[1-9][0-9]*))(?:\.0*)?\s*")
_FLAGS = {"true": 1, "false": 0}


def shortened(value: object) -> str:
    """The ``repr`` of ``value``, cut to 80 characters, for messages."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite ``int`` or ``float``; ``True`` and ``False`` are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def identity(value: object) -> int | str | None:
    """What an id is, however it is written: a whole number, or text that is none; None for what can be no id.

    Text with leading zeros stays text: ``"007"`` and ``"7"`` may name two images.

    >>> identity(17), identity(17.0), identity("17"), identity("a7"), identity("007"), identity(1.5)
    (17, 17, 17, 'a7', '007', None)
    """
    if isinstance(value, str):
        whole = _WHOLE.fullmatch(value)
        return int(whole[1]) if whole else value
    if isinstance(value, int | float) and is_number(value) and value == int(value):
        return int(value)
    return None


def read_flag(value: object, name: str) -> bool:
    """A yes or no: 0, 1, false, true, or any of these as text; nothing is no.

    Args:
        value: of the field.
        name: of the field, for the message.

    Raises:
        ValueError: something else.
    """
    if value is None:
        return False
    meaning = value if isinstance(value, bool) else identity(value)
    if isinstance(meaning, str):
        meaning = _FLAGS.get(meaning.strip().lower())
    if meaning not in (0, 1):
        raise ValueError(f"{name} must be 0 or 1, got {shortened(value)}")
    return bool(meaning)


def read_whole(value: object, name: str) -> int | None:
    """A whole number, however it is written; None where there is none.

    Args:
        value: of the field.
        name: of the field, for the message.

    Raises:
        ValueError: something else.
    """
    number = identity(value)
    if value is not None and not isinstance(number, int):
        raise ValueError(f"{name} must be a whole number, got {shortened(value)}")
    return number if isinstance(number, int) else None


def read_number(value: object, name: str) -> float | None:
    """A finite number, also as text; None where there is none.

    Args:
        value: of the field.
        name: of the field, for the message.

    Raises:
        ValueError: something else.
    """
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not is_number(number):
        raise ValueError(f"{name} must be a number, got {shortened(value)}")
    return float(number)  # type: ignore[arg-type]  # is_number says so
