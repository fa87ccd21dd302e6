"""The images that a run names: files of this machine, whoever wrote the run. Nothing is fetched for its sake."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detcam.errors import InputError
from detcam.io.files import is_remote
from detcam.io.images import read_image


def image_file(image: str) -> Path:
    """The file of an image that a run names: tables hold text, so there bytes that are no text are escaped.

    Args:
        image: as the run names it.

    Raises:
        InputError: it is elsewhere, or nothing that can be an image: a pipe, a device.
    """
    if is_remote(image) or image.startswith(("\\\\", "//")):
        raise InputError(f"{image[:300]}: not on this machine; nothing is fetched because a run names it")
    try:
        path = Path(image)
        if "\\x" in image and not path.exists():
            escaped = re.sub(rb"\\x([0-9a-f]{2})", lambda escape: bytes([int(escape[1], 16)]), image.encode())
            path = Path(os.fsdecode(escaped))
        if path.exists() and not path.is_file():
            raise InputError(f"{image[:300]}: no regular file")
    except (OSError, ValueError) as error:  # a name that is too long; a null byte
        raise InputError(f"{image[:300]!r}: no file can have that name") from error
    return path


def read_photograph(image: str) -> NDArray[np.uint8]:
    """The pixels of an image that a run names, RGB uint8 (H, W, 3), read-only.

    Args:
        image: as the run names it.

    Raises:
        InputError: as :func:`image_file`; it cannot be read.
    """
    return read_image(image_file(image))
