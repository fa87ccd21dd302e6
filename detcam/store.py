"""The run folder: what a run writes, and how it is read back.

::

    run.json             schema, command, configuration, weights' hash, versions, device, counts
    detections.parquet   one row per detection (``COLUMNS``)
    heatmaps/IMAGE.npz   one float16 array per detection of the image, by the detection's id: the raw map over its peak,
                         so the raw values are ``array * peak`` (gradients of detectors leave float16's own range)
    overlays/            pictures, as asked
    errors.jsonl         one line per input that failed: path, reason

While a run goes on, its rows are in ``detections/*.parquet``. Every file is written whole under
another name, then renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detcam.errors import UsageError
from detcam.render import is_small, overlay, panel, write_image, zoom
from detcam.types import Explanation, ImageResult
from detcam.version import __version__

SCHEMA_VERSION = 1
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
    "target": pl.String,
    "status": pl.String,
    "reason": pl.String,
    "heatmap": pl.String,
    "peak": pl.Float32,
    "padding_share": pl.Float32,
}


class RunFolder:
    """A run folder being written.

    Args:
        path: the folder; made where it does not exist.
        command: the command's name.
        configuration: the resolved configuration; with ``command``, what makes two runs the same.
        overwrite: replace a run that was made with another configuration.

    Raises:
        UsageError: the folder cannot be written, or holds a run made with another configuration.
    """

    def __init__(self, path: Path, command: str, configuration: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        self._description = {"schema": SCHEMA_VERSION, "command": command, "configuration": dict(configuration)}
        self._counts = {"images": 0, "failed": 0, "detections": 0, "no_signal": 0}
        if (old := _read_description(path)) is not None and not overwrite:
            same = all(old.get(key) == self._description[key] for key in ("command", "configuration"))
            if not same:
                raise UsageError(
                    f"{path} holds a run of detcam {old.get('command')} with another configuration; "
                    "choose another --out, or replace it with --overwrite"
                )
        try:
            path.mkdir(parents=True, exist_ok=True)
            if old is not None:
                self._clear()
            for folder in ("heatmaps", "detections"):
                (path / folder).mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {path}: {error.strerror}; choose another --out") from error
        self._parts = 0

    def describe(self, **facts: Any) -> None:
        """Record what the run stands on (weights, device, ...) in ``run.json``."""
        self._description |= facts
        self._description["versions"] = _versions()
        self._description["started"] = _now()
        self._write_description()

    def add(self, result: ImageResult, save: set[str], colormap: str, opacity: float) -> list[dict[str, Any]]:
        """Write one image's maps and pictures, then its rows; returns the rows."""
        key = image_key(result.source)
        rows = [_row(f"{key}-{n:03d}", result.source, explanation) for n, explanation in enumerate(result)]
        maps = {row["id"]: _half(explanation.heatmap.raw) for row, explanation in zip(rows, result, strict=True)}
        if maps:
            _write_whole(
                self.path / "heatmaps" / f"{key}.npz",
                lambda file: np.savez_compressed(file, allow_pickle=False, **maps),
            )
        if save & {"overlay", "panel", "heatmap"}:
            self._draw(key, rows, result, save, colormap, opacity)
        if rows:
            frame = pl.DataFrame(rows, schema=COLUMNS)
            _write_whole(self.path / "detections" / f"part-{self._parts:06d}.parquet", frame.write_parquet)
            self._parts += 1
        self._counts["images"] += 1
        self._counts["detections"] += len(rows)
        self._counts["no_signal"] += sum(row["status"] == "no_signal" for row in rows)
        return rows

    def fail(self, source: str, reason: str) -> None:
        """Record an input that failed."""
        with (self.path / "errors.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"path": source, "reason": reason}, ensure_ascii=False) + "\n")
        self._counts["failed"] += 1

    def finish(self) -> dict[str, int]:
        """Gather the parts into ``detections.parquet`` and record the counts, which are returned."""
        parts = sorted((self.path / "detections").glob("part-*.parquet"))
        frame = pl.concat([pl.read_parquet(part) for part in parts]) if parts else pl.DataFrame(schema=COLUMNS)
        _write_whole(self.path / "detections.parquet", frame.write_parquet)
        shutil.rmtree(self.path / "detections")
        self._description |= {"finished": _now(), "counts": self._counts}
        self._write_description()
        return self._counts

    def _draw(
        self, key: str, rows: list[dict[str, Any]], result: ImageResult, save: set[str], colormap: str, opacity: float
    ) -> None:
        folder = self.path / "overlays"
        folder.mkdir(exist_ok=True)
        for row, explanation in zip(rows, result, strict=True):
            stem = f"{row['id']}-{_slug(explanation.detection.class_name)}"
            if "overlay" in save:
                write_image(folder / f"{stem}.png", overlay(explanation, colormap, opacity))
                if is_small(explanation):
                    write_image(folder / f"{stem}-zoom.png", zoom(explanation, colormap, opacity))
            if "heatmap" in save:
                grey = np.rint(explanation.heatmap.array * 255).astype(np.uint8)
                write_image(folder / f"{stem}-heatmap.png", np.repeat(grey[..., None], 3, 2))
        if "panel" in save:
            write_image(folder / f"{key}-panel.png", panel(result, colormap, opacity))

    def _clear(self) -> None:
        """Remove what an earlier run wrote here, and nothing else."""
        for name in ("run.json", "detections.parquet", "errors.jsonl"):
            (self.path / name).unlink(missing_ok=True)
        for name in ("heatmaps", "overlays", "detections"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def _write_description(self) -> None:
        text = json.dumps(self._description, indent=2, ensure_ascii=False, default=str)
        _write_whole(self.path / "run.json", lambda file: file.write(text.encode()))


def read_detections(path: str | Path) -> pl.DataFrame:
    """The table of a run folder: one row per detection, columns as :data:`COLUMNS`."""
    return pl.read_parquet(Path(path) / "detections.parquet")


def read_heatmap(path: str | Path, key: str, peak: float) -> NDArray[np.float32]:
    """A raw map of a run folder, float32 (h, w), from the row's ``heatmap`` and ``peak``; float16's precision."""
    file, _, name = key.partition("#")
    with np.load(Path(path) / "heatmaps" / file) as maps:
        scaled = maps[name].astype(np.float32)
    return np.asarray(scaled * peak, np.float32)


def image_key(source: str) -> str:
    """A file name for an image's results: its own name and a short hash of its whole path, so no two meet."""
    digest = hashlib.sha1(os.fsencode(source), usedforsecurity=False).hexdigest()[:8]
    return f"{_slug(Path(source).stem)}-{digest}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()  # Python 3.10 has no file_digest
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _half(raw: NDArray[np.float32]) -> NDArray[np.float16]:
    peak = float(np.abs(raw).max())
    return np.asarray(raw / peak if peak > 0 else raw, np.float16)


def _row(detection_id: str, source: str, explanation: Explanation) -> dict[str, Any]:
    detection, heatmap = explanation.detection, explanation.heatmap
    x1, y1, x2, y2 = detection.xyxy.tolist()
    return {
        "id": detection_id,
        "image": source,
        "class_id": detection.class_id,
        "class_name": detection.class_name,
        "confidence": detection.confidence,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "anchor": detection.anchor,
        "stride": detection.stride,
        "method": explanation.method,
        "layers": ",".join(explanation.layers),
        "target": explanation.target,
        "status": explanation.status,
        "reason": explanation.reason,
        "heatmap": f"{image_key(source)}.npz#{detection_id}",
        "peak": float(np.abs(heatmap.raw).max()),
        "padding_share": None if explanation.status == "no_signal" else heatmap.padding_share,
    }


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:60] or "_"


def _write_whole(path: Path, write: Any) -> None:
    """Write a file under another name and rename it, so that no reader ever sees half of it."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        write(file)
    partial.replace(path)


def _read_description(path: Path) -> dict[str, Any] | None:
    try:
        text = (path / "run.json").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path / 'run.json'}: {error.strerror}") from error
    try:
        description = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path / 'run.json'} is not a run of detcam ({error}); choose another --out") from error
    if description.get("schema", 0) > SCHEMA_VERSION:
        raise UsageError(f"{path} was written by a newer detcam (schema {description['schema']}); choose another --out")
    return dict(description)


def _versions() -> dict[str, str]:
    found = {"detcam": __version__, "python": platform.python_version()}
    for name in ("torch", "ultralytics", "numpy", "opencv-python", "polars"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
