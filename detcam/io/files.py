"""Files on this machine or wherever fsspec reaches: located, read, and written completely or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import polars as pl
from fsspec import get_filesystem_class
from fsspec.core import has_magic
from upath import UPath

from detcam.errors import InputError, UsageError
from detcam.io.documents import read_bytes

OBJECT_STORES = ("memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "hf")
"""Protocols whose files appear only when they are complete. There files are written under their own names, because
renaming would copy them."""
STORAGE_PROTOCOLS = (*OBJECT_STORES, "ftp", "hdfs", "sftp", "smb", "ssh", "webhdfs")
"""Protocols of stored files; an address of any other is a video stream."""
LOCAL_PREFIXES = ("file://", "local://")
_FILES_AT_ONCE = 1000
"""Files that are read or removed in one request."""
_LARGEST_TABLE = 2**34
"""Bytes."""
_LONGEST_REASON = 300
_BROKEN_TABLES = (
    pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OverflowError, MemoryError, RuntimeError,
)  # fmt: skip
"""What polars raises of a damaged table."""


def locate(path: str | os.PathLike[str]) -> Path:
    """A run folder's path: a ``Path`` if it is local, a ``UPath`` for an address such as ``s3://bucket/run``.

    A ``UPath`` (universal-pathlib) has the methods of a ``Path`` without being one; see :func:`is_local`.

    Args:
        path: a local path, a ``file://`` address, or an address that fsspec reads. A ``Path`` or ``UPath`` is returned
            as it is.

    Raises:
        UsageError: an address of an unknown kind, with a pattern's characters, or one that needs a package that is not
            installed.
    """
    text = str(path)
    if isinstance(path, Path | UPath):
        return path
    if "://" not in text:
        return Path(path)
    if text.startswith(LOCAL_PREFIXES):
        return Path(UPath(text).path)
    if set(text) & set("*?[]"):
        raise UsageError(f"{text}: remote file systems take *, ?, [ and ] for patterns; choose another name")
    try:
        remote = UPath(text)
        _ = remote.fs
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(f"{text}: {error}") from error
    return cast(Path, remote)


def is_local(path: Path | str) -> bool:
    """Whether a path that :func:`locate` gave lies in this machine's file system."""
    return isinstance(path, Path)


def on_this_machine(path: str | os.PathLike[str], what: str) -> Path:
    """The local path of something that has to be on this machine.

    Args:
        path: a path or an address, as for :func:`locate`.
        what: how the error message begins, such as ``"a review keeps its folder"``.

    Raises:
        UsageError: it is elsewhere.
    """
    if "://" in str(path) and not str(path).startswith(LOCAL_PREFIXES):  # not located: some connect for that
        raise UsageError(f"{what} on this machine, got {path}; copy it here first, or name a local folder")
    return locate(path)


def is_remote(source: str) -> bool:
    """Whether a source is an address in a storage system, such as ``s3://bucket/photographs``."""
    return source.partition("://")[0] in STORAGE_PROTOCOLS and "://" in source


def list_remote(address: str, suffixes: tuple[str, ...]) -> list[str]:
    """The addresses of the files at an address, sorted: below a folder, matching a pattern, or the file itself.

    Args:
        address: such as ``s3://bucket/photographs`` or ``s3://bucket/*.jpg``.
        suffixes: only files with one of these endings, lower case.

    Raises:
        OSError: the address cannot be listed.
    """
    if address.lower().endswith(suffixes) and not has_magic(address):
        return [address]
    with reaching(address):
        system, path = _system(address)
        system.invalidate_cache()
        paths = system.glob(path) if has_magic(address) else system.find(path)
        if not paths and has_magic(address) and system.isfile(path):  # its name only looks like a pattern
            paths = [path]
        named = [name for name in sorted(paths) if name.lower().endswith(suffixes)]
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
    """Drop a remote file system's cached listing: other processes may have written there since."""
    if not is_local(path):
        cast(UPath, path).fs.invalidate_cache()


@contextmanager
def reaching(path: Path | str) -> Iterator[None]:
    """Turn whatever a remote file system raises into an ``OSError`` with a reason, as local files raise it.

    Args:
        path: what the enclosed code works on; errors about local paths pass unchanged.

    Raises:
        OSError: the enclosed code failed on a remote file.
    """
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
        path: the file; an existing one is replaced.
        write: called with a binary file to write to. That file is in memory, so a full disk always shows as an
            ``OSError``, whichever library does the writing.

    Raises:
        OSError: the file cannot be written; it names ``path``.
    """
    content = BytesIO()
    write(content)
    with reaching(path):
        if not is_local(path) and cast(UPath, path).protocol in OBJECT_STORES:
            path.write_bytes(content.getvalue())
            return
        partial = path.with_name(f".{path.name}.{uuid4().hex[:12]}.partial")
        try:
            partial.write_bytes(content.getvalue())
            if is_local(path):
                partial.replace(path)
            else:
                cast(UPath, path).fs.mv(cast(UPath, partial).path, cast(UPath, path).path)
        except OSError as error:
            _forget(partial)
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error  # not the other name
        except BaseException:
            _forget(partial)
            raise


def _forget(partial: Path) -> None:
    """Remove what is left of a file that could not be written, where anything is."""
    with suppress(OSError):  # of a name that is too long, or below a file, nothing can be removed either
        partial.unlink(missing_ok=True)


def read_tables(paths: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """The rows of Parquet files that have the same columns, a table for each thousand files.

    Args:
        paths: the files, in any order; they are read sorted by name.

    Raises:
        UsageError: a file is damaged, has other columns, or claims more rows than its size allows.
        OSError: a file cannot be read.
    """
    paths = sorted(paths, key=str)  # as fsspec gives their bytes
    for start in range(0, len(paths), _FILES_AT_ONCE):
        some = paths[start : start + _FILES_AT_ONCE]
        data = _read(some)
        try:
            yield _parquet(data)
        except _BROKEN_TABLES:
            for path, one in zip(some, data, strict=True):
                try:
                    _parquet([one])
                except _BROKEN_TABLES as error:
                    raise UsageError(f"{path} is damaged: {_said(error)}") from error
            raise UsageError(
                f"{some[0]} and {len(some) - 1} more files of {some[0].parent} differ in columns"
            ) from None


def _parquet(data: Sequence[bytes]) -> pl.DataFrame:
    """The rows of Parquet files as one table; what claims a row a byte and more would fill the memory."""
    rows, size = pl.scan_parquet(list(data)).select(pl.len()).collect().item(), sum(map(len, data))
    if rows > size:
        raise ValueError(f"{rows:,} rows in {size:,} bytes")
    return pl.read_parquet(list(data)).rechunk()


def _said(error: BaseException) -> str:
    """What polars says of a file, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."


def _read(paths: Sequence[Path]) -> list[bytes]:
    with reaching(paths[0]):
        if is_local(paths[0]):
            return [_regular(path) for path in paths]
        remote = [cast(UPath, path) for path in paths]
        contents = remote[0].fs.cat([path.path for path in remote])  # in one request: a million single ones take hours
        return list(contents.values()) if isinstance(contents, dict) else [contents]


def _regular(path: Path) -> bytes:
    """The bytes of a table on this machine.

    Raises:
        OSError: it is no regular file, too large, or cannot be read.
    """
    try:
        return read_bytes(path, _LARGEST_TABLE)
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            raise OSError(error.__cause__.errno, error.__cause__.strerror, str(path)) from error
        raise OSError(errno.EIO, str(error), str(path)) from error


def read_table(path: Path) -> pl.DataFrame:
    """The rows of one Parquet file.

    Raises:
        UsageError: the file is damaged.
        OSError: it cannot be read.
    """
    return next(read_tables([path]))


def read_csv(path: Path) -> pl.DataFrame:
    """The rows of one CSV file; ``NaN`` is a number.

    Raises:
        UsageError: the file is damaged.
        OSError: it cannot be read.
    """
    data = _read([path])[0]
    try:
        return pl.read_csv(data, infer_schema_length=None)
    except _BROKEN_TABLES as error:
        raise UsageError(f"{path} is damaged: {_said(error)}") from error


def remove_files(paths: Sequence[Path]) -> None:
    """Remove files.

    Args:
        paths: all in one file system; those that no longer exist are passed over.

    Raises:
        OSError: a file is there and cannot be removed.
    """
    for start in range(0, len(paths), _FILES_AT_ONCE):
        some = paths[start : start + _FILES_AT_ONCE]
        with reaching(some[0]):
            if not is_local(some[0]):
                remote = [cast(UPath, path) for path in some]
                try:
                    remote[0].fs.rm([path.path for path in remote])
                    continue
                except FileNotFoundError:  # some stores then remove none of the others
                    pass
            for path in some:
                path.unlink(missing_ok=True)
