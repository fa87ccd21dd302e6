"""Detections on which methods disagree most: the small copy of a map that a row keeps, and pictures of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from detcam.drawing.render import BOX_COLOUR, blend, heat_of, zoom_window
from detcam.errors import InputError
from detcam.evaluate.sanity import rank_correlation
from detcam.evaluate.summary import MAIN_FIGURE, is_baseline
from detcam.runs.photographs import read_photograph

if TYPE_CHECKING:
    from detcam.types import Explanation

    Line = Mapping[str, Any]

KEPT_CELLS = 48
"""Cells along either side of a kept map."""
COMPARED_METHODS = 4
"""How many of the best methods are compared to find where they disagree."""
MOST_EXAMPLES = 4
"""Disputed detections shown, each of another image."""
MOST_MAPS = 13
"""Maps shown of each; those of the best methods."""
TILE_PX = 200
"""Pixels along the longer side of a picture of a map."""


@dataclass(frozen=True)
class Example:
    """A detection on which the methods' maps differ.

    Attributes:
        image: the image's path.
        class_name: the detection's class.
        confidence: in [0, 1].
        agreement: mean rank correlation between the best methods' maps, in [-1, 1].
        photograph: the part of the image around the box, a JPEG.
        maps: for each method, best first, its name, its insertion minus deletion on this detection, and a JPEG.
    """

    image: str
    class_name: str
    confidence: float
    agreement: float
    photograph: bytes
    maps: tuple[tuple[str, float, bytes], ...]


def kept_map(explanation: Explanation) -> dict[str, Any]:
    """What a row keeps of a map, to draw it later.

    Returns:
        ``box``: xyxy, and ``window``: the part of the image around it, both original pixels; ``map``: what of the map
        lies in the window, KEPT_CELLS x KEPT_CELLS bytes, rows from the top, 255 at the whole map's peak.
    """
    x1, y1, x2, y2 = window = zoom_window(explanation)
    small = cv2.resize(heat_of(explanation)[y1:y2, x1:x2], (KEPT_CELLS, KEPT_CELLS), interpolation=cv2.INTER_AREA)
    return {
        "box": explanation.detection.xyxy.tolist(),
        "window": list(window),
        "map": np.rint(small * 255).astype(np.uint8).tobytes(),
    }


def examples(table: pl.DataFrame, lines: Sequence[Line]) -> Iterator[Example]:
    """The detections that the best methods' maps agree on least, each of another image.

    Rows without maps give none, and an image that cannot be read any more is passed over.

    Args:
        table: the rows of an evaluation.
        lines: from :func:`detcam.evaluate.summary.summarise`, best first.
    """
    if "map" not in table.columns:
        return
    names = [line["method"] for line in lines]
    methods = [name for name in names if not is_baseline(name)]
    compared = methods[:COMPARED_METHODS] if len(methods) > 1 else names[:COMPARED_METHODS]
    disputed = []
    for _, rows in table.filter(pl.col("map").is_not_null()).group_by("image", "detection", maintain_order=True):
        by_method = {row["method"]: row for row in rows.to_dicts()}
        maps = [_map(by_method[name]) for name in compared if name in by_method]
        alike = [rank_correlation(one, other) for one, other in combinations(maps, 2)]
        alike = [value for value in alike if math.isfinite(value)]
        if alike:
            disputed.append((float(np.mean(alike)), [by_method[name] for name in names if name in by_method]))
    shown_images: set[str] = set()
    for agreement, own_rows in sorted(disputed, key=lambda pair: pair[0]):
        first = own_rows[0]
        if len(shown_images) == MOST_EXAMPLES or first["image"] in shown_images:
            continue
        try:
            image = read_photograph(first["image"])
        except InputError:
            continue
        shown_images.add(first["image"])
        drawn = tuple((row["method"], row[MAIN_FIGURE], _tile(image, row, _map(row))) for row in own_rows[:MOST_MAPS])
        photograph = _tile(image, first)
        yield Example(first["image"], first["class_name"], first["confidence"], agreement, photograph, drawn)


def _map(row: Mapping[str, Any]) -> NDArray[np.float32]:
    cells = np.frombuffer(row["map"], np.uint8).reshape(KEPT_CELLS, KEPT_CELLS)
    return np.asarray(cells / 255, np.float32)


def _tile(image: NDArray[np.uint8], row: Mapping[str, Any], heat: NDArray[np.float32] | None = None) -> bytes:
    """The window of an image with its box, under its map where one is given: a JPEG."""
    x1, y1, x2, y2 = row["window"]
    scale = TILE_PX / max(x2 - x1, y2 - y1)
    size = max(round((x2 - x1) * scale), 1), max(round((y2 - y1) * scale), 1)
    sampling = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(image[y1:y2, x1:x2], size, interpolation=sampling).astype(np.uint8, copy=False)
    if heat is not None:
        picture = blend(picture, cv2.resize(heat, size, interpolation=cv2.INTER_LINEAR))
    left, top, right, bottom = (round(v) for v in (np.array(row["box"]) - [x1, y1, x1, y1]) * scale)
    picture = np.ascontiguousarray(picture)
    cv2.rectangle(picture, (left, top), (right, bottom), (0, 0, 0), 4)
    cv2.rectangle(picture, (left, top), (right, bottom), BOX_COLOUR, 2)
    return cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()
