"""The run folder of an evaluation: rows are written image by image, so that it can go on later.

::

    run.json             schema, command, configuration, versions
    evaluation.parquet   one row for each detection and method
    summary.csv, .json   one line for each method, best first
    sanity.csv           where sanity was checked, one line for each method
    .evaluation/         the rows, one file for each image: they stay, so that a larger evaluation goes on from them

:func:`detcam.open_run` reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import polars as pl

from detcam.errors import UsageError
from detcam.io.files import on_this_machine, read_table, write_whole
from detcam.runs.held import LOCK, HeldFolder
from detcam.runs.own_files import refuse_foreign_places
from detcam.runs.schema import image_key, read_description, versions

PARTS = ".evaluation"


class EvaluationFolder(HeldFolder):
    """The folder of an evaluation, being written.

    Args:
        path: a folder on this machine; made where it does not exist.
        configuration: everything the rows depend on.
        overwrite: start anew where an evaluation of another configuration is there.

    Raises:
        UsageError: the folder cannot be written, is in use, or holds something other than an evaluation of this
            configuration.
    """

    def __init__(self, path: str | PathLike[str], configuration: Mapping[str, Any], overwrite: bool = False) -> None:
        super().__init__(on_this_machine(path, "an evaluation keeps its folder"), "evaluate", configuration)
        self._parts = self.path / PARTS
        try:
            self._check(overwrite)
            self.path.mkdir(parents=True, exist_ok=True)
            self.hold()
            self._open(overwrite)
        except OSError as error:
            raise UsageError(
                f"cannot write to {self.path}: {error.strerror or error}; choose another folder"
            ) from error

    def _check(self, overwrite: bool) -> bool:
        """Refuse a folder that is not this evaluation's; whether there is another that may be overwritten."""
        refuse_foreign_places(self.path, (LOCK, "run.json", "sanity.csv", PARTS))
        old = read_description(self.path, "; choose another folder")
        if old is None:
            if self.path.is_dir() and any(file.name != LOCK for file in self.path.iterdir()):
                raise UsageError(f"{self.path} holds something else; choose another folder")
            return False
        return not self.refuse_other(old, overwrite)

    def _open(self, overwrite: bool) -> None:
        try:
            if self._check(overwrite):  # again: until now another process may have been here
                for old in (*self._parts.glob("*.parquet"), self.path / "sanity.csv"):
                    old.unlink(missing_ok=True)
            self._parts.mkdir(exist_ok=True)
            self._description["versions"] = versions()
            self._write_description()
        except BaseException:
            self.release()
            raise

    def __contains__(self, source: object) -> bool:
        """Whether an image was measured, by its name."""
        if not isinstance(source, str) or not self._part(source).is_file():
            return False
        try:
            return "detection" in read_table(self._part(source)).columns
        except UsageError as error:
            logging.getLogger("detcam").warning("%s; the image is measured again", error)
            return False

    def count(self, source: str) -> int:
        """How many detections of an image were measured."""
        return int(read_table(self._part(source))["detection"].n_unique())

    def add_rows(self, source: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write an image's rows; an image without detections gets a part without rows.

        Args:
            source: the image's name.
            rows: one for each detection and method.

        Raises:
            OSError: they cannot be written.
        """
        frame = pl.DataFrame(list(rows), infer_schema_length=None) if rows else pl.DataFrame({"detection": [0]}).clear()
        write_whole(self._part(source), frame.write_parquet)

    def gather(self) -> pl.DataFrame:
        """Every row so far, in the order of images' names, detections and methods; empty where nothing was measured."""
        return join_parts([read_table(part) for part in sorted(self._parts.glob("*.parquet"))])

    def _part(self, source: str) -> Path:
        return self._parts / f"{image_key(source)}.parquet"


def join_parts(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows of several images as one table; empty where none has any.

    Args:
        parts: a table for each image.
    """
    full = [part for part in parts if len(part)]
    return pl.concat(full, how="diagonal_relaxed") if full else pl.DataFrame()


def write_tables(path: Path, rows: pl.DataFrame, summary: pl.DataFrame) -> None:
    """Write ``evaluation.parquet``, ``summary.csv`` and ``summary.json`` into an evaluation's folder.

    Args:
        path: the run folder.
        rows: one for each detection and method.
        summary: one for each method, best first.
    """
    write_whole(path / "evaluation.parquet", rows.write_parquet)  # whole, and never through a link
    write_whole(path / "summary.csv", summary.write_csv)
    write_whole(path / "summary.json", summary.write_json)
