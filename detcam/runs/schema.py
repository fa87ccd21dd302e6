"""The files of a run folder: the table's columns, how maps are stored, file names, ``run.json``.

::

    run.json             schema, command, configuration, weights' hash, versions, device, counts
    detections.parquet   one row per detection (``COLUMNS``), sorted by image
    images.parquet       which images are done, and how many detections each has
    heatmaps/IMAGE.npz   one float16 array per detection of the image, by the detection's id: the raw map over its
                         largest magnitude, so raw values are ``array * scale`` (gradients leave float16's own range)
    overlays/            pictures, as asked
    errors.jsonl         one line per input that failed: path, reason
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detcam.errors import UsageError
from detcam.filenames import safe_name
from detcam.io.documents import parse_json
from detcam.io.files import is_local, locate, reaching, read_table, write_whole
from detcam.records import detection_columns, explanation_columns
from detcam.runs.maps import DAMAGED, read_arrays
from detcam.runs.own_files import own_file, read_own_file
from detcam.runs.shapes import DESCRIPTION
from detcam.types import Detection, Explanation
from detcam.version import __version__

SCHEMA_VERSION = 2
LARGEST_DESCRIPTION = 2**28
"""Bytes of ``run.json``, which names a run's sources."""
COLUMNS: dict[str, Any] = {
    "id": pl.String,
    "image": pl.String,
    "class_id": pl.Int32,
    "class_name": pl.String,
    "confidence": pl.Float32,
    "x1": pl.Float32,
    "y1": pl.Float32,
    "x2": pl.Float32,
    "y2": pl.Float32,
    "anchor": pl.Int32,
    "stride": pl.Int32,
    "method": pl.String,
    "layers": pl.String,
    "support": pl.String,
    "target": pl.String,
    "status": pl.String,
    "reason": pl.String,
    "heatmap": pl.String,
    "scale": pl.Float32,
    "letterbox": pl.String,
    "padding_share": pl.Float32,
    "receipt": pl.String,
    "supported": pl.Boolean,
    "context_dependence": pl.Float32,
    "evidence": pl.String,
    "sentence": pl.String,
    "forwards": pl.Float32,
}

DETECTIONS, IMAGES = "detections.parquet", "images.parquet"


@dataclass(frozen=True)
class RowTable:
    """One of the tables into which images' rows are gathered.

    Attributes:
        holds: which rows are in it, as an expression over the columns of a row.
        omits: columns that it does not have.
    """

    holds: pl.Expr = field(default_factory=lambda: pl.lit(True))
    omits: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunSchema:
    """What the run folder of a command holds.

    Attributes:
        columns: of an image's rows, types by name, :data:`COLUMNS` among them.
        tables: by file name, ``detections.parquet`` among them; each row is held by one of them.
        files: further files that the command writes, which an overwriting run removes.
        folders: further folders that it writes into.
    """

    columns: Mapping[str, Any] = field(default_factory=lambda: COLUMNS)
    tables: Mapping[str, RowTable] = field(default_factory=lambda: {DETECTIONS: RowTable()})
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


def read_detections(path: str | Path) -> pl.DataFrame:
    """The table of a run folder: one row per detection, with the columns of :data:`COLUMNS`.

    Args:
        path: the run folder.

    Raises:
        UsageError: the table is damaged.
        OSError: it cannot be read.
    """
    return read_table(own_file(locate(path), "detections.parquet"))


def read_heatmap(path: str | Path, key: str, scale: float) -> NDArray[np.float32]:
    """A raw map of a run folder, float32 (h, w), to float16's precision.

    Args:
        path: the run folder.
        key: the row's column ``heatmap``, ``FILE.npz#ID``.
        scale: the row's column ``scale``, the map's largest magnitude.

    Raises:
        UsageError: the map is not there, or damaged.
    """
    file, _, name = key.partition("#")
    place = locate(path) / "heatmaps" / file
    if "/" in file or not file.endswith(".npz"):
        raise UsageError(f"{place} cannot be read: {file[:200]!r} is no file of maps")
    maps = read_maps(place, {name})
    if name not in maps:
        raise UsageError(f"{place} has no map {name!r}")
    with np.errstate(all="ignore"):  # a scale that is too large gives infinities, which no Heatmap takes
        return np.asarray(maps[name] * np.float64(scale), np.float32)


def read_maps(path: Path, names: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """Stored maps of one file, float32 (h, w), each divided by its largest magnitude; missing ones are left out.

    Args:
        path: a file of the folder ``heatmaps``.
        names: ids of detections.

    Raises:
        UsageError: the file cannot be read, or lies elsewhere: it or its folder is a link.
    """
    own_file(path.parent.parent, f"{path.parent.name}/{path.name}")
    try:
        with reaching(path), path.open("rb") if is_local(path) else BytesIO(path.read_bytes()) as file:
            return read_arrays(file, names)
    except DAMAGED as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error


def read_description(path: Path, advice: str = "; choose another folder") -> dict[str, Any] | None:
    """What ``run.json`` says, or None where there is none.

    Args:
        path: the run folder.
        advice: the end of what is said of a folder that is no run of this detcam's.

    Raises:
        UsageError: it cannot be read, is somebody else's, or a newer detcam's.
    """
    file = path / "run.json"
    try:
        data = read_own_file(path, "run.json", LARGEST_DESCRIPTION)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
    try:
        description: dict[str, Any] = DESCRIPTION(parse_json(data), "it")
    except UsageError as error:
        raise UsageError(f"{file} does not describe a run of detcam: {error}{advice}") from error
    except ValueError as error:
        why = "" if data.lstrip()[:1] != b"{" else f": {error}"
        raise UsageError(f"{file} does not describe a run of detcam{why}{advice}") from error
    schema = description["schema"]
    if schema > SCHEMA_VERSION:
        known = f"schema {schema}; this one knows {SCHEMA_VERSION}"
        raise UsageError(f"{path} was written by a newer detcam ({known}){advice}")
    return description


def image_key(source: str) -> str:
    """A file name for an image's results: its own name and a short hash of its whole path, so no two meet."""
    digest = hashlib.sha1(os.fsencode(source), usedforsecurity=False).hexdigest()[:16]
    clip, _, frame = source.rpartition("#")
    stem = f"{Path(clip).stem}-{frame}" if clip and frame.isdigit() else Path(source).stem
    return f"{safe_name(stem)}-{digest}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def row_of(detection_id: str, source: str, explanation: Explanation, piece: str = "") -> dict[str, Any]:
    """The row of one explained detection, by column.

    Args:
        detection_id: the row's id.
        source: the image's name.
        explanation: of the detection.
        piece: the end of the name of the file of its map, where an image has several.
    """
    row = {
        **detection_row(detection_id, source, explanation.detection),
        **explanation_columns(explanation),
        "heatmap": f"{image_key(source)}{piece}.npz#{detection_id}",
        "scale": float(np.abs(explanation.heatmap.raw).max()),
    }
    return {name: row[name] for name in COLUMNS}


def detection_row(detection_id: str, source: str, detection: Detection) -> dict[str, Any]:
    """The columns of a detection that was not explained.

    Args:
        detection_id: the row's id.
        source: the image's name.
        detection: with its box in original pixels.
    """
    return {"id": detection_id, **detection_columns(source, detection)}


def versions() -> dict[str, str]:
    """The versions of detcam, Python and the libraries that results depend on, by name."""
    numbers = {"detcam": __version__, "python": platform.python_version()}
    for name in ("torch", "ultralytics", "numpy", "opencv-python", "polars"):
        try:
            numbers[name] = version(name)
        except PackageNotFoundError:
            numbers[name] = "unknown"
    return numbers


def write_maps(path: Path, source: str, maps: Mapping[str, NDArray[np.float32]], piece: str = "") -> None:
    """Write an image's raw maps as float16, each divided by its largest magnitude; without maps, no file.

    Args:
        path: the run folder.
        source: the image's name.
        maps: float32 (h, w), by the detections' ids.
        piece: as in :func:`row_of`.

    Raises:
        OSError: the file cannot be written.
    """
    if maps:
        halved = {name: _half(raw) for name, raw in maps.items()}
        write_whole(
            path / "heatmaps" / f"{image_key(source)}{piece}.npz",
            lambda file: np.savez_compressed(file, allow_pickle=False, **halved),
        )


def _half(raw: NDArray[np.float32]) -> NDArray[np.float16]:
    peak = float(np.abs(raw).max())
    return np.asarray(raw / peak if peak > 0 else raw, np.float16)
