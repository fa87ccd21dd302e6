"""JSON, YAML and text files from anywhere: read within bounds, and refused in one line.

The one place where documents are parsed. A parser alone lets a few bytes take the process with them: nesting ends in a
``RecursionError``, a page of aliases stands for terabytes, a named pipe never ends. What comes out of here is plain
(``dict``, ``list``, ``str``, numbers, truth values, None; of YAML also dates and the like), at most :data:`DEEPEST`
levels deep, and no larger than its file allows. What its values are, whoever uses them has to ask: NaN, infinities and
lone surrogates are values like others.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from detcam.errors import InputError, UsageError

DEEPEST = 100
"""Levels of lists and mappings in one another."""
LARGEST_JSON = 2**31
"""Bytes; COCO's own training set has 450 million."""
LARGEST_YAML = 2**24
"""Bytes, of a file that people write by hand."""
LARGEST_TEXT = 2**30
"""Bytes, of a list of files."""
_EXPANDED = 2**25
"""Characters and values of a YAML file, where each alias counts as what it stands for."""
_MOST_VALUES = 2**19
"""Of a YAML file, which is read at some hundred thousand a second."""
_AT_ONCE = 2**20
"""Bytes that are asked for where the file does not say how many there are."""
_LONGEST_REASON = 300
_LONGEST_WHOLE = 4000
"""Characters of a whole number: Python neither reads nor writes more than 4,300 digits."""
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_BUT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_AS_LISTS = bytes.maketrans(b"{}", b"[]")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # ten times as fast, if it is there
    """PyYAML's safe loader, but for whole numbers that are too long."""


def read_json(path: Path | str, largest: int = LARGEST_JSON) -> Any:
    """What a JSON file of this machine holds.

    Args:
        path: a regular file.
        largest: bytes.

    Raises:
        UsageError: as :func:`parse_json`, or it cannot be read; the path is named.
    """
    try:
        return parse_json(read_bytes(path, largest))
    except (InputError, UsageError) as error:
        raise UsageError(f"{path}: {error}") from error


def read_yaml(path: Path | str, largest: int = LARGEST_YAML, pipes: bool = False) -> Any:
    """What a YAML file of this machine holds.

    Args:
        path: a regular file.
        largest: bytes.
        pipes: also a pipe, as shells name them: ``detcam run <(...)``.

    Raises:
        UsageError: as :func:`parse_yaml`, or it cannot be read; the path is named.
    """
    try:
        return parse_yaml(read_bytes(path, largest, pipes))
    except (InputError, UsageError) as error:
        raise UsageError(f"{path}: {error}") from error


def parse_json(data: bytes | str) -> Any:
    """The value that JSON stands for.

    ``NaN`` and infinities, which Python's own ``json`` writes, are taken; a whole number of more digits than Python
    reads becomes infinite.

    Args:
        data: UTF-8, with or without a byte-order mark, or text.

    Raises:
        UsageError: no JSON, a key that stands twice in an object, or deeper than :data:`DEEPEST`.
    """
    try:
        binary = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        text = data if isinstance(data, str) else decode(data)
        if _is_deep(binary):
            raise UsageError(f"more than {DEEPEST} lists and objects in one another")
        del binary, data  # which may be as large as the text again
        try:
            return json.loads(text, object_pairs_hook=_unique)
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            return json.loads(text, object_pairs_hook=_unique, parse_int=_whole)
    except InputError as error:
        raise UsageError(str(error)) from error
    except json.JSONDecodeError as error:
        raise UsageError(f"broken JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (RecursionError, MemoryError) as error:
        raise UsageError(f"too much for this process to read: {type(error).__name__}") from error


def parse_yaml(data: bytes | str) -> Any:
    """The value that YAML stands for; None for nothing at all.

    A whole number of more than 4,000 characters becomes infinite.

    Args:
        data: UTF-8, with or without a byte-order mark, or text.

    Raises:
        UsageError: no YAML, several documents, a tag that would make a Python object, a key that stands twice in a
            mapping, an alias inside what it stands for, deeper than :data:`DEEPEST`, more than half a million values,
            or aliases that stand for too much.
    """
    try:
        text = data if isinstance(data, str) else decode(data)
        _check_events(text)
        return yaml.load(text, _Loader)
    except InputError as error:
        raise UsageError(str(error)) from error
    except UsageError:
        raise
    except Exception as error:  # besides YAMLError: whatever int(), a date or a tag's reader says of a text
        kind = "" if isinstance(error, yaml.YAMLError) else f"{type(error).__name__}: "
        raise UsageError(f"broken YAML: {kind}{_brief(error)}") from error


def read_text(path: Path | str, largest: int = LARGEST_TEXT) -> str:
    """A text file of this machine, without its byte-order mark.

    Args:
        path: a regular file.
        largest: bytes.

    Raises:
        InputError: as :func:`read_bytes` and :func:`decode`; the path is not named.
    """
    return decode(read_bytes(path, largest))


def read_bytes(path: Path | str, largest: int, pipes: bool = False) -> bytes:
    """A file of this machine, whole.

    Args:
        path: a regular file.
        largest: bytes.
        pipes: also a pipe, which is read to its end; one that nobody writes to is empty.

    Raises:
        InputError: nothing there, no regular file, larger, or it cannot be read; the path is not named.
    """
    try:
        with opened(path, pipes) as file:
            return read_open(file, largest)
    except FileNotFoundError as error:
        raise InputError("no such file") from error
    except IsADirectoryError as error:
        raise InputError("a folder, not a file") from error
    except (OSError, ValueError) as error:  # the latter of a null byte in its name
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except MemoryError as error:
        raise InputError("too large for this process to read") from error


@contextmanager
def opened(path: Path | str | os.PathLike[str], pipes: bool = False) -> Iterator[BinaryIO]:
    """A file of this machine, open to be read: a device or a pipe is not waited for.

    Args:
        path: a regular file.
        pipes: also a pipe; one that nobody writes to is empty.

    Raises:
        InputError: it is something else than a file; the path is not named.
        OSError: it cannot be opened.
        ValueError: there is a null byte in its name.
    """
    # Not blocking: the opening of a pipe would wait for somebody to write.
    with open(path, "rb", opener=_open_at_once) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not (stat.S_ISREG(mode) or (pipes and stat.S_ISFIFO(mode))):
            raise InputError("a folder, not a file" if stat.S_ISDIR(mode) else "no regular file")
        if stat.S_ISFIFO(mode):
            os.set_blocking(file.fileno(), True)
        yield file


def read_open(file: BinaryIO, largest: int) -> bytes:
    """What is left in an open file.

    Args:
        file: any.
        largest: bytes.

    Raises:
        InputError: there is more.
    """
    expected = 0
    with suppress(OSError):  # in memory, where there is no number of its own
        expected = os.fstat(file.fileno()).st_size - file.tell()
    if expected > largest:  # told before any of it is read
        raise InputError(f"larger than {largest:,} bytes")
    parts, room = list[bytes](), largest + 1
    while room > 0 and (part := file.read(min(max(expected, _AT_ONCE) + 1, room))):
        parts.append(part)
        room -= len(part)
    if room < 1:
        raise InputError(f"larger than {largest:,} bytes")
    return b"".join(parts)  # of a single one, that one


def decode(data: bytes) -> str:
    """UTF-8 as text, without a byte-order mark.

    Args:
        data: of a file.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte {error.start} is {data[error.start]:#04x}"
        raise InputError(f"not UTF-8 text: {what}") from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _brief(error: Exception) -> str:
    """What a parser says, in one line; it may quote the file."""
    words = " ".join(str(error).replace('in "<unicode string>",', "at").split())
    return words if len(words) <= _LONGEST_REASON else f"{words[: _LONGEST_REASON - 3]}..."


def _is_deep(data: bytes) -> bool:
    """Whether JSON has more levels than :data:`DEEPEST`: told before a parser goes down, at a gigabyte a second."""
    if b"\\" in data:
        data = _ESCAPED.sub(b"", data)
    marks = b"".join(data.translate(None, _BUT_STRUCTURE).split(b'"')[::2])  # what stands outside of strings
    marks = marks.translate(_AS_LISTS)
    for _ in range(DEEPEST):  # each time the innermost pairs go
        rest = marks.replace(b"[]", b"")
        if len(rest) == len(marks):
            break
        marks = rest
    return b"[]" in marks or marks.count(b"[") > DEEPEST


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise UsageError(f"the key {twice[:80]!r} stands twice in one object")
    return found


def _whole_of_yaml(loader: Any, node: Any) -> int | float:
    long = isinstance(node, yaml.ScalarNode) and len(node.value) > _LONGEST_WHOLE
    return math.inf if long else loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_of_yaml)


def _whole(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # more digits than Python reads
        return float(digits)


@dataclass
class _Open:
    """A list or mapping whose end was not there yet.

    Attributes:
        anchor: its name for aliases, or None.
        keys: of a mapping; None of a list.
        size: of what it holds so far, as aliases expand it: characters and values.
        at_key: whether a mapping's key is next.
    """

    anchor: str | None = None
    keys: set[str] | None = None
    size: int = 1
    at_key: bool = True


def _check_events(text: str) -> None:
    """Refuse YAML that is no document to be built: too deep, or aliases that stand for too much or for themselves."""
    outside = _Open()
    open_ones, anchors = [outside], dict[str, int]()
    for number, event in enumerate(yaml.parse(text, _Loader)):
        if number > _MOST_VALUES:
            raise UsageError(f"more than {_MOST_VALUES:,} values")
        within, anchor, size = open_ones[-1], None, 0
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_ones) > DEEPEST:
                raise UsageError(f"more than {DEEPEST} lists and mappings in one another")
            open_ones.append(_Open(event.anchor, set() if isinstance(event, yaml.MappingStartEvent) else None))
            continue
        if isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1 + len(event.value)
            if within.keys is not None and within.at_key:
                if event.value in within.keys:
                    again = f", again at line {event.start_mark.line + 1}" if event.start_mark else ""
                    raise UsageError(f"the key {event.value[:80]!r} stands twice in one mapping{again}")
                within.keys.add(event.value)
        elif isinstance(event, yaml.AliasEvent):
            if any(one.anchor == event.anchor for one in open_ones):
                raise UsageError(f"an alias inside what it stands for: *{str(event.anchor)[:80]}")
            size = anchors.get(str(event.anchor), 0)  # of no anchor it is broken, which the loader says
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = open_ones.pop()
            within, anchor, size = open_ones[-1], ended.anchor, ended.size
        if anchor is not None:
            anchors[anchor] = size
        within.size += size
        within.at_key = not within.at_key
        if within.size > _EXPANDED:
            raise UsageError("aliases that stand for too much")
