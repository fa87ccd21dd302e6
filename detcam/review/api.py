"""The review of a labelled set: detect, type every error, explain it, find and test causes, write the report."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from detcam.adapters import load
from detcam.adapters.base import DetectorAdapter
from detcam.adapters.classifier import require_boxes
from detcam.data import LabelledSet, check_classes, read_data
from detcam.errors import InputError, UsageError
from detcam.io.files import on_this_machine
from detcam.options import check_thresholds, several
from detcam.report.build import build_report
from detcam.review.cause_tests import write_causes
from detcam.review.detect import LEAST_CONFIDENCE, detect
from detcam.review.errors import find_errors
from detcam.review.explaining import ErrorExplainer
from detcam.review.judged import Judged, beside_val, require_truths
from detcam.review.matching import MAX_DETECTIONS
from detcam.review.result import ReviewResult
from detcam.review.rows import REVIEW, Reviewer
from detcam.review.summary import first_truths, summarise, truth_table, write_json
from detcam.runs.folder import RunFolder
from detcam.runs.held import check_folder
from detcam.runs.schema import file_sha256

Progress = Callable[[str, int, int | None], object]
"""(step, how much of it is done, how much there is or None) -> ignored. Steps: detecting, explaining, causes."""
Complaint = Callable[[object, str], object]
"""(input, why it or a part of it is left out) -> ignored."""


def _ignore(*_: object) -> None:
    pass


def run_review(
    model: Any,
    data: str | Path | LabelledSet,
    out: str | Path,
    *,
    split: str = "val",
    rename: Mapping[str, str] | None = None,
    images_dir: str | Path | None = None,
    method: str = "auto",
    conf: float = 0.25,
    iou: float = 0.7,
    max_det: int = 300,
    classes: Sequence[str | int] | str | int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    configuration: Mapping[str, Any] | None = None,
    progress: Progress = _ignore,
    complain: Complaint = _ignore,
) -> ReviewResult:
    """Run a detector over a labelled set, type its errors, explain each, test what they have in common, and report.

    Nothing is printed. A review that was interrupted goes on when it is asked for again with the same configuration.

    >>> result = detcam.review.run_review("best.pt", "data.yaml", "runs/review")  # doctest: +SKIP
    >>> result.map50, result.counts["Cls"], [cause["name"] for cause in result.causes()]  # doctest: +SKIP

    Args:
        model: what :func:`detcam.load` gives or takes.
        data: a COCO instances ``.json``, an Ultralytics ``data.yaml``, or what :func:`detcam.data.read_data` gave
            for this model, or a :class:`detcam.data.LabelledSet` made by hand, for labels of another format.
        out: the run folder, on this machine.
        split: which images of a ``data.yaml``.
        rename: names of the set's classes -> the model's, where the two call them differently.
        images_dir: where the images of a COCO ``.json`` are, if not beside it.
        method: how errors are explained; ``auto`` takes ``effect``, and ``layercam`` where a side or a miss needs a
            gradient. Errors of class are explained by ``windows`` in any case.
        conf: confidence from which a detection is reported, in [0, 1].
        iou: overlap above which the weaker of two boxes is suppressed, in [0, 1].
        max_det: most detections of an image.
        classes: names or indices of the classes that are judged: detections and truths of others are left out. None
            judges the classes that the set labels, and all where it labels nothing; of others only detections that
            cover a labelled object.
        seed: of everything random.
        overwrite: start anew where another review is; its ``verdicts.json`` becomes ``verdicts-before.json``.
        configuration: what makes two reviews the same, as JSON has it, in the place of the arguments above.
        progress: called as work goes on.
        complain: called for each input, or part of one, that is left out; the rest goes on.

    Returns:
        The review, read from its folder when it is asked for something.

    Raises:
        UsageError: a value out of range; no such method, data or class; the model is a classifier; the set has no
            labels, none that can be used, or classes that are not the model's; the folder holds something else, is
            in use, or cannot be written.
        WeightsError: the weights cannot be used.
    """
    check_thresholds(conf, iou, max_det)
    path = on_this_machine(out, "a review keeps its folder")
    arguments = {
        "data": None if isinstance(data, LabelledSet) else str(data), "split": split,
        "images_dir": images_dir and str(images_dir), "rename": rename and dict(rename), "method": method,
        "conf": conf, "iou": iou, "max_det": max_det, "seed": seed,
        "classes": None if classes is None else several(classes, "classes"),
    }  # fmt: skip
    check_folder(path, "review", arguments if configuration is None else configuration, overwrite)
    detector = load(model)
    require_boxes(detector)
    labelled = data
    if not isinstance(labelled, LabelledSet):
        labelled = read_data(labelled, split, detector.names, rename, images_dir)
    source = "the set" if isinstance(data, LabelledSet) else data
    if not labelled.labelled:
        raise UsageError(f"{source}: no labels there, so nothing is right or wrong; name a labelled set")
    check_classes(labelled, detector.names)
    judged = Judged.of(labelled, detector.names, classes)
    whole, labelled = labelled, judged.keep(labelled)
    explainer = ErrorExplainer(detector, method, seed)
    explainer.check()
    if configuration is None:
        configuration = {**identify(model, detector), **arguments}
    configuration = {**configuration, "labels_sha256": fingerprint(labelled)}
    check_folder(path, "review", configuration, overwrite)  # of another run's folder that is what to tell
    require_truths(whole, source)
    with RunFolder(path, "review", configuration, overwrite, REVIEW) as folder:
        if overwrite and (path / "verdicts.json").is_file():  # a person's work, of detections that will be others
            (path / "verdicts.json").replace(path / "verdicts-before.json")
        folder.describe(
            device=str(detector.device), imgsz=getattr(detector, "imgsz", None), classes=detector.names
        )  # fmt: skip
        for note in labelled.notes:
            complain(source, note)
        for name, count in labelled.unmapped.items():
            complain(source, f"class {name!r} ({count} labels) is none of the model's; rename it if the model has it")
        complete = False
        try:
            reviewer = Reviewer(detector, conf, iou, explainer, seed, labelled.keypoint_sigmas)
            _review(folder, reviewer, labelled, judged, max_det, progress, complain)
            complete = True
        finally:
            folder.finish(complete)
    return ReviewResult(path)


def _review(
    folder: RunFolder,
    reviewer: Reviewer,
    labelled: LabelledSet,
    judged: Judged,
    max_det: int,
    progress: Progress,
    complain: Complaint,
) -> None:
    """The review itself, into a folder that is held."""

    def fail(path: Path, reason: str) -> None:
        folder.fail(str(path), reason)
        complain(path, reason)

    for path, reason in labelled.problems:
        fail(path, reason)
    total = len(labelled.images)
    progress("detecting", 0, total)
    predictions = detect(
        reviewer.model, labelled, judged=judged, conf=reviewer.conf, iou=reviewer.iou, max_det=max_det,
        advance=lambda tried: progress("detecting", tried, total),
    )  # fmt: skip
    for path, reason in predictions.failed:
        fail(path, reason)
    for note in predictions.notes:
        complain("the labels", note)
    told = judged.tell(predictions.unjudged)
    for note in told:
        complain("detections", note)
    figures = beside_val(reviewer.conf, reviewer.iou, max_det, min(LEAST_CONFIDENCE, reviewer.conf), MAX_DETECTIONS)
    errors = find_errors(predictions.images, predictions.detections, predictions.reported_overlaps())
    first = first_truths(labelled)
    write_json(folder.path / "summary.json", summarise(predictions, errors, labelled, told, figures))
    folder.write_table("truths.parquet", truth_table(predictions, errors, first))
    total = len(predictions.images)
    progress("explaining", 0, total)
    images = zip(predictions.images, predictions.detections, errors.images, strict=True)
    for number, (image, detections, outcomes) in enumerate(images, 1):
        if str(image.path) not in folder:
            try:
                rows, maps = reviewer(image, detections, outcomes, first[image.path])
            except (InputError, RuntimeError, MemoryError) as error:
                fail(image.path, " ".join(str(error).split()))
            else:
                folder.add_rows(str(image.path), rows, maps)
        progress("explaining", number, total)
    progress("causes", 0, None)
    write_causes(
        reviewer.model, folder, predictions, errors, reviewer.conf, lambda count: progress("causes", count, None)
    )
    build_report(folder.path)


def identify(model: Any, detector: DetectorAdapter) -> dict[str, str | None]:
    """What tells one model from another: its file's path and SHA-256; of one in memory its parameters' SHA-256.

    Args:
        model: what the user passed.
        detector: what it was loaded as.

    Returns:
        ``weights`` and ``weights_sha256``; the latter is None for a model that has neither file nor parameters.
    """
    if isinstance(model, str | os.PathLike):
        file = Path(model)
        return {"weights": str(model), "weights_sha256": file_sha256(file) if file.is_file() else None}
    network = getattr(detector, "model", None)
    if not isinstance(network, torch.nn.Module):
        return {"weights": type(detector).__name__, "weights_sha256": None}
    digest = hashlib.sha256()
    for name, values in network.state_dict().items():
        digest.update(f"{name} {tuple(values.shape)}".encode())
        digest.update(values.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {"weights": type(detector).__name__, "weights_sha256": digest.hexdigest()}


def fingerprint(labelled: LabelledSet) -> str:
    """SHA-256 of the labels, in hexadecimal: a review with other labels is another review.

    Args:
        labelled: the set.
    """
    digest = hashlib.sha256()
    for image in labelled.images:
        digest.update(os.fsencode(image.path))
        for truth in image.truths:
            digest.update(f"{truth.class_id} {truth.crowd} {truth.xyxy.tolist()}".encode())
            if isinstance(truth.outline, tuple):
                digest.update(repr([polygon.tolist() for polygon in truth.outline]).encode())
            elif truth.outline is not None:
                digest.update(repr(truth.outline["counts"]).encode())
            if truth.keypoints is not None:
                digest.update(truth.keypoints.tobytes())
    return digest.hexdigest()
