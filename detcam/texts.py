"""Several values in one text, as options have them: ``a,b``, ``1,2``, ``car:vehicle``."""

from __future__ import annotations

from typing import Any

from detcam.errors import UsageError


def split_list(value: str | int | list[Any] | None) -> list[str] | None:
    """``"a,b"``, ``3`` or ``["a", "b"]`` as a list of strings; ``None`` stays."""
    if value is None:
        return None
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts if str(part).strip()]


def numbers(value: Any, name: str, kind: type) -> list[Any] | None:
    """``"1,2"``, ``3`` or ``[1, 2]`` as numbers; ``None`` stays.

    Raises:
        UsageError: something else; ``name`` is the option's.
    """
    try:
        return None if value is None else [kind(part) for part in split_list(value) or [""]]
    except ValueError as error:
        raise UsageError(f"--{name} takes numbers separated by commas, got {value!r}") from error


def renames(text: str | list[str] | None) -> dict[str, str]:
    """``"theirs:ours,..."`` of ``--map`` as names of the set -> names of the model.

    Raises:
        UsageError: a part is no such pair.
    """
    pairs = [pair.rpartition(":") for pair in split_list(text) or []]
    if wrong := [theirs for ours, colon, theirs in pairs if not colon or not ours or not theirs]:
        raise UsageError(f"--map takes SET:MODEL pairs separated by commas, as in car:vehicle; got {wrong[0]!r}")
    return {ours: theirs for ours, _, theirs in pairs}
