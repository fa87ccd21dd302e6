"""A run folder being written: one complete file per image, so that a run can stop anywhere and go on later."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detcam.errors import UsageError
from detcam.filenames import printable
from detcam.io.documents import parse_json
from detcam.io.files import (
    is_local,
    locate,
    make_folder,
    reaching,
    read_table,
    read_tables,
    refresh,
    remove_files,
    write_whole,
)
from detcam.runs.held import LOCK, HeldFolder, Sources
from detcam.runs.own_files import refuse_foreign_places
from detcam.runs.results import LOOKED_AT, PARTS, PIECE_SUFFIX, Pictures, lacking_files, remove_run, write_result
from detcam.runs.schema import (
    DETECTIONS,
    IMAGES,
    RunSchema,
    image_key,
    read_description,
    versions,
    write_maps,
)
from detcam.runs.shapes import FAILURE
from detcam.runs.tables import typed
from detcam.types import ImageResult

OWN = (DETECTIONS, IMAGES, "heatmaps", "overlays", PARTS)
NO_PICTURES = Pictures()
IMAGE_COLUMNS: dict[str, Any] = {"key": pl.String, "detections": pl.Int32}


class RunFolder(HeldFolder):
    """A run folder, locked for one process at a time; remote file systems have no locks, so there any may write.

    Opened again with the same configuration, a run goes on: finished images (``name in folder``) stay as they are,
    those that failed can be tried again. It grows where other ``sources`` are given: failures of earlier ones stay on
    record. Images are identified by name. Leaving a ``with`` block releases the folder.

    Args:
        path: the folder, local or an address of fsspec's; made where it does not exist.
        command: the command's name.
        configuration: the resolved configuration; with ``command``, what makes two runs the same.
        overwrite: remove the run that is there, whatever its configuration.
        schema: the command's rows, tables and further files.
        sources: what the run is made of, in ``run.json`` as ``source`` and ``working_directory`` of the configuration;
            None for a run that cannot grow.
        pictures: what is drawn of each image; an image that lacks one is done again.

    Raises:
        UsageError: the folder cannot be written, is in use, or holds something other than a run of this configuration.
    """

    def __init__(
        self,
        path: str | Path,
        command: str,
        configuration: Mapping[str, Any],
        overwrite: bool = False,
        schema: RunSchema | None = None,
        sources: Sources | None = None,
        pictures: Pictures = NO_PICTURES,
    ) -> None:
        super().__init__(locate(path), command, configuration, sources)
        self._pictures = pictures
        self._schema = schema or RunSchema()
        self._errors: dict[str, str] = {}
        self._unfinished: list[str] = []
        self._errors_written = -math.inf
        self._known: dict[str, list[dict[str, Any]]] | None = None
        try:
            with reaching(self.path):
                self._open(overwrite)
                self._done = self._finished()
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise UsageError(f"cannot write to {self.path}: {error.strerror}; choose another folder") from error
            raise

    def _open(self, overwrite: bool) -> None:
        path = self.path
        refresh(path)
        if is_local(path):
            written = (LOCK, "run.json", "errors.jsonl", *OWN, *self._schema.tables, *self._schema.files)
            refuse_foreign_places(path, [*written, *self._schema.folders])
        if is_local(path) and (path / LOCK).exists():
            self.hold()
        self._check(overwrite)
        make_folder(path)
        self.hold()
        old = self._check(overwrite)  # again: until now another process may have been here
        if old is not None and (overwrite or old.get("state") == "removing"):
            self._description["state"] = "removing"
            self._write_description()  # if it ends here, the folder is this run's
            remove_run(path, [*self._schema.tables, *self._schema.files])
            old = None
        elif old is None:
            self._description["state"] = "opening"
            self._write_description()
        for name in ("heatmaps", PARTS):
            make_folder(path / name)
        if self.sources is not None:
            self._grow(self.sources, old)
        remove_files([*path.glob(".*.partial*"), *path.glob("*/.*.partial*")])  # a killed process left them

    def _check(self, overwrite: bool) -> dict[str, Any] | None:
        """The folder's ``run.json``, or None; raises where this run may not write there."""
        path, old = self.path, read_description(self.path)
        if old is not None:
            self.refuse_other(old, overwrite)
        if old is None and (strange := [name for name in OWN if (path / name).exists()]):
            raise UsageError(f"{path} holds {strange[0]!r} but no run of detcam; choose another folder")
        return old

    def _grow(self, sources: Sources, old: Mapping[str, Any] | None) -> None:
        """Record the sources, after those of the folder's run; what failed or is unfinished of others stays so."""
        before = {} if old is None else old.get("configuration", {})
        earlier = before.get("source", [])
        if not isinstance(earlier, list) or not all(isinstance(name, str) for name in earlier):
            raise UsageError(f"{self.path / 'run.json'} is damaged: its source must be a list of names; remove it")
        named: dict[str, Any] = {"source": [*earlier, *(name for name in sources.names if name not in earlier)]}
        if place := sources.working_directory or before.get("working_directory"):
            named["working_directory"] = place
        self._description["configuration"] |= named
        if old is not None and set(earlier) - set(sources.names):
            left = old.get("unfinished", () if old.get("state") == "finished" else earlier)
            self._unfinished = [name for name in left if name not in sources.names]
            self._errors = _failures(self.path / "errors.jsonl")

    def _finished(self) -> set[str]:
        """The keys of images that are done: by a part, or by the tables, which have to agree; all files are there."""
        tables = [self._table(name).select(LOOKED_AT) for name in self._schema.tables]
        rows = pl.concat(tables).with_columns(_key().alias("key"))
        images = self._read(IMAGES, IMAGE_COLUMNS).join(rows.group_by("key").len("rows"), "key", "left")
        whole = set(images.filter(pl.col("detections") == pl.col("rows").fill_null(0))["key"])
        parts = sorted((self.path / PARTS).glob("*.parquet"))
        done = {*whole, *(part.stem for part in parts)}
        if not is_local(self.path):
            return done
        with _mendable():
            fresh = [part.select(rows.columns[:-1]).with_columns(_key().alias("key")) for part in read_tables(parts)]
        lacking = lacking_files(self.path, pl.concat([rows, *fresh]).filter(pl.col("key").is_in(done)), self._pictures)
        if lacking:
            what = "%s: of %d finished images a file is gone or damaged (%s): they are done again"
            logging.getLogger("detcam").warning(what, self.path, len(lacking), min(lacking.values()))
        remove_files([part for part in parts if part.stem in lacking])
        return done - set(lacking)

    def describe(self, **facts: Any) -> None:
        """Record facts about the run (weights, device, ...) in ``run.json``.

        Args:
            **facts: what JSON can hold, by key.
        """
        self._description |= facts
        self._description["versions"] = versions()
        self._description |= {"state": "running", "started": _now()}
        if self.sources is not None:
            self._description["unfinished"] = [*self._unfinished, *self.sources.names]
        self._write_description()

    def __contains__(self, source: object) -> bool:
        """Whether an image is done, by its name."""
        return isinstance(source, str) and image_key(source) in self._done

    def rows(self, source: str) -> list[dict[str, Any]]:
        """The rows of an image that is done."""
        key = image_key(source)
        part = self.path / PARTS / f"{key}.parquet"
        if part.is_file():
            return read_table(part).to_dicts()
        if self._known is None:
            table = self._table(DETECTIONS).with_columns(_key().alias("key"))
            self._known = {one["key"][0]: one.drop("key").to_dicts() for one in table.partition_by("key")}
        return self._known.get(key, [])

    def add(self, result: ImageResult, pictures: Pictures = NO_PICTURES) -> list[dict[str, Any]]:
        """Write one image's maps and pictures, then its rows, which marks it as finished.

        Args:
            result: the image with its explanations.
            pictures: what to draw.

        Returns:
            The rows, one for each explanation.

        Raises:
            OSError: something cannot be written.
        """
        rows = write_result(self.path, result, pictures)
        self.mark_finished(result.source)
        return rows

    def mark_finished(self, source: str) -> None:
        """Record that an image is finished whose part another process wrote with :func:`write_result`."""
        self._done.add(image_key(source))
        self._errors.pop(printable(source), None)

    def add_rows(self, source: str, rows: Sequence[Mapping[str, Any]], maps: Mapping[str, NDArray[np.float32]]) -> None:
        """Write one image's maps, then its rows, which marks it as finished.

        Args:
            source: the image's name.
            rows: with the schema's columns.
            maps: raw maps, float32 (h, w), by the ids of their rows.

        Raises:
            OSError: something cannot be written.
        """
        write_maps(self.path, source, maps)
        part = pl.DataFrame(list(rows), schema=dict(self._schema.columns))
        write_whole(self.path / PARTS / f"{image_key(source)}.parquet", part.write_parquet)
        self._done.add(image_key(source))

    def write_table(self, name: str, table: pl.DataFrame) -> None:
        """Write one of the command's tables.

        Args:
            name: of the file.
            table: its rows.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(self.path / name, table.rechunk().write_parquet)

    def fail(self, source: str, reason: str) -> None:
        """Record an input that failed, for ``errors.jsonl``.

        Args:
            source: the input's name.
            reason: why, on one line.
        """
        path = printable(source)
        self._errors[path] = json.dumps({"path": path, "reason": reason}) + "\n"
        if time.monotonic() - self._errors_written >= 1:  # at most once a second: the whole file is written each time
            self._write_errors()

    def finish(self, complete: bool) -> dict[str, int]:
        """Gather the parts into the tables, record the counts and release the folder.

        Args:
            complete: whether all inputs were tried; if not, the same run can go on later.

        Returns:
            How many ``images``, ``failed`` inputs and ``detections`` there are, and how many of these are
            ``no_signal``,
            ``unsupported`` and ``no_evidence``.

        Raises:
            UsageError: a table of the folder is damaged.
        """
        images = self.gather()
        self._write_errors()
        status = self._table(DETECTIONS)["status"].to_list()
        counts = {
            "images": images, "failed": len(self._errors), "detections": len(status),
            "no_signal": status.count("no_signal"), "unsupported": status.count("unsupported"),
            "no_evidence": status.count("no_evidence"),
        }  # fmt: skip
        state = "finished" if complete and not self._unfinished else "interrupted"
        self._description |= {"state": state, "ended": _now(), "counts": counts}
        if self.sources is not None and complete:
            self._description["unfinished"] = self._unfinished
        self._write_description()
        self.release()
        return counts

    def label(self, column: str, values: Mapping[str, Any]) -> None:
        """Fill a column of the gathered detections; it becomes null in rows that ``values`` does not name.

        Args:
            column: one of the schema's.
            values: by the rows' ids.
        """
        kind = self._schema.columns[column]
        labels = pl.col("id").replace_strict(values, default=None, return_dtype=kind).alias(column)
        self.write_table(DETECTIONS, self._table(DETECTIONS).with_columns(labels))

    def gather(self) -> int:
        """Gather the images' parts into the tables, sorted by image, so that the same rows give the same bytes.

        Returns:
            How many images are finished.

        Raises:
            UsageError: a part or a table is damaged.
        """
        refresh(self.path)
        parts = sorted((self.path / PARTS).glob("*.parquet"))
        finished = {part.stem for part in parts}
        pieces = [file for file in sorted((self.path / PARTS).glob(f"*{PIECE_SUFFIX}")) if _whole(file) not in finished]
        with _mendable():
            fresh = [pl.DataFrame(schema=dict(self._schema.columns)), *read_tables([*parts, *pieces])]
        rows = pl.concat(fresh, how="diagonal_relaxed").with_columns(_key().alias("key"))
        keys = pl.DataFrame({"key": [part.stem for part in parts]}, schema={"key": pl.String})
        counts = keys.join(rows.group_by("key").len("detections"), "key", "left", maintain_order="left")
        counts = counts.with_columns(pl.col("detections").fill_null(0).cast(pl.Int32))
        images = pl.concat([self._read(IMAGES, IMAGE_COLUMNS), counts]).unique("key", keep="last").sort("key")
        for name, table in self._schema.tables.items():
            kept = self._table(name).filter(
                _key().is_in(images["key"].implode()) & ~_key().is_in([*finished, *map(_whole, pieces)])
            )
            own = rows.filter(table.holds).drop("key", *table.omits)
            self.write_table(name, pl.concat([kept, own], how="diagonal_relaxed").sort("image", "id"))
        self.write_table(IMAGES, images)
        remove_files(parts)  # only these: another process may have written more meanwhile
        if is_local(self.path):
            with suppress(OSError):
                (self.path / PARTS).rmdir()
        return len(images)

    def _table(self, name: str) -> pl.DataFrame:
        """A table of rows as it is; where there is none yet, without rows."""
        omitted = self._schema.tables[name].omits
        return self._read(name, {key: kind for key, kind in self._schema.columns.items() if key not in omitted})

    def _read(self, name: str, columns: Mapping[str, Any]) -> pl.DataFrame:
        path = self.path / name
        with _mendable():
            if not path.is_file():
                return pl.DataFrame(schema=dict(columns))
            table = read_table(path)
            try:
                table = typed(path.stem, table)
            except UsageError as error:
                raise UsageError(f"{path} is damaged: {error}") from error
            if lacking := [key for key in columns if key not in table.columns]:
                raise UsageError(f"{path} is damaged: it has no column {lacking[0]!r}")
            return table

    def _write_errors(self) -> None:
        self._errors_written = time.monotonic()
        if self._errors:
            text = "".join(sorted(self._errors.values()))  # they came in any order
            write_whole(self.path / "errors.jsonl", lambda file: file.write(text.encode()))
        else:
            (self.path / "errors.jsonl").unlink(missing_ok=True)


@contextmanager
def _mendable() -> Iterator[None]:
    """Add to the error about a damaged table how to repair it."""
    try:
        yield
    except (UsageError, pl.exceptions.PolarsError) as error:
        what = "" if isinstance(error, UsageError) else "a part of the run is damaged: "
        raise UsageError(
            f"{what}{' '.join(str(error).split())}; remove it, and its images are explained again"
        ) from error


def _whole(piece: Path) -> str:
    """The key of the image that a piece is of."""
    return piece.stem.rpartition("+")[0]


def _key() -> pl.Expr:
    """An image's key, from the ids of its rows: all before the last dash."""
    return pl.col("id").str.replace(r"-[^-]*$", "")


def _failures(path: Path) -> dict[str, str]:
    """The lines of ``errors.jsonl``, by the inputs they are about; none where there is no such file."""
    if not path.is_file():
        return {}
    try:
        lines = path.read_bytes().decode("utf-8").splitlines(keepends=True)
        return {FAILURE(parse_json(line), "a line")["path"]: line for line in lines}
    except (ValueError, UsageError) as error:
        raise UsageError(f"{path} is damaged: {error}; remove it") from error


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
