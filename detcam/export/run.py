"""A run folder of ``detcam review`` or ``detcam explain`` as exports read it: tables with verdicts, images, maps."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from detcam.data.labels import image_size
from detcam.errors import InputError, UsageError
from detcam.runs.cells import read_letterbox
from detcam.runs.photographs import image_file
from detcam.runs.reading import Run, open_run
from detcam.types import Heatmap


@dataclass(frozen=True, eq=False)
class JudgedRun:
    """A run with what a person said of it.

    Attributes:
        run: the run.
        names: the classes by the model's class id; of a run that does not tell them, those that occur.
        detections: the run's table, and two String columns ``verdict`` and ``note``: null where nothing was judged.
        truths: the run's table; None for an explained run, which has none.
        misses: the run's table, with ``verdict`` and ``note``; None likewise.
    """

    run: Run
    names: Mapping[int, str]
    detections: pl.DataFrame
    truths: pl.DataFrame | None
    misses: pl.DataFrame | None

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.run.path

    @cached_property
    def sizes(self) -> Mapping[str, tuple[int, int] | None]:
        """Every image with a detection or a truth, as the run names it, and its (height, width).

        The size is the one the run saw, else the file's; None where neither can tell.
        """
        sizes: dict[str, tuple[int, int] | None] = {}
        tables = [table for table in (self.detections, self.truths, self.misses) if table is not None]
        for table in tables:
            for row in table.select(pl.col("image", "^letterbox$")).unique(maintain_order=True).iter_rows(named=True):
                where = row.get("letterbox")
                sizes[row["image"]] = read_letterbox(where).original if where else sizes.get(row["image"])
        return {image: size or _file_size(image) for image, size in sizes.items()}

    def heatmap(self, row: Mapping[str, Any]) -> Heatmap | None:
        """The map of a row; None where the run has none that can be read.

        Args:
            row: of ``detections`` or ``misses``, by its columns.
        """
        try:
            return self.run.heatmap(row)
        except UsageError:
            return None


def read_run(path: str | Path) -> JudgedRun:
    """Read a run folder with its verdicts.

    Args:
        path: the run folder, local or an address of fsspec's.

    Raises:
        UsageError: no run of ``explain`` or ``review``, or one without its table of detections; a file of it that is
            damaged. Of rows and cells that make no sense the log tells, and they are left out.
    """
    run = open_run(path)
    if run.info["command"] not in ("explain", "review"):
        raise UsageError(f"{run.path} holds a run of detcam {run.info['command']:.80}, not of explain or review")
    detections, problems = run.usable()
    truths, misses = None, None
    if run.has("truths"):
        truths, more = run.usable("truths")
        problems += more
    if run.has("misses"):
        misses, more = run.usable("misses")
        problems += more
    for problem in problems:
        logging.getLogger("detcam").warning("%s", problem)
    verdicts, names = run.verdicts(), run.classes()
    for table in (detections, truths):
        if table is not None:
            for number, name in table.select("class_id", "class_name").iter_rows():
                names.setdefault(number, name)
    judged = None if misses is None else _judged(misses, verdicts)
    return JudgedRun(run, dict(sorted(names.items())), _judged(detections, verdicts), truths, judged)


def _file_size(image: str) -> tuple[int, int] | None:
    try:
        return image_size(image_file(image))
    except (InputError, OSError):  # a name too long for any file is an OSError
        return None


def _judged(table: pl.DataFrame, verdicts: Mapping[str, Mapping[str, Any]]) -> pl.DataFrame:
    entries = [verdicts.get(name, {}) for name in table["id"]]
    columns = [pl.Series(key, [_text(one.get(key)) for one in entries], pl.String) for key in ("verdict", "note")]
    return table.with_columns(columns)


def _text(value: object) -> str | None:
    """Text that any file can hold: JSON can spell halves of characters that none can."""
    return None if value is None else str(value).encode("utf-8", "backslashreplace").decode()
