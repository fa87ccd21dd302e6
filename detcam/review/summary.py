"""What a review says of the whole set: ``summary.json`` and the table of truths."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from detcam.data import LabelledSet
from detcam.filenames import printable
from detcam.io.files import write_whole
from detcam.review.detect import Predictions
from detcam.review.errors import Errors
from detcam.review.matching import average_precision
from detcam.runs.schema import image_key
from detcam.runs.tables import TRUTH_COLUMNS


def first_truths(labelled: LabelledSet) -> dict[Path, int]:
    """The id of each image's first truth, by the image's path; truths are numbered over the whole set.

    Args:
        labelled: the set.
    """
    starts = np.cumsum([0, *(len(image.truths) for image in labelled.images)]).tolist()
    return {image.path: start for image, start in zip(labelled.images, starts, strict=False)}


def truth_table(predictions: Predictions, errors: Errors, first: Mapping[Path, int]) -> pl.DataFrame:
    """Every truth, and the detection that found it, with the columns of :data:`TRUTH_COLUMNS`.

    Args:
        predictions: what was detected.
        errors: their types.
        first: from :func:`first_truths`.
    """
    rows: list[dict[str, Any]] = []
    for image, outcomes in zip(predictions.images, errors.images, strict=True):
        name = str(image.path)
        for number, (truth, outcome) in enumerate(zip(image.truths, outcomes.truths, strict=True), first[image.path]):
            x1, y1, x2, y2 = truth.xyxy.tolist()
            finder = None if outcome.found_by is None else f"{image_key(name)}-{outcome.found_by:03d}"
            rows.append(
                {"id": number, "image": printable(name), "class_id": truth.class_id,
                 "class_name": truth.class_name, "x1": x1, "y1": y1, "x2": x2, "y2": y2, "crowd": truth.crowd,
                 "found_by": finder}
            )  # fmt: skip
    return pl.DataFrame(rows, schema=TRUTH_COLUMNS)


def summarise(
    predictions: Predictions, errors: Errors, labelled: LabelledSet, told: Sequence[str], figures: str
) -> dict[str, Any]:
    """``summary.json``: counts and dAP of the reported detections, average precision of all; values in [0, 1].

    Args:
        predictions: what was detected.
        errors: their types.
        labelled: the set.
        told: what else one should know of what was judged, in sentences.
        figures: how they are made, in sentences.
    """
    precision = average_precision(predictions.images, predictions.every, predictions.overlaps)
    return {
        "images": len(predictions.images),
        "matched_by": predictions.matched_by,
        "matching_notes": list(predictions.notes),
        "counts": dict(errors.counts),
        "dap": dict.fromkeys(errors.dap, math.nan) if math.isnan(precision.map50) else dict(errors.dap),
        "map50": precision.map50,
        "map": precision.map,
        "figures": figures,
        "notes": [*labelled.notes, *told],
        "unjudged": dict(predictions.unjudged),
        "per_class": [
            {"class_name": row.class_name, "truths": row.truths, **row.counts,
             "ap50": precision.ap50.get(row.class_id, float("nan"))}
            for row in errors.per_class
        ],
        "confusions": [asdict(confusion) for confusion in errors.confusions],
        "unmapped": [{"class_name": name, "truths": count} for name, count in labelled.unmapped.items()],
        "problems": [{"path": os.fspath(path), "reason": reason} for path, reason in labelled.problems],
    }  # fmt: skip


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; numbers that are not finite become null.

    Args:
        path: of the file, replaced.
        value: of mappings, lists and what JSON has.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, indent=1)
    write_whole(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
