"""A folder for relabelling: the images whose labels are in doubt, with their labels as they are."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from detcam.data.labels import image_size
from detcam.errors import InputError, UsageError
from detcam.export.run import JudgedRun
from detcam.export.tables import write_table
from detcam.io.images import SUFFIXES
from detcam.runs.photographs import image_file
from detcam.runs.schema import image_key

IN_DOUBT = ("label_error", "ambiguous")
JUDGED = ("image", "id", "error_type", "class_name", "truth_class", "x1", "y1", "x2", "y2", "verdict", "note")


def write_relabel(run: JudgedRun, out: Path) -> str:
    """Write the images with an error judged ``label_error`` or ``ambiguous``; those without a verdict are not in doubt.

    ``images/`` holds copies, not links, so that the folder can be handed on, under names of their own: two folders may
    each have had a ``1.jpg``. ``labels/`` holds every truth of these images in YOLO's format, cut to the image;
    ``images.txt`` lists the images and ``data.yaml`` names the classes, so Ultralytics and detcam read the folder.
    ``review.csv`` (see :func:`detcam.export.tables.write_table`) has a row for each error in doubt, with its box, note
    and explanation; ``file`` is empty where the image could not be copied.

    YOLO's format has no crowds: such a region is left out, and ``crowds`` counts those of the image. Outlines and
    truths of classes that the model does not have are not in a run, so they are not here either.

    Args:
        run: the run with its verdicts, see :func:`detcam.export.read_run`.
        out: an empty folder.

    Returns:
        What was written, in a sentence.

    Raises:
        UsageError: a run without truths.
    """
    if run.truths is None:
        raise UsageError(f"{run.path} holds no truths; only a run of detcam review can be relabelled")
    doubts = _doubts(run)
    for folder in ("images", "labels"):
        (out / folder).mkdir()
    files = {image: _copy(run, run.truths, image, out) for image in doubts["image"].unique(maintain_order=True)}
    copied = [file for file in files.values() if file]
    (out / "images.txt").write_text("".join(f"./{file}\n" for file in copied), encoding="utf-8")
    names = {number: run.names.get(number, f"class_{number}") for number in range(max(run.names, default=-1) + 1)}
    description = {"train": "images.txt", "val": "images.txt", "names": names}
    (out / "data.yaml").write_text(yaml.safe_dump(description, allow_unicode=True, sort_keys=False), encoding="utf-8")
    crowds = Counter(run.truths.filter("crowd")["image"])
    look_at = doubts.select(
        pl.Series("file", [files[image] for image in doubts["image"]], pl.String),
        pl.all(),
        pl.Series("crowds", [crowds[image] for image in doubts["image"]], pl.Int64),
    )
    write_table(look_at, out / "review.csv")
    lost = f"; {len(files) - len(copied)} images cannot be read and are left out" if len(copied) < len(files) else ""
    return f"{len(copied)} images for relabelling, {len(doubts)} errors in doubt{lost} -> {out}"


def _doubts(run: JudgedRun) -> pl.DataFrame:
    """The errors judged to be in doubt, those of an image together."""
    tables = [run.detections]
    if run.misses is not None:
        tables.append(run.misses.with_columns(error_type=pl.lit("Miss"), truth_class="class_name"))
    doubts = pl.concat([table.select(*JUDGED, "explanation") for table in tables], how="vertical_relaxed")
    return doubts.filter(pl.col("verdict").is_in(IN_DOUBT)).sort("image", maintain_order=True)


def _copy(run: JudgedRun, truths: pl.DataFrame, image: str, out: Path) -> str | None:
    """Copy an image and write its labels; the copy's name within ``out``, or None where there is nothing to copy."""
    try:
        source = image_file(image)
        size = image_size(source)  # its own: what is no image is not handed on, whatever a run says of it
    except (InputError, OSError):
        return None
    name, suffix = image_key(image), source.suffix.lower()
    file = f"images/{name}{suffix if suffix in SUFFIXES else '.jpg'}"  # readers go by the suffix, decoders do not
    shutil.copyfile(source, out / file)
    own = truths.filter(pl.col("image") == image, ~pl.col("crowd"))
    (out / "labels" / f"{name}.txt").write_text(_labels(own, size), encoding="utf-8")
    return file


def _labels(truths: pl.DataFrame, size: tuple[int, int]) -> str:
    """Lines of class, centre x and y, width and height; shares of the image's width and height."""
    scale = np.array([size[1], size[0]] * 2, np.float64)
    boxes = np.clip(truths.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64) / scale, 0, 1)
    low, high = boxes[:, :2], boxes[:, 2:]
    numbers = np.hstack([(low + high) / 2, high - low])
    lines = zip(truths["class_id"], numbers, strict=True)
    return "".join(f"{kind} {' '.join(f'{value:.9g}' for value in box)}\n" for kind, box in lines if box[2:].min() > 0)
