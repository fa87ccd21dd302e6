"""One explained image in a run folder: its maps, its pictures, and its part of the table."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detcam.drawing.reduced import reduced
from detcam.drawing.render import captioned, is_small, pages, together, write_image, zoom
from detcam.drawing.zooms import is_small_box
from detcam.filenames import safe_name
from detcam.io.files import is_local, make_folder, read_table, refresh, remove_files, write_whole
from detcam.runs.cells import read_letterbox
from detcam.runs.maps import holds
from detcam.runs.reading import read_row
from detcam.runs.schema import COLUMNS, IMAGES, image_key, read_heatmap, row_of, write_maps
from detcam.types import Detection, Explanation, Heatmap, ImageResult

Row: TypeAlias = dict[str, Any]

PARTS = ".parts"
"""The folder of images' parts of the table, until they are gathered."""
LOOKED_AT = ("id", "image", "class_name", "heatmap", "letterbox", "x1", "y1", "x2", "y2")
"""Columns of a row by which its files are known."""
PNG_END = b"IEND\xaeB`\x82"
PIECE_SUFFIX = ".piece"
"""Of the parts of images that have many detections, until all of these are explained."""


@dataclass(frozen=True)
class Pictures:
    """Which pictures a run draws, and how.

    Attributes:
        save: of ``overlay``, ``heatmap``, ``panel`` and ``video``.
        colormap: any of matplotlib's names.
        opacity: of the hottest pixels, in [0, 1].
    """

    save: frozenset[str] = frozenset()
    colormap: str = "inferno"
    opacity: float = 0.6


def write_result(path: Path, result: ImageResult, pictures: Pictures) -> list[Row]:
    """Write one image's maps and pictures into a run folder, then its part, which marks it as finished.

    Args:
        path: the run folder.
        result: the image with its explanations.
        pictures: what to draw.

    Returns:
        The rows, one for each explanation.

    Raises:
        OSError: something cannot be written.
    """
    rows = _write_explanations(path, result, pictures)
    _draw_whole(path / "overlays", result, pictures)
    _write_part(path, result.source, rows)
    return rows


def lacking_files(path: Path, rows: pl.DataFrame, pictures: Pictures) -> dict[str, str]:
    """Which images lack a file that a run wrote of them, or have one that was cut off.

    Of an archive of maps its directory is read, of a picture its end: what was changed in between is seen by whoever
    reads it.

    Args:
        path: the run folder, on this machine.
        rows: with :data:`LOOKED_AT` of their columns, and the image's ``key``.
        pictures: what was drawn.

    Returns:
        By the image's key the name of a file that it lacks.
    """
    lacking: dict[str, str] = {}
    mapped = rows.filter(pl.col("heatmap").is_not_null()).with_columns(
        pl.col("heatmap").str.split("#").list.first().alias("file")
    )
    for (key, name), group in mapped.group_by("key", "file"):
        if not _has_maps(path / "heatmaps" / name, set(group["id"])):
            lacking[str(key)] = f"heatmaps/{name}"
    for row in rows.iter_rows(named=True):
        stem = f"{row['id']}-{safe_name(row['class_name'] or '')}"
        names = {"overlay": f"{stem}.png", "heatmap": f"{stem}-heatmap.png", "panel": f"{row['key']}-panel.png",
                 "video": f"{row['key']}-frame.png"}  # fmt: skip
        if "overlay" in pictures.save and row["letterbox"]:
            height, width = read_letterbox(row["letterbox"]).original
            if is_small_box([row[side] for side in ("x1", "y1", "x2", "y2")], height, width):
                names["zoom"] = f"{stem}-zoom.png"
        for kind in (pictures.save | {"zoom"}) & set(names):
            if row["key"] not in lacking and not _is_whole_png(path / "overlays" / names[kind]):
                lacking[row["key"]] = f"overlays/{names[kind]}"
    return lacking


def _has_maps(file: Path, names: set[str]) -> bool:
    try:
        with file.open("rb") as archive:
            return "/" not in file.name and holds(archive, names)
    except (OSError, ValueError):
        return False


def _is_whole_png(file: Path) -> bool:
    try:
        with file.open("rb") as picture:
            picture.seek(-len(PNG_END), os.SEEK_END)
            return picture.read() == PNG_END
    except OSError:
        return False


def piece_starts(path: Path, source: str) -> set[int]:
    """The pieces of an image that are written already, each by its first detection.

    Args:
        path: the run folder.
        source: the image's name.
    """
    refresh(path)
    return {int(file.stem.rpartition("+")[2]) for file in _pieces(path, source)}


def write_piece(path: Path, result: ImageResult, start: int, pictures: Pictures) -> None:
    """Write some explanations of an image that has many; what is written need not be made again.

    Args:
        path: the run folder.
        result: the image with the explanations of its detections from ``start`` on.
        start: the first one's number.
        pictures: what to draw.

    Raises:
        OSError: something cannot be written.
    """
    rows = _write_explanations(path, result, pictures, start, f"-p{start:04d}")
    name = f"{image_key(result.source)}+{start:04d}{PIECE_SUFFIX}"
    write_whole(path / PARTS / name, pl.DataFrame(rows, schema=COLUMNS).write_parquet)


def join_pieces(path: Path, result: ImageResult, pictures: Pictures) -> list[Row]:
    """Make one part of an image's pieces, which marks it as finished.

    Pictures of the whole image are drawn from the maps as they are stored: a run that was interrupted draws the same.

    Args:
        path: the run folder.
        result: the image with its detections; explanations in it are not looked at.
        pictures: what to draw.

    Returns:
        The rows, one for each explanation.

    Raises:
        UsageError: a piece is damaged.
        OSError: something cannot be written or read.
    """
    pieces = _pieces(path, result.source)
    rows = [row for piece in sorted(pieces) for row in read_table(piece).to_dicts()]
    if pictures.save & {"panel", "video"}:
        known = zip(rows, result.detections, strict=True)
        explanations = tuple(_stored(path, row, detection, result.image) for row, detection in known)
        _draw_whole(path / "overlays", replace(result, explanations=explanations), pictures)
    _write_part(path, result.source, rows)
    remove_files(pieces)
    return rows


def _pieces(path: Path, source: str) -> list[Path]:
    key = image_key(source)
    return [file for file in (path / PARTS).glob(f"*{PIECE_SUFFIX}") if file.stem.rpartition("+")[0] == key]


def _stored(path: Path, row: Row, detection: Detection, image: NDArray[np.uint8]) -> Explanation:
    """An explanation as a run folder has it."""
    known = read_row(row)
    heatmap = Heatmap(read_heatmap(path, row["heatmap"], row["scale"]), read_letterbox(row["letterbox"]))
    return Explanation(
        detection, heatmap, row["method"], row["target"], known.layers, known.status or "ok", known.reason, image,
        known.support, row["forwards"], known.receipt, known.evidence, known.sentence,
    )  # fmt: skip


def _write_part(path: Path, source: str, rows: list[Row]) -> None:
    part = path / PARTS / f"{image_key(source)}.parquet"
    write_whole(part, pl.DataFrame(rows, schema=COLUMNS).write_parquet)


def _write_explanations(
    path: Path, result: ImageResult, pictures: Pictures, start: int = 0, piece: str = ""
) -> list[Row]:
    """Maps and pictures of explanations, those of detections from ``start`` on; their rows."""
    key, source = image_key(result.source), result.source
    rows = [row_of(f"{key}-{n:03d}", source, one, piece) for n, one in enumerate(result, start)]
    write_maps(path, source, {row["id"]: e.heatmap.raw for row, e in zip(rows, result, strict=True)}, piece)
    if pictures.save & {"overlay", "heatmap"}:
        _draw_each(path / "overlays", rows, result, pictures)
    return rows


def _draw_each(folder: Path, rows: list[Row], result: ImageResult, pictures: Pictures) -> None:
    """The pictures of single detections."""
    make_folder(folder)
    for row, explanation, small in zip(rows, result, reduced(result), strict=True):
        stem = f"{row['id']}-{safe_name(explanation.detection.class_name)}"
        if "overlay" in pictures.save:
            captions = captioned(small, pictures.colormap, pictures.opacity)
            write_image(folder / f"{stem}.png", captions, small=True)
            if is_small(explanation):
                close = zoom(explanation, pictures.colormap, pictures.opacity)
                write_image(folder / f"{stem}-zoom.png", close, small=True)
        if "heatmap" in pictures.save:
            grey = np.rint(small.heatmap.array * 255).astype(np.uint8)
            write_image(folder / f"{stem}-heatmap.png", np.repeat(grey[..., None], 3, 2))


def _draw_whole(folder: Path, result: ImageResult, pictures: Pictures) -> None:
    """The pictures of all detections of an image together."""
    key = image_key(result.source)
    if pictures.save:
        make_folder(folder)
    if "video" in pictures.save:
        frame = together(reduced(result), pictures.colormap, pictures.opacity)
        write_image(folder / f"{key}-frame.png", frame)
    if "panel" in pictures.save:
        for number, page in enumerate(pages(result, pictures.colormap, pictures.opacity), 1):
            name = f"{key}-panel.png" if number == 1 else f"{key}-panel-{number}.png"
            write_image(folder / name, page, small=True)


def remove_run(path: Path, files: Sequence[str]) -> None:
    """Remove the files that a run wrote, ``files`` and others known by their names, and folders that are then empty.

    Args:
        path: the run folder.
        files: names in it.

    Raises:
        OSError: one cannot be removed.
    """
    remove_files([path / name for name in ("errors.jsonl", IMAGES, *files)])
    remove_files(list((path / PARTS).glob("*")))
    for folder in (path / "heatmaps", path / "overlays"):
        own_name = r".*-[0-9a-f]{8,16}(\.mp4|(-p\d{4,})?\.npz|-panel(-\d+)?\.png|-frame\.png|-\d{3,}-.*\.png)"
        remove_files([file for file in folder.glob("*") if re.fullmatch(own_name, file.name)])
        if is_local(folder) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
