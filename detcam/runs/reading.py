"""A run folder read: what ran, its rows as typed values, their maps, and what failed. Nothing is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import polars as pl

from detcam.errors import UsageError, nearest
from detcam.geometry import Letterbox
from detcam.inputs import no_run
from detcam.io.files import locate, reaching, read_csv, read_table, refresh
from detcam.runs.schema import COLUMNS, read_description, read_heatmap, read_letterbox
from detcam.runs.verdicts import check_verdict
from detcam.types import Detection, Evidence, Heatmap, Receipt, Status

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
            with reaching(path):
                lines = path.read_bytes().decode("utf-8").splitlines()
            failures = [json.loads(line) for line in lines]
            return tuple(Failure(str(one["path"]), str(one["reason"])) for one in failures)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is damaged: {error}") from error

    def summary(self) -> dict[str, Any]:
        """``summary.json`` of a review: ``images``, ``counts`` and ``dap`` by type of error, ``map50``, ``map``, ...

        Raises:
            UsageError: it is not there, or damaged.
        """
        summary: dict[str, Any] = self._json("summary.json", dict)
        return summary

    def causes(self) -> list[dict[str, Any]]:
        """``causes.json`` of a review, the cause of the most errors first: ``id``, ``name``, ``text``, ``members``, ...

        Raises:
            UsageError: it is not there, or damaged.
        """
        causes: list[dict[str, Any]] = self._json("causes.json", list)
        return causes

    def verdicts(self) -> dict[str, dict[str, Any]]:
        """What a person said of detections and misses, by id: ``verdict`` (of ``VERDICTS``, or None) and ``note``.

        Raises:
            UsageError: ``verdicts.json`` is damaged, or an entry is no verdict.
        """
        if not self._is_file("verdicts.json"):
            return {}
        entries: dict[str, dict[str, Any]] = self._json("verdicts.json", dict)
        for name, entry in entries.items():
            check_verdict(name, entry)
        return entries

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
        if isinstance(row, Row):
            key, scale, place = row.heatmap, row.scale, row.letterbox
        else:
            key, scale = row.get("heatmap"), row.get("scale")
            place = _letterbox(row.get("letterbox")) if key else None
        if not key or place is None:
            return None
        try:
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

    def _json(self, name: str, kind: type) -> Any:
        """A file of JSON, of which the outermost value is of a kind."""
        path = self.path / name
        try:
            with reaching(path):
                value = json.loads(path.read_bytes().decode("utf-8"))
        except OSError as error:
            what = f"it is no finished run of detcam review, but holds one of detcam {self.info['command']}"
            what += self._unfinished()
            raise UsageError(f"{path} cannot be read: {error.strerror or error}; {what}") from error
        except ValueError as error:
            raise UsageError(f"{path} is no JSON: {error}") from error
        if not isinstance(value, kind):
            raise UsageError(f"{path} is damaged: it must hold {'an object' if kind is dict else 'a list'}")
        return value

    def _unfinished(self) -> str:
        """What a message says of a run that is not finished."""
        state = self.info.get("state", "finished")
        return "" if state == "finished" else f", {state}: the same command goes on with it"

    def _is_file(self, name: str) -> bool:
        path = self.path / name
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
                self._tables[name] = read_csv(path) if name in CSV_TABLES else read_table(path)
            except OSError as error:
                raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
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
    receipt, evidence = (json.loads(text) if (text := get(name)) else None for name in ("receipt", "evidence"))
    patch = None
    if evidence is not None and "patches" not in evidence:  # a review's patch, with other keys
        patch, evidence = MappingProxyType(evidence), None
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
        receipt=None if receipt is None else Receipt(**receipt),
        evidence=None if evidence is None else Evidence(**evidence),
        padding_share=get("padding_share"),
        forwards=get("forwards"),
        heatmap=get("heatmap"),
        scale=get("scale"),
        letterbox=_letterbox(get("letterbox")),
        patch=patch,
        further=MappingProxyType({name: value for name, value in columns.items() if name not in COLUMNS}),
    )


def _letterbox(text: str | None) -> Letterbox | None:
    return read_letterbox(text) if text else None
