"""The end of a review: what errors have in common, tested in other images, and written beside the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detcam.adapters.base import DetectorAdapter
from detcam.drawing.pasting import paste
from detcam.drawing.render import write_image
from detcam.errors import InputError
from detcam.io.images import read_image
from detcam.review.causes import MOST_PASTES, Cause, Suspect, appears, describe_causes, find_causes
from detcam.review.detect import Predictions
from detcam.review.errors import Errors
from detcam.review.rows import patch_of
from detcam.review.summary import write_json
from detcam.runs.folder import RunFolder
from detcam.runs.reading import Row, open_run
from detcam.runs.schema import image_key
from detcam.session import ImageSession

PICTURES_PER_CAUSE = 6
MOST_TESTED = 12
"""Causes whose patch is put elsewhere."""


def write_causes(
    model: DetectorAdapter,
    folder: RunFolder,
    predictions: Predictions,
    errors: Errors,
    conf: float,
    advance: Callable[[int], object],
) -> list[Cause]:
    """Find causes, test them, and write ``causes.json``, pictures of their patches, and each row's cause.

    Args:
        model: the detector.
        folder: the run folder, whose rows are all there.
        predictions: what was detected.
        errors: their types.
        conf: the detector's threshold, in [0, 1].
        advance: called after each cause with how many there are so far.

    Returns:
        The causes, the one with the most errors first.
    """
    folder.gather()
    pictures = folder.path / "causes"
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("cause-*.png"):
        old.unlink()
    causes: list[Cause] = []
    for cause in find_causes(suspects_of(open_run(folder.path).rows(), predictions, errors)):
        tested = paste_elsewhere(model, cause, predictions, errors, conf) if len(causes) < MOST_TESTED else cause
        causes.append(tested)
        advance(len(causes))
    patches = {cause.id: _write_pictures(folder.path, cause) for cause in causes}
    write_json(folder.path / "causes.json", describe_causes(causes, patches))
    folder.label("cause", {member.id: cause.id for cause in causes for member in cause.members})
    return causes


def suspects_of(rows: Iterable[Row], predictions: Predictions, errors: Errors) -> list[Suspect]:
    """The false positives of a review that hang on a patch.

    Args:
        rows: of the review's detections.
        predictions: what was detected.
        errors: their types.
    """
    by_key = {image_key(str(image.path)): number for number, image in enumerate(predictions.images)}
    suspects = []
    for row in rows:
        key, _, number = row.id.rpartition("-")
        evidence = patch_of(row)
        if evidence is not None and key in by_key:  # an image that is no longer there has no patch to look at
            place = by_key[key]
            image, outcome = predictions.images[place], errors.images[place].detections[int(number)]
            truth = None if outcome.truth is None else image.truths[outcome.truth]
            rival = (truth.class_id, truth.class_name) if truth is not None and outcome.error == "Cls" else None
            detection = predictions.detections[place][int(number)]
            error = str(row.further["error_type"])
            suspects.append(Suspect(row.id, str(image.path), detection, error, rival, evidence))
    return suspects


def paste_elsewhere(
    model: DetectorAdapter, cause: Cause, predictions: Predictions, errors: Errors, conf: float
) -> Cause:
    """A cause, tested by pasting its patch beside objects of its rival class that were judged rightly, in other images.

    Causes of errors without a rival stay as they are, and so do patches inside the box, which are the object itself.

    Args:
        model: the detector.
        cause: not changed.
        predictions: what was detected.
        errors: their types.
        conf: the detector's threshold, in [0, 1].

    Raises:
        InputError: an image cannot be read any more.
    """
    first = cause.members[0]
    if first.rival is None or not cause.beside:
        return cause
    patch = crop(first)
    pasted = appeared = 0
    for image, detections, outcomes in zip(predictions.images, predictions.detections, errors.images, strict=True):
        right = [
            detection
            for detection, outcome in zip(detections, outcomes.detections, strict=True)
            if outcome.error == "TP" and detection.class_id == first.rival[0]
        ]
        if str(image.path) == first.image or not right or pasted == MOST_PASTES:
            continue
        session = ImageSession(model, read_image(image.path))
        for detection in right:
            if pasted == MOST_PASTES or appears(session, first.detection.class_id, detection, conf):
                continue  # it is taken for that already
            put = paste(patch, first.evidence.place, first.detection.xyxy, session.image, detection.xyxy)
            if put is not None:
                pasted += 1
                appeared += appears(ImageSession(model, put[0]), first.detection.class_id, detection, conf)
    return replace(cause, pasted=pasted, appeared=appeared)


def crop(suspect: Suspect) -> NDArray[np.uint8]:
    """The evidence patch of a false positive, RGB uint8 (h, w, 3).

    Args:
        suspect: the false positive.

    Raises:
        InputError: its image cannot be read any more.
    """
    x1, y1, x2, y2 = suspect.evidence.xyxy.tolist()
    return read_image(suspect.image)[y1:y2, x1:x2]


def _write_pictures(path: Path, cause: Cause) -> Sequence[str]:
    """Write the patches of a cause's first members; their paths below the run folder."""
    names = []
    for number, member in enumerate(cause.members[:PICTURES_PER_CAUSE]):
        try:
            patch = crop(member)
        except InputError:
            continue
        names.append(f"causes/{cause.id}-{number}.png")
        write_image(path / names[-1], patch)
    return names
