"""The arrays of an archive of maps, whatever its headers promise: nothing is unpickled, nothing read beyond it."""

from __future__ import annotations

import lzma
import math
import re
import struct
import zlib
from collections.abc import Collection
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

MOST_CELLS = 2**26
"""Of a map: one for each pixel of a detector's input of 8,192 x 8,192."""
DAMAGED = (
    OSError, EOFError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError,
    BadZipFile, zlib.error, lzma.LZMAError, struct.error,
)  # fmt: skip
"""What reading a damaged archive raises, or what is none."""
_START = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '([<>]f[248])', 'fortran_order': (False|True), 'shape': \((\d{1,9}), ?(\d{1,9})\), \} *\n"
)


def read_arrays(file: BinaryIO, names: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """Maps of an ``.npz``, float32 (h, w), each finite; those that it does not have are left out.

    Args:
        file: the archive.
        names: of its arrays.

    Raises:
        one of :data:`DAMAGED`: the archive or one of these arrays cannot be read, or is no map.
    """
    found = {}
    with ZipFile(file) as archive:
        members = set(archive.namelist())
        for name in names:
            if f"{name}.npy" in members:
                with archive.open(f"{name}.npy") as member:
                    found[name] = _read_map(member, name)  # type: ignore[arg-type]  # a stream like others
    return found


def holds(file: BinaryIO, names: Collection[str]) -> bool:
    """Whether an ``.npz`` is whole, as far as its directory tells, and has some arrays.

    Args:
        file: the archive.
        names: of its arrays.
    """
    try:
        with ZipFile(file) as archive:
            return {f"{name}.npy" for name in names} <= set(archive.namelist())
    except DAMAGED:
        return False


def _read_map(member: BinaryIO, name: str) -> NDArray[np.float32]:
    start = member.read(len(_START) + 2)
    length = int.from_bytes(start[len(_START) :], "little")
    header = _HEADER.fullmatch(member.read(length)) if start.startswith(_START) else None
    if header is None:
        raise ValueError(f"{name!r} is no map: not an array (h, w) of floating numbers")
    kind, fortran, *sides = header.groups()
    shape = (int(sides[0]), int(sides[1]))
    if not 0 < math.prod(shape) <= MOST_CELLS:
        raise ValueError(f"{name!r} is no map: {shape[0]} x {shape[1]} cells")
    data = _exactly(member, math.prod(shape) * int(kind[2:]))
    values = np.frombuffer(data, kind.decode()).reshape(shape, order="F" if fortran == b"True" else "C")
    with np.errstate(all="ignore"):
        array = np.array(values, np.float32, order="C")
    if not np.isfinite(array).all():
        raise ValueError(f"{name!r} is no map: some of its values are not finite")
    return array


def _exactly(member: BinaryIO, size: int) -> bytes:
    data = member.read(size + 1)  # one more: the end of a member is where its checksum is looked at
    if len(data) != size:
        raise ValueError("an array is not as long as its header says")
    return data
