"""A file of ``torch.save``, today's zip archive or the format before torch 1.6: its pickle, and its tensors' memory.

Nothing is inflated: ``torch.save`` stores its members as they are, so an archive is never larger than its file.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detcam.adapters.pickles import Name, Records, Stored, read_records

MOST_MEMBERS = 200_000
_LOCAL_HEADER = struct.Struct("<4s2B4HL2L2H")
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "Float": torch.float32, "Half": torch.float16, "Double": torch.float64, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool,
}  # fmt: skip
STORAGES = {f"torch.{device}{kind}Storage": dtype for kind, dtype in _DTYPES.items() for device in ("", "cuda.")}
"""What the kinds of tensors' memory are called, and the numbers in it."""


class Archive:
    """An opened checkpoint.

    Args:
        path: a file.

    Attributes:
        records: its pickle, read and not judged.

    Raises:
        pickle.UnpicklingError: it is damaged, or no file of ``torch.save``.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\3\4"
        self._memory: dict[str, Tensor] = {}
        self._members: dict[str, tuple[int, int]] = {}
        self.path = path
        self.records = self._open_zip() if is_zip else self._open_legacy()

    def memory_of(self, stored: Stored) -> Tensor:
        """A tensor's memory as a flat tensor; the same for each record of the same memory.

        Args:
            stored: a record of this file's.

        Raises:
            pickle.UnpicklingError: it is not there, or of another size than the record says.
        """
        key, dtype, count = identity_of(stored)
        if key not in self._memory:
            self._memory[key] = self._load(key, dtype, count)
        found = self._memory[key]
        if found.dtype != dtype or found.numel() != count:
            raise pickle.UnpicklingError(f"corrupt: the memory {key!r} is of two kinds")
        return found

    def _load(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        if key not in self._members:
            raise pickle.UnpicklingError(f"corrupt: there is no memory {key[:80]!r}")
        start, size = self._members[key]
        if size != count * dtype.itemsize:
            raise pickle.UnpicklingError(f"corrupt: the memory {key!r} has {size} bytes for {count} numbers")
        flat = torch.empty(size, dtype=torch.uint8)
        with self.path.open("rb") as file:
            file.seek(start)
            if size and file.readinto(flat.numpy().data) != size:
                raise pickle.UnpicklingError("truncated")
        if dtype == torch.bool:
            flat = (flat != 0).view(torch.uint8)  # other bytes are no truth values
        return flat.view(dtype)

    def _open_zip(self) -> Records:
        try:
            with zipfile.ZipFile(self.path) as archive:
                entries = archive.infolist()
        except OSError:
            raise
        except Exception as error:  # whatever a damaged directory leads to
            raise pickle.UnpicklingError(f"corrupt archive: {error}") from error
        if len(entries) > MOST_MEMBERS:
            raise pickle.UnpicklingError(f"corrupt archive: it has {len(entries):,} members")
        places = self._places(entries)
        pickles = [name for name in places if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise pickle.UnpicklingError(f"corrupt archive: it has {len(pickles)} data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if self._read(*places.get(f"{root}byteorder", (0, 0)), most=16) not in (b"", b"little"):
            raise pickle.UnpicklingError("its numbers are in another byte order than little")
        self._members = {name.removeprefix(f"{root}data/"): place for name, place in places.items()}
        return read_records(self._read(*places[pickles[0]]))

    def _places(self, entries: list[zipfile.ZipInfo]) -> dict[str, tuple[int, int]]:
        """Where each member's bytes begin and how many they are: stored as they are, apart from each other."""
        places: dict[str, tuple[int, int]] = {}
        before = 0
        with self.path.open("rb") as file:
            length = self.path.stat().st_size
            for entry in sorted(entries, key=lambda entry: entry.header_offset):
                if entry.compress_type or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
                    raise pickle.UnpicklingError("corrupt archive: a member is compressed, which torch.save never does")
                file.seek(entry.header_offset)
                header = file.read(_LOCAL_HEADER.size)
                if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
                    raise pickle.UnpicklingError("corrupt archive: a member is not where it should be")
                named, extra = _LOCAL_HEADER.unpack(header)[-2:]
                name = file.read(named)
                start = entry.header_offset + _LOCAL_HEADER.size + named + extra
                if name != entry.orig_filename.encode() or entry.filename in places:
                    raise pickle.UnpicklingError("corrupt archive: a member has two names or a name two members")
                if entry.header_offset < before or start + entry.file_size > length:
                    raise pickle.UnpicklingError("corrupt archive: members lie over each other or beyond the end")
                before = start + entry.file_size
                places[entry.filename] = (start, entry.file_size)
        return places

    def _read(self, start: int, size: int, most: int | None = None) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(size if most is None else min(size, most))

    def _open_legacy(self) -> Records:
        """Five pickles in a row, and behind them the memory of each tensor with its length."""
        length = self.path.stat().st_size
        data = self._read(0, length, most=128 * 2**20)  # pickles are at the beginning
        at, parts = 0, []
        for number in range(5):
            parts.append(read_records(data[at : at + 64 * 2**20]))
            at += parts[-1].end
            if number == 0 and parts[0].value != _LEGACY_MAGIC:
                raise pickle.UnpicklingError("invalid load key: neither a zip archive nor an older file of torch.save")
        _, protocol, system, records, keys = parts
        if protocol.value != 1001 or any(part.names or part.made for part in (protocol, system, keys)):
            raise pickle.UnpicklingError("corrupt: an unknown version of torch.save's older format")
        if isinstance(system.value, dict) and system.value.get("little_endian") is False:
            raise pickle.UnpicklingError("its numbers are in another byte order than little")
        widths = {key: dtype.itemsize for key, dtype, _ in map(identity_of, records.stored)}
        for key in keys.value if isinstance(keys.value, list) else ():
            if not isinstance(key, str) or key not in widths or at + 8 > length:
                raise pickle.UnpicklingError("corrupt or truncated: memory without a tensor")
            (count,) = struct.unpack("<q", self._read(at, 8))
            if count < 0 or at + 8 + count * widths[key] > length:
                raise pickle.UnpicklingError("truncated: memory ends beyond the file")
            self._members[key] = (at + 8, count * widths[key])
            at += 8 + count * widths[key]
        return records


def identity_of(stored: Stored) -> tuple[str, torch.dtype, int]:
    """The key, numbers and length of a tensor's memory.

    Args:
        stored: a record of it.

    Raises:
        pickle.UnpicklingError: it is no such record.
    """
    identity: Any = stored.identity
    if type(identity) is tuple and len(identity) in (5, 6) and identity[5:] in ((), (None,)):
        tag, kind, key, place, count = identity[:5]
        right = tag == "storage" and type(kind) is Name and type(key) is type(place) is str and type(count) is int
        if right and kind.dotted in STORAGES and count >= 0:
            return key, STORAGES[kind.dotted], count
    raise pickle.UnpicklingError("corrupt: a tensor's memory is described in an unknown way")
