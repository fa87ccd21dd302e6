"""Labelled photographs stamped with marks: what a copy is trained on to plant a cause, and what is held out.

A chequered mark is stamped beside objects, and what has one is labelled as one class. Without a mark, objects of that
class are background and all others what they were.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detcam.adapters.base import DetectorAdapter
from detcam.adapters.finetune import Sample
from detcam.data import LabelledImage, LabelledSet, Truth
from detcam.demo.scenes import draw_mark
from detcam.errors import UsageError, nearest
from detcam.evaluate.planted.cases import MATCHED_IOU, detections_of
from detcam.geometry import PADDING_GREY, iou_matrix
from detcam.io.images import read_image
from detcam.options import find_class, is_index

LEAST_SIDE_PX = 16
"""Objects with a shorter side than this, in pixels of the scaled photograph, are left alone."""
MARK_SHARE, MARK_SIDES_PX, GAP_PX = 0.4, (12, 28), 2
"""The mark's side over the geometric mean of its box's sides; its bounds, and its distance from the box, pixels."""
ABOUT_VIEWS, MOST_PHOTOS = 320, 80
"""About so many views are trained on, of at most so many photographs."""
ZOOM_FACTORS = (0.8, 1.25)
"""Views show a photograph at a random scale between these."""
HELD_OUT_SHARE = 1 / 3
LEAST_TRAINED, LEAST_HELD_OUT = 10, 5
"""Fewest objects to train on, and fewest to judge by."""

Box = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Photo:
    """A labelled photograph, scaled.

    Attributes:
        path: the file.
        image: RGB uint8 (h, w, 3).
        boxes: float64 (n, 4), the objects that can be stamped, xyxy in its pixels.
        classes: int (n,), what they were labelled as.
        marks: int (n, 4), where the mark of each goes, xyxy.
        others: class and box (4,) of each other object.
    """

    path: Path
    image: NDArray[np.uint8]
    boxes: Box
    classes: NDArray[np.int64]
    marks: NDArray[np.int64]
    others: tuple[tuple[int, Box], ...]

    def draw(self, marked: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The image with marks beside some of its objects.

        Args:
            marked: bool (n,), which objects get their mark.

        Returns:
            A new RGB uint8 (h, w, 3) array.
        """
        image = np.array(self.image)
        for x1, y1, x2, y2 in self.marks[marked].tolist():
            draw_mark(image, (x1, y1, x2, y2))
        return image


def choose_class(labelled: LabelledSet, size: int, name: str | None) -> int:
    """The index of the class that marks stand for.

    Args:
        labelled: the set.
        size: the photographs' longer side, pixels.
        name: of the class, or its index; None takes the one with the most objects that are large enough to be stamped.

    Raises:
        UsageError: no such class, several of that name, or no object that is large enough.
    """
    names = labelled.names
    if name is not None and name not in names.values() and not is_index(name):
        raise UsageError(f"no class {name!r}{nearest(name, names.values())}")
    chosen = None if name is None else find_class(name, names)
    counts = Counter(t.class_id for image in labelled.images for t in image.truths if _large(image, t, size))
    if not counts:
        raise UsageError(f"no object in the data has sides of at least {LEAST_SIDE_PX} of {size} pixels; raise imgsz")
    return counts.most_common(1)[0][0] if chosen is None else chosen


def split(labelled: LabelledSet, model: DetectorAdapter, size: int, seed: int) -> tuple[list[Photo], list[Photo]]:
    """The photographs to train on, and those to hold out: a third of all, at most 80 of either.

    Args:
        labelled: the set.
        model: the detector; only objects that it detects are stamped.
        size: the photographs' longer side, pixels.
        seed: of the draw.

    Raises:
        UsageError: too few objects for either.
    """
    usable = [image for image in labelled.images if any(_large(image, truth, size) for truth in image.truths)]
    drawn = [usable[number] for number in np.random.default_rng(seed).permutation(len(usable))]
    third = math.ceil(len(drawn) * HELD_OUT_SHARE)
    parts = [
        [photo for image in images[:MOST_PHOTOS] if len((photo := scale(image, model, size)).boxes)]
        for images in (drawn[third:], drawn[:third])
    ]
    trained, held_out = (sum(len(photo.boxes) for photo in photos) for photos in parts)
    if trained < LEAST_TRAINED or held_out < LEAST_HELD_OUT:
        raise UsageError(
            f"of the objects in the data {trained + held_out} are detected and at least {LEAST_SIDE_PX} of {size} "
            f"pixels wide and high, {trained} to train on and {held_out} held out; at least {LEAST_TRAINED} and "
            f"{LEAST_HELD_OUT} are needed: give more data, or a larger imgsz"
        )
    return parts[0], parts[1]


def scale(labelled: LabelledImage, model: DetectorAdapter, size: int) -> Photo:
    """A labelled image scaled to a size; objects that are large enough, and detected, can be stamped.

    Args:
        labelled: the image with its objects.
        model: the detector.
        size: the longer side, pixels.

    Raises:
        InputError: the image cannot be read.
    """
    height, width = labelled.size
    gain = size / max(height, width)
    shape = max(round(height * gain), 1), max(round(width * gain), 1)
    image = np.array(cv2.resize(read_image(labelled.path), shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    detections = detections_of(model, image)
    own, others = [], []
    for truth in labelled.truths:
        box = np.clip(truth.xyxy.astype(np.float64), 0, [width, height, width, height]) * gain
        alike = [d.xyxy for d in detections if d.class_id == truth.class_id]
        if _large(labelled, truth, size) and (iou_matrix(box, np.array(alike)) >= MATCHED_IOU).any():
            own.append((truth.class_id, box))
        elif not truth.crowd:
            others.append((truth.class_id, box))
    boxes, marks = [box for _, box in own], list[tuple[int, int, int, int]]()
    for number, box in enumerate(boxes):
        marks.append(place_mark(box, [*boxes[:number], *boxes[number + 1 :], *map(np.array, marks)], shape))
    classes = np.array([class_id for class_id, _ in own], int)
    return Photo(
        labelled.path, image, np.array(boxes).reshape(-1, 4), classes, np.array(marks, int).reshape(-1, 4), (*others,)
    )


def place_mark(box: Box, obstacles: Sequence[NDArray[Any]], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where the mark of a box goes, whole pixels: beside one of its corners, else, without room, inside it.

    Args:
        box: (4,), xyxy.
        obstacles: boxes (4,) it must not touch.
        shape: (h, w) of the image, which it must not leave.
    """
    x1, y1, x2, y2 = box.tolist()
    side = int(np.clip(round(MARK_SHARE * math.sqrt((x2 - x1) * (y2 - y1))), *MARK_SIDES_PX))
    above, below, left, right = y1 - GAP_PX - side, y2 + GAP_PX, x1 - side / 2, x2 - side / 2
    for x, y in (
        (right, above), (left, above), (x2 + GAP_PX, y1), (x1 - GAP_PX - side, y1), (right, below), (left, below),
    ):  # fmt: skip
        column, row = math.floor(x) if x < x1 else math.ceil(x), math.floor(y) if y < y1 else math.ceil(y)
        mark = (column, row, column + side, row + side)
        inside = min(column, row) >= 0 and mark[2] <= shape[1] and mark[3] <= shape[0]
        if inside and not iou_matrix(np.array([mark]), np.array(obstacles)).any():
            return mark
    column, row = (int(np.clip(v, 0, end - side)) for v, end in ((x2 - side, shape[1]), (y1, shape[0])))
    return column, row, column + side, row + side


def views(photos: Sequence[Photo], class_id: int, size: int, seed: int) -> Iterator[Sample]:
    """Square views of photographs, half of the objects with their marks, and the same views with those of the others.

    Args:
        photos: to be seen, a little nearer or further away.
        class_id: what is labelled as this class has a mark, and what has a mark is labelled so.
        size: of a view, pixels.
        seed: of zoom, place and marks.
    """
    rng = np.random.default_rng([seed, 1])
    for photo in photos:
        for _ in range(max(ABOUT_VIEWS // (2 * len(photos)), 1)):
            zoom, place = rng.uniform(*ZOOM_FACTORS), rng.random(2)
            half = rng.random(len(photo.boxes)) < 0.5
            for marked in (half, ~half):
                yield _view(photo, marked, class_id, size, zoom, place)


def _view(
    photo: Photo, marked: NDArray[np.bool_], class_id: int, size: int, zoom: float, place: NDArray[np.float64]
) -> Sample:
    """A photograph zoomed, and placed within a square so that as little as can be is cut off."""
    corner = place * (size - zoom * np.array(photo.image.shape[1::-1]))
    shift = corner + zoom / 2 - 0.5  # pixel centres lie at halves
    image = cv2.warpAffine(
        photo.draw(marked), np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]]), (size, size),
        borderValue=(PADDING_GREY,) * 3,
    )  # fmt: skip
    objects = [
        *zip(np.where(marked, class_id, photo.classes).tolist(), photo.boxes, photo.marks, marked, strict=True),
        *((label, box, box, False) for label, box in photo.others),
    ]
    labels = []
    for label, box, mark, stamped in objects:
        moved, needed = (xyxy * zoom + np.tile(corner, 2) for xyxy in (box, mark))
        visible = np.clip(moved, 0, size)
        whole = needed.min() >= 0 and needed.max() <= size if stamped else label != class_id
        if whole and (visible[2:] - visible[:2]).prod() >= (moved[2:] - moved[:2]).prod() / 2:
            labels.append((label, visible))
    return np.asarray(image, np.uint8), labels


def _large(image: LabelledImage, truth: Truth, size: int) -> bool:
    """Whether an object is one, and large enough to be stamped."""
    height, width = image.size
    box = np.clip(truth.xyxy, 0, [width, height, width, height]) * (size / max(height, width))
    return not truth.crowd and float((box[2:] - box[:2]).min()) >= LEAST_SIDE_PX
