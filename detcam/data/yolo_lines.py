"""Lines of Ultralytics' label files: boxes, polygons, rotated boxes, keypoints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detcam.data.fields import shortened
from detcam.data.labels import FARTHEST, Label, Problem, Reader, as_box
from detcam.data.outlines import check_outline
from detcam.errors import InputError
from detcam.io.documents import read_text

COORDINATE_TOLERANCE = 0.01
"""How far a box's centre may lie outside [0, 1] and its sides may exceed 1, as in Ultralytics: shares of the image."""
LARGEST_FILE = 2**24
"""Bytes of an image's label file."""
MOST_LABELS = 100_000
"""Lines of an image's label file."""
_TANGLED_AT_MOST = 1000  # points of an outline: keypoints are fewer
KEYPOINT_MARGIN = 0.1
"""How far outside its box a keypoint may lie to be taken for one, as a share of the box's sides."""


def label_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Numbers, from 1 on, and values of the lines of a label file that are not empty; none of one that is no text."""
    try:
        lines = read_text(path, LARGEST_FILE).splitlines()
    except InputError:
        return
    for number, line in enumerate(lines, 1):
        if values := line.split():
            yield number, values


def guess_keypoints(labels: Iterable[Path]) -> tuple[int, int] | None:
    """Which ``kpt_shape`` label files without one seem to have, or None where they seem to have no keypoints.

    They do where all lines that are longer than a box's have as many values, and what follows the first five lies in
    that box: with visibilities of 0, 1 and 2; or, without, where the values read as an outline are a tangle.

    Args:
        labels: the files, of which no more are read than decide it.

    Returns:
        How many keypoints, and how many values each of them; or None.
    """
    possible, length, lines, tangles = {2, 3}, 0, 0, 0
    for path in labels:
        for _, line in label_lines(path):
            if len(line) <= 5:
                continue
            length = length or len(line)
            try:
                values = np.array(line[1:], np.float64)
            except ValueError:
                return None
            possible = {each for each in possible if len(line) == length and _may_be_keypoints(values, each)}
            if not possible:
                return None
            lines += 1
            tangles += len(values) % 2 == 0 and _crosses_itself(values.reshape(-1, 2))
    if 3 in possible and lines:
        return (length - 5) // 3, 3
    return ((length - 5) // 2, 2) if lines and 2 * tangles >= lines else None


def _may_be_keypoints(values: NDArray[np.float64], each: int) -> bool:
    """Whether values may be a box and keypoints of 2 or 3 values each."""
    if (len(values) - 4) % each:
        return False
    centre, sides, points = values[:2], values[2:4], values[4:].reshape(-1, each)
    seen = points[:, 2] > 0 if each == 3 else (points > 0).any(1)
    if each == 3 and not np.isin(points[:, 2], (0, 1, 2)).all():
        return False
    if each == 3 and (len(values) % 2 or (points[:, 2] == 2).any()):  # no outline has an odd value or a share of 2
        return True
    return bool((np.abs(points[seen, :2] - centre) <= sides * (0.5 + KEYPOINT_MARGIN)).all() and seen.any())


def _crosses_itself(polygon: NDArray[np.float64]) -> bool:
    """Whether two sides of a polygon cross; of one with very many, nobody asks."""
    if len(polygon) > _TANGLED_AT_MOST:
        return False
    start, end = polygon, np.roll(polygon, -1, 0)

    def side(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> NDArray[np.float64]:
        one, other = b - a, c - a
        return np.sign(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])

    a, b, c, d = start[:, None], end[:, None], start[None], end[None]
    return bool(((side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)).any())


def read_labels(
    path: Path, image: str, size: tuple[int, int], keypoints: tuple[int, int] | None, reader: Reader
) -> Iterator[Label]:
    """The labels of one file; what is wrong with the others is noted.

    Args:
        path: the file.
        image: the image's name, for the labels' ids.
        size: the image's (height, width), pixels.
        keypoints: how many a label has and how many values each of them, or None.
        reader: has the set's classes, and is told of what cannot be used.
    """
    try:
        read_text(path, LARGEST_FILE)
    except InputError as error:
        reader.lose(path, str(error))
        return
    first_lines: dict[tuple[str, ...], int] = {}
    for counted, (number, values) in enumerate(label_lines(path), 1):
        if counted > MOST_LABELS:
            more = sum(1 for _ in label_lines(path)) - MOST_LABELS
            reader.lose(path, f"line {number}: more than {MOST_LABELS:,} labels; the last {more:,} are left out", more)
            return
        first = first_lines.setdefault(tuple(values), number)
        if first != number:
            reader.problems.append(Problem(path, f"line {number}: repeats line {first}; counted once"))
            continue
        try:
            label = _label(values, f"{image}:{number}", size, keypoints, reader)
        except ValueError as error:
            reader.lose(path, f"line {number}: {error}")
        else:
            yield label


def _label(
    values: Sequence[str], name: str, size: tuple[int, int], keypoints: tuple[int, int] | None, reader: Reader
) -> Label:
    class_id, points = _numbers(values, reader.own)
    parts: NDArray[np.float32] | None = None
    if keypoints is not None and len(points) != 4:
        if len(points) != 4 + keypoints[0] * keypoints[1]:
            raise ValueError(
                f"{len(values)} values; with kpt_shape {list(keypoints)} a label has {5 + keypoints[0] * keypoints[1]} "
                "(class, box, keypoints), or 5 without keypoints"
            )
        points, parts = points[:4], _keypoints(points[4:].reshape(keypoints), size)
    if len(points) != 4 and (len(points) < 6 or len(points) % 2):
        raise ValueError(
            f"{len(values)} values; a box has 5 (class, x and y of its centre, width, height), an outline 7 or any "
            "larger odd number (class, x and y of each point); for keypoints kpt_shape is missing"
        )
    if len(points) == 4 and min(points[2:]) <= 0:
        raise ValueError(f"a negative size or none: {points[2]:g} x {points[3]:g} (width x height)")
    polygon = points.reshape(-1, 2) if len(points) > 4 else None
    _check_shares(points, polygon)
    if polygon is None:
        low, high = points[:2] - points[2:] / 2, points[:2] + points[2:] / 2
    else:
        low, high = polygon.min(0), polygon.max(0)
        if (low == high).any():
            raise ValueError("the outline's points lie on one line, so it has no size")
    if points.min() < 0 or points.max() > 1:
        reader.tally["labels with a coordinate outside [0, 1] by what Ultralytics lets pass, kept as written"] += 1
    scale = np.array([size[1], size[0]], np.float64)
    outline = None if polygon is None else (polygon * scale,)
    if outline is not None:
        check_outline(outline, size)
    xyxy = as_box([*(low * scale).tolist(), *(high * scale).tolist()])
    return Label(name, class_id, xyxy, outline, keypoints=parts)


def _numbers(values: Sequence[str], own: Mapping[int, str]) -> tuple[int, NDArray[np.float64]]:
    """A line's class, and what follows it."""
    numbers = []
    for value in values:
        try:
            numbers.append(float(value))
        except ValueError:
            raise ValueError(f"not a number: {shortened(value)}") from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"not a finite number in {shortened(' '.join(values))}")
    if numbers[0] not in own:  # 1.0 == 1
        raise ValueError(f"class {values[0][:80]} is not among the set's {len(own)} classes, {min(own)} .. {max(own)}")
    return int(numbers[0]), np.array(numbers[1:])


def _keypoints(parts: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Keypoints in pixels with their visibility, (n, 3); without one those at negative coordinates are missing."""
    if (np.abs(parts) > FARTHEST / max(size)).any():
        raise ValueError(f"keypoints are shares of the image, got {shortened(parts.ravel().tolist())}")
    labelled = parts[:, 2] if parts.shape[1] > 2 else 2 * (parts >= 0).all(1)
    return np.column_stack([parts[:, :2] * (size[1], size[0]), labelled]).astype(np.float32)


def _check_shares(points: NDArray[np.float64], polygon: NDArray[np.float64] | None) -> None:
    """Refuse what Ultralytics refuses: a box, of an outline what encloses it, that is no shares of the image."""
    box = points
    if polygon is not None:
        low, high = polygon.min(0), polygon.max(0)
        box = np.concatenate([(low + high) / 2, high - low])
    if box.min() < -COORDINATE_TOLERANCE or box.max() > 1 + COORDINATE_TOLERANCE:
        farthest = points[np.abs(points - 0.5).argmax()]
        raise ValueError(f"coordinate {farthest:g} outside [0, 1]; labels are shares of the image's width and height")
