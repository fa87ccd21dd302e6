"""A run folder read: what ran, its rows as typed values, their maps, and what failed. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import polars as pl

from detcam.errors import UsageError, nearest
from detcam.geometry import Letterbox
from detcam.inputs import no_run
from detcam.io.documents import parse_json
from detcam.io.files import locate, reaching, read_csv, read_table, refresh
from detcam.runs.cells import LONGEST_SIDE_PX, read_evidence, read_letterbox, read_receipt
from detcam.runs.own_files import own_file, read_own_file
from detcam.runs.schema import COLUMNS, read_description, read_heatmap
from detcam.runs.shapes import CAUSES, FAILURE, MOST_CLASSES, SUMMARY, Shape, anything, mapped
from detcam.runs.tables import CSV_TABLES, TABLES, typed, usable
from detcam.runs.verdicts import check_verdict
from detcam.types import Detection, Evidence, Heatmap, Receipt, Status


@dataclass(frozen=True, eq=False)
class Row:
    """One detection of a run, or one missed truth of a review, and its explanation.

    A review explains errors and misses only: of its other rows what an explanation says is None or empty.

    Attributes:
        id: of the detection in its run.
        image: as the run names it; bytes of a path that are no text are escaped.
        detection: the box; a run keeps no polygons or keypoints. Of a miss the truth's box and class, with the
            confidence, anchor and stride of the raw prediction that spoke for it.
        method, target: names as asked for, or None.
        layers: module paths whose maps were summed.
        support: for each of ``layers`` the share of its cells with any gradient, in [0, 1], to four digits.
        status: as :attr:`detcam.types.Explanation.status`, or None.
        reason: why the status is what it is; empty for ``ok``, unless another method had to take over.
        sentence: what the box rests on, in one plain sentence; empty where none was made.
        receipt: the causal check of the map, or None.
        evidence: the smallest part without which the box is lost or becomes something else, or None.
        padding_share: share of the map's absolute mass in the letterbox's padding, in [0, 1], or None.
        forwards: images passed through the detector for this map, or None.
        heatmap: which map of the folder is this row's, ``FILE.npz#ID``, or None; :meth:`Run.heatmap` reads it.
        scale: the map's largest magnitude, or None.
        letterbox: where the map lies in the image, or None.
        patch: of a false positive of a review what its error hangs on, or None: ``xyxy`` (original pixels), whether the
            error was gone without it (``flipped``) and without as large a patch elsewhere (``control``), the scores
            ``before`` and ``after``, ``place`` (centre from the box's, in box sides) and the share ``outside`` the box.
        further: all other columns of the table, by name: of a review ``error_type``, ``truth_id``, ``truth_class``,
            ``iou``, ``explanation``, ``cause``, ...; of its misses ``where_it_died``, ``suppressor``, ...
    """

    id: str
    image: str
    detection: Detection
    method: str | None
    target: str | None
    layers: tuple[str, ...]
    support: tuple[float, ...]
    status: Status | None
    reason: str
    sentence: str
    receipt: Receipt | None
    evidence: Evidence | None
    padding_share: float | None
    forwards: float | None
    heatmap: str | None
    scale: float | None
    letterbox: Letterbox | None
    patch: Mapping[str, Any] | None
    further: Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """An input that failed.

    Attributes:
        path: as the run names it.
        reason: why.
    """

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder, to be read; made by :func:`open_run`. Its length is the number of its detections.

    Files are read when they are asked for. A table is read once; what another process writes later is not seen.

    Attributes:
        path: the folder, here or at an address.
        info: what ``run.json`` says, read-only: ``command``, ``configuration``, ``weights``, ``versions``, ``state``
            (``finished``, ``interrupted``, ``running``), ``counts``, ...
    """

    path: Path
    info: Mapping[str, Any] = field(repr=False)
    _tables: dict[str, pl.DataFrame] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.table())

    def has(self, name: str) -> bool:
        """Whether the run has a table.

        Args:
            name: as for :meth:`table`.

        Raises:
            UsageError: the folder cannot be read.
        """
        return self._is_there(name)

    def table(self, name: str = "detections") -> pl.DataFrame:
        """A table of the run as it is stored.

        Args:
            name: ``detections`` (columns as :data:`detcam.runs.schema.COLUMNS`; a review's has more) or ``images``; of
                a review also ``misses``, ``truths`` and ``comparison``; of an evaluation ``evaluation`` (a row for each
                detection and method), ``summary`` and ``sanity`` (a row for each method).

        Raises:
            UsageError: the run has no such table, or it is damaged.
        """
        return self._read(name)

    def rows(self) -> Iterator[Row]:
        """Every detection, in the order of images' names and, within an image, of descending confidence.

        Raises:
            UsageError: the run has no detections yet, or a row is damaged.
        """
        return self._rows("detections")

    def misses(self) -> Iterator[Row]:
        """Every missed truth of a review; of another run, none.

        Raises:
            UsageError: the table or a row is damaged.
        """
        return self._rows("misses") if self.has("misses") else iter(())

    def errors(self) -> tuple[Failure, ...]:
        """The inputs that failed when the run was last made.

        Raises:
            UsageError: ``errors.jsonl`` is damaged.
        """
        path = self.path / "errors.jsonl"
        try:
            lines = read_own_file(self.path, "errors.jsonl").splitlines()
            failures = [FAILURE(parse_json(line), f"line {number}") for number, line in enumerate(lines, 1)]
            return tuple(Failure(one["path"], one["reason"]) for one in failures)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} is damaged: {error}") from error
        except UsageError as error:
            raise UsageError(f"{path} is damaged: {str(error).removeprefix(f'{path} ')}") from error

    def summary(self) -> dict[str, Any]:
        """``summary.json`` of a review: ``images``, ``counts`` and ``dap`` by type of error, ``map50``, ``map``, ...

        Raises:
            UsageError: it is not there, or damaged.
        """
        summary: dict[str, Any] = self._json("summary.json", SUMMARY)
        return summary

    def causes(self) -> list[dict[str, Any]]:
        """``causes.json`` of a review, the cause of the most errors first: ``id``, ``name``, ``text``, ``members``, ...

        Raises:
            UsageError: it is not there, or damaged.
        """
        causes: list[dict[str, Any]] = self._json("causes.json", CAUSES)
        return causes

    def verdicts(self) -> dict[str, dict[str, Any]]:
        """What a person said of detections and misses, by id: ``verdict`` (of ``VERDICTS``, or None) and ``note``.

        Raises:
            UsageError: ``verdicts.json`` is damaged, or an entry is no verdict.
        """
        if not self._is_file("verdicts.json"):
            return {}
        entries: dict[str, dict[str, Any]] = self._json("verdicts.json", mapped(anything))
        for name, entry in entries.items():
            try:
                check_verdict(name, entry)
            except UsageError as error:
                raise UsageError(f"{self.path / 'verdicts.json'} is damaged: {error}") from error
        return entries

    def classes(self) -> dict[int, str]:
        """The names of the detector's classes by their numbers, as ``run.json`` tells them; empty where it does not."""
        return {int(number): name for number, name in (self.info.get("classes") or {}).items()}

    def usable(self, name: str = "detections") -> tuple[pl.DataFrame, tuple[str, ...]]:
        """What of a table can be used, of a run that somebody may have damaged or made up.

        Args:
            name: ``detections``, ``misses`` or ``truths``.

        Returns:
            The rows with an id of their own, an image, a class and a finite box, with every column that the command
            writes; cells that make no sense are null. And what is wrong with the others, a sentence each.

        Raises:
            UsageError: the run has no such table, it is damaged, or lacks a column without which there are no rows.
        """
        table, problems = usable(name, self.table(name), self.info["command"] == "review")
        return table, tuple(f"{self._path_of(name)}: {problem}" for problem in problems)

    def heatmap(self, row: Row | Mapping[str, Any]) -> Heatmap | None:
        """The map of a detection or a miss, at the method's own resolution, to float16's precision.

        Args:
            row: of :meth:`rows` or :meth:`misses`, or of a :meth:`table`, by its columns.

        Returns:
            The map, or None where the run has none of this row (only errors of a review are explained) or does not
            tell where it lies.

        Raises:
            UsageError: the map is missing or damaged.
        """
        key, scale = (row.heatmap, row.scale) if isinstance(row, Row) else (row.get("heatmap"), row.get("scale"))
        if not key:
            return None
        try:
            place = row.letterbox if isinstance(row, Row) else _letterbox(row.get("letterbox"))
            if place is None:
                return None
            return Heatmap(read_heatmap(self.path, key, float("nan") if scale is None else scale), place)
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(f"{self.path / 'heatmaps' / key} is damaged: {error}") from error

    def _rows(self, name: str) -> Iterator[Row]:
        for columns in self.table(name).iter_rows(named=True):
            try:
                row = read_row(columns)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                where = f"{self.path / name}.parquet is damaged: row {columns.get('id')!r}"
                raise UsageError(f"{where}: {type(error).__name__}: {error}") from error
            yield row

    def _is_there(self, name: str) -> bool:
        return name in self._tables or self._is_file(self._path_of(name).name)

    def _json(self, name: str, shape: Shape) -> Any:
        """A file of JSON, of a shape."""
        path = self.path / name
        try:
            value = parse_json(read_own_file(self.path, name))
        except OSError as error:
            what = f"it is no finished run of detcam review, but holds one of detcam {self.info['command']}"
            what += self._unfinished()
            raise UsageError(f"{path} cannot be read: {error.strerror or error}; {what}") from error
        except UsageError as error:
            if str(path) in str(error):
                raise
            raise UsageError(f"{path} is no JSON: {error}") from error
        try:
            return shape(value, "it")
        except ValueError as error:
            raise UsageError(f"{path} is damaged: {error}") from error

    def _unfinished(self) -> str:
        """What a message says of a run that is not finished."""
        state = self.info.get("state", "finished")
        return "" if state == "finished" else f", {state}: the same command goes on with it"

    def _is_file(self, name: str) -> bool:
        path = own_file(self.path, name)
        try:
            with reaching(path):
                return path.is_file()
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from error

    def _path_of(self, name: str) -> Path:
        return self.path / f"{name}{'.csv' if name in CSV_TABLES else '.parquet'}"

    def _read(self, name: str) -> pl.DataFrame:
        if name not in TABLES:
            raise UsageError(f"no table {name!r}{nearest(name, TABLES)}")
        path = self._path_of(name)
        if not self._is_there(name):
            raise UsageError(
                f"{self.path} has no {path.name}: it is no finished run of detcam {TABLES[name]}, "
                f"but holds one of detcam {self.info['command']}{self._unfinished()}"
            )
        if name not in self._tables:
            try:
                table = read_csv(path) if name in CSV_TABLES else read_table(path)
            except OSError as error:
                raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
            try:
                self._tables[name] = typed(name, table)
            except UsageError as error:
                raise UsageError(f"{path} is damaged: {error}") from error
        return self._tables[name]


def open_run(path: str | Path) -> Run:
    """A run folder of any command, to be read.

    >>> run = open_run("runs/why")  # doctest: +SKIP
    >>> for row in run.rows():  # doctest: +SKIP
    ...     print(row.image, row.detection.class_name, row.sentence, run.heatmap(row).array.shape)

    Args:
        path: the folder, or an address that fsspec reaches, such as ``s3://bucket/why``.

    Raises:
        UsageError: there is no run folder, it was written by a newer detcam, or ``run.json`` is damaged.
    """
    located = locate(path)
    try:
        with reaching(located):
            refresh(located)
            info = read_description(located, advice="")
    except OSError as error:
        raise UsageError(f"cannot read {located}: {error.strerror or error}") from error
    if info is None:
        raise no_run(located)
    return Run(located, MappingProxyType(info))


def read_row(columns: Mapping[str, Any]) -> Row:
    """A table's row as a value; columns that a run of an earlier schema lacks are empty.

    Args:
        columns: the row by its columns.

    Raises:
        ValueError, TypeError, KeyError: the row is damaged.
    """
    get = columns.get
    status = get("status")
    if status is not None and status not in get_args(Status):
        raise ValueError(f"unknown status {status!r}")
    evidence = read_evidence(text) if (text := get("evidence")) else None
    if not isinstance(columns["id"], str) or not isinstance(columns["image"], str):
        raise ValueError("it has no id or no image")
    if not isinstance(columns["class_name"], str) or not 0 <= columns["class_id"] < MOST_CLASSES:
        raise ValueError(f"class {columns['class_id']!r} ({columns['class_name']!r:.80}) is none of a model's")
    if not all(abs(columns[side]) <= LONGEST_SIDE_PX for side in ("x1", "y1", "x2", "y2")):
        raise ValueError("its box must be four finite numbers")
    return Row(
        id=columns["id"],
        image=columns["image"],
        detection=Detection(
            xyxy=[columns[side] for side in ("x1", "y1", "x2", "y2")],  # type: ignore[arg-type]  # made an array there
            class_id=columns["class_id"],
            class_name=columns["class_name"],
            confidence=columns["confidence"],
            anchor=columns["anchor"],
            stride=columns["stride"],
        ),
        method=get("method"),
        target=get("target"),
        layers=tuple(filter(None, (get("layers") or "").split(","))),
        support=tuple(float(share) for share in (get("support") or "").split(",") if share),
        status=status,
        reason=get("reason") or "",
        sentence=get("sentence") or "",
        receipt=read_receipt(text) if (text := get("receipt")) else None,
        evidence=evidence if isinstance(evidence, Evidence) else None,
        padding_share=get("padding_share"),
        forwards=get("forwards"),
        heatmap=get("heatmap"),
        scale=get("scale"),
        letterbox=_letterbox(get("letterbox")),
        patch=evidence if isinstance(evidence, Mapping) else None,
        further=MappingProxyType({name: value for name, value in columns.items() if name not in COLUMNS}),
    )


def _letterbox(text: str | None) -> Letterbox | None:
    return read_letterbox(text) if text else None
