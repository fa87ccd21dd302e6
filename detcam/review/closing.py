"""The end of a review: what errors have in common, tested, and the tables that everything else reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from detcam.adapters.base import DetectorAdapter
from detcam.drawing.render import write_image
from detcam.errors import InputError
from detcam.io.files import read_table, write_whole
from detcam.io.images import read_image
from detcam.review.causes import PASTES, Cause, Suspect, appears, described, find_causes, paste
from detcam.review.errors import Errors
from detcam.review.evidence import Scene
from detcam.review.run import MISS_ONLY, Found, evidence_of, write_json
from detcam.runs.schema import image_key

SHOWN = 6
"""Patches of a cause that are kept as pictures."""
TESTED = 12
"""Causes whose patch is put elsewhere."""


def suspects(table: pl.DataFrame, found: Found, errors: Errors) -> list[Suspect]:
    """The false positives of a review's table that hang on a patch."""
    by_key = {image_key(str(image.path)): n for n, image in enumerate(found.images)}
    told = []
    for row in table.filter(pl.col("evidence").is_not_null()).iter_rows(named=True):
        key, _, number = row["id"].rpartition("-")
        if key in by_key:  # an image that is no longer there has no patch to look at
            image = by_key[key]
            outcome = errors.images[image].detections[int(number)]
            truth = None if outcome.truth is None else found.images[image].truths[outcome.truth]
            rival = (truth.class_id, truth.class_name) if truth is not None and outcome.error == "Cls" else None
            detection = found.detections[image][int(number)]
            name = str(found.images[image].path)
            told.append(Suspect(row["id"], name, detection, row["error_type"], rival, evidence_of(row)))
    return told


def tried_elsewhere(model: DetectorAdapter, cause: Cause, found: Found, errors: Errors, conf: float) -> Cause:
    """A cause whose patch was put beside objects of its rival class that were judged rightly, in other images.

    Causes of errors without a rival stay as they are, and so do patches inside the box, which are the thing itself.
    """
    first = cause.members[0]
    if first.rival is None or not cause.beside:
        return cause
    patch = crop(first)
    pasted = appeared = 0
    for image, several, told in zip(found.images, found.detections, errors.images, strict=True):
        if str(image.path) == first.image:
            continue
        for detection, outcome in zip(several, told.detections, strict=True):
            if outcome.error != "TP" or detection.class_id != first.rival[0] or pasted == PASTES:
                continue
            if appears(Scene.of(model, read_image(image.path)), first.detection.class_id, detection, conf):
                continue  # it is taken for that already
            put = paste(patch, first.evidence.place, first.detection.xyxy, read_image(image.path), detection.xyxy)
            if put is not None:
                pasted += 1
                appeared += appears(Scene.of(model, put[0]), first.detection.class_id, detection, conf)
    return Cause(cause.id, cause.members, cause.flipped, cause.control, pasted, appeared)


def crop(suspect: Suspect) -> np.ndarray[Any, Any]:
    """The evidence patch of a false positive, RGB uint8 (h, w, 3)."""
    x1, y1, x2, y2 = suspect.evidence.xyxy.tolist()
    return read_image(suspect.image)[y1:y2, x1:x2]


def close(
    model: DetectorAdapter, path: Path, found: Found, errors: Errors, conf: float, advance: Callable[[], None]
) -> list[Cause]:
    """Find causes, test them, and write ``causes.json``, ``misses.parquet`` and each row's cause.

    Args:
        model: the detector.
        path: the run folder, whose parts have been gathered.
        found: what was detected.
        errors: their types.
        conf: the threshold.
        advance: called after each cause.
    """
    table = read_table(path / "detections.parquet")
    (path / "causes").mkdir(exist_ok=True)
    for old in (path / "causes").glob("cause-*.png"):
        old.unlink()
    causes: list[Cause] = []
    for cause in find_causes(suspects(table, found, errors)):
        tested = tried_elsewhere(model, cause, found, errors, conf) if len(causes) < TESTED else cause
        causes.append(tested)
        advance()
    pictures = {cause.id: _pictures(path, cause) for cause in causes}
    write_json(path / "causes.json", described(causes, pictures))
    members = {member.id: cause.id for cause in causes for member in cause.members}
    table = table.with_columns(
        pl.col("id").replace_strict(members, default=None, return_dtype=pl.String).alias("cause")
    )
    _split(path, table)
    return causes


def _pictures(path: Path, cause: Cause) -> Sequence[str]:
    """Write the patches of a cause's first members; their paths below the run folder."""
    names = []
    for number, member in enumerate(cause.members[:SHOWN]):
        try:
            patch = crop(member)
        except InputError:
            continue
        names.append(f"causes/{cause.id}-{number}.png")
        write_image(path / names[-1], patch)
    return names


def _split(path: Path, table: pl.DataFrame) -> None:
    """Misses into a table of their own, joined to those that an earlier run had split off."""
    known = path / "misses.parquet"
    fresh = table.filter(pl.col("error_type") == "Miss").drop("error_type", "evidence", "features", "chance", "cause")
    if known.is_file():
        old = read_table(known)
        fresh = pl.concat([old.filter(~pl.col("id").is_in(fresh["id"].implode())), fresh], how="diagonal_relaxed")
    write_whole(known, fresh.sort("image", "id").rechunk().write_parquet)
    rest = table.filter(pl.col("error_type") != "Miss").drop(MISS_ONLY)
    write_whole(path / "detections.parquet", rest.rechunk().write_parquet)
