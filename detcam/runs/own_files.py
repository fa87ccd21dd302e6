"""A run folder's own files: regular ones, in the folder itself. A stranger may have put anything in their place."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from detcam.errors import InputError, UsageError
from detcam.io.documents import read_bytes
from detcam.io.files import is_local, reaching

LARGEST_FILE = 2**31
"""Bytes of a file of a run at most; the table of a million images has 200 million."""


def own_file(run: Path, name: str) -> Path:
    """The path of one of a run's files, which need not be there.

    Args:
        run: the run folder; it may itself be a link.
        name: of the file, below the folder, with ``/`` between its parts.

    Raises:
        UsageError: the name leads out of the folder; a link, a pipe or the like is there or on the way.
    """
    parts = PurePosixPath(name).parts
    if not parts or not set(parts).isdisjoint(("..", "/")) or "\0" in name or "\\" in name or ":" in name:
        raise UsageError(f"{run}: {name[:200]!r} names no file of this folder")
    place = run
    for number, part in enumerate(parts, 1):
        place = place / part
        if is_local(run):
            _refuse_other_kinds(place, stat.S_IFREG if number == len(parts) else stat.S_IFDIR)
    return place


def read_own_file(run: Path, name: str, largest: int = LARGEST_FILE) -> bytes:
    """The bytes of one of a run's files.

    Args:
        run: the run folder.
        name: as for :func:`own_file`.
        largest: bytes.

    Raises:
        FileNotFoundError: it is not there.
        UsageError: as :func:`own_file`; it is larger or cannot be read.
        OSError: it cannot be read.
    """
    path = own_file(run, name)
    if not is_local(path):
        with reaching(path):
            return path.read_bytes()
    path.lstat()
    try:
        return read_bytes(path, largest)
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            raise OSError(error.__cause__.errno, error.__cause__.strerror, str(path)) from error
        raise UsageError(f"{path} cannot be read: {error}") from error


def refuse_foreign_places(run: Path, names: Iterable[str]) -> None:
    """Refuse a run folder in which something other than files and folders stands where a run writes or deletes.

    Args:
        run: the run folder, on this machine; it may itself be a link.
        names: its files and folders; all that is in these folders is looked at.

    Raises:
        UsageError: a link, a pipe or the like is among them.
        OSError: a folder cannot be listed.
    """
    for name in names:
        place = run / name
        _refuse_other_kinds(place, stat.S_IFREG, stat.S_IFDIR)
        if place.is_dir():
            for inside in _everything_in(place):
                _refuse_other_kinds(inside, stat.S_IFREG, stat.S_IFDIR)


def _everything_in(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    yield from _everything_in(Path(entry.path))


def _refuse_other_kinds(path: Path, *kinds: int) -> None:
    """Refuse what is there and of none of some kinds (``stat.S_IFREG``, ``stat.S_IFDIR``)."""
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    if kind in kinds:
        return
    if kind == stat.S_IFLNK:
        raise UsageError(f"{path} is a link: a run folder's files lie in it; copy there what it leads to, or remove it")
    found = {stat.S_IFDIR: "a folder", stat.S_IFREG: "a file"}.get(kind, "no regular file")
    raise UsageError(f"{path} is {found}, and no part of a run")
