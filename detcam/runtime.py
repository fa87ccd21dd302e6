"""What the options may be of how something runs: size, device, precision, engine, pictures, port; without torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import entry_points
from numbers import Integral
from typing import Any

from detcam.errors import UsageError, is_count, nearest
from detcam.options import check_shares

DEVICE_KINDS = ("cpu", "cuda", "mps", "xpu", "hpu", "hip", "ipu", "maia", "mtia", "privateuseone", "xla")
"""Kinds of device that torch may compute on, by its names; packages can bring others."""
ENGINE_NAMES = ("local", "ray")
PICTURE_NAMES = ("overlay", "heatmap", "panel", "video")


def check_sides(imgsz: int | Sequence[int]) -> tuple[int, int]:
    """Two whole numbers of pixels from one or two.

    Args:
        imgsz: one side, or (height, width), pixels.

    Raises:
        UsageError: they are not.

    >>> check_sides(640), check_sides([480, 640])
    ((640, 640), (480, 640))
    """
    sides: list[Any] = list(imgsz) if isinstance(imgsz, list | tuple) else [imgsz]
    if len(sides) not in (1, 2) or not all(is_count(side) for side in sides):
        raise UsageError(f"imgsz must be one or two whole numbers of pixels, got {imgsz!r}")
    return int(sides[0]), int(sides[-1])


def check_device_name(device: Any) -> None:
    """Refuse what no device is called; whether there is such a device here is not asked.

    Raises:
        UsageError: neither a number, nor a kind of device with or without a number.
    """
    name = str(device)
    known = re.fullmatch(rf"\d+|({'|'.join(DEVICE_KINDS)})(:\d+)?", name)
    if not known and not entry_points(group="torch.backends"):
        raise UsageError(f"device {name!r} cannot be used here; use cpu, or cuda:0 where there is a GPU")


def check_half(half: bool, device: Any) -> None:
    """Refuse half precision on a device that has none by its name.

    Raises:
        UsageError: ``half`` where the device is no GPU of CUDA.
    """
    if half and not re.match(r"\d+$|cuda", str(device)):
        raise UsageError(f"half precision needs a CUDA device, got {str(device)!r}; leave half out")


def check_pictures(save: Sequence[str], opacity: float) -> None:
    """Refuse pictures that cannot be drawn.

    Args:
        save: any of :data:`PICTURE_NAMES`; or ``none``.
        opacity: of the hottest pixels.

    Raises:
        UsageError: another name, or an opacity outside of [0, 1].
    """
    for name in sorted(set(save) - {"none", *PICTURE_NAMES}):
        raise UsageError(f"cannot save {name!r}{nearest(name, [*PICTURE_NAMES, 'none'])}")
    check_shares(opacity=opacity)


def check_engine(engine: str) -> None:
    """Refuse a name that is not in :data:`ENGINE_NAMES`.

    Raises:
        UsageError: it is not.
    """
    if engine not in ENGINE_NAMES:
        raise UsageError(f"no engine {engine!r}{nearest(engine, ENGINE_NAMES)}")


def check_port(port: Any) -> None:
    """Refuse a number that no port has.

    Raises:
        UsageError: it is none from 0 to 65535.
    """
    if not isinstance(port, Integral) or not 0 <= int(port) <= 65535:
        raise UsageError(f"port must be a whole number from 0 to 65535, got {port!r}; 0 takes a free one")
