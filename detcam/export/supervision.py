"""supervision: one image's detections as ``supervision.Detections``, with their maps."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import polars as pl

from detcam.errors import UsageError, nearest
from detcam.export.run import JudgedRun
from detcam.geometry import Letterbox
from detcam.io.files import write_whole
from detcam.records import optional
from detcam.runs.schema import image_key
from detcam.types import Heatmap

TEXTS = ("id", "class_name", "error_type", "cause", "verdict", "note", "explanation")
PLACE = ("original", "network", "resized", "offset")


def to_supervision(run: JudgedRun, image: str) -> Any:
    """The detections of one image, in the run's order.

    Args:
        run: see :func:`detcam.export.read_run`.
        image: as the run names it: one of ``run.sizes``.

    Returns:
        ``supervision.Detections``: ``xyxy`` float32 (n, 4) in original pixels, ``confidence`` float32 (n,),
        ``class_id`` int (n,). ``data`` has text arrays (n,): ``id``, ``class_name`` and, where the run has them,
        ``error_type``, ``cause``, ``verdict``, ``note`` and ``explanation``, empty where there is none; and
        ``heatmaps``, a list of n maps as ``Heatmap.array``: float32 (H, W) in [0, 1], original pixels, or None where
        the run has no map. ``metadata`` has ``image``. n full-size maps need 4 n H W bytes.

    Raises:
        UsageError: supervision is not installed; the run has no such image.
    """
    if image not in run.sizes:
        raise UsageError(f"the run has no image {image!r}{nearest(image, run.sizes)}")
    return _detections(_arrays(run, image))


def write_supervision(run: JudgedRun, out: Path) -> str:
    """Write one ``.npz`` for each image, which :func:`read_supervision` reads.

    supervision's own sinks write text that nothing reads back, and no maps. The files need no pickle: ``xyxy``,
    ``confidence``, ``class_id``, ``image`` and the texts of :func:`to_supervision` are arrays; ``raw_3`` is the raw map
    of the fourth detection and ``letterbox_3`` places it: (height, width) of the image, of the network's input and
    of the image in it, and that one's (top, left).

    Args:
        run: the run with its verdicts, see :func:`detcam.export.read_run`.
        out: an empty folder.

    Returns:
        What was written, in a sentence.
    """
    for image in run.sizes:
        arrays = _arrays(run, image)
        write_whole(
            out / f"{image_key(image)}.npz",
            lambda file, arrays=arrays: np.savez_compressed(file, allow_pickle=False, **arrays),
        )
    return f"{len(run.detections)} detections in {len(run.sizes)} images -> {out}"


def read_supervision(path: str | Path) -> Any:
    """The ``supervision.Detections`` of a file that ``detcam export --to supervision`` wrote; see `to_supervision`.

    Raises:
        UsageError: supervision is not installed; the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            arrays = dict(np.load(file))
    except (OSError, ValueError, TypeError, BadZipFile, zlib.error) as error:
        raise UsageError(f"{path} is no file of detcam export --to supervision: {error}") from error
    return _detections(arrays)


def _arrays(run: JudgedRun, image: str) -> dict[str, Any]:
    table = run.detections.filter(pl.col("image") == image)
    arrays = {
        "image": np.array(image),
        "xyxy": table.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float32).reshape(-1, 4),
        "confidence": table["confidence"].to_numpy().astype(np.float32),
        "class_id": table["class_id"].to_numpy().astype(np.int64),
    }
    for key in TEXTS:
        if key in table.columns:
            arrays[key] = np.array(table[key].fill_null("").to_list(), np.str_)
    for number, row in enumerate(table.iter_rows(named=True)):
        if heatmap := run.heatmap(row):
            arrays[f"raw_{number}"] = heatmap.raw
            arrays[f"letterbox_{number}"] = np.array([getattr(heatmap.letterbox, name) for name in PLACE])
    return arrays


def _detections(arrays: Mapping[str, Any]) -> Any:
    sv = optional("supervision")
    data: dict[str, Any] = {key: arrays[key] for key in TEXTS if key in arrays}
    data["heatmaps"] = [_map(arrays, number) for number in range(len(arrays["xyxy"]))]
    return sv.Detections(
        xyxy=arrays["xyxy"],
        confidence=arrays["confidence"],
        class_id=arrays["class_id"],
        data=data,
        metadata={"image": str(arrays["image"])},
    )


def _map(arrays: Mapping[str, Any], number: int) -> Any:
    if f"raw_{number}" not in arrays:
        return None
    places = (tuple(place) for place in arrays[f"letterbox_{number}"].tolist())
    return Heatmap(arrays[f"raw_{number}"], Letterbox(**dict(zip(PLACE, places, strict=True)))).array
