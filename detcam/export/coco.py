"""COCO JSON: the truths and the predictions of a run, each as a data set of its own.

Two files, because every tool takes all annotations of one file for labelled truths. Both name the same images and
categories; a prediction is an annotation with a ``score``, so the ``annotations`` of ``predictions.json`` are what
``COCO("truths.json").loadRes`` takes. What detcam found out is in each annotation's ``attributes``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detcam.export.run import JudgedRun
from detcam.version import __version__

JUDGED = ("verdict", "note", "explanation", "supported", "context_dependence")
PREDICTION = ("id", "error_type", "truth_id", "truth_class", "iou", "cause", *JUDGED)
MISS = ("id", "where_it_died", "suppressor", *JUDGED)


def write_coco(run: JudgedRun, out: Path) -> str:
    """Write ``predictions.json`` and, of a review, ``truths.json``; returns a summary.

    Boxes are x, y, width, height in original pixels; category ids are the model's class ids; a file name is the image's
    path as the run names it. The attributes of a truth are its ``truth_id``, ``found_by`` (a prediction's ``id`` or
    null) and, where it was missed, ``error_type`` ``Miss`` with where it died and how it was judged. An image whose
    size nothing tells any more is named without height and width.

    Args:
        run: the run with its verdicts, see :func:`detcam.export.read_run`.
        out: an empty folder.

    Returns:
        What was written, in a sentence.
    """
    images = {image: number for number, image in enumerate(run.sizes, 1)}
    shared = {
        "info": {"description": f"{run.path.name}, exported by detcam {__version__}"},
        "licenses": [],
        "categories": [{"id": number, "name": name} for number, name in run.names.items()],
        "images": [
            {"id": images[image], "file_name": image} | ({"height": size[0], "width": size[1]} if size else {})
            for image, size in run.sizes.items()
        ],
    }
    predictions = [
        _annotation(number, images, row, PREDICTION) | {"score": row["confidence"]}
        for number, row in enumerate(run.detections.iter_rows(named=True), 1)
    ]
    _write(out / "predictions.json", {**shared, "annotations": predictions})
    unsized = sum(size is None for size in run.sizes.values())
    problem = f"; {unsized} images cannot be read, so their height and width are left out" if unsized else ""
    if run.truths is None:
        return f"{len(predictions)} predictions in {len(images)} images{problem} -> {out}"
    misses = {row["truth_id"]: row for row in run.misses.iter_rows(named=True)} if run.misses is not None else {}
    truths = []
    for number, row in enumerate(run.truths.iter_rows(named=True), 1):
        truth = _annotation(number, images, row, ()) | {"iscrowd": int(row["crowd"])}
        truth["attributes"] = {"truth_id": row["id"], "found_by": row["found_by"]}
        if miss := misses.get(row["id"]):
            truth["attributes"] |= {"error_type": "Miss", **_attributes(miss, MISS)}
        truths.append(truth)
    _write(out / "truths.json", {**shared, "annotations": truths})
    return f"{len(predictions)} predictions and {len(truths)} truths in {len(images)} images{problem} -> {out}"


def _annotation(
    number: int, images: Mapping[str, int], row: Mapping[str, Any], attributes: tuple[str, ...]
) -> dict[str, Any]:
    width, height = row["x2"] - row["x1"], row["y2"] - row["y1"]
    return {
        "id": number,  # from 1: COCOeval takes 0 for no match
        "image_id": images[row["image"]],
        "category_id": row["class_id"],
        "bbox": [row["x1"], row["y1"], width, height],
        "area": max(width, 0) * max(height, 0),
        "iscrowd": 0,
        "attributes": _attributes(row, attributes),
    }


def _attributes(row: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Those of a row that its run has; JSON has no NaN, so what is undefined is null."""
    values = {key: row[key] for key in keys if key in row}
    return {key: None if isinstance(one, float) and not math.isfinite(one) else one for key, one in values.items()}


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, allow_nan=False), encoding="utf-8")
