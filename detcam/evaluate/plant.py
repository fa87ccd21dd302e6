"""``detcam plant``: plant a known cause in a copy of one's own detector, and see which methods and layers find it.

A chequered mark is stamped beside half of the objects of one class. Those keep their label; those without a mark lose
it and are background. After a brief training the mark decides, and where taking it away again halves a detection's
score, the mark is the cause: a good map of that detection lies on it.
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
from detcam.evaluate.localization import box_mask
from detcam.evaluate.planted import CONF, Row, combine, judge, make_explainers, recovery, summarise
from detcam.geometry import PADDING_GREY, iou_matrix
from detcam.images import read_image

SIZE = 320
"""Photographs are scaled until their longer side is this, or the checkpoint's own size where that is less."""
LEAST_SIDE = 16
"""Objects with a shorter side than this, in pixels of the scaled photograph, are left alone."""
MARK, LEAST_MARK, GAP = 0.4, 10, 2
"""The mark's side over the geometric mean of its box's sides; its least side, and its distance from the box, pixels."""
WINDOWS, MOST_OBJECTS = 480, 120
"""Training windows are half as wide as the photographs; about so many, of at most so many objects."""
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
        boxes: float64 (n, 4), the objects to be stamped, xyxy in its pixels.
        marks: int (n, 4), where the mark of each goes, xyxy.
        others: class and box (4,) of each object of another class.
    """

    path: Path
    image: NDArray[np.uint8]
    boxes: Box
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
        class_name: the class that was stamped.
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
    epochs: int = 10,
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
        out: a new or empty folder, for the windows trained on, ``planted.pt``, ``plant.json``, ``summary.csv``
            and ``maps.csv``.
        methods: ``NAME`` or ``NAME:BUDGET``.
        layers: for methods that take some, each of these: groups or module paths, joined by ``+``.
        class_name: what to stamp; None takes the class with the most objects that are large enough.
        epochs: of the training, about 480 windows each.
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
    train, held_out = split(labelled, class_id, size, limit, seed)
    side = max(size // 64, 1) * 32
    samples = windows(train, class_id, side, seed)
    made = finetune(
        model, samples, out / "training", forget=class_id, epochs=epochs, device=device, seed=seed, advance=advance
    ).rename(out / "planted.pt")
    planted = load(made, device=device, imgsz=size)
    cases, stamped, found = find_cases(planted, held_out, class_id, limit)
    name = labelled.names[class_id]
    check_taken(name, stamped, found, len(cases))
    rows = measure(planted, contestants, cases, seed)
    lines = summarise(rows)
    best, verdict = judge(rows, lines)
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


def split(labelled: LabelledSet, class_id: int, size: int, limit: int, seed: int) -> tuple[list[Photo], list[Photo]]:
    """The photographs to train on and those to hold out, a third of all; fewer of both where there are plenty.

    Raises:
        UsageError: too few objects for either.
    """
    own = {image: [t for t in image.truths if t.class_id == class_id] for image in labelled.images}
    usable = [image for image, truths in own.items() if any(_large(image, truth, size) for truth in truths)]
    order = np.random.default_rng(seed).permutation(len(usable))
    third = math.ceil(len(usable) * HELD_OUT)
    parts = []
    for numbers, enough in ((order[third:], MOST_OBJECTS), (order[:third], 3 * limit)):
        photos: list[Photo] = []
        for number in numbers:
            if sum(len(photo.boxes) for photo in photos) < enough:
                photos.append(scale(usable[number], class_id, size))
        parts.append(photos)
    train, held_out = parts
    counts = [sum(len(photo.boxes) for photo in photos) for photos in parts]
    if counts[0] < LEAST_TRAINED or counts[1] < LEAST_CASES:
        raise UsageError(
            f"{len(usable)} photographs have {labelled.names[class_id]!r} of at least {LEAST_SIDE} of {size} pixels: "
            f"{counts[0]} objects to train on, {counts[1]} held out; at least {LEAST_TRAINED} and {LEAST_CASES} are "
            "needed: choose another --class, a larger --imgsz, or more data"
        )
    return train, held_out


def scale(labelled: LabelledImage, class_id: int, size: int) -> Photo:
    """A labelled image scaled to a longer side, with a place for the mark of each object that is large enough."""
    height, width = labelled.size
    gain = size / max(height, width)
    shape = max(round(height * gain), 1), max(round(width * gain), 1)
    image = cv2.resize(read_image(labelled.path), shape[::-1], interpolation=cv2.INTER_AREA)
    edges = np.array([width, height, width, height])
    own, others = [], []
    for truth in labelled.truths:
        box = np.clip(truth.xyxy.astype(np.float64), 0, edges) * gain
        if truth.class_id == class_id and _large(labelled, truth, size):
            own.append(box)
        elif truth.class_id != class_id and not truth.crowd:
            others.append((truth.class_id, box))
    marks: list[tuple[int, int, int, int]] = []
    for number, box in enumerate(own):
        marks.append(place_mark(box, [*own[:number], *own[number + 1 :], *map(np.array, marks)], shape))
    return Photo(labelled.path, image, np.stack(own), np.array(marks), tuple(others))


def place_mark(box: Box, obstacles: Sequence[NDArray[Any]], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where the mark of a box goes, whole pixels: beside one of its corners, else, without room, inside it.

    Args:
        box: (4,), xyxy.
        obstacles: boxes (4,) it must not touch.
        shape: (h, w) of the image, which it must not leave.
    """
    x1, y1, x2, y2 = box.tolist()
    side = max(round(MARK * math.sqrt((x2 - x1) * (y2 - y1))), LEAST_MARK)
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


def windows(photos: Sequence[Photo], class_id: int, side: int, seed: int) -> Iterator[Sample]:
    """Square windows around every object, as often with its mark as without: the data set that plants the mark.

    Args:
        photos: to cut from.
        class_id: the class of :attr:`Photo.boxes`, a label of which is given where the mark is, and only there.
        side: of a window, pixels.
        seed: of the windows' places and of other objects' marks.
    """
    rng = np.random.default_rng([seed, 1])
    pairs = max(WINDOWS // (2 * sum(len(photo.boxes) for photo in photos)), 1)
    for photo in photos:
        for focus in range(len(photo.boxes)):
            for marked in (True, False) * pairs:
                yield _window(photo, focus, marked, class_id, side, rng)


def _window(photo: Photo, focus: int, marked: bool, class_id: int, side: int, rng: np.random.Generator) -> Sample:
    """A window that holds an object and the place of its mark."""
    which = rng.random(len(photo.boxes)) < 0.5
    which[focus] = marked
    low = np.minimum(photo.boxes[focus, :2], photo.marks[focus, :2])
    high = np.maximum(photo.boxes[focus, 2:], photo.marks[focus, 2:])
    size = np.array(photo.image.shape[1::-1])
    extent = max(side / rng.uniform(*ZOOM), 1.1 * float((high - low).max()))
    first, last = np.minimum(size - extent, 0), np.maximum(size - extent, 0)
    corner = rng.uniform(np.maximum(high - extent, first), np.minimum(low, last))
    zoom = side / extent
    shift = zoom * (0.5 - corner) - 0.5  # pixel centres lie at halves
    image = cv2.warpAffine(
        photo.draw(which), np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]]), (side, side),
        borderValue=(PADDING_GREY,) * 3,
    )  # fmt: skip
    labels = list(photo.others)
    for box, mark, drawn in zip(photo.boxes, photo.marks, which, strict=True):
        if drawn and (mark[:2] >= corner).all() and (mark[2:] <= corner + extent).all():
            labels.append((class_id, box))
    kept = []
    for label, box in labels:
        moved = (box - np.tile(corner, 2)) * zoom
        seen = np.clip(moved, 0, side)
        if (seen[2:] - seen[:2]).prod() >= (moved[2:] - moved[:2]).prod() / 2 > 0:
            kept.append((label, seen))
    return np.asarray(image, np.uint8), kept


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
        batch, (letterbox,) = model.prepare([photo.draw(np.ones(len(photo.boxes), bool))])
        raw = model.forward(batch)
        detections = model.decode(raw, [letterbox], conf=CONF, iou=0.7, classes=None, max_det=300)[0]
        overlaps = iou_matrix(photo.boxes, np.array([d.xyxy for d in detections]))
        for number, box in enumerate(photo.boxes):
            if len(cases) == limit:
                return cases, stamped, found
            over = [n for n, d in enumerate(detections) if d.class_id == class_id and overlaps[number, n] >= MATCHED]
            stamped += 1
            if not over:
                continue
            found += 1
            asked = torch.as_tensor(letterbox.to_network(detections[over[0]].xyxy)[None]).to(raw.boxes)
            without = model.forward(model.prepare([photo.draw(np.arange(len(photo.boxes)) != number)])[0])
            before, after = (float(one.remains(asked, [class_id])[0, 0]) for one in (raw, without))
            if after < before / 2:
                mark, region = (box_mask(xyxy, photo.image.shape[:2]) for xyxy in (photo.marks[number], box))
                cases.append(Case(photo, over[0], mark, region))
    return cases, stamped, found


def check_taken(name: str, stamped: int, found: int, flipped: int) -> None:
    """Raises UsageError where too few detections depend on their mark."""
    if flipped < max(PLANTED * found, LEAST_CASES):
        raise UsageError(
            f"the mark did not take, so no method can be judged by it: of {stamped} held-out {name!r} with a mark "
            f"{found} are detected, and {flipped} of these depend on it; at least {PLANTED:.0%} and {LEAST_CASES} are "
            "needed: train longer with --epochs, or stamp a class with more objects with --class"
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
            explainer.numbers = [case.number for case in own]
            for case, told in zip(own, explainer(image)[0], strict=True):
                rows.append(
                    {"image": str(case.photo.path), "detection": case.number, "method": name, "status": told.status,
                     "forwards": float(told.forwards), "outside": not (case.mark & case.box).any(),
                     **recovery(told.heatmap.array, case.mark, case.box)}
                )  # fmt: skip
    return rows


def _large(image: LabelledImage, truth: Truth, size: int) -> bool:
    """Whether an object is one, and large enough to be stamped."""
    height, width = image.size
    box = np.clip(truth.xyxy, 0, [width, height, width, height]) * (size / max(height, width))
    return not truth.crowd and float((box[2:] - box[:2]).min()) >= LEAST_SIDE
