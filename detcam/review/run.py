"""A labelled set reviewed: detect, type, explain every error, find what errors have in common."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from detcam.adapters.base import DetectorAdapter
from detcam.data import LabelledImage, LabelledSet
from detcam.errors import InputError
from detcam.io.files import write_whole
from detcam.io.images import read_image
from detcam.review.errors import Errors, ImageErrors
from detcam.review.evidence import Evidence, Scene, find_evidence
from detcam.review.explaining import ErrorExplainer, ErrorExplanation, ReviewedImage
from detcam.review.matching import average_precision
from detcam.review.misses import Death, trace
from detcam.runs.folder import RunFolder
from detcam.runs.schema import COLUMNS, detection_row, image_key, printable, row_of
from detcam.types import Detection

LOWEST = 0.001
"""Confidence from which detections count for average precision, as in Ultralytics' ``val()``."""
CAUSED = ("Cls", "Bkg", "Both")
"""Errors whose box should not be there as that class, so that it can vanish."""
FURTHER: dict[str, Any] = {
    "error_type": pl.String, "truth_id": pl.Int64, "truth_class": pl.String, "iou": pl.Float32,
    "explanation": pl.String, "evidence_inside": pl.Float32, "cause": pl.String, "evidence": pl.String,
    "features": pl.List(pl.Float32), "chance": pl.List(pl.Float32),
    "where_it_died": pl.String, "suppressor": pl.String, "raw_confidence": pl.Float32,
    "raw_x1": pl.Float32, "raw_y1": pl.Float32, "raw_x2": pl.Float32, "raw_y2": pl.Float32,
}  # fmt: skip
"""What a review's rows hold beyond those of ``detcam explain``; the last seven of misses alone."""
MISS_ONLY = ("where_it_died", "suppressor", "raw_confidence", "raw_x1", "raw_y1", "raw_x2", "raw_y2")
REVIEW_COLUMNS = {**COLUMNS, **FURTHER}
TABLES = ("misses.parquet", "truths.parquet", "causes.json", "summary.json", "comparison.parquet")

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Found:
    """What a detector reports on a labelled set.

    Attributes:
        images: those that could be read, in order.
        detections: of each, from the threshold on, in descending confidence.
        every: of each, from 0.1 % confidence on.
        failed: paths and reasons of the others.
    """

    images: tuple[LabelledImage, ...]
    detections: tuple[tuple[Detection, ...], ...]
    every: tuple[tuple[Detection, ...], ...]
    failed: tuple[tuple[Path, str], ...]


def detect(
    model: DetectorAdapter, labelled: LabelledSet, *, conf: float, iou: float, max_det: int, advance: Callable[[], None]
) -> Found:
    """Run a detector over a labelled set, one image at a time."""
    images, kept, every, failed = [], [], [], []
    for one in labelled.images:
        try:
            batch, letterboxes = model.prepare([read_image(one.path)])
            with torch.inference_mode(False), torch.no_grad():
                raw = model.forward(batch)
                low = min(LOWEST, conf)
                (found,) = model.decode(raw, letterboxes, conf=low, iou=iou, classes=None, max_det=max_det)
        except (InputError, RuntimeError, MemoryError) as error:
            failed.append((one.path, " ".join(str(error).split())))
        else:
            images.append(one)
            every.append(tuple(replace(one, polygons=None, keypoints=None) for one in found))
            kept.append(tuple(detection for detection in found if detection.confidence >= conf))
        advance()
    return Found(tuple(images), tuple(kept), tuple(every), tuple(failed))


@dataclass
class Reviewer:
    """Explains the errors of images into a run folder.

    Attributes:
        model: the detector.
        conf, iou: its thresholds.
        explainer: of errors.
        seed: of everything random.
    """

    model: DetectorAdapter
    conf: float
    iou: float
    explainer: ErrorExplainer
    seed: int

    def __call__(
        self, folder: RunFolder, image: LabelledImage, found: Sequence[Detection], told: ImageErrors, first_truth: int
    ) -> list[Row]:
        """Explain one image's errors and misses, and write them; returns their rows.

        Args:
            folder: where to.
            image: with its truths.
            found: its detections.
            told: what became of either.
            first_truth: the id of its first truth.
        """
        name = str(image.path)
        array = read_image(image.path)
        case = ReviewedImage(name, array, Scene.of(self.model, array), found, image.truths, told)
        scene = case.scene
        explained, scans = self.explainer.errors(case)
        rows, maps = [], {}
        key = image_key(name)
        for number, detection in enumerate(found):
            row_id = f"{key}-{number:03d}"
            one = explained.get(number)
            row = detection_row(row_id, name, detection) if one is None else row_of(row_id, name, one.explanation)
            outcome = told.detections[number]
            truth = None if outcome.truth is None else image.truths[outcome.truth]
            row |= {
                "error_type": outcome.error, "iou": outcome.iou,
                "truth_id": None if outcome.truth is None else first_truth + outcome.truth,
                "truth_class": None if truth is None else truth.class_name,
            }  # fmt: skip
            if one is not None:
                maps[row_id] = one.explanation.heatmap.raw
                row |= _answer(one)
                if outcome.error in CAUSED:
                    rival = case.rival_of(number)
                    row |= _evidence(find_evidence(
                        scene, detection, None if rival is None else rival.class_id, one.explanation.heatmap.raw,
                        scans.get(number), self.conf, self.seed,
                    ))  # fmt: skip
            rows.append(row)
        for number, fate in enumerate(told.truths):
            if fate.missed:
                death = trace(
                    image.truths[number], scene.raw, 0, scene.letterbox, found, self.model.names, self.conf, self.iou
                )
                row_id = f"{key}-m{number:03d}"
                one = self.explainer.miss(name, array, death)
                maps[row_id] = one.explanation.heatmap.raw
                rows.append(self._miss(row_id, name, image, number, first_truth + number, death, one))
        folder.add_rows(name, rows, maps)
        return rows

    def _miss(
        self,
        row_id: str,
        name: str,
        image: LabelledImage,
        number: int,
        truth_id: int,
        death: Death,
        told: ErrorExplanation,
    ) -> Row:
        """The row of a missed truth: its own class and box, and the raw prediction's."""
        truth = image.truths[number]
        raw = dict(zip(("raw_x1", "raw_y1", "raw_x2", "raw_y2"), death.detection.xyxy.tolist(), strict=True))
        own = dict(zip(("x1", "y1", "x2", "y2"), truth.xyxy.tolist(), strict=True))
        taker = None if death.suppressor is None else f"{image_key(name)}-{death.suppressor:03d}"
        return {
            **row_of(row_id, name, told.explanation), **own, **raw, **_answer(told),
            "class_id": truth.class_id, "class_name": truth.class_name, "error_type": "Miss", "truth_id": truth_id,
            "truth_class": truth.class_name, "iou": death.iou, "where_it_died": death.where, "suppressor": taker,
            "raw_confidence": death.detection.confidence,
        }  # fmt: skip


def _answer(told: ErrorExplanation) -> Row:
    return {"explanation": told.text, "evidence_inside": None if np.isnan(told.inside) else told.inside}


def _evidence(evidence: Evidence | None) -> Row:
    """An evidence patch as columns."""
    if evidence is None:
        return {}
    told = {
        "xyxy": evidence.xyxy.tolist(), "flipped": evidence.flipped, "control": evidence.control,
        "before": evidence.before, "after": evidence.after, "place": evidence.place.tolist(),
        "outside": evidence.outside,
    }  # fmt: skip
    return {
        "evidence": json.dumps(told),
        "features": evidence.features.tolist(),
        "chance": evidence.chance.tolist(),
    }


def evidence_of(row: Row) -> Evidence:
    """The evidence patch that a row's columns hold."""
    told = json.loads(row["evidence"])
    return Evidence(
        **{**told, "xyxy": np.array(told["xyxy"], np.int64), "place": np.array(told["place"], np.float64)},
        features=np.array(row["features"], np.float32),
        chance=np.array(row["chance"], np.float32),
    )


def first_truths(labelled: LabelledSet) -> dict[Path, int]:
    """The id of each image's first truth: truths are numbered over the whole set, whatever can be read of it."""
    starts = np.cumsum([0, *(len(image.truths) for image in labelled.images)]).tolist()
    return {image.path: start for image, start in zip(labelled.images, starts, strict=False)}


def truth_table(found: Found, errors: Errors, first: Mapping[Path, int]) -> pl.DataFrame:
    """Every truth, by :func:`first_truths`, and the detection that found it."""
    rows: list[Row] = []
    for image, told in zip(found.images, errors.images, strict=True):
        name = str(image.path)
        for number, (truth, fate) in enumerate(zip(image.truths, told.truths, strict=True), first[image.path]):
            x1, y1, x2, y2 = truth.xyxy.tolist()
            by = None if fate.found_by is None else f"{image_key(name)}-{fate.found_by:03d}"
            rows.append(
                {"id": number, "image": printable(name), "class_id": truth.class_id,
                 "class_name": truth.class_name, "x1": x1, "y1": y1, "x2": x2, "y2": y2, "crowd": truth.crowd,
                 "found_by": by}
            )  # fmt: skip
    box = dict.fromkeys(("x1", "y1", "x2", "y2"), pl.Float32)
    schema: Mapping[str, Any] = {
        "id": pl.Int64, "image": pl.String, "class_id": pl.Int32, "class_name": pl.String, **box, "crowd": pl.Boolean,
        "found_by": pl.String,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=dict(schema))


def summary(found: Found, errors: Errors, labelled: LabelledSet) -> Row:
    """``summary.json``: counts and dAP of the reported detections, average precision of all."""
    precise = average_precision(found.images, found.every)
    return {
        "images": len(found.images),
        "counts": dict(errors.counts),
        "dap": dict(errors.dap),
        "map50": precise.map50,
        "map": precise.map,
        "per_class": [
            {"class_name": row.class_name, "truths": row.truths, **row.counts,
             "ap50": precise.ap50.get(row.class_id, float("nan"))}
            for row in errors.per_class
        ],
        "confusions": [asdict(confusion) for confusion in errors.confusions],
        "unmapped": [{"class_name": name, "truths": count} for name, count in labelled.unmapped.items()],
        "problems": [{"path": os.fspath(path), "reason": reason} for path, reason in labelled.problems],
    }  # fmt: skip


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; what is not finite becomes null."""
    text = json.dumps(_finite(value), ensure_ascii=False, indent=1)
    write_whole(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
