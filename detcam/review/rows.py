"""A review's rows: every detection of an image and every missed truth, with its error explained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detcam.adapters.base import DetectorAdapter
from detcam.data import LabelledImage
from detcam.io.images import read_image
from detcam.review.errors import ImageErrors
from detcam.review.evidence import EvidencePatch, find_evidence
from detcam.review.explaining import ErrorExplainer, ErrorExplanation, ReviewedImage
from detcam.review.misses import MissTrace, trace_miss
from detcam.runs.reading import Row
from detcam.runs.schema import DETECTIONS, RowTable, RunSchema, detection_row, image_key, row_of
from detcam.runs.tables import MISS_COLUMNS, REVIEW_COLUMNS
from detcam.session import ImageSession
from detcam.types import Detection

SPURIOUS = ("Cls", "Bkg", "Both")
"""Errors whose box should not be there as that class, so that it can vanish."""
MISS = "Miss"
REVIEW = RunSchema(
    REVIEW_COLUMNS,
    {
        DETECTIONS: RowTable(pl.col("error_type").ne_missing(MISS), tuple(MISS_COLUMNS)),
        "misses.parquet": RowTable(
            pl.col("error_type").eq_missing(MISS), ("error_type", "evidence", "features", "chance", "cause")
        ),
    },
    ("truths.parquet", "causes.json", "summary.json", "comparison.parquet"),
    ("causes", "report", "against"),
)
"""A review's run folder."""

Columns = dict[str, Any]
"""A row's values by column."""
Maps = dict[str, NDArray[np.float32]]
"""Raw maps (h, w) by the ids of their rows."""


@dataclass
class Reviewer:
    """Explains the errors of images.

    Attributes:
        model: the detector.
        conf, iou: its thresholds.
        explainer: of errors.
        seed: of everything random.
        keypoint_sigmas: of the set.
    """

    model: DetectorAdapter
    conf: float
    iou: float
    explainer: ErrorExplainer
    seed: int
    keypoint_sigmas: tuple[float, ...] | None = None

    def __call__(
        self, image: LabelledImage, detections: tuple[Detection, ...], outcomes: ImageErrors, first_truth: int
    ) -> tuple[list[Columns], Maps]:
        """Explain one image's errors and misses.

        Args:
            image: with its truths.
            detections: those reported.
            outcomes: what became of either.
            first_truth: the id of its first truth.

        Returns:
            A row for each detection, then for each missed truth; and the maps of those that were explained.

        Raises:
            InputError: the image cannot be read, or nothing can be found out about it.
        """
        name = str(image.path)
        session = ImageSession(self.model, read_image(image.path), conf=self.conf, iou=self.iou, seed=self.seed)
        reviewed = ReviewedImage(session, detections, image.truths, outcomes)
        explanations, scans = self.explainer.errors(reviewed)
        rows: list[Columns] = []
        maps: Maps = {}
        for number, detection in enumerate(detections):
            row_id = f"{image_key(name)}-{number:03d}"
            one = explanations.get(number)
            row = detection_row(row_id, name, detection) if one is None else row_of(row_id, name, one.explanation)
            outcome, truth = outcomes.detections[number], reviewed.truth_of(number)
            row |= {
                "error_type": outcome.error, "iou": outcome.iou, "matched_by": outcomes.matched_by,
                "truth_id": None if outcome.truth is None else first_truth + outcome.truth,
                "truth_class": None if truth is None else truth.class_name,
            }  # fmt: skip
            if one is not None:
                raw_map = maps[row_id] = one.explanation.heatmap.raw
                row |= _answer_columns(one)
                if outcome.error in SPURIOUS:
                    rival = reviewed.rival_of(number)
                    rival_id = None if rival is None else rival.class_id
                    patch = find_evidence(
                        session.prepared, detection, rival_id, raw_map, scans.get(number), self.conf, self.seed
                    )  # fmt: skip
                    row |= _patch_columns(patch)
            rows.append(row)
        for number, fate in enumerate(outcomes.truths):
            if fate.missed:
                truth = image.truths[number]
                trace = trace_miss(
                    truth, session.prepared, detections, self.conf, self.iou, outcomes.matched_by, self.keypoint_sigmas
                )
                row_id = f"{image_key(name)}-m{number:03d}"
                answer = self.explainer.miss(session, trace)
                maps[row_id] = answer.explanation.heatmap.raw
                suppressor = None if trace.suppressor is None else f"{image_key(name)}-{trace.suppressor:03d}"
                rows.append({
                    **row_of(row_id, name, answer.explanation), **_answer_columns(answer), **_trace_columns(trace),
                    **dict(zip(("x1", "y1", "x2", "y2"), truth.xyxy.tolist(), strict=True)),
                    "class_id": truth.class_id, "class_name": truth.class_name, "truth_class": truth.class_name,
                    "truth_id": first_truth + number, "error_type": MISS, "suppressor": suppressor,
                    "matched_by": outcomes.matched_by,
                })  # fmt: skip
        return rows, maps


def _answer_columns(answer: ErrorExplanation) -> Columns:
    return {"explanation": answer.text, "evidence_inside": None if np.isnan(answer.inside) else answer.inside}


def _trace_columns(trace: MissTrace) -> Columns:
    """What became of the raw prediction nearest to a missed truth."""
    raw = dict(zip(("raw_x1", "raw_y1", "raw_x2", "raw_y2"), trace.detection.xyxy.tolist(), strict=True))
    return {**raw, "iou": trace.iou, "where_it_died": trace.where, "raw_confidence": trace.detection.confidence}


def _patch_columns(patch: EvidencePatch | None) -> Columns:
    """An evidence patch as columns."""
    if patch is None:
        return {}
    evidence = {
        "xyxy": patch.xyxy.tolist(), "flipped": patch.flipped, "control": patch.control,
        "before": patch.before, "after": patch.after, "place": patch.place.tolist(), "outside": patch.outside,
    }  # fmt: skip
    return {"evidence": json.dumps(evidence), "features": patch.features.tolist(), "chance": patch.chance.tolist()}


def patch_of(row: Row) -> EvidencePatch | None:
    """The evidence patch of a row that was read, or None."""
    if row.patch is None:
        return None
    xyxy, place = np.array(row.patch["xyxy"], np.int64), np.array(row.patch["place"], np.float64)
    features, chance = (np.array(row.further[name], np.float32) for name in ("features", "chance"))
    return EvidencePatch(**{**row.patch, "xyxy": xyxy, "place": place}, features=features, chance=chance)
