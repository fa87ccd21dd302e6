"""What an evaluation leaves behind: rows as they are made, one part for each image, so that a run can go on later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from detcam.errors import UsageError
from detcam.io.files import read_table, write_whole
from detcam.runs.schema import SCHEMA_VERSION, image_key, read_description, versions

PARTS, LOCK = ".evaluation", ".lock"


class Results:
    """The folder of an evaluation.

    Args:
        path: the folder; made where it is missing.
        configuration: everything the rows depend on.
        overwrite: start anew where another evaluation is there.

    Raises:
        UsageError: the folder holds an evaluation of another configuration, or something else.
    """

    def __init__(self, path: Path, configuration: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        self._parts = path / PARTS
        described = {"schema": SCHEMA_VERSION, "command": "evaluate", "configuration": dict(configuration)}
        known = path / "run.json"
        self._lock = FileLock(path / LOCK)
        try:
            there = read_description(path)
            same = json.loads(json.dumps(described))
            if there is not None and any(there.get(key) != value for key, value in same.items()):
                if not (overwrite and isinstance(there, dict) and there.get("command") == "evaluate"):
                    raise UsageError(
                        f"{path} holds a run of another configuration; choose another --out, or --overwrite it"
                    )
                for old in (*self._parts.glob("*.parquet"), path / "sanity.csv"):
                    old.unlink(missing_ok=True)
            elif there is None and path.is_dir() and any(path.iterdir()):
                raise UsageError(f"{path} holds something else; choose another --out")
            self._parts.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            write_whole(
                known, lambda file: file.write(json.dumps({**described, "versions": versions()}, indent=2).encode())
            )
        except Timeout as error:
            raise UsageError(f"another process is writing to {path}; wait, or choose another --out") from error
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot write to {path}: {error}; choose another --out") from error

    def has(self, image: Path) -> bool:
        """Whether an image's rows are there."""
        return self._part(image).is_file()

    def count(self, image: Path) -> int:
        """How many detections of an image were measured."""
        return int(read_table(self._part(image))["detection"].n_unique())

    def add(self, image: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write an image's rows whole; an image without detections gets a part without rows."""
        frame = pl.DataFrame(list(rows), infer_schema_length=None) if rows else pl.DataFrame({"detection": [0]}).clear()
        write_whole(self._part(image), frame.write_parquet)

    def table(self) -> pl.DataFrame:
        """Every row so far, in the order of images, detections and methods."""
        frames = [read_table(part) for part in sorted(self._parts.glob("*.parquet"))]
        frames = [frame for frame in frames if len(frame)]
        return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()

    def _part(self, image: Path) -> Path:
        return self._parts / f"{image_key(str(image))}.parquet"
