"""Files on this machine or wherever fsspec reaches: found, read, and written as a whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import polars as pl
from fsspec import get_filesystem_class
from fsspec.core import has_magic
from upath import UPath

from detcam.errors import UsageError

OBJECT_STORES = ("memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "hf")
"""Protocols whose files appear whole when their writing ends: nothing is gained there by renaming, which copies."""
STORED = (*OBJECT_STORES, "ftp", "hdfs", "sftp", "smb", "ssh", "webhdfs")
"""Protocols of images; of others, an address is a stream's."""
LOCAL = ("file://", "local://")
_TOGETHER = 1000
"""Tables read at once."""


def locate(path: str | os.PathLike[str]) -> Path:
    """A run folder's path: a local one, or, of an address such as ``s3://bucket/run``, one that fsspec reaches.

    The latter has the methods of a ``Path`` (universal-pathlib) without being one; see :func:`is_local`.

    Raises:
        UsageError: an address of an unknown kind, with a pattern's characters, or one that needs a package that is not
            installed.
    """
    text = str(path)
    if isinstance(path, Path | UPath):
        return path
    if "://" not in text:
        return Path(path)
    if text.startswith(LOCAL):
        return Path(UPath(text).path)
    if set(text) & set("*?[]"):
        raise UsageError(f"{text}: remote file systems take *, ?, [ and ] for patterns; choose another name")
    try:
        found = UPath(text)
        _ = found.fs
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(f"{text}: {error}") from error
    return cast(Path, found)


def is_local(path: Path | str) -> bool:
    """Whether a path that :func:`locate` gave lies in this machine's file system."""
    return isinstance(path, Path)


def on_this_machine(path: str | os.PathLike[str], what: str) -> Path:
    """The local path of something that has to be one.

    Raises:
        UsageError: it is elsewhere; ``what`` begins the sentence.
    """
    found = locate(path)
    if not is_local(found):
        raise UsageError(f"{what} on this machine, got {found}; copy it here first, or name a local folder")
    return found


def is_remote(source: str) -> bool:
    """Whether a source is an address of stored files, ``s3://bucket/photographs``."""
    return source.partition("://")[0] in STORED and "://" in source


def list_remote(address: str, suffixes: tuple[str, ...]) -> list[str]:
    """The addresses of files of some kinds at an address: below a folder, matching a pattern, or the file's own.

    Raises:
        OSError: it cannot be looked at.
    """
    if address.lower().endswith(suffixes) and not has_magic(address):
        return [address]
    with reaching(address):
        system, path = _system(address)
        system.invalidate_cache()
        found = system.glob(path) if has_magic(address) else system.find(path)
        if not found and has_magic(address) and system.isfile(path):  # its name only looks like a pattern
            found = [path]
        named = [name for name in sorted(found) if name.lower().endswith(suffixes)]
        protocol, _, place = address.partition("://")
        place, inner = place.rstrip("/"), path.strip("/")
        if place.endswith(inner):  # with the host, which paths leave out
            host = place.removesuffix(inner)
            start = f"{protocol}://{host}{'/' if host and not host.endswith('/') else ''}"
            return [start + name.lstrip("/") for name in named]
        return [system.unstrip_protocol(name) for name in named]


def read_remote(address: str) -> bytes:
    """A file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with reaching(address):
        system, path = _system(address)
        return bytes(system.cat_file(path))


def _system(address: str) -> tuple[Any, str]:
    """The file system of an address and the path there; ``::`` is part of a name, not a chain of file systems."""
    kind = get_filesystem_class(address.partition("://")[0])
    return kind(**kind._get_kwargs_from_urls(address)), kind._strip_protocol(address)


def refresh(path: Path) -> None:
    """Forget what a remote file system remembers of its folders: other processes write there."""
    if not is_local(path):
        cast(UPath, path).fs.invalidate_cache()


@contextmanager
def reaching(path: Path | str) -> Iterator[None]:
    """Work on files; whatever a remote file system raises is an OSError with a reason, as a local one's is."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise
        if is_local(path) or isinstance(error, UsageError):
            raise
        number = errno.ENOENT if isinstance(error, FileNotFoundError) else errno.EIO
        raise OSError(number, " ".join(str(error).split()) or type(error).__name__, str(path)) from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where the file system has folders."""
    if is_local(path) or cast(UPath, path).protocol not in OBJECT_STORES:
        path.mkdir(parents=True, exist_ok=True)


def write_whole(path: Path, write: Any) -> None:
    """Write a file under another name and rename it, so that no reader ever sees half of it.

    Args:
        path: the file; what is there is replaced.
        write: called with a binary file to write to; it is in memory, so that a full disk is an OSError whatever
            library writes.
    """
    made = BytesIO()
    write(made)
    with reaching(path):
        if not is_local(path) and cast(UPath, path).protocol in OBJECT_STORES:
            path.write_bytes(made.getvalue())
            return
        partial = path.with_name(f".{path.name}.{uuid4().hex[:12]}.partial")
        try:
            partial.write_bytes(made.getvalue())
            if is_local(path):
                partial.replace(path)
            else:
                cast(UPath, path).fs.mv(cast(UPath, partial).path, cast(UPath, path).path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def read_tables(paths: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """The rows of Parquet files of the same columns, many files in one table.

    Raises:
        UsageError: a file is damaged.
    """
    paths = sorted(paths, key=str)  # as fsspec gives their bytes
    for start in range(0, len(paths), _TOGETHER):
        some = paths[start : start + _TOGETHER]
        data = _read(some)
        try:
            yield pl.read_parquet(data).rechunk()
        except pl.exceptions.PolarsError:
            for path, one in zip(some, data, strict=True):
                try:
                    pl.read_parquet(one)
                except pl.exceptions.PolarsError as error:
                    why = " ".join(str(error).split())
                    raise UsageError(f"{path} is damaged: {why}") from error
            raise


def _read(paths: Sequence[Path]) -> list[bytes]:
    with reaching(paths[0]):
        if is_local(paths[0]):
            return [path.read_bytes() for path in paths]
        remote = [cast(UPath, path) for path in paths]
        found = remote[0].fs.cat([path.path for path in remote])  # at once: one by one, a million answers take hours
        return list(found.values()) if isinstance(found, dict) else [found]


def read_table(path: Path) -> pl.DataFrame:
    """The rows of one Parquet file; see :func:`read_tables`."""
    return next(read_tables([path]))


def read_csv(path: Path) -> pl.DataFrame:
    """The rows of one CSV file; ``NaN`` is a number.

    Raises:
        UsageError: the file is damaged.
    """
    try:
        return pl.read_csv(_read([path])[0], infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"{path} is damaged: {' '.join(str(error).split())}") from error


def remove_files(paths: Sequence[Path]) -> None:
    """Remove files; those that are gone already do not matter."""
    for start in range(0, len(paths), _TOGETHER):
        some = paths[start : start + _TOGETHER]
        with reaching(some[0]):
            if not is_local(some[0]):
                remote = [cast(UPath, path) for path in some]
                try:
                    remote[0].fs.rm([path.path for path in remote])
                    continue
                except FileNotFoundError:  # which keeps some stores from removing the others
                    pass
            for path in some:
                path.unlink(missing_ok=True)
