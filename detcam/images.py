"""Read an image, whatever it is given as, into an RGB uint8 array of its own."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from detcam.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

ImageLike: TypeAlias = "str | PathLike[str] | NDArray[np.uint8] | Image | torch.Tensor"

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def read_image(image: ImageLike, bgr: bool = False) -> NDArray[np.uint8]:
    """A read-only RGB uint8 (H, W, 3) copy of an image.

    Args:
        image: a path (EXIF orientation is applied), an RGB uint8 (H, W, 3) or grey (H, W) array, a PIL image, or a
            torch tensor (3, H, W), uint8 or floating in [0, 1], RGB.
        bgr: the array or tensor is BGR.

    Raises:
        InputError: not an image, unreadable, or of another shape, dtype or range.
    """
    if isinstance(image, str | PathLike):
        array = _read_file(Path(image))
    elif isinstance(image, torch.Tensor):
        array = _from_tensor(image, bgr)
    elif isinstance(image, np.ndarray):
        array = _from_array(image, bgr)
    elif hasattr(image, "convert"):
        array = np.array(image.convert("RGB"))
    else:
        raise InputError(f"expected a path, array, PIL image or tensor, got {type(image).__name__}")
    array.flags.writeable = False
    return array


def _read_file(path: Path) -> NDArray[np.uint8]:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: a folder, not an image")
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV cannot decode it: {error.err}") from error
    if decoded is None:
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise InputError(f"{path}: not an image that can be decoded; known kinds: {kinds}")
    return _own(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def _from_array(array: NDArray[Any], bgr: bool) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise InputError(f"an array must be uint8 in 0 .. 255, got {array.dtype}; convert it first")
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, 2)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InputError(f"an array must be (H, W, 3), got {array.shape}")
    return _own(array[..., ::-1] if bgr else array)


def _from_tensor(tensor: torch.Tensor, bgr: bool) -> NDArray[np.uint8]:
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise InputError(f"a tensor must be (3, H, W), got {tuple(tensor.shape)}; pass a batch as a list of its images")
    values = tensor.detach().cpu()
    if values.is_floating_point():
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):
            raise InputError(f"a floating tensor must lie in [0, 1], got [{low:g}, {high:g}]")
        values = (values.float() * 255).round().to(torch.uint8)
    return _from_array(values.permute(1, 2, 0).numpy(), bgr)


def _own(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.array(array, np.uint8, order="C", copy=True)
