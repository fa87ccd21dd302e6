"""Read an image, whatever it is given as, into an RGB uint8 array of its own: the pixels Ultralytics predicts on."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from detcam.errors import InputError
from detcam.io.files import is_remote, read_remote
from detcam.io.results import ResultsLike, kind_of, pixels_of

if TYPE_CHECKING:
    import torch

ImageLike: TypeAlias = "str | PathLike[str] | NDArray[np.uint8] | Image.Image | torch.Tensor | ResultsLike"

DECODED_SUFFIXES = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp")
SUFFIXES = (*DECODED_SUFFIXES, ".heic", ".heif")
"""The last two cannot be decoded; they are listed so that such files are reported and not passed over."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AVIF = (b"ftypavif", b"ftypavis")
_HEIF = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypheis", b"ftypmif1", b"ftypmsf1")


def read_image(image: ImageLike, bgr: bool = False) -> NDArray[np.uint8]:
    """A read-only RGB uint8 (H, W, 3) copy of an image.

    Files and PIL images become what Ultralytics' ``predict()`` makes of them: turned upright by their EXIF orientation;
    of an animation or of several pages the first; of 16 bits the upper eight; grey in all three channels; without their
    alpha (an 8-bit TIFF's colours are multiplied by it first). Colours are taken as they stand, without their profile.

    Args:
        image: a path or an address that fsspec reads (``s3://bucket/a.jpg``), an RGB uint8 (H, W, 3) or grey (H, W)
            array, a PIL image, a torch tensor (3, H, W), uint8 or floating in [0, 1], RGB, or Ultralytics' ``Results``
            of one image, whose pixels are known to be BGR.
        bgr: the array or tensor is BGR.

    Raises:
        InputError: not an image, unreadable, cut off, or of another shape, dtype or range. Bytes changed in the middle
            of a JPEG go unnoticed: the decoder goes on with what it finds.
    """
    if isinstance(image, str) and is_remote(image):
        array = _read_file(image, partial(read_remote, image))
    elif isinstance(image, str | PathLike):
        array = _read_file(image, Path(image).read_bytes)
    elif isinstance(image, np.ndarray):
        array = _from_array(image, bgr)
    elif isinstance(image, Image.Image):
        array = _from_pillow(image)
    elif _is_tensor(image):
        array = _from_tensor(image, bgr)
    elif kind_of(image) == "Results":
        array = _from_array(pixels_of(image), bgr=True)
    elif kind_of(image):
        raise InputError(
            f"a {type(image).__name__} holds no image: give the results that it is of, and beside them detection=..., "
            "such as results[0].boxes[3]"
        )
    elif isinstance(image, list | tuple):
        raise InputError(f"expected one image, got a {type(image).__name__} of {len(image)}; give one of them")
    else:
        raise InputError(
            f"expected a path, array, PIL image, tensor or Ultralytics' Results, got {type(image).__name__}"
        )
    array.flags.writeable = False
    return array


def name_image(image: ImageLike, number: int) -> str:
    """What an image is called: by its path, or ``image 3``.

    Args:
        image: as for :func:`read_image`.
        number: its place among those given.
    """
    if kind_of(image) == "Results":
        return str(getattr(image, "path", None) or f"image {number}")
    return str(image) if isinstance(image, str | PathLike) else f"image {number}"


def _read_file(path: str | PathLike[str], read: Callable[[], bytes]) -> NDArray[np.uint8]:
    try:
        return _decode(np.frombuffer(read(), np.uint8))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, not an image") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (cv2.error, SyntaxError, ValueError, MemoryError) as error:  # Pillow raises the middle two
        reason = str(getattr(error, "err", "") or error)
        if "MAX_IMAGE" in reason:
            reason = "more pixels than OpenCV reads: 2^30, unless OPENCV_IO_MAX_IMAGE_PIXELS says otherwise"
        raise InputError(f"{path}: cannot be decoded: {reason}") from error


def _decode(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels of a file's bytes."""
    start = bytes(data[:12])
    if start[4:] in _AVIF:  # OpenCV does not turn it upright
        from PIL.AvifImagePlugin import AvifImageFile  # not Image.open, which Ultralytics replaces

        return _from_pillow(AvifImageFile(io.BytesIO(data.tobytes())))
    decoded = None
    if start[:4] in _TIFF:  # OpenCV rounds a TIFF's 16-bit colours where it is asked for 8 bits
        decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if data.size and (decoded is None or decoded.ndim == 2):
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if decoded is None and start[4:] in _HEIF:
        raise InputError("a HEIF image (HEIC), which cannot be decoded; convert it to JPEG or PNG")
    if decoded is None:
        kinds = ", ".join(suffix[1:] for suffix in DECODED_SUFFIXES)
        raise InputError(f"not an image that can be decoded; known kinds, if not damaged: {kinds}")
    if decoded.dtype == np.uint16:
        decoded = (decoded >> 8).astype(np.uint8)
    if decoded.dtype != np.uint8:
        raise InputError(f"its pixels are {decoded.dtype}, of no known range; save them with 8 or 16 bits")
    bgr = np.ascontiguousarray(decoded[..., :3])
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr))  # in place: an image may take a gigabyte


def _from_pillow(image: Image.Image) -> NDArray[np.uint8]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):  # which convert() would clip
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.mode in ("I", "F"):
        raise InputError(f"a PIL image of mode {upright.mode!r} has no known range; convert it to 8 or 16 bits first")
    return np.array(upright.convert("RGB"))


def _from_array(array: NDArray[Any], bgr: bool) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise InputError(f"an array must be uint8 in 0 .. 255, got {array.dtype}; convert it first")
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, 2)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InputError(f"an array must be (H, W, 3), got {array.shape}")
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_BGR2RGB)) if bgr else _own(array)


def _is_tensor(image: object) -> TypeGuard[torch.Tensor]:
    """Whether something is a torch tensor; where torch was not imported, nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def _from_tensor(tensor: torch.Tensor, bgr: bool) -> NDArray[np.uint8]:
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise InputError(f"a tensor must be (3, H, W), got {tuple(tensor.shape)}; pass a batch as a list of its images")
    values = tensor.detach().cpu()
    if values.is_floating_point():
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):
            raise InputError(f"a floating tensor must lie in [0, 1], got [{low:g}, {high:g}]")
        values = (values.float() * 255).round().byte()
    return _from_array(values.permute(1, 2, 0).numpy(), bgr)


def _own(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.array(array, np.uint8, order="C", copy=True)
