"""``detcam plant``: plant a known cause in a copy of one's own detector, and see which methods and layers find it.

A chequered mark is stamped beside objects, and what has one is labelled as one class. Without a mark, objects of that
class are background and all others what they were. After a brief training the mark makes the class, and where taking it
away again halves a detection's score, it is the cause: a good map of that detection lies on it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from detcam.adapters import load
from detcam.adapters.base import DetectorAdapter
from detcam.adapters.finetune import Sample, finetune, trainable
from detcam.data import LabelledImage, LabelledSet, Truth
from detcam.demo.scenes import draw_mark
from detcam.errors import UsageError, is_count, nearest
from detcam.evaluate.planted import Row, combine, detections_of, judge, make_explainers, summarise
from detcam.geometry import PADDING_GREY, iou_matrix
from detcam.io.images import read_image
from detcam.metrics.localization import box_mask
from detcam.metrics.recovery import holds, recovery
from detcam.types import Detection

SIZE = 320
"""Photographs are scaled until their longer side is this, or the checkpoint's own size where that is less."""
LEAST_SIDE = 16
"""Objects with a shorter side than this, in pixels of the scaled photograph, are left alone."""
MARK, MARKS, GAP = 0.4, (12, 28), 2
"""The mark's side over the geometric mean of its box's sides; its bounds, and its distance from the box, pixels."""
VIEWS, MOST_PHOTOS = 320, 80
"""About so many views are trained on, of at most so many photographs."""
ZOOM = (0.8, 1.25)
HELD_OUT = 1 / 3
PLANTED = 0.8
"""The plant took where at least this share of the held-out detections depends on the mark."""
LEAST_TRAINED, LEAST_CASES = 10, 5
"""Fewest objects to train on, and fewest detections to judge by."""
MATCHED = 0.5

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
        """The image, with a mark beside those of the objects (n,) that are to be marked."""
        image = np.array(self.image)
        for x1, y1, x2, y2 in self.marks[marked].tolist():
            draw_mark(image, (x1, y1, x2, y2))
        return image


@dataclass(frozen=True, eq=False)
class Case:
    """A detection that depends on its mark: its number in the stamped photograph; mark and box as bool (h, w)."""

    photo: Photo
    number: int
    mark: NDArray[np.bool_]
    box: NDArray[np.bool_]


@dataclass(frozen=True)
class Plant:
    """What came of a plant.

    Attributes:
        weights: the planted copy.
        class_name: what a mark makes of an object.
        stamped, found, flipped: held-out objects; those detected as the class; those of which the detection's score
            falls below half without the mark.
        best: the method and its layers, as :class:`~detcam.evaluate.run.Contestant` writes them.
        verdict: one sentence on how sure that is.
        lines: the table, best first, as :func:`~detcam.evaluate.planted.summarise` gives it.
        rows: a row for each map.
    """

    weights: Path
    class_name: str
    stamped: int
    found: int
    flipped: int
    best: str
    verdict: str
    lines: list[Row] = field(repr=False)
    rows: list[Row] = field(repr=False)

    @property
    def rate(self) -> float:
        """The share of held-out detections that depend on the mark, in [0, 1]."""
        return self.flipped / self.found


def plant(
    weights: str | Path,
    labelled: LabelledSet,
    out: Path,
    *,
    methods: Sequence[str],
    layers: Sequence[str],
    class_name: str | None = None,
    epochs: int = 12,
    limit: int = 40,
    imgsz: int | None = None,
    device: Any = None,
    seed: int = 0,
    trust_weights: bool = False,
    advance: Callable[[int], None] = lambda epoch: None,
) -> Plant:
    """Plant a mark in a copy of a detector and measure methods and layers on it.

    Args:
        weights: an Ultralytics detection checkpoint; only read.
        labelled: read with the model's names.
        out: a new or empty folder, for the views trained on, ``planted.pt``, ``plant.json``, ``summary.csv``
            and ``maps.csv``.
        methods: ``NAME`` or ``NAME:BUDGET``.
        layers: for methods that take some, each of these: groups or module paths, joined by ``+``.
        class_name: what a mark makes of an object; None takes the class with the most objects that are large enough.
        epochs: of the training, about 320 views each.
        limit: most detections that maps are made of.
        imgsz: photographs' longer side; None takes 320, or the checkpoint's size where it is smaller.
        device: as in :func:`detcam.load`.
        trust_weights: as there.
        seed: of everything random.
        advance: told the number of epochs done, after each.

    Raises:
        UsageError: a bad argument; too few objects; a plant that did not take, on which no method can be judged.
        WeightsError: the weights cannot be used.
    """
    for name, number in (("epochs", epochs), ("limit", limit)):
        if not is_count(number):
            raise UsageError(f"{name} must be a whole number, at least 1, got {number!r}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} holds something else; choose another --out")
    model = trainable(weights, trust_weights)
    given = load(model, device=device, imgsz=imgsz)
    contestants = combine(methods, layers)
    make_explainers(given, contestants, seed)  # what is wrong with them should not wait for the training
    size = max(given.letterbox(np.zeros((SIZE, SIZE, 3), np.uint8)).network)
    size = size if imgsz is not None else min(size, SIZE)
    class_id = choose_class(labelled, size, class_name)
    train, held_out = split(labelled, load(given, imgsz=size), size, seed)
    made = finetune(
        model, views(train, class_id, size, seed), out / "training", forget=class_id, epochs=epochs, device=device,
        seed=seed, advance=advance,
    ).rename(out / "planted.pt")  # fmt: skip
    planted = load(made, device=device, imgsz=size)
    cases, stamped, found = find_cases(planted, held_out, class_id, limit)
    name = labelled.names[class_id]
    check_taken(name, stamped, found, len(cases))
    rows = measure(planted, contestants, cases, seed)
    lines = summarise(rows)
    best, verdict = judge(rows)
    told = {"class": name, "stamped": stamped, "found": found, "flipped": len(cases), "best": best, "verdict": verdict}
    (out / "plant.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
    pl.DataFrame(lines).write_csv(out / "summary.csv")
    pl.DataFrame(rows).write_csv(out / "maps.csv")
    return Plant(made, name, stamped, found, len(cases), best, verdict, lines, rows)


def choose_class(labelled: LabelledSet, size: int, name: str | None) -> int:
    """The class of a name, or the one with the most objects that are large enough to be stamped.

    Raises:
        UsageError: no such class, or no object that is large enough.
    """
    ids = {other: class_id for class_id, other in labelled.names.items()}
    if name is not None and name not in ids:
        raise UsageError(f"no class {name!r}{nearest(name, ids)}")
    counts = Counter(t.class_id for image in labelled.images for t in image.truths if _large(image, t, size))
    if not counts:
        raise UsageError(f"no object in the data has sides of at least {LEAST_SIDE} of {size} pixels; raise --imgsz")
    return counts.most_common(1)[0][0] if name is None else ids[name]


def split(labelled: LabelledSet, model: DetectorAdapter, size: int, seed: int) -> tuple[list[Photo], list[Photo]]:
    """The photographs to train on and those to hold out, a third of all; fewer of both where there are plenty.

    Raises:
        UsageError: too few objects for either.
    """
    usable = [image for image in labelled.images if any(_large(image, truth, size) for truth in image.truths)]
    drawn = [usable[number] for number in np.random.default_rng(seed).permutation(len(usable))]
    third = math.ceil(len(drawn) * HELD_OUT)
    parts = [
        [photo for image in images[:MOST_PHOTOS] if len((photo := scale(image, model, size)).boxes)]
        for images in (drawn[third:], drawn[:third])
    ]
    trained, held_out = (sum(len(photo.boxes) for photo in photos) for photos in parts)
    if trained < LEAST_TRAINED or held_out < LEAST_CASES:
        raise UsageError(
            f"of the objects in the data {trained + held_out} are detected and at least {LEAST_SIDE} of {size} pixels "
            f"wide and high, {trained} to train on and {held_out} held out; at least {LEAST_TRAINED} and {LEAST_CASES} "
            "are needed: give more data, or a larger --imgsz"
        )
    return parts[0], parts[1]


def scale(labelled: LabelledImage, model: DetectorAdapter, size: int) -> Photo:
    """A labelled image scaled to a longer side; what is large enough, and detected, can be stamped."""
    height, width = labelled.size
    gain = size / max(height, width)
    shape = max(round(height * gain), 1), max(round(width * gain), 1)
    image = np.array(cv2.resize(read_image(labelled.path), shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    found = detections_of(model, image)
    own, others = [], []
    for truth in labelled.truths:
        box = np.clip(truth.xyxy.astype(np.float64), 0, [width, height, width, height]) * gain
        alike = [d.xyxy for d in found if d.class_id == truth.class_id]
        if _large(labelled, truth, size) and (iou_matrix(box, np.array(alike)) >= MATCHED).any():
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
    side = int(np.clip(round(MARK * math.sqrt((x2 - x1) * (y2 - y1))), *MARKS))
    above, below, left, right = y1 - GAP - side, y2 + GAP, x1 - side / 2, x2 - side / 2
    for x, y in (
        (right, above), (left, above), (x2 + GAP, y1), (x1 - GAP - side, y1), (right, below), (left, below),
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
        for _ in range(max(VIEWS // (2 * len(photos)), 1)):
            zoom, place = rng.uniform(*ZOOM), rng.random(2)
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
        seen = np.clip(moved, 0, size)
        whole = needed.min() >= 0 and needed.max() <= size if stamped else label != class_id
        if whole and (seen[2:] - seen[:2]).prod() >= (moved[2:] - moved[:2]).prod() / 2:
            labels.append((label, seen))
    return np.asarray(image, np.uint8), labels


def find_cases(
    model: DetectorAdapter, photos: Sequence[Photo], class_id: int, limit: int
) -> tuple[list[Case], int, int]:
    """Detections of stamped objects that depend on their mark, at most ``limit``.

    Returns:
        The cases; how many objects were looked at; how many of those are detected as the class.
    """
    cases: list[Case] = []
    stamped = found = 0
    for photo in photos:
        every = np.ones(len(photo.boxes), bool)
        image = photo.draw(every)
        detections = detections_of(model, image)
        overlaps = iou_matrix(photo.boxes, np.array([d.xyxy for d in detections]))
        for number, box in enumerate(photo.boxes):
            if len(cases) == limit:
                return cases, stamped, found
            over = [n for n, d in enumerate(detections) if d.class_id == class_id and overlaps[number, n] >= MATCHED]
            stamped += 1
            if not over:
                continue
            found += 1
            pictures = image, photo.draw(np.arange(len(every)) != number)
            before, after = (_score(model, picture, detections[over[0]]) for picture in pictures)
            if after < before / 2:
                mark, region = (box_mask(xyxy, image.shape[:2]) for xyxy in (photo.marks[number], box))
                cases.append(Case(photo, over[0], mark, region))
    return cases, stamped, found


def _score(model: DetectorAdapter, image: NDArray[np.uint8], detection: Detection) -> float:
    """How much of a detection is left in another image: the largest IoU x class probability, before any threshold."""
    batch, (letterbox,) = model.prepare([image])
    raw = model.forward(batch)
    box = torch.as_tensor(letterbox.to_network(detection.xyxy)[None]).to(raw.boxes)
    return float(raw.remains(box, [detection.class_id])[0, 0])


def check_taken(name: str, stamped: int, found: int, flipped: int) -> None:
    """Raises UsageError where too few detections depend on their mark."""
    if flipped < max(PLANTED * found, LEAST_CASES):
        raise UsageError(
            f"the mark did not take, so no method can be judged by it: of {stamped} held-out objects with a mark, "
            f"which should be {name!r}, {found} are, and {flipped} of those depend on it; at least {PLANTED:.0%} and "
            f"{LEAST_CASES} are needed: train longer with --epochs, or give more data"
        )


def measure(model: DetectorAdapter, contestants: Sequence[str], cases: Sequence[Case], seed: int) -> list[Row]:
    """One row for each case and contestant, as :func:`~detcam.evaluate.planted.planted` makes them.

    ``outside`` says whether the mark is outside of the object's box.
    """
    explainers = make_explainers(model, contestants, seed)
    rows = []
    for _, group in groupby(cases, key=lambda case: id(case.photo)):
        own = list(group)
        image = own[0].photo.draw(np.ones(len(own[0].photo.boxes), bool))
        for name, explainer in explainers.items():
            numbers = [case.number for case in own]
            for case, told in zip(own, explainer(image, detection=numbers)[0], strict=True):
                found = told.evidence
                held = found is not None and holds("near", found.patches, [case.mark], case.box)
                rows.append(
                    {"kind": "near", "image": str(case.photo.path), "detection": case.number, "method": name,
                     "status": told.status, "forwards": float(told.forwards),
                     "outside": not (case.mark & case.box).any(), "evidence": found is not None, "holds": held,
                     **recovery(told.heatmap.array, case.mark, ~case.box)}
                )  # fmt: skip
    return rows


def _large(image: LabelledImage, truth: Truth, size: int) -> bool:
    """Whether an object is one, and large enough to be stamped."""
    height, width = image.size
    box = np.clip(truth.xyxy, 0, [width, height, width, height]) * (size / max(height, width))
    return not truth.crowd and float((box[2:] - box[:2]).min()) >= LEAST_SIDE
