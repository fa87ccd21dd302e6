"""Options' values, from words of the command line and from YAML files, checked against the types of a configuration."""

from __future__ import annotations

from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from detcam.config import COMMANDS, keys_of
from detcam.errors import UsageError, nearest
from detcam.io.documents import read_yaml

LONGEST_TEXT = 20_000
"""Characters of an option."""
MOST_VALUES = 2000
"""Of an option that is a list."""
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}
_MANY = {int: "whole numbers", float: "numbers", str: "texts"}


def read_value(key: str, hint: Any, value: Any) -> Any:
    """A value of the type that ``hint`` names, as jsonargparse understands it: text is read as YAML where that fits.

    Raises:
        UsageError: it is none, or too long for an option; ``key`` is the option's.
    """
    _check_length(key, value)
    try:
        return _reader(hint).parse_object({"value": value}).value
    except (ArgumentError, ArithmeticError, ValueError, RecursionError) as error:  # of 401 digits, for one
        raise UsageError(f"{key} must be {type_in_words(hint)}, got {value}") from error


def _check_length(key: str, value: Any) -> None:
    """Refuse what jsonargparse, whose time goes with the square of a list's length, would read for minutes."""
    if isinstance(value, str):
        listed = value.count(",") + value.count("\n") if set("[{\n") & set(value) else 0
        if len(value) > LONGEST_TEXT:
            raise UsageError(f"{key} must be at most {LONGEST_TEXT:,} characters, got {len(value):,}: {value}")
    else:
        listed = len(value) if isinstance(value, list | dict) else 0
    if listed > MOST_VALUES:
        raise UsageError(f"{key} must be at most {MOST_VALUES:,} values, got more: {value}")


@cache
def _reader(hint: Any) -> ArgumentParser:
    """A parser of one value; its one error says that the value does not fit."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def check_value(key: str, hint: Any, value: Any) -> None:
    """Refuse what an option cannot be at the end: null where a value is needed, a switch that is no truth value.

    Raises:
        UsageError: it is that.
    """
    if (value is None and NoneType not in get_args(hint)) or (hint is bool and not isinstance(value, bool)):
        raise UsageError(f"{key} must be {type_in_words(hint)}, got {'null' if value is None else repr(value)}")


def read_options(path: str, command: str) -> dict[str, Any]:
    """The options of a command that a YAML file holds, by their keys; ``source: photos/`` is a list of one.

    Raises:
        UsageError: the file cannot be read or holds no options, an unknown one, a value of another type, or another
            command.
    """
    document = read_yaml(path, pipes=True)
    if not isinstance(document, dict):
        raise UsageError(f"{path} holds no options")
    config = COMMANDS[command]
    hints = {key: get_type_hints(config)[name] for name, key in keys_of(config).items()} | {"command": str}
    options = {}
    for given, value in document.items():
        key = str(given).replace("-", "_")
        if key not in hints:
            raise UsageError(f"no option {given!r}{nearest(keys_of(config).get(key, key), hints)}")
        options[key] = _read_source(value) if key == "source" else read_value(key, hints[key], value)
        check_value(key, hints[key], options[key])
    if options.get("command", command) != command:
        raise UsageError(f"the file says `command: {options['command']}`; detcam run takes what it says")
    return options


def _read_source(given: Any) -> list[str]:
    sources = [given] if isinstance(given, str) else given
    if not isinstance(sources, list) or not all(isinstance(one, str) for one in sources):
        raise UsageError(f"source must be text or a list of texts, got {given!r}")
    return sources


def type_in_words(hint: Any) -> str:
    """A type as messages name it: ``a whole number or null``."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(type_in_words(part) for part in get_args(hint))
    if get_origin(hint) is list:
        parts = get_args(get_args(hint)[0]) or get_args(hint)
        return f"a list of {' and '.join(_MANY[part] for part in parts)}"
    return _WORDS[hint]
