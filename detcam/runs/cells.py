"""The cells of a run's tables that hold JSON: where a map lies, a receipt, what a box rests on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from detcam.errors import UsageError
from detcam.geometry import Letterbox
from detcam.io.documents import parse_json
from detcam.runs.shapes import EVIDENCE, LETTERBOX, PATCH, RECEIPT, Shape
from detcam.types import Evidence, Receipt

LARGEST_CELL = 100_000
"""Bytes."""
LONGEST_SIDE_PX = 10_000_000
"""Of a coordinate in a run; no image is as large."""
MOST_PIXELS = 2**30
"""Of an image, and of a detector's input: more than OpenCV reads."""


def read_letterbox(text: str) -> Letterbox:
    """Where a row's map lies in its image.

    Args:
        text: the row's column ``letterbox``.

    Raises:
        ValueError: not a letterbox, or one of an image that nobody has.
    """
    places = _read(text, LETTERBOX, "letterbox")
    if len(places) != 4:
        raise ValueError(f"letterbox has {len(places)} places, not 4")
    whole = {name: tuple(_whole(side, f"letterbox.{name}") for side in pair) for name, pair in places.items()}
    for name in ("original", "network", "resized"):
        if whole[name][0] * whole[name][1] > MOST_PIXELS:
            raise ValueError(f"letterbox.{name} of {whole[name][0]} x {whole[name][1]} pixels is too large")
    return Letterbox(**whole)  # type: ignore[arg-type]


def read_receipt(text: str) -> Receipt:
    """A row's receipt.

    Args:
        text: the row's column ``receipt``.

    Raises:
        ValueError: not a receipt.
    """
    try:
        return Receipt(**_read(text, RECEIPT, "receipt"))
    except TypeError as error:  # keys of another kind
        raise ValueError(f"receipt: {error}") from error


def read_evidence(text: str) -> Evidence | Mapping[str, Any]:
    """What a row's box rests on; of a review's error the patch that it hangs on, see :attr:`~detcam.runs.Row.patch`.

    Args:
        text: the row's column ``evidence``.

    Raises:
        ValueError: neither.
    """
    evidence = _read(text, lambda value, _: value, "evidence")
    if isinstance(evidence, dict) and "patches" not in evidence:
        patch = PATCH(evidence, "evidence")
        patch["xyxy"] = [_whole(side, "evidence.xyxy") for side in patch["xyxy"]]
        if patch["xyxy"][0] >= patch["xyxy"][2] or patch["xyxy"][1] >= patch["xyxy"][3] or min(patch["xyxy"]) < 0:
            raise ValueError(f"evidence.xyxy must be a patch of the image, got {patch['xyxy']}")
        if max(map(abs, patch["place"])) > LONGEST_SIDE_PX:
            raise ValueError(f"evidence.place must lie near the box, got {patch['place']}")
        return MappingProxyType({key: patch[key] for key in _PATCH})
    evidence = EVIDENCE(evidence, "evidence")
    for box in evidence["patches"]:
        for side in box:
            _whole(side, "evidence.patches")
    try:
        return Evidence(**evidence)
    except TypeError as error:
        raise ValueError(f"evidence: {error}") from error


_PATCH = ("xyxy", "flipped", "control", "before", "after", "place", "outside")


def _read(text: str, shape: Shape, name: str) -> Any:
    if len(text) > LARGEST_CELL:
        raise ValueError(f"{name} has {len(text):,} characters")
    try:
        value = parse_json(text)
    except UsageError as error:
        raise ValueError(f"{name}: {error}") from error
    return shape(value, name)


def _whole(side: float, where: str) -> int:
    if side != int(side) or abs(side) > LONGEST_SIDE_PX:
        raise ValueError(f"{where} must be whole pixels, got {side:g}")
    return int(side)
