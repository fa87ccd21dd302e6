"""Plant a known cause in a copy of one's own detector, and see which methods and layers find it.

After a brief training on stamped photographs (:mod:`detcam.evaluate.planted.photos`) the mark makes the class, and
where taking it away again halves a detection's score, it is the cause: a good map of that detection lies on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detcam.adapters import load
from detcam.adapters.base import DetectorAdapter
from detcam.adapters.finetune import finetune, trainable
from detcam.data import LabelledSet
from detcam.errors import UsageError
from detcam.evaluate.contestants import combine, make_explainers
from detcam.evaluate.planted.cases import LEAST_CONFIDENCE, MATCHED_IOU
from detcam.evaluate.planted.photos import LEAST_HELD_OUT, Photo, choose_class, split, views
from detcam.evaluate.planted.table import Row, find_best, summarise
from detcam.geometry import iou_matrix
from detcam.io.files import on_this_machine
from detcam.metrics.localization import box_mask
from detcam.metrics.recovery import holds, recovery
from detcam.options import check_counts
from detcam.session import ImageSession

SIZE_PX = 320
"""Photographs are scaled until their longer side is this, or the checkpoint's own size where that is less."""
LEAST_DEPENDENT_SHARE = 0.8
"""The plant succeeded if at least this share of the held-out detections depends on the mark."""


@dataclass(frozen=True, eq=False)
class MarkedDetection:
    """A detection that depends on its mark.

    Attributes:
        photo: the photograph it is in, when all objects are stamped.
        number: of the detection there, counted from 0 in descending confidence.
        mark: bool (h, w), its mark.
        box: bool (h, w), the object's box.
    """

    photo: Photo
    number: int
    mark: NDArray[np.bool_]
    box: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PlantResult:
    """A planted copy, and how methods did on it.

    Attributes:
        weights: the planted copy.
        class_name: what a mark makes of an object.
        stamped: how many held-out objects were stamped.
        detected: how many of those are detected as the class.
        dependent: of how many of those the score falls below half without the mark.
        best: the best method and its layers, as :class:`~detcam.evaluate.contestants.Contestant` writes them.
        verdict: one sentence on how sure that is.
        summary: a row for each method, best first, see :func:`detcam.evaluate.planted.table.summarise`.
        rows: a row for each map, see :func:`measure_marks`.
        folder: where ``planted.pt``, ``plant.json``, ``summary.csv`` and ``maps.csv`` are.
    """

    weights: Path
    class_name: str
    stamped: int
    detected: int
    dependent: int
    best: str
    verdict: str
    summary: pl.DataFrame = field(repr=False)
    rows: pl.DataFrame = field(repr=False)
    folder: Path

    @property
    def rate(self) -> float:
        """The share of held-out detections that depend on the mark, in [0, 1]."""
        return self.dependent / self.detected


def plant(
    weights: str | Path,
    labelled: LabelledSet,
    out: str | Path,
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
) -> PlantResult:
    """Plant a mark in a copy of a detector and measure methods and layers on it.

    Args:
        weights: an Ultralytics detection checkpoint; only read.
        labelled: read with the model's names: ``read_data("data.yaml", "train", names=model.names)`` of
            :mod:`detcam.data`.
        out: a new or empty folder, for the views trained on, ``planted.pt``, ``plant.json``, ``summary.csv``
            and ``maps.csv``.
        methods: ``NAME`` or ``NAME:BUDGET``.
        layers: for methods that take some, each of these: groups or module paths, joined by ``+``.
        class_name: what a mark makes of an object; None takes the class with the most objects that are large enough.
        epochs: of the training, about 320 views each.
        limit: most detections that maps are made of.
        imgsz: photographs' longer side, pixels; None takes 320, or the checkpoint's size where it is smaller.
        device: as in :func:`detcam.load`.
        seed: of everything random.
        trust_weights: as in :func:`detcam.load`.
        advance: called with the number of epochs done, after each.

    Raises:
        UsageError: a bad argument; too few objects; a plant that did not take, on which no method can be judged.
        WeightsError: the weights cannot be used.
    """
    check_counts(epochs=epochs, limit=limit)
    folder = on_this_machine(out, "a planted copy is written to a folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something else; choose a new or an empty folder")
    model = trainable(weights, trust_weights)
    given = load(model, device=device, imgsz=imgsz)
    contestants = combine(methods, layers)
    make_explainers(given, contestants, LEAST_CONFIDENCE, seed)  # checks them before the training
    size = max(given.letterbox(np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)).network)
    size = size if imgsz is not None else min(size, SIZE_PX)
    class_id = choose_class(labelled, size, class_name)
    train, held_out = split(labelled, load(given, imgsz=size), size, seed)
    copy = finetune(
        model, views(train, class_id, size, seed), folder / "training", forget=class_id, epochs=epochs, device=device,
        seed=seed, advance=advance,
    ).rename(folder / "planted.pt")  # fmt: skip
    planted = load(copy, device=device, imgsz=size)
    marked, stamped, detected = find_marked(planted, held_out, class_id, limit)
    name = labelled.names[class_id]
    check_taken(name, stamped, detected, len(marked))
    rows = measure_marks(planted, contestants, marked, seed)
    best, verdict = find_best(rows)
    result = PlantResult(
        copy, name, stamped, detected, len(marked), best, verdict, pl.DataFrame(summarise(rows)), pl.DataFrame(rows),
        folder,
    )  # fmt: skip
    facts = {"class": name, "stamped": stamped, "found": detected, "flipped": len(marked), "best": best,
             "verdict": verdict}  # fmt: skip
    (folder / "plant.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    result.summary.write_csv(folder / "summary.csv")
    result.rows.write_csv(folder / "maps.csv")
    return result


def find_marked(
    model: DetectorAdapter, photos: Sequence[Photo], class_id: int, limit: int
) -> tuple[list[MarkedDetection], int, int]:
    """Detections of stamped objects that depend on their mark, at most ``limit``.

    Args:
        model: the planted copy.
        photos: held out from its training; all of their objects are stamped.
        class_id: what a mark makes of an object.
        limit: the search ends when so many are found.

    Returns:
        The detections; how many objects were looked at; how many of those are detected as the class.
    """
    marked: list[MarkedDetection] = []
    stamped = detected = 0
    for photo in photos:
        every = np.ones(len(photo.boxes), bool)
        image = photo.draw(every)
        session = ImageSession(model, image, conf=LEAST_CONFIDENCE)
        detections = session.detections
        overlaps = iou_matrix(photo.boxes, np.array([d.xyxy for d in detections]))
        for place, box in enumerate(photo.boxes):
            if len(marked) == limit:
                return marked, stamped, detected
            stamped += 1
            of_class = (n for n, one in enumerate(detections) if one.class_id == class_id)
            number = next((n for n in of_class if overlaps[place, n] >= MATCHED_IOU), None)
            if number is None:
                continue
            detected += 1
            without = photo.draw(np.arange(len(every)) != place)
            box = detections[number].xyxy.tolist()
            before, after = session.scores([image, without], box=box, class_name=class_id)[:, 0]
            if after < before / 2:
                mark, region = (box_mask(xyxy, image.shape[:2]) for xyxy in (photo.marks[place], box))
                marked.append(MarkedDetection(photo, number, mark, region))
    return marked, stamped, detected


def check_taken(class_name: str, stamped: int, detected: int, dependent: int) -> None:
    """Refuse a plant in which too few detections depend on their mark.

    Args:
        class_name: what a mark makes of an object.
        stamped: how many held-out objects have a mark.
        detected: how many of those are detected as the class.
        dependent: how many of those depend on the mark.

    Raises:
        UsageError: fewer than four fifths of the detections depend on it, or fewer than five.
    """
    if dependent < max(LEAST_DEPENDENT_SHARE * detected, LEAST_HELD_OUT):
        raise UsageError(
            f"the mark did not take, so no method can be judged by it: of {stamped} held-out objects with a mark, "
            f"which should be {class_name!r}, {detected} are, and {dependent} of those depend on it; at least "
            f"{LEAST_DEPENDENT_SHARE:.0%} and {LEAST_HELD_OUT} are needed: train for more epochs, or give more data"
        )


def measure_marks(
    model: DetectorAdapter, methods: Sequence[str], marked: Sequence[MarkedDetection], seed: int
) -> list[Row]:
    """One row for each detection and method, as :func:`detcam.evaluate.planted.measure.measure_causes` makes them.

    ``outside`` says whether the mark lies outside the object's box.

    Args:
        model: the planted copy.
        methods: each ``NAME[@LAYERS][:BUDGET]``.
        marked: detections that depend on their mark, those of a photograph together.
        seed: of the methods.

    Raises:
        UsageError: no such method or layer, or a method twice.
    """
    explainers = make_explainers(model, methods, LEAST_CONFIDENCE, seed)
    rows = []
    for _, group in groupby(marked, key=lambda one: id(one.photo)):
        own = list(group)
        image = own[0].photo.draw(np.ones(len(own[0].photo.boxes), bool))
        for name, explainer in explainers.items():
            numbers = [one.number for one in own]
            for one, e in zip(own, explainer(image, detection=numbers)[0], strict=True):
                held = e.evidence is not None and holds("near", e.evidence.patches, [one.mark], one.box)
                rows.append(
                    {"kind": "near", "image": str(one.photo.path), "detection": one.number, "method": name,
                     "status": e.status, "forwards": float(e.forwards), "outside": not (one.mark & one.box).any(),
                     "evidence": e.evidence is not None, "holds": held,
                     **recovery(e.heatmap.array, one.mark, ~one.box)}
                )  # fmt: skip
    return rows
