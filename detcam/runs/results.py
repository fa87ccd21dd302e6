"""One explained image in a run folder: its maps, its pictures, and its part of the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from detcam.drawing.reduced import reduced
from detcam.drawing.render import captioned, is_small, pages, together, write_image, zoom
from detcam.filenames import safe_name
from detcam.io.files import make_folder, write_whole
from detcam.runs.schema import COLUMNS, image_key, row_of, write_maps
from detcam.types import ImageResult

PARTS = ".parts"
"""The folder of images' parts of the table, until they are gathered."""


def write_result(
    path: Path,
    result: ImageResult,
    save: set[str],
    colormap: str,
    opacity: float,
) -> list[dict[str, Any]]:
    """Write one image's maps and pictures into a run folder, then its part, which marks it as finished.

    Args:
        path: the run folder.
        result: the image with its explanations.
        save: which pictures, of ``overlay``, ``heatmap``, ``panel`` and ``video``.
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].

    Returns:
        The rows, one for each explanation.

    Raises:
        OSError: something cannot be written.
    """
    key = image_key(result.source)
    rows = [row_of(f"{key}-{n:03d}", result.source, explanation) for n, explanation in enumerate(result)]
    write_maps(path, result.source, {row["id"]: e.heatmap.raw for row, e in zip(rows, result, strict=True)})
    if save:
        _draw(path / "overlays", key, rows, result, save, colormap, opacity)
    write_whole(path / PARTS / f"{key}.parquet", pl.DataFrame(rows, schema=COLUMNS).write_parquet)
    return rows


def _draw(
    folder: Path, key: str, rows: list[dict[str, Any]], result: ImageResult, save: set[str], colormap: str,
    opacity: float,
) -> None:  # fmt: skip
    make_folder(folder)
    drawn = reduced(result)
    for row, explanation, small in zip(rows, result, drawn, strict=True):
        stem = f"{row['id']}-{safe_name(explanation.detection.class_name)}"
        if "overlay" in save:
            write_image(folder / f"{stem}.png", captioned(small, colormap, opacity), small=True)
            if is_small(explanation):
                write_image(folder / f"{stem}-zoom.png", zoom(explanation, colormap, opacity), small=True)
        if "heatmap" in save:
            grey = np.rint(small.heatmap.array * 255).astype(np.uint8)
            write_image(folder / f"{stem}-heatmap.png", np.repeat(grey[..., None], 3, 2))
    if "video" in save:
        write_image(folder / f"{key}-frame.png", together(drawn, colormap, opacity))
    if "panel" in save:
        for number, page in enumerate(pages(result, colormap, opacity), 1):
            name = f"{key}-panel.png" if number == 1 else f"{key}-panel-{number}.png"
            write_image(folder / name, page, small=True)
