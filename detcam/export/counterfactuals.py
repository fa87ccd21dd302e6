"""Training images that take confirmed causes away: the loop from a review back into training.

::

    images/train, labels/train    in YOLO's layout
    data.yaml                     with the model's classes; for ``val`` bring your own
    counterfactuals.csv           what each image is: hard, removed or pasted; of which image, and for which cause
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray

from detcam.drawing.pasting import BESIDE_SHARE, paste
from detcam.drawing.writing import write_image
from detcam.errors import InputError, UsageError
from detcam.export.run import JudgedRun
from detcam.runs.cells import read_evidence
from detcam.runs.photographs import read_photograph

INPAINT_RADIUS_PX = 5
"""Of the inpainting, pixels (Telea 2004, as OpenCV has it)."""
PATCH_GROWTH = 0.15
"""How much wider than the evidence patch, on each side, what is inpainted is, in patch sides: a mark has an edge."""
HIDDEN_SHARE = 0.1
"""No patch is pasted where it hides this share of an object."""
MOST_PASTES = 300
"""Images that a cause is put into at most."""

Row = dict[str, Any]
Patch = Mapping[str, Any]
"""As :attr:`detcam.runs.reading.Row.patch`."""
TrainingImage = tuple[str, str, str, NDArray[np.uint8]]
"""Kind, image's name, cause's id, RGB uint8 (H, W, 3)."""


def write_counterfactuals(run: JudgedRun, out: Path) -> str:
    """Write the training set for a review's confirmed causes; labels are the review's own truths, which stay right.

    ``hard``: every image with an error of such a cause, as it is. ``removed``: the same image, the cause's patch
    inpainted. ``pasted``: the patch pasted beside objects that were judged rightly, where it was beside its own. A
    patch
    within an object that only has the wrong class is part of the object: it is neither removed nor pasted. Errors
    judged
    to be label errors are left out.

    Args:
        run: the run with its verdicts, see :func:`detcam.export.read_run`.
        out: an empty folder.

    Returns:
        What was written, in a sentence.

    Raises:
        UsageError: the run is no review, or has no confirmed cause.
    """
    if run.truths is None:
        raise UsageError(f"{run.path} is no run of detcam review, so it has no causes")
    causes = [cause for cause in run.run.causes() if cause["confirmed"]]
    if not causes:
        raise UsageError(f"{run.path} has no confirmed cause: nothing to take out or put in")
    for part in ("images", "labels"):
        (out / part / "train").mkdir(parents=True)
    counts = Counter[str]()
    truths = {key[0]: table.to_dicts() for key, table in run.truths.partition_by("image", as_dict=True).items()}
    numbers = {class_id: number for number, class_id in enumerate(sorted(run.names))}
    with (out / "counterfactuals.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "kind", "image", "cause"])
        for kind, image, cause, pixels in _training_images(run, truths, causes):
            name = f"{counts.total():06d}"
            counts[kind] += 1
            write_image(out / "images" / "train" / f"{name}.png", pixels)
            lines = [_label(truth, numbers, pixels.shape) for truth in truths.get(image, []) if not truth["crowd"]]
            (out / "labels" / "train" / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
            table.writerow([f"{name}.png", kind, image, cause])
    names = [run.names[class_id] for class_id in sorted(run.names)]
    described = {"path": str(out.resolve()), "train": "images/train", "val": "images/train", "names": names}
    (out / "data.yaml").write_text(yaml.safe_dump(described, allow_unicode=True), encoding="utf-8")
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"{counts.total()} images for {len(causes)} confirmed causes ({kinds}): train with them beside your own"


def _training_images(
    run: JudgedRun, truths: Mapping[str, Sequence[Row]], causes: Sequence[Row]
) -> Iterator[TrainingImage]:
    """Every image of the set; an image that cannot be read is left out."""
    rows = {row["id"]: row for row in run.detections.iter_rows(named=True)}
    patches: dict[str, Patch] = {}
    for name, row in rows.items():
        if row.get("evidence") and isinstance(patch := read_evidence(row["evidence"]), Mapping):
            patches[name] = patch
    for cause in causes:
        members = [rows[name] for name in dict.fromkeys(cause["members"]) if name in rows and name in patches]
        members = [
            row for row in members if row["verdict"] != "label_error" and _is_within(patches[row["id"]], row["image"])
        ]
        for row in members:
            if (pixels := _pixels(row["image"])) is not None:
                yield "hard", row["image"], cause["id"], pixels
                patch = patches[row["id"]]
                if row["error_type"] != "Cls" or patch["outside"] >= BESIDE_SHARE:
                    yield "removed", row["image"], cause["id"], _without(pixels, patch["xyxy"])
        beside = [(row, patches[row["id"]]) for row in members if patches[row["id"]]["outside"] >= BESIDE_SHARE]
        yield from _pasted(run.detections, truths, cause["id"], beside)


def _pasted(
    table: pl.DataFrame, truths: Mapping[str, Sequence[Row]], cause: str, members: Sequence[tuple[Row, Patch]]
) -> Iterator[TrainingImage]:
    """A cause's patches, in turn, beside objects of the class that its errors were taken for; on no other object."""
    rivals = Counter(row["truth_class"] for row, _ in members if row["error_type"] == "Cls")
    if not rivals:
        return
    right = table.filter((pl.col("error_type") == "TP") & (pl.col("class_name") == rivals.most_common(1)[0][0]))
    for number, target in enumerate(right.head(MOST_PASTES).iter_rows(named=True)):
        row, patch = members[number % len(members)]
        source, pixels = _pixels(row["image"]), _pixels(target["image"])
        if source is None or pixels is None:
            continue
        x1, y1, x2, y2 = patch["xyxy"]
        put = paste(source[y1:y2, x1:x2], np.array(patch["place"]), _box(row), pixels, _box(target))
        others = [truth for truth in truths.get(target["image"], []) if _covered(put, truth)] if put is not None else []
        if put is not None and not others:
            yield "pasted", target["image"], cause, put[0]


def _covered(put: tuple[NDArray[np.uint8], NDArray[np.int64]], truth: Row) -> bool:
    """Whether a pasted patch hides a tenth or more of an object."""
    patch, box = put[1].astype(float), _box(truth)
    shared = np.clip(np.minimum(patch[2:], box[2:]) - np.maximum(patch[:2], box[:2]), 0, None).prod()
    return bool(shared >= HIDDEN_SHARE * np.prod(np.maximum(box[2:] - box[:2], 1)))


def _is_within(patch: Patch, image: str) -> bool:
    """Whether a patch lies in its image, which can be read."""
    pixels, (x1, y1, x2, y2) = _pixels(image), patch["xyxy"]
    return pixels is not None and 0 <= x1 < x2 <= pixels.shape[1] and 0 <= y1 < y2 <= pixels.shape[0]


@lru_cache(maxsize=4)
def _pixels(path: str) -> NDArray[np.uint8] | None:
    try:
        return read_photograph(path)
    except InputError:
        return None


def _without(image: NDArray[np.uint8], xyxy: Sequence[int]) -> NDArray[np.uint8]:
    """An image with a patch inpainted from what is around it."""
    x1, y1, x2, y2 = xyxy
    spare_x, spare_y = (round(PATCH_GROWTH * side) + 1 for side in (x2 - x1, y2 - y1))
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[max(y1 - spare_y, 0) : y2 + spare_y, max(x1 - spare_x, 0) : x2 + spare_x] = 255
    inpainted = cv2.inpaint(np.ascontiguousarray(image), mask, INPAINT_RADIUS_PX, cv2.INPAINT_TELEA)
    return np.asarray(inpainted, np.uint8)


def _box(row: Row) -> NDArray[np.float64]:
    return np.array([row[side] for side in ("x1", "y1", "x2", "y2")], np.float64)


def _label(truth: Row, numbers: dict[int, int], shape: tuple[int, ...]) -> str:
    """One line of YOLO's labels: class, centre, size, as shares of the image."""
    height, width = shape[:2]
    x1, y1, x2, y2 = (_box(truth) / [width, height, width, height]).clip(0, 1).tolist()
    return f"{numbers[truth['class_id']]} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n"
