"""The files and streams that the sources of a run name: files, folders, globs, lists of any of them, streams."""

from __future__ import annotations

import glob
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from detcam.io import video
from detcam.io.files import LOCAL_PREFIXES, is_remote, list_remote, locate
from detcam.io.images import SUFFIXES
from detcam.io.video import is_stream

STDIN = "-"
_LONGEST = 8192
"""Characters of a source's name: twice what Linux takes."""
SET_SUFFIXES = (".json", ".yaml", ".yml")
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class Missing:
    """A source that names no image.

    Attributes:
        source: as the run was given it.
        reason: why it names none.
    """

    source: str
    reason: str


def find_images(sources: Sequence[str]) -> tuple[list[Path], list[Missing]]:
    """The image files that all sources name, in order, each once; and the sources that name none.

    Args:
        sources: see :func:`expand`. Streams and remote addresses count as missing here.
    """
    images, missing = [], []
    for found in expand(sources):
        if isinstance(found, Missing):
            missing.append(found)
        elif is_stream(found) or is_remote(found):
            missing.append(Missing(found, "a stream or an address, where images of this machine are asked for"))
        else:
            images.append(Path(found))
    return images, missing


def expand(
    sources: Sequence[str],
    suffixes: tuple[str, ...] = SUFFIXES,
    read_set: Callable[[Path], Iterable[str | Missing]] | None = None,
) -> Iterator[str | Missing]:
    """The files and streams that all sources name, in order and each once, and the sources that name none.

    A source is a file, a folder (searched recursively, in the order of names; links to folders are not followed), a
    glob pattern (``**`` included), images at an address that fsspec reads (``s3://bucket/photographs``), a stream
    (``camera:0``, ``rtsp://...``), a ``.txt`` list, or ``-``: a list on standard input. A list holds one source a line,
    relative to the list or else to the working directory; lines that start with ``#`` are comments; it is UTF-8, or
    UTF-16 with a byte-order mark. A named file is taken whatever its suffix.

    Args:
        sources: what a run was given.
        suffixes: which files of folders and patterns are taken, by suffix, lower case.
        read_set: gives the files of a labelled set, a named file of no suffix in ``suffixes``; without it those count
            as files.
    """
    finder = _Finder(suffixes, read_set)
    once: set[str] = set()
    # One folder names no file twice, so its names, which may be millions, are not remembered.
    repeats = len(sources) > 1 or not stat.S_ISDIR(mode_of(Path(*sources)))
    for source in sources:
        for found in finder.expand(source, Path(), top=True):
            if repeats and isinstance(found, str):
                key = found if is_stream(found) or is_remote(found) else str(Path(found).absolute())
                if key in once:
                    continue
                once.add(key)
            yield found


@dataclass(frozen=True)
class _Finder:
    suffixes: tuple[str, ...]
    read_set: Callable[[Path], Iterable[str | Missing]] | None

    def expand(self, source: str, base: Path, top: bool) -> Iterator[str | Missing]:
        """What one source names; ``top`` is not inside a list."""
        if source.startswith(LOCAL_PREFIXES):
            source = str(locate(source))
        if is_stream(source):
            yield source
            return
        if is_remote(source):
            yield from self._remote(source)
            return
        if source == STDIN and top:
            yield from self._stdin()
            return
        if len(source) > _LONGEST:
            yield Missing(f"{source[:80]}...", f"a name of {len(source):,} characters, which no file has")
            return
        path = base / source
        mode = mode_of(path)
        if not mode and not top and (mode := mode_of(Path(source))):
            path = Path(source)
        kind = path.suffix.lower()
        if stat.S_ISDIR(mode):
            yield from _unless_empty(
                self._walk(path), source, f"no images in this folder; known kinds: {_kinds(self.suffixes)}"
            )
        elif not mode and glob.has_magic(source):
            matches = sorted(_matches(source, base))
            named = (base / match for match in matches if match.lower().endswith(self.suffixes))
            files = (found for match in named if (found := _unless_folder(match)))
            yield from _unless_empty(files, source, "no image matches this pattern")
        elif not mode:
            yield Missing(str(path), "no such file or folder")
        elif kind == ".txt" and not top:
            yield Missing(str(path), "a list inside a list")
        elif kind == ".txt":
            yield from self._list(source, path, path.parent)
        elif not (stat.S_ISREG(mode) or (top and stat.S_ISFIFO(mode))):
            yield Missing(str(path), "no regular file")
        elif self.read_set and kind not in self.suffixes and stat.S_ISREG(mode):
            yield from self.read_set(path)
        else:
            yield str(path)

    def _remote(self, source: str) -> Iterator[str | Missing]:
        if source.lower().endswith((".txt", *SET_SUFFIXES, *video.SUFFIXES)):
            yield Missing(source, "a list, a labelled set or a video has to be on this machine; copy it here first")
            return
        try:
            addresses = list_remote(source, SUFFIXES)
        except OSError as error:
            yield Missing(source, f"cannot be looked at: {error.strerror or error}")
            return
        yield from _unless_empty(addresses, source, f"no images there; known kinds: {_kinds(SUFFIXES)}")

    def _walk(self, folder: Path) -> Iterator[str | Missing]:
        """The files of a folder and those below it; memory holds the names of one folder a level."""
        try:
            with os.scandir(folder) as entries:
                asked = (entry for entry in entries if self._asked(entry))
                inside = sorted((entry.name, _is_folder(entry), _is_plain(entry)) for entry in asked)
        except OSError as error:
            yield Missing(str(folder), f"this folder cannot be read: {error.strerror}")
            return
        for name, is_folder, is_plain in inside:
            if is_folder:
                yield from self._walk(folder / name)
            else:
                yield str(folder / name) if is_plain else _unless_special(folder / name)

    def _asked(self, entry: os.DirEntry[str]) -> bool:
        """A folder, or a file of the kinds asked for; a link that leads nowhere counts, and fails by its name."""
        return _is_folder(entry, follow=False) or (entry.name.lower().endswith(self.suffixes) and not _is_folder(entry))

    def _stdin(self) -> Iterator[str | Missing]:
        try:
            descriptor = sys.stdin.fileno()  # not its buffer: a thread that waits in that aborts a process that ends
        except (AttributeError, OSError, ValueError):
            yield Missing(STDIN, "there is no standard input")
            return
        yield from self._list(STDIN, descriptor, Path())

    def _list(self, source: str, file: Path | int, base: Path) -> Iterator[str | Missing]:
        try:
            if isinstance(file, Path) and not (stat.S_ISREG(mode := mode_of(file)) or stat.S_ISFIFO(mode)):
                yield Missing(source, "this list is no regular file")
                return
            with open(file, "rb", closefd=isinstance(file, Path)) as binary:
                start = binary.peek(3)[:3]
                encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), "utf-8")
                # Names that are not UTF-8 come through as the file system has them.
                errors = "replace" if encoding == "utf-16" else "surrogateescape"
                with io.TextIOWrapper(binary, encoding, errors) as text:
                    names = (line.strip() for line in _lines(text))
                    lists = (self.expand(name, base, top=False) for name in names if name and not name.startswith("#"))
                    yield from _unless_empty(chain.from_iterable(lists), source, "this list names no images")
        except OSError as error:
            yield Missing(source, f"this list cannot be read: {error.strerror}")


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a list; one that is too long for any name is given cut, and its rest passed over."""
    while line := text.readline(2 * _LONGEST):
        yield line
        while len(line) == 2 * _LONGEST and not line.endswith("\n"):
            line = text.readline(2 * _LONGEST)


def _unless_empty(found: Iterable[str | Missing], source: str, reason: str) -> Iterator[str | Missing]:
    empty = True
    for item in found:
        empty = False
        yield item
    if empty:
        yield Missing(source, reason)


def _is_folder(entry: os.DirEntry[str], follow: bool = True) -> bool:
    """Whether an entry is a folder, or a link to one; a link that leads in circles or to nowhere is none."""
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def _is_plain(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is known to be a regular file without asking about it; a link is not."""
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError:
        return False


def _matches(pattern: str, base: Path) -> list[str]:
    try:
        return glob.glob(pattern, root_dir=base, recursive=True)  # noqa: PTH207  (absolute patterns)
    except (OSError, ValueError, re.error, RecursionError):  # of a null byte, for one
        return []


def _unless_folder(path: Path) -> str | Missing | None:
    return None if stat.S_ISDIR(mode_of(path)) else _unless_special(path)


def _unless_special(path: Path) -> str | Missing:
    """A file that a folder or a pattern gave: a pipe or a device there was not asked for."""
    mode = mode_of(path)
    return Missing(str(path), "no regular file") if mode and not stat.S_ISREG(mode) else str(path)


def mode_of(path: Path) -> int:
    """The ``st_mode`` of a path; 0 where nothing is."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # a null byte is a ValueError
        return 0


def _kinds(suffixes: tuple[str, ...]) -> str:
    return ", ".join(suffix[1:] for suffix in suffixes)
