"""Two detectors on one labelled set: which errors the second mends, which it makes, and how the evidence moved."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from detcam.errors import UsageError
from detcam.geometry import iou_matrix
from detcam.io.files import write_whole
from detcam.review.errors import ERRORS
from detcam.runs.own_files import own_file
from detcam.runs.reading import Run, open_run

SAME_ERROR_IOU = 0.5
"""IoU at which two boxes without a truth are one error."""
FATES = ("mended", "kept", "new")
SCHEMA: dict[str, Any] = {
    "fate": pl.String, "image": pl.String, "truth_id": pl.Int64, "before": pl.String, "after": pl.String,
    "type_before": pl.String, "type_after": pl.String, "class_name": pl.String, "moved": pl.Float64,
    "context_before": pl.Float64, "context_after": pl.Float64,
}  # fmt: skip

Row = dict[str, Any]


def compare(before: str | Path, after: str | Path) -> pl.DataFrame:
    """Pair the errors of two reviews of one set; also written to ``comparison.parquet`` of the first.

    Errors about one truth are one error, whatever their types; those without a truth are, where their boxes overlap by
    half and say the same class.

    Args:
        before: the first detector's run folder.
        after: the second's.

    Returns:
        One row for each error: ``fate`` (``mended``, ``kept``, ``new``), the errors' ids and types, and for those kept
        how far the map's centre of mass moved, in box diagonals, and the context dependence of both.

    Raises:
        UsageError: the two were made of different truths, or one is no review that can be read.
    """
    runs = open_run(before), open_run(after)
    labels, others = (_usable(run, "truths").drop("found_by", "class_id") for run in runs)
    if not labels.equals(others):
        raise UsageError(f"{before} and {after} are reviews of different labels; review the same set and split")
    first, second = map(_errors, runs)
    pairs = _pairs(first, second)
    rows = [_row(*runs, first.get(one), second.get(other)) for one, other in pairs]
    table = pl.DataFrame(rows, schema=SCHEMA).sort("fate", "image", "before", "after", nulls_last=True)
    write_whole(own_file(runs[0].path, "comparison.parquet"), table.write_parquet)
    return table


def count_fates(table: pl.DataFrame) -> list[Row]:
    """For each type of error how many were mended, kept and new; a kept error counts as the type it was.

    Args:
        table: from :func:`compare`.
    """
    counts = []
    for error in ERRORS:
        own = table.filter(pl.coalesce("type_before", "type_after") == error)
        counts.append({"type": error, **{fate: len(own.filter(pl.col("fate") == fate)) for fate in FATES}})
    return counts


def _errors(run: Run) -> dict[str, Row]:
    """Every error of a review, misses among them, by id."""
    wrong = _usable(run, "detections").filter(pl.col("error_type").is_in(ERRORS))
    missed = _usable(run, "misses").with_columns(pl.lit("Miss").alias("error_type"))
    return {row["id"]: row for table in (wrong, missed) for row in table.iter_rows(named=True)}


def _usable(run: Run, name: str) -> pl.DataFrame:
    """What of a review's table can be used; the log tells of the rest."""
    if run.info["command"] != "review":
        raise UsageError(f"{run.path} holds a run of detcam {run.info['command']:.80}, not of review")
    table, problems = run.usable(name)
    for problem in problems:
        logging.getLogger("detcam").warning("%s", problem)
    return table


def _pairs(first: Mapping[str, Row], second: Mapping[str, Row]) -> list[tuple[str, str]]:
    """Ids of the errors of both, paired; an empty id where the other has none."""
    left = dict(second)
    pairs = []
    for one, row in first.items():
        alike = [other for other, candidate in left.items() if _same(row, candidate)]
        other = max(alike, key=lambda name: _overlap(row, left[name]), default="")
        left.pop(other, None)
        pairs.append((one, other))
    return pairs + [("", other) for other in left]


def _same(one: Row, other: Row) -> bool:
    if one["image"] != other["image"]:
        return False
    if one["truth_id"] is not None or other["truth_id"] is not None:
        return bool(one["truth_id"] == other["truth_id"])
    return bool(one["class_name"] == other["class_name"] and _overlap(one, other) >= SAME_ERROR_IOU)


def _overlap(one: Row, other: Row) -> float:
    boxes = [np.array([[row[side] for side in ("x1", "y1", "x2", "y2")]]) for row in (one, other)]
    return float(iou_matrix(*boxes)[0, 0])


def _row(before: Run, after: Run, one: Row | None, other: Row | None) -> Row:
    row = one or other or {}
    return {
        "fate": "new" if one is None else "mended" if other is None else "kept",
        "image": row["image"], "truth_id": row["truth_id"], "class_name": row["class_name"],
        "before": one and one["id"], "after": other and other["id"],
        "type_before": one and one["error_type"], "type_after": other and other["error_type"],
        "moved": _moved(before, after, one, other) if one and other else None,
        "context_before": one and one["context_dependence"], "context_after": other and other["context_dependence"],
    }  # fmt: skip


def _moved(before: Run, after: Run, one: Row, other: Row) -> float | None:
    """How far the centre of mass of an error's map moved, in diagonals of its first box; None without two maps."""
    centres = []
    for run, row in ((before, one), (after, other)):
        try:
            heatmap = run.heatmap(row)
        except UsageError as error:
            logging.getLogger("detcam").warning("%s", error)
            heatmap = None
        if heatmap is None:
            return None
        heat = heatmap.array.astype(np.float64)
        if not heat.any():
            return None
        centres.append([float(np.arange(len(part)) @ part / part.sum()) for part in (heat.sum(1), heat.sum(0))])
    diagonal = float(np.hypot(one["x2"] - one["x1"], one["y2"] - one["y1"]))
    (y, x), (other_y, other_x) = centres
    return float(np.hypot(other_y - y, other_x - x)) / max(diagonal, 1e-6)
