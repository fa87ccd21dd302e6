"""Pictures into files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import cv2
from PIL import Image

from detcam.errors import InputError, UsageError
from detcam.io.files import locate, make_folder, write_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JPEG = (cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
"""Colour at full resolution: lines and letters are thin."""
PALETTE_COLOURS, PNG_COMPRESSION = 256, 6


def write_image(path: str | Path, picture: NDArray[np.uint8], small: bool = False) -> None:
    """Write an RGB picture in the format of its suffix.

    Args:
        path: of the file, local or an address of fsspec's; its folder is made where it is missing.
        picture: RGB uint8 (H, W, 3).
        small: write a ``.png`` in 256 colours: about a third of the size for a photograph.

    Raises:
        UsageError: no format has that suffix, or no file can have that name.
        InputError: the picture cannot be encoded.
        OSError: the file cannot be written.
    """
    path = locate(path)
    if "\0" in str(path):
        raise UsageError(f"{str(path)!r} cannot be a file's name: it holds a null byte")
    if small and path.suffix.lower() == ".png":
        whole = Image.fromarray(picture)
        palette = whole.quantize(PALETTE_COLOURS, Image.Quantize.MEDIANCUT)
        few = whole.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        return _write(path, lambda file: few.save(file, "PNG", compress_level=PNG_COMPRESSION))
    options = JPEG if path.suffix.lower() in {".jpg", ".jpeg"} else ()
    try:
        written, data = cv2.imencode(path.suffix, picture[..., ::-1], options)
    except cv2.error as error:
        raise UsageError(f"{path}: no picture format ends in {path.suffix!r}; use .png or .jpg") from error
    if not written:
        raise InputError(f"{path}: the picture could not be encoded")
    return _write(path, lambda file: file.write(data.tobytes()))


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a picture, into a folder that is made where it is missing."""
    try:
        make_folder(path.parent)
    except OSError as error:
        reason = f"its folder cannot be made: {error.strerror or error}"
        raise OSError(error.errno, reason, str(path)) from error
    write_whole(path, write)
