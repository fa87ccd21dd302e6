"""The report's pictures: photographs made small, the part around each box, and maps as colour over transparency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from detcam.drawing.render import BOX_COLOUR, colourmap, write_image
from detcam.errors import InputError, UsageError
from detcam.io.images import read_image
from detcam.runs.cells import read_letterbox
from detcam.runs.photographs import read_photograph
from detcam.runs.schema import read_heatmap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detcam.geometry import Letterbox

    Box = Sequence[float]

PHOTOGRAPH_SIDE_PX = 1280
"""Longer side of a photograph in the report at most."""
THUMBNAIL_SIDE_PX = 160
THUMBNAIL_REACH = 2
"""Side of the part that a thumbnail shows, over that of the boxes: causes are often beside them."""
MOST_MAP_CELLS = 160
"""Cells along a map's longer side at most; finer maps are averaged: single pixels cannot be seen over a photograph."""
MOST_ENLARGED = 16
"""How many times larger than the network's input an image may have been scaled before it was cropped to it."""
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 84, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
"""Colour at full resolution: the lines of boxes are thin."""
TRUTH_COLOUR = (255, 255, 255)
HEAT_COLOURS = colourmap("inferno").astype(np.uint8)
HEAT_OPACITY = np.rint(255 * np.sqrt(np.linspace(0, 1, 256))).astype(np.uint8)
"""Alpha of each of these colours, 0 for the coldest: where the map is zero, the photograph shows."""


@dataclass(frozen=True)
class CasePicture:
    """What is drawn of one case.

    Attributes:
        number: of the case; its files are named by it.
        predicted, truth: boxes xyxy in original pixels, or None.
        heatmap: the row's key ``FILE.npz#NAME``, or None.
        letterbox: the row's column of that name, or None.
    """

    number: int
    predicted: Box | None
    truth: Box | None
    heatmap: str | None
    letterbox: str | None


@dataclass(frozen=True)
class DrawnImage:
    """What came of drawing one image.

    Attributes:
        width: original pixels; 0 where it is not known.
        height: likewise.
        problem: why the image could not be read, or empty.
        heats: numbers of the cases that have a map.
        lost: why maps of it could not be read, or empty.
    """

    width: int = 0
    height: int = 0
    problem: str = ""
    heats: frozenset[int] = frozenset()
    lost: str = ""


def draw_image(maps: Path, folder: Path, number: int, source: str, shots: Sequence[CasePicture]) -> DrawnImage:
    """Write the pictures of one image and its cases: ``images/N.jpg``, ``thumbs/N.jpg`` and ``heat/N.png``.

    Args:
        maps: folder of the run's ``.npz`` files.
        folder: where the three folders are.
        number: of the image.
        source: its path.
        shots: its cases.
    """
    heats, lost = _draw_heats(maps, folder / "heat", shots)
    try:
        picture = read_photograph(source)
    except InputError as error:
        known = next((shot.letterbox for shot in shots if shot.letterbox), None)
        height, width = read_letterbox(known).original if known else (0, 0)
        return DrawnImage(width, height, str(error), heats, lost)
    height, width = picture.shape[:2]
    gain = min(PHOTOGRAPH_SIDE_PX / max(height, width), 1)
    size = max(round(width * gain), 1), max(round(height * gain), 1)
    _write_jpeg(folder / "images" / f"{number}.jpg", cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    for shot in shots:
        _write_jpeg(folder / "thumbs" / f"{shot.number}.jpg", thumbnail(picture, shot.predicted, shot.truth))
    return DrawnImage(width, height, "", heats, lost)


def thumbnail(picture: NDArray[np.uint8], predicted: Box | None, truth: Box | None) -> NDArray[np.uint8]:
    """The part of an image around a case's boxes, with both boxes drawn.

    Args:
        picture: RGB uint8 (H, W, 3).
        predicted: xyxy, original pixels, or None.
        truth: likewise; one of the two is there.

    Returns:
        RGB uint8, its longer side 160 pixels.
    """
    height, width = picture.shape[:2]
    boxes = [_ordered(box) for box in (truth, predicted) if box is not None]
    low, high = np.min(boxes, 0)[:2], np.max(boxes, 0)[2:]
    side = max(float((high - low).max()) * THUMBNAIL_REACH, 48)
    start = np.clip((low + high - side) / 2, 0, np.maximum(np.array([width, height]) - side, 0)).astype(int)
    x, y = np.minimum(start, [width - 1, height - 1]).tolist()
    crop = picture[y : y + round(side), x : x + round(side)]
    gain = THUMBNAIL_SIDE_PX / max(crop.shape[:2])
    size = max(round(crop.shape[1] * gain), 1), max(round(crop.shape[0] * gain), 1)
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if gain < 1 else cv2.INTER_CUBIC)
    for box, colour in ((truth, TRUTH_COLOUR), (predicted, BOX_COLOUR)):
        if box is not None:
            x1, y1, x2, y2 = np.rint((_ordered(box) - [x, y, x, y]) * gain).astype(int).tolist()
            cv2.rectangle(small, (x1, y1), (x2, y2), (0, 0, 0), 3)
            cv2.rectangle(small, (x1, y1), (x2, y2), colour, 1)
    return np.asarray(small, np.uint8)


def heat_values(raw: NDArray[np.float32], letterbox: Letterbox) -> NDArray[np.uint8]:
    """The image's part of a map at the map's own resolution: uint8 (h, w), 255 its peak, 0 where it is not positive.

    Args:
        raw: float32 (h, w) over the network's input.
        letterbox: places it; sampling is that of :meth:`detcam.geometry.Letterbox.map_to_original`.
    """
    gain = min(MOST_MAP_CELLS / max(raw.shape), 1)
    height, width = (max(round(side * gain), 1) for side in raw.shape)
    raw = cv2.resize(raw, (width, height), interpolation=cv2.INTER_AREA)
    shares = (size / side for size, side in zip(letterbox.resized, letterbox.network, strict=True))
    rows, columns = (
        min(max(round(cells * share), 1), MOST_MAP_CELLS * MOST_ENLARGED)
        for cells, share in zip(raw.shape, shares, strict=True)
    )
    positive = np.maximum(replace(letterbox, original=(rows, columns)).map_to_original(raw), 0)
    peak = float(positive.max())
    return np.rint(positive / peak * 255).astype(np.uint8) if peak > 0 else positive.astype(np.uint8)


def write_patch(source: Path, path: Path) -> None:
    """Copy a small picture as PNG.

    Args:
        source: the picture.
        path: where to.

    Raises:
        InputError: it cannot be read, or is no small picture.
    """
    picture = read_image(source)
    gain = min(PHOTOGRAPH_SIDE_PX / max(picture.shape[:2]), 1)
    if gain < 1:
        raise InputError(f"{source}: {picture.shape[1]} x {picture.shape[0]} pixels are no patch of an image")
    write_image(path, picture)


def _draw_heats(maps: Path, folder: Path, shots: Sequence[CasePicture]) -> tuple[frozenset[int], str]:
    """Draw cases' maps; the numbers of those that have one, and why others could not be read."""
    drawn, lost = set(), ""
    by_file: dict[str, list[tuple[CasePicture, str]]] = {}
    for shot in shots:
        file, _, name = (shot.heatmap or "").partition("#")
        if file and shot.letterbox:
            by_file.setdefault(file, []).append((shot, name))
    for file, wanted in by_file.items():
        for shot, name in wanted:
            try:
                raw = read_heatmap(maps.parent, f"{file}#{name}", 1)
            except UsageError as error:
                lost = str(error)
                continue
            values = heat_values(raw, read_letterbox(shot.letterbox or ""))
            if values.any():
                _write_heat(folder / f"{shot.number}.png", values)
                drawn.add(shot.number)
    return frozenset(drawn), lost


def _write_heat(path: Path, values: NDArray[np.uint8]) -> None:
    picture = Image.fromarray(values)
    picture.putpalette(HEAT_COLOURS.tobytes())
    picture.save(path, transparency=HEAT_OPACITY.tobytes())


def _write_jpeg(path: Path, picture: NDArray[np.uint8]) -> None:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], JPEG)
    path.write_bytes(data.tobytes())


def _ordered(box: Box) -> NDArray[np.float64]:
    """A box with x1 <= x2 and y1 <= y2; some heads answer with swapped sides."""
    corners = np.asarray(box, np.float64).reshape(2, 2)
    return np.concatenate([corners.min(0), corners.max(0)])
