"""Single values of a label file, as people's tools write them: read as what they mean, or refused by name."""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import Any

_WHOLE = re.compile(r"\s*(-?(?:0|[1-9][0-9]{0,400}))(?:\.0*)?\s*")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SHOWN = 80
LONGEST_NAME = 1000
"""Characters of a class's name."""
_FLAGS = {"true": 1, "false": 0}


def shortened(value: object) -> str:
    """The ``repr`` of ``value``, cut to 80 characters, for messages; no more of it is written than that takes."""
    text = repr(_start_of(value))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _start_of(value: Any) -> Any:
    """So much of a value that its ``repr`` begins as the whole value's does for 80 characters."""
    if isinstance(value, str):
        return value[:_SHOWN]
    if isinstance(value, list | tuple):
        return type(value)(map(_start_of, value[:_SHOWN])) if type(value) in (list, tuple) else value
    if isinstance(value, dict):
        return {_start_of(key): _start_of(one) for key, one in islice(value.items(), _SHOWN)}
    return value


def is_number(value: object) -> bool:
    """Whether ``value`` is a number that a ``float`` can be, and finite; ``True`` and ``False`` are not."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # 401 digits
        return False


def identity(value: object) -> int | str | None:
    """What an id is, however it is written: a whole number, or text that is none; None for what can be no id.

    Text with leading zeros stays text: ``"007"`` and ``"7"`` may name two images.

    >>> identity(17), identity(17.0), identity("17"), identity("a7"), identity("007"), identity(1.5)
    (17, 17, 17, 'a7', '007', None)
    """
    if isinstance(value, str):
        whole = _WHOLE.fullmatch(value)
        return int(whole[1]) if whole else value
    if isinstance(value, float) and is_number(value) and value == int(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_name(value: object) -> str:
    """A class's name: text, or a number or truth value, which YAML makes of some names.

    Args:
        value: of the field.

    Raises:
        ValueError: something else; longer than :data:`LONGEST_NAME`; or with characters that are none, such as line
            ends and a terminal's commands.
    """
    if not isinstance(value, str | int | float):
        raise ValueError(f"a class's name must be text, got {shortened(value)}")
    if isinstance(value, str) and len(value) > LONGEST_NAME:
        raise ValueError(
            f"a class's name has at most {LONGEST_NAME:,} characters, got {len(value):,}: {shortened(value)}"
        )
    name = str(value)
    if _CONTROL.search(name):
        raise ValueError(f"a class's name has characters that cannot be written: {shortened(name)}")
    return name


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
