"""What an image file says of itself before anything is decoded: its kind, its size, and which side is up."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

AVIF_BRANDS = (b"ftypavif", b"ftypavis")
HEIF_BRANDS = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypheis", b"ftypmif1", b"ftypmsf1")
_MOST_PARTS = 50_000
"""Chunks, segments, boxes or tags that are looked at in search of one."""
_EXIF_LARGEST = 2**20
_ORIENTATION = 0x0112
_BITS_OF_A_PIXEL = 64
"""What a pixel is reckoned at: four channels of 16 bits."""


@dataclass(frozen=True)
class Header:
    """What a file says.

    Attributes:
        kind: ``jpeg``, ``png``, ``webp``, ``gif``, ``bmp``, ``tiff``, ``jp2``, ``avif``, ``heif``, ``pnm`` or ``sun``.
        width: pixels, as stored; 0 where only decoding tells (AVIF, HEIF).
        height: likewise.
        orientation: EXIF's, 1 to 8; of JPEG, PNG and WebP, and 1 of others.
        weight: how many times the memory of a pixel of 64 bits one takes while it is decoded, at least 1.
    """

    kind: str
    width: int = 0
    height: int = 0
    orientation: int = 1
    weight: int = 1


def read_header(file: BinaryIO) -> Header | None:
    """What a file says of itself; None where it is no image that can be decoded.

    Args:
        file: can be sought in. It is read in a few places only, however large it is.
    """
    start = _at(file, 0, 16)
    for magic, read in _KINDS.items():
        if start.startswith(magic):
            try:
                return read(file)
            except (struct.error, IndexError, OverflowError):  # it breaks off, or points to where nothing is
                return None
    brand = start[4:12]
    return Header("avif") if brand in AVIF_BRANDS else Header("heif") if brand in HEIF_BRANDS else None


def orientation_of(exif: bytes) -> int:
    """The orientation in an EXIF block, 1 to 8; 1 where it is damaged, says nothing, or says another number.

    Args:
        exif: a TIFF's header and tags, with or without ``Exif`` before it.
    """
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (place,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, place)
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", exif, entry)
            if tag == _ORIENTATION:
                value = struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}.get(kind, "B"), exif, entry + 8)[0]
                return int(value) if kind in (1, 3, 4) and values == 1 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _unpack(file: BinaryIO, place: int, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, _at(file, place, struct.calcsize(layout)))


def _jpeg(file: BinaryIO) -> Header | None:
    place, size, exif = 2, (0, 0), b""
    for _ in range(_MOST_PARTS):
        ahead = _at(file, place, 4096)
        found = re.search(rb"\xff[^\x00\xff]", ahead)
        if not found:
            if len(ahead) < 4096:
                break
            place += 4095
            continue
        place += found.end()
        marker = found[0][1]
        if marker == 0xDA:  # the pixels
            break
        if 0xD0 <= marker <= 0xD8 or marker == 0x01:  # markers without a length
            continue
        if marker == 0xD9:
            break
        (length,) = _unpack(file, place, ">H")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and size == (0, 0):
            height, width = _unpack(file, place + 3, ">HH")
            size = width, height
        if marker == 0xE1 and not exif and _at(file, place + 2, 6) == b"Exif\0\0":
            exif = _at(file, place + 2, length - 2)
        place += max(length, 2)
    return Header("jpeg", *size, orientation_of(exif)) if all(size) else None


def _png(file: BinaryIO) -> Header | None:
    length, kind, width, height = _unpack(file, 8, ">I4sII")
    if kind != b"IHDR":
        return None
    place, exif = 8, b""
    for _ in range(_MOST_PARTS):
        part = _at(file, place, 8)
        if len(part) < 8:
            break
        length, kind = struct.unpack(">I4s", part)
        if kind == b"eXIf":
            exif = _at(file, place + 8, min(length, _EXIF_LARGEST))
        if kind in (b"eXIf", b"IEND"):
            break
        place += 12 + length
    return Header("png", width, height, orientation_of(exif))


def _webp(file: BinaryIO) -> Header | None:
    if _at(file, 8, 4) != b"WEBP":
        return None
    place, size, exif = 12, (0, 0), b""
    for _ in range(_MOST_PARTS):
        part = _at(file, place, 8)
        if len(part) < 8:
            break
        kind, length = struct.unpack("<4sI", part)
        if size == (0, 0):
            size = _webp_size(kind, _at(file, place + 8, 10))
        if kind == b"EXIF":
            exif = _at(file, place + 8, min(length, _EXIF_LARGEST))
            break
        place += 8 + length + length % 2
    return Header("webp", *size, orientation_of(exif)) if all(size) else None


def _webp_size(kind: bytes, start: bytes) -> tuple[int, int]:
    if kind == b"VP8X":
        return 1 + int.from_bytes(start[4:7], "little"), 1 + int.from_bytes(start[7:10], "little")
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", start, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", start, 1)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return 0, 0


def _gif(file: BinaryIO) -> Header:
    width, height = _unpack(file, 6, "<HH")
    return Header("gif", width, height)


def _bmp(file: BinaryIO) -> Header:
    (length,) = _unpack(file, 14, "<I")
    width, height = _unpack(file, 18, "<HH" if length == 12 else "<ii")
    return Header("bmp", abs(width), abs(height))


def _tiff(file: BinaryIO) -> Header | None:
    order = "<" if _at(file, 0, 1) == b"I" else ">"
    big = _unpack(file, 2, f"{order}H")[0] == 43
    (place,) = _unpack(file, 8, f"{order}Q") if big else _unpack(file, 4, f"{order}I")
    (count,) = _unpack(file, place, f"{order}{'Q' if big else 'H'}")
    place += 8 if big else 2
    entry, value_at = (20, 12) if big else (12, 8)
    tags = {256: 0, 257: 0, 258: 1, 277: 1, 322: 0, 323: 0}
    for _ in range(min(count, _MOST_PARTS)):
        tag, kind = _unpack(file, place, f"{order}HH")
        if tag in tags and kind in (1, 3, 4, 16):
            several = tag == 258 and _unpack(file, place + 4, f"{order}{'Q' if big else 'I'}")[0] > (4 if big else 2)
            layout = {1: "B", 3: "H", 4: "I", 16: "Q"}[kind]
            where = _unpack(file, place + value_at, f"{order}{'Q' if big else 'I'}")[0] if several else place + value_at
            tags[tag] = _unpack(file, where, order + layout)[0]
        place += entry
    width, height, bits, samples, tile_width, tile_height = tags.values()
    weight = -(-bits * samples // _BITS_OF_A_PIXEL)
    if tile_width * tile_height > width * height:
        weight *= -(-tile_width * tile_height // max(width * height, 1)) if tile_width * tile_height > 2**26 else 1
    return Header("tiff", width, height, weight=max(weight, 1)) if width and height else None


def _jp2(file: BinaryIO) -> Header | None:
    place = 0
    for _ in range(_MOST_PARTS):
        if _at(file, place, 4) == b"\xff\x4f\xff\x51":
            right, lower, left, top = _unpack(file, place + 8, ">4I")
            (samples,) = _unpack(file, place + 40, ">H")
            return Header("jp2", max(right - left, 0), max(lower - top, 0), weight=-(-samples // 4))
        length, kind = _unpack(file, place, ">I4s")
        ahead = 16 if length == 1 else 8
        if length == 1:
            (length,) = _unpack(file, place + 8, ">Q")
        if kind == b"jp2c":
            place += ahead
        elif length < 8:
            return None
        else:
            place += length
    return None


def _pnm(file: BinaryIO) -> Header | None:
    start = _at(file, 0, 4096)
    blank = rb"(?:\s|#[^\n]*\n)+"
    found = re.match(rb"P[1-6]" + blank + rb"(\d{1,9})" + blank + rb"(\d{1,9})\s", start)
    if not found:
        return None
    return Header("pnm", int(found[1]), int(found[2]))


def _pam(file: BinaryIO) -> Header | None:
    start = _at(file, 0, 4096)
    sides = [re.search(rb"^%s\s+(\d{1,9})\s*$" % name, start, re.M) for name in (b"WIDTH", b"HEIGHT")]
    width, height = (int(found[1]) if found else 0 for found in sides)
    return Header("pnm", width, height) if width and height else None


def _sun(file: BinaryIO) -> Header:
    width, height = _unpack(file, 4, ">II")
    return Header("sun", width, height)


_KINDS: dict[bytes, Callable[[BinaryIO], Header | None]] = {
    b"\xff\xd8\xff": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"RIFF": _webp,
    b"GIF87a": _gif,
    b"GIF89a": _gif,
    b"BM": _bmp,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,
    b"MM\0+": _tiff,
    b"\0\0\0\x0cjP  ": _jp2,
    b"\xff\x4f\xff\x51": _jp2,
    **{b"P%d" % number: _pnm for number in range(1, 7)},
    b"P7": _pam,
    b"\x59\xa6\x6a\x95": _sun,
}
"""How kinds of files begin, and what reads their headers."""
