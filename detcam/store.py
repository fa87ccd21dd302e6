"""The run folder: what a run writes, and how it is read back.

::

    run.json             schema, command, configuration, weights' hash, versions, device, counts
    detections.parquet   one row per detection (``COLUMNS``)
    heatmaps/IMAGE.npz   one float16 array per detection of the image, by the detection's id: the raw map over its
                         largest magnitude, so raw values are ``array * scale`` (gradients leave float16's own range)
    overlays/            pictures, as asked
    errors.jsonl         one line per input that failed: path, reason

While a run goes on, its rows are in ``.parts/*.parquet``. Every file is written whole under
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
from dataclasses import asdict
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
PARTS = ".parts"
OWN = ("detections.parquet", "heatmaps", "overlays", PARTS)
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
    "padding_share": pl.Float32,
    "receipt": pl.String,
    "supported": pl.Boolean,
    "context_dependence": pl.Float32,
}


class RunFolder:
    """A run folder being written.

    Made again with the same configuration, a run replaces its files one by one; what it found stays until then.

    Args:
        path: the folder; made where it does not exist.
        command: the command's name.
        configuration: the resolved configuration; with ``command``, what makes two runs the same.
        overwrite: remove a run that was made with another configuration.

    Raises:
        UsageError: the folder cannot be written, or holds something other than a run made with this configuration.
    """

    def __init__(self, path: Path, command: str, configuration: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        self._description = {"schema": SCHEMA_VERSION, "command": command, "configuration": dict(configuration)}
        self._counts = {"images": 0, "failed": 0, "detections": 0, "no_signal": 0, "unsupported": 0}
        self._errors: list[str] = []
        self._parts = 0
        old = _read_description(path)
        same = old is not None and all(old.get(key) == self._description[key] for key in ("command", "configuration"))
        if old is not None and not same and not overwrite:
            raise UsageError(
                f"{path} holds a run of detcam {old['command']} with another configuration; "
                "choose another --out, or replace it with --overwrite"
            )
        if old is None and (strange := [name for name in OWN if (path / name).exists()]):
            raise UsageError(f"{path} holds {strange[0]!r} but no run of detcam; choose another --out")
        self._replaces = same and old is not None and old.get("state") == "finished"
        try:
            path.mkdir(parents=True, exist_ok=True)
            if old is not None and not same:
                _remove_run(path)
            self._drop_parts()
            for folder in ("heatmaps", PARTS):
                (path / folder).mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {path}: {error.strerror}; choose another --out") from error

    def describe(self, **facts: Any) -> None:
        """Record what the run stands on (weights, device, ...) in ``run.json``."""
        self._description |= facts
        self._description["versions"] = _versions()
        self._description |= {"state": "running", "started": _now()}
        self._write_description()

    def add(self, result: ImageResult, save: set[str], colormap: str, opacity: float) -> list[dict[str, Any]]:
        """Write one image's maps and pictures, then its rows; returns the rows."""
        key = image_key(result.source)
        rows = [_row(f"{key}-{n:03d}", result.source, explanation) for n, explanation in enumerate(result)]
        maps = {row["id"]: _half(explanation.heatmap.raw) for row, explanation in zip(rows, result, strict=True)}
        if maps:
            write_whole(
                self.path / "heatmaps" / f"{key}.npz",
                lambda file: np.savez_compressed(file, allow_pickle=False, **maps),
            )
        if save & {"overlay", "panel", "heatmap"}:
            self._draw(key, rows, result, save, colormap, opacity)
        if rows:
            frame = pl.DataFrame(rows, schema=COLUMNS)
            write_whole(self.path / PARTS / f"{self._parts:06d}.parquet", frame.write_parquet)
            self._parts += 1
        self._counts["images"] += 1
        self._counts["detections"] += len(rows)
        for status in ("no_signal", "unsupported"):
            self._counts[status] += sum(row["status"] == status for row in rows)
        return rows

    def fail(self, source: str, reason: str) -> None:
        """Record an input that failed."""
        self._errors.append(json.dumps({"path": printable(source), "reason": reason}, ensure_ascii=False) + "\n")
        self._write_errors()
        self._counts["failed"] += 1

    def finish(self, complete: bool) -> dict[str, int]:
        """Gather the parts into ``detections.parquet`` and record the counts, which are returned.

        An interrupted run (not ``complete``) leaves what it has, unless the same run had been finished before.
        """
        if complete or not self._replaces:
            parts = sorted((self.path / PARTS).glob("*.parquet"))
            frame = pl.concat([pl.read_parquet(part) for part in parts]) if parts else pl.DataFrame(schema=COLUMNS)
            write_whole(self.path / "detections.parquet", frame.write_parquet)
            self._write_errors()
        self._drop_parts()
        self._description |= {
            "state": "finished" if complete else "interrupted",
            "ended": _now(),
            "counts": self._counts,
        }
        self._write_description()
        return self._counts

    def _write_errors(self) -> None:
        if self._errors:
            write_whole(self.path / "errors.jsonl", lambda file: file.write("".join(self._errors).encode()))
        else:
            (self.path / "errors.jsonl").unlink(missing_ok=True)

    def _drop_parts(self) -> None:
        shutil.rmtree(self.path / PARTS, ignore_errors=True)

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

    def _write_description(self) -> None:
        text = json.dumps(self._description, indent=2, ensure_ascii=False, default=str)
        write_whole(self.path / "run.json", lambda file: file.write(text.encode()))


def read_detections(path: str | Path) -> pl.DataFrame:
    """The table of a run folder: one row per detection, columns as :data:`COLUMNS`."""
    return pl.read_parquet(Path(path) / "detections.parquet")


def read_heatmap(path: str | Path, key: str, scale: float) -> NDArray[np.float32]:
    """A raw map of a run folder, float32 (h, w), from the row's ``heatmap`` and ``scale``; float16's precision."""
    file, _, name = key.partition("#")
    with np.load(Path(path) / "heatmaps" / file) as maps:
        return np.asarray(maps[name].astype(np.float32) * scale, np.float32)


def printable(source: str) -> str:
    """A path as text that any file can hold: bytes that are no text are escaped."""
    return os.fsencode(source).decode("utf-8", "backslashreplace")


def image_key(source: str) -> str:
    """A file name for an image's results: its own name and a short hash of its whole path, so no two meet."""
    digest = hashlib.sha1(os.fsencode(source), usedforsecurity=False).hexdigest()[:8]
    return f"{_slug(Path(source).stem)}-{digest}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _half(raw: NDArray[np.float32]) -> NDArray[np.float16]:
    peak = float(np.abs(raw).max())
    return np.asarray(raw / peak if peak > 0 else raw, np.float16)


def _row(detection_id: str, source: str, explanation: Explanation) -> dict[str, Any]:
    detection, heatmap, receipt = explanation.detection, explanation.heatmap, explanation.receipt
    x1, y1, x2, y2 = detection.xyxy.tolist()
    return {
        "id": detection_id,
        "image": printable(source),
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
        "support": ",".join(f"{share:.4f}" for share in explanation.support),
        "target": explanation.target,
        "status": explanation.status,
        "reason": explanation.reason,
        "heatmap": f"{image_key(source)}.npz#{detection_id}",
        "scale": float(np.abs(heatmap.raw).max()),
        "padding_share": None if explanation.status == "no_signal" else heatmap.padding_share,
        "receipt": None if receipt is None else json.dumps(asdict(receipt)),
        "supported": None if receipt is None else receipt.supported,
        "context_dependence": None if receipt is None else receipt.context_dependence,
    }


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:60] or "_"


def write_whole(path: Path, write: Any) -> None:
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
        schema = description["schema"]
        ours = isinstance(schema, int) and isinstance(description["command"], str)
    except (ValueError, TypeError, KeyError):  # no JSON, no object, or not our keys
        ours = False
    if not ours:
        raise UsageError(f"{path / 'run.json'} does not describe a run of detcam; choose another --out")
    if schema > SCHEMA_VERSION:
        raise UsageError(f"{path} was written by a newer detcam (schema {schema}); choose another --out")
    return dict(description)


def _remove_run(path: Path) -> None:
    """Remove the files that a run wrote, known by their names, and folders that are then empty."""
    for name in ("run.json", "detections.parquet", "errors.jsonl"):
        (path / name).unlink(missing_ok=True)
    for folder in (path / "heatmaps", path / "overlays"):
        for file in folder.glob("*"):
            if re.fullmatch(r".*-[0-9a-f]{8}(\.npz|-panel\.png|-\d{3,}-.*\.png)", file.name):
                file.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


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
