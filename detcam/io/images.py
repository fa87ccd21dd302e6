"""Read an image, whatever it is given as, into an RGB uint8 array of its own: the pixels Ultralytics predicts on."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detcam.errors import InputError
from detcam.io.documents import opened, read_open
from detcam.io.files import is_remote, read_remote
from detcam.io.headers import Header, orientation_of, read_header
from detcam.io.limits import check_pixels, most_pixels
from detcam.io.results import ResultsLike, kind_of, pixels_of

if TYPE_CHECKING:
    import torch

ImageLike: TypeAlias = "str | PathLike[str] | NDArray[np.uint8] | Image.Image | torch.Tensor | ResultsLike"

DECODED_SUFFIXES = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp")
SUFFIXES = (*DECODED_SUFFIXES, ".heic", ".heif")
"""The last two cannot be decoded; they are listed so that such files are reported and not passed over."""

_ORIENTATION = 0x0112
_TURNED_HERE = ("jpeg", "png", "webp")
"""What OpenCV turns by a reading of its own; all others have nothing to say, or are left to it."""
_LARGEST_BESIDES = 2**29
"""Bytes of a file beyond those of its pixels: other pages, thumbnails, colour profiles."""
_BYTES_OF_A_PIXEL = 8
_TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}
"""What makes an image upright, by its EXIF orientation."""


def read_image(
    image: ImageLike, bgr: bool = False, max_pixels: int | None = None, pipes: bool = False
) -> NDArray[np.uint8]:
    """A read-only RGB uint8 (H, W, 3) copy of an image.

    Files and PIL images become what Ultralytics' ``predict()`` makes of them: turned upright by their EXIF orientation;
    of an animation or of several pages the first; of 16 bits the upper eight; grey in all three channels; without their
    alpha (an 8-bit TIFF's colours are multiplied by it first). Colours are taken as they stand, without their profile.

    Args:
        image: a path or an address that fsspec reads (``s3://bucket/a.jpg``), an RGB uint8 (H, W, 3) or grey (H, W)
            array, a PIL image, a torch tensor (3, H, W), uint8 or floating in [0, 1], RGB, or Ultralytics' ``Results``
            of one image, whose pixels are known to be BGR.
        bgr: the array or tensor is BGR.
        max_pixels: height x width at most; None takes 400 million, or what the command that runs was told. A file is
            asked by its header, before it is decoded.
        pipes: a path may also be a pipe's, as shells name them; else files are regular ones.

    Raises:
        InputError: not an image, unreadable, cut off, too large, or of another shape, dtype or range. Bytes changed in
            the middle of a JPEG go unnoticed: the decoder goes on with what it finds.
    """
    most = most_pixels(max_pixels)
    if isinstance(image, str | PathLike):
        array = _read_file(image, most, pipes)
    elif isinstance(image, np.ndarray):
        array = _from_array(image, bgr, most)
    elif isinstance(image, Image.Image):
        array = _from_pillow(image, most)
    elif _is_tensor(image):
        array = _from_tensor(image, bgr, most)
    elif kind_of(image) == "Results":
        array = _from_array(pixels_of(image), bgr=True, most=most)
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


def stored_size(path: str | PathLike[str], max_pixels: int | None = None) -> tuple[int, int] | None:
    """The (height, width) of what :func:`read_image` makes of a file, where its header tells; None where it does not.

    Args:
        path: of this machine.
        max_pixels: as there.

    Raises:
        InputError: as there, as far as the header tells.
    """
    with _naming(path), opened(path) as file:
        header = _checked_header(file, most_pixels(max_pixels))
    if header.kind not in ("bmp", "jpeg", "png", "webp"):
        return None
    upright = (header.height, header.width)
    return upright[::-1] if header.orientation > 4 else upright


def _read_file(path: str | PathLike[str], most: int, pipes: bool) -> NDArray[np.uint8]:
    with _naming(path):
        if isinstance(path, str) and is_remote(path):
            data = read_remote(path)
            header = _checked_header(io.BytesIO(data), most)
            return _decode(data, header, most)
        with opened(path, pipes) as given:
            file = given if given.seekable() else io.BytesIO(read_open(given, _LARGEST_BESIDES))
            header = _checked_header(file, most)
            file.seek(0)
            pixels = header.width * header.height
            data = read_open(file, _LARGEST_BESIDES + _BYTES_OF_A_PIXEL * header.weight * pixels)
        return _decode(data, header, most)


@contextmanager
def _naming(path: str | PathLike[str]) -> Iterator[None]:
    """Whatever reading a file raises, as an InputError that names it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, not an image") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # OpenCV and Pillow raise many kinds
        raise InputError(f"{path}: cannot be decoded: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What a decoder says, in one line."""
    reason = " ".join(str(getattr(error, "err", "") or error).split())
    if "MAX_IMAGE" in reason:
        return "more pixels than OpenCV reads: 2^30, unless OPENCV_IO_MAX_IMAGE_PIXELS says otherwise"
    return reason or type(error).__name__


def _checked_header(file: BinaryIO, most: int) -> Header:
    """A file's header.

    Raises:
        InputError: it is of no kind that can be decoded, or tells of too many pixels.
    """
    header = read_header(file)
    if header is None:
        kinds = ", ".join(suffix[1:] for suffix in DECODED_SUFFIXES)
        raise InputError(f"not an image that can be decoded; known kinds, if not damaged: {kinds}")
    if header.kind == "heif":
        raise InputError("a HEIF image (HEIC), which cannot be decoded; convert it to JPEG or PNG")
    if header.kind != "avif":
        check_pixels(header.width, header.height, most, header.weight)
    return header


def _decode(data: bytes, header: Header, most: int) -> NDArray[np.uint8]:
    """The pixels of a file's bytes."""
    if header.kind == "avif":  # OpenCV does not turn it upright
        from PIL.AvifImagePlugin import AvifImageFile  # not Image.open, which Ultralytics replaces

        return _from_pillow(AvifImageFile(io.BytesIO(data)), most)
    given, decoded = np.frombuffer(data, np.uint8), None
    if header.kind == "tiff":  # OpenCV rounds a TIFF's 16-bit colours where it is asked for 8 bits
        decoded = cv2.imdecode(given, cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.ndim == 2:
        turned_here = header.kind in _TURNED_HERE
        decoded = cv2.imdecode(given, cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if turned_here else 0))
    if decoded is None:
        raise InputError(f"a damaged {header.kind} image, which cannot be decoded")
    if header.kind in _TURNED_HERE and decoded.shape[:2] != (header.height, header.width):
        raise InputError(f"a damaged {header.kind} image, which cannot be decoded: it is of several sizes")
    check_pixels(decoded.shape[1], decoded.shape[0], most)
    if decoded.dtype == np.uint16:
        decoded = (decoded >> 8).astype(np.uint8)
    if decoded.dtype != np.uint8:
        raise InputError(f"its pixels are {decoded.dtype}, of no known range; save them with 8 or 16 bits")
    bgr = np.ascontiguousarray(decoded[..., :3])
    rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr))  # in place: an image may take a gigabyte
    return np.ascontiguousarray(_TURNS[header.orientation](rgb))


def _from_pillow(image: Image.Image, most: int) -> NDArray[np.uint8]:
    check_pixels(*image.size, most)
    try:
        image.load()
        pixels = _rgb_of(image)
        orientation = _orientation_of_pillow(image)
    except InputError:
        raise
    except Exception as error:  # a file behind it that is cut off, closed or of another kind than it said
        raise InputError(f"a PIL image that cannot be read: {_reason(error)}") from error
    return np.array(_TURNS[orientation](pixels), order="C")


def _rgb_of(image: Image.Image) -> NDArray[np.uint8]:
    """The colours of a PIL image as it is stored, without its alpha."""
    if image.mode.startswith("I;16"):  # which convert() would clip
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, 2)
    if image.mode in ("I", "F"):
        raise InputError(f"a PIL image of mode {image.mode!r} has no known range; convert it to 8 or 16 bits first")
    between = {"P": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}.get(image.mode)
    try:
        return np.asarray((image.convert(between) if between else image).convert("RGB"))
    except ValueError as error:
        raise InputError(f"a PIL image of mode {image.mode!r} cannot be made RGB: {_reason(error)}") from error


def _orientation_of_pillow(image: Image.Image) -> int:
    """What the EXIF block of a PIL image says; Pillow's own reading believes other metadata too."""
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return orientation_of(exif)
    stated = image.getexif().get(_ORIENTATION, 1) if not image.info.get("xmp") else 1
    return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1


def _from_array(array: NDArray[Any], bgr: bool, most: int) -> NDArray[np.uint8]:
    if isinstance(array, np.ma.MaskedArray):
        raise InputError("a masked array does not say what its masked pixels are; fill them first: array.filled(114)")
    if array.dtype != np.uint8:
        raise InputError(f"an array must be uint8 in 0 .. 255, got {array.dtype}; convert it first")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise InputError(f"an array must be (H, W, 3), got {array.shape}")
    check_pixels(array.shape[1], array.shape[0], most)
    plain = np.asarray(array)  # of a np.matrix too
    if plain.ndim == 2:
        return np.repeat(plain[..., None], 3, 2)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(plain), cv2.COLOR_BGR2RGB)) if bgr else _own(plain)


def _is_tensor(image: object) -> TypeGuard[torch.Tensor]:
    """Whether something is a torch tensor; where torch was not imported, nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def _from_tensor(tensor: torch.Tensor, bgr: bool, most: int) -> NDArray[np.uint8]:
    if tensor.ndim != 3 or tensor.shape[0] != 3 or not tensor.numel():
        raise InputError(f"a tensor must be (3, H, W), got {tuple(tensor.shape)}; pass a batch as a list of its images")
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta or tensor.is_quantized or str(tensor.layout) != "torch.strided":
        what = "no pixels" if tensor.is_meta else "quantised pixels" if tensor.is_quantized else "no dense pixels"
        raise InputError(f"a tensor must hold its pixels as they are, and this one holds {what}; convert it first")
    if kind != "uint8" and not tensor.is_floating_point():
        raise InputError(f"a tensor must be uint8, or floating in [0, 1], got {kind}; convert it first")
    check_pixels(tensor.shape[2], tensor.shape[1], most)
    try:
        values = tensor.detach().cpu()
        if values.is_floating_point():
            values = values.float()
            low, high = float(values.min()), float(values.max())
            if not (low >= 0 and high <= 1):
                raise InputError(f"a floating tensor must lie in [0, 1], got [{low:g}, {high:g}]")
            values = (values * 255).round().byte()
        array = values.permute(1, 2, 0).resolve_neg().numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:  # on a device that is gone; of a subclass
        raise InputError(f"a tensor that cannot be read: {_reason(error)}") from error
    return _from_array(array, bgr, most)


def _own(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.array(array, np.uint8, order="C", copy=True)
