"""The tables of a run folder: what their columns hold, and which rows and cells of a stranger's can be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import polars as pl

from detcam.errors import UsageError
from detcam.runs.cells import LARGEST_CELL, LONGEST_SIDE_PX, read_evidence, read_letterbox, read_receipt
from detcam.runs.schema import COLUMNS
from detcam.runs.shapes import MOST_CLASSES
from detcam.types import Status

TABLES = {
    "detections": "review or explain",
    "images": "review or explain",
    "misses": "review",
    "truths": "review",
    "comparison": "review --against",
    "evaluation": "evaluate",
    "summary": "evaluate",
    "sanity": "evaluate --sanity",
}
"""A run's tables, and the commands that write them."""
CSV_TABLES = ("summary", "sanity")
"""Those among them that are CSV; the others are Parquet."""

MISS_COLUMNS: dict[str, Any] = {
    "where_it_died": pl.String, "suppressor": pl.String, "raw_confidence": pl.Float32,
    "raw_x1": pl.Float32, "raw_y1": pl.Float32, "raw_x2": pl.Float32, "raw_y2": pl.Float32,
}  # fmt: skip
REVIEW_COLUMNS: dict[str, Any] = {
    **COLUMNS,
    "error_type": pl.String, "truth_id": pl.Int64, "truth_class": pl.String, "iou": pl.Float32,
    "matched_by": pl.String,
    "explanation": pl.String, "evidence_inside": pl.Float32, "cause": pl.String, "evidence": pl.String,
    "features": pl.List(pl.Float32), "chance": pl.List(pl.Float32), **MISS_COLUMNS,
}  # fmt: skip
"""What a review's rows hold; those of ``detcam explain`` among them."""
TRUTH_COLUMNS: dict[str, Any] = {
    "id": pl.Int64, "image": pl.String, "class_id": pl.Int32, "class_name": pl.String,
    "x1": pl.Float32, "y1": pl.Float32, "x2": pl.Float32, "y2": pl.Float32, "crowd": pl.Boolean,
    "found_by": pl.String,
}  # fmt: skip

_BOX = ("x1", "y1", "x2", "y2")
_PLACED = ("id", "image", "class_id", "class_name", *_BOX)
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "detections": (*_PLACED, "confidence", "anchor", "stride"),
    "misses": (*_PLACED, "truth_id"),
    "truths": _PLACED,
    "images": ("key", "detections"),
}
"""Columns without which a table is none."""
_KNOWN: Mapping[str, Mapping[str, Any]] = {
    "detections": {name: kind for name, kind in REVIEW_COLUMNS.items() if name not in MISS_COLUMNS},
    "misses": REVIEW_COLUMNS,
    "truths": TRUTH_COLUMNS,
    "images": {"key": pl.String, "detections": pl.Int32},
}
_JSON: Mapping[str, Callable[[str], object]] = {
    "letterbox": read_letterbox, "receipt": read_receipt, "evidence": read_evidence
}  # fmt: skip
_SHARES = ("iou", "evidence_inside", "raw_confidence", "padding_share")
_ROUNDING = 1e-3
LONGEST_NAME = 4096
"""Bytes of an id, an image's or a class's name."""


def typed(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """A table whose known columns are of their kinds.

    Args:
        name: as for :meth:`detcam.runs.Run.table`; of others nothing is known.
        table: as it is stored.

    Raises:
        UsageError: a column is missing, or of another kind.
    """
    if missing := [column for column in REQUIRED.get(name, ()) if column not in table.columns]:
        raise UsageError(f"it has no column {missing[0]!r}")
    for column, kind in _KNOWN.get(name, {}).items():
        if column in table.columns and table.schema[column] != kind:
            table = table.with_columns(_cast(table[column], kind))
    return table


def _cast(values: pl.Series, kind: Any) -> pl.Series:
    """A column of a kind that says the same."""
    held: Any = values.dtype
    numbers = held.is_numeric() and kind().is_numeric()
    lists = isinstance(held, pl.List | pl.Array) and isinstance(kind, pl.List) and held.inner.is_numeric()
    texts = kind == pl.String and isinstance(held, pl.Categorical | pl.Enum)
    try:
        if numbers or lists or texts or held == pl.Null:
            cast: pl.Series = values.cast(kind)
            return cast
    except pl.exceptions.PolarsError:
        pass
    raise UsageError(f"its column {values.name!r} holds {held}, not {kind}")


def usable(name: str, table: pl.DataFrame, review: bool) -> tuple[pl.DataFrame, list[str]]:
    """The rows of a table that can be used, with all columns that there may be.

    A row without an id, an image, a class or a finite box is left out; of others, cells that make no sense are null.

    Args:
        name: ``detections``, ``misses`` or ``truths``.
        table: from :func:`typed`.
        review: whether it is a review's.

    Returns:
        The rows; and for each thing that is wrong, a sentence without the table's name.
    """
    known = _KNOWN[name] if review else COLUMNS
    table = table.with_columns(
        pl.lit(None, dtype=kind).alias(column) for column, kind in known.items() if column not in table.columns
    )
    undefined = [name for name, kind in table.schema.items() if kind.is_float() and name not in (*_BOX, "confidence")]
    table, problems = table.with_columns(pl.col(undefined).fill_nan(None)), list[str]()
    for ok, what in _conditions(name, table):
        broken = table.filter(~ok.fill_null(False))
        if len(broken):
            first = str(broken["id"][0])[:80]
            problems.append(f"{len(broken)} rows are left out, the first {first!r}: {what}")
            table = table.filter(ok.fill_null(False))
    if table["id"].n_unique() < len(table):
        problems.append(f"{len(table) - table['id'].n_unique()} rows are left out: their ids stand twice")
        table = table.unique("id", keep="first", maintain_order=True)
    for column in table.columns:
        blank = _senseless(table, column)
        if blank is not None and blank.any():
            first = str(table.filter(blank)["id"][0])[:80]
            problems.append(f"{blank.sum()} cells of {column!r} make no sense, the first in row {first!r}")
            table = table.with_columns(pl.when(pl.Series(~blank)).then(pl.col(column)).alias(column))
    if name == "truths":
        table = table.with_columns(pl.col("crowd").fill_null(False))
    return table, problems


def _conditions(name: str, table: pl.DataFrame) -> list[tuple[pl.Expr, str]]:
    """What has to hold of a row."""
    names = [column for column in ("id", "image", "class_name") if table.schema[column] == pl.String]
    conditions = [
        (
            pl.col(column).str.len_bytes().is_between(int(column != "class_name"), LONGEST_NAME),
            f"no {column} that can be used",
        )
        for column in names
    ]
    conditions += [
        (pl.col("id").is_not_null(), "no id"),
        (pl.col("class_id").is_between(0, MOST_CLASSES - 1), f"class_id must lie in 0 .. {MOST_CLASSES - 1}"),
        (
            pl.all_horizontal(pl.col(side).is_between(-LONGEST_SIDE_PX, LONGEST_SIDE_PX) for side in _BOX),
            "its box must be four finite numbers",
        ),
    ]
    if name == "detections":
        conditions += [
            (pl.col("confidence").is_between(0, 1), "confidence must lie in [0, 1]"),
            (pl.col("anchor") >= 0, "anchor must be an index from 0"),
            (pl.col("stride").is_not_null(), "no stride"),
        ]
    return conditions


def _senseless(table: pl.DataFrame, column: str) -> pl.Series | None:
    """Which cells of a column make no sense; None where any does."""
    values = table[column]
    if column in _JSON:
        bad = {text for text in values.unique() if text is not None and not _reads(_JSON[column], text)}
        return values.is_in(list(bad)) & values.is_not_null() if bad else None
    if column == "status":
        return ~values.is_in([*get_args(Status), None], nulls_equal=True)
    if column in _SHARES:
        return (~values.is_between(-_ROUNDING, 1 + _ROUNDING)).fill_null(False)
    if column == "context_dependence":
        return (~values.is_between(-1 - _ROUNDING, 1 + _ROUNDING)).fill_null(False)
    if column.startswith("raw_") and column != "raw_confidence":
        sides = [pl.col(f"raw_{side}").is_between(-LONGEST_SIDE_PX, LONGEST_SIDE_PX) for side in _BOX]
        return table.select(~pl.all_horizontal(sides).fill_null(False))[:, 0] & values.is_not_null()
    if values.dtype.is_float():
        return (~values.is_finite()).fill_null(False)
    if values.dtype == pl.String:
        return (values.str.len_bytes() > LARGEST_CELL).fill_null(False)
    return None


def _reads(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True
