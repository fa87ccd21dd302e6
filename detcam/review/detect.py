"""A detector run over a labelled set: the reported detections, and all those that average precision needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from detcam.adapters.base import DetectorAdapter
from detcam.adapters.masks import found_masks, labelled_masks
from detcam.data import LabelledImage, LabelledSet
from detcam.errors import InputError
from detcam.io.images import read_image
from detcam.probing.prepared_image import PreparedImage
from detcam.review.judged import Judged
from detcam.review.overlaps import MatchedBy, Overlaps, choose, matching_notes, measure, seen_shape, told_shape
from detcam.session import ImageSession
from detcam.types import Detection

LEAST_CONFIDENCE = 0.001
"""Confidence from which detections count for average precision, as in Ultralytics' ``val()``."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a detector reports on a labelled set.

    Attributes:
        images: those that could be read, in order.
        detections: of each, from the threshold on, in descending confidence.
        every: of each, from 0.1 % confidence on, without its shape.
        failed: paths and reasons of the others.
        overlaps: of ``every`` with the truths.
        matched_by: what was compared.
        notes: what one should know of that, in sentences.
        unjudged: how many more were reported of classes that are not judged, by class.
    """

    images: tuple[LabelledImage, ...]
    detections: tuple[tuple[Detection, ...], ...]
    every: tuple[tuple[Detection, ...], ...]
    failed: tuple[tuple[Path, str], ...]
    unjudged: Mapping[str, int]
    overlaps: tuple[Overlaps, ...]
    matched_by: MatchedBy
    notes: tuple[str, ...]

    def reported_overlaps(self) -> list[Overlaps]:
        """The overlaps of ``detections``, which are the first of ``every``, of each image."""
        pairs = zip(self.overlaps, self.detections, strict=True)
        return [overlaps.first(len(detections)) for overlaps, detections in pairs]


def detect(
    model: DetectorAdapter,
    labelled: LabelledSet,
    *,
    conf: float,
    iou: float,
    max_det: int,
    advance: Callable[[int], object],
    judged: Judged | None = None,
) -> Predictions:
    """Run a detector over a labelled set, one image at a time.

    Args:
        model: the detector.
        labelled: the set.
        conf: confidence from which a detection is reported, in [0, 1].
        iou: overlap above which the weaker of two boxes is suppressed, in [0, 1].
        max_det: most detections of an image.
        advance: called after each image with how many have been tried.
        judged: which detections count; the others are left out. None takes all.
    """
    images, reported, every, failed = [], [], [], []
    overlaps: list[Overlaps | None] = []
    truths = [truth for image in labelled.images for truth in image.truths]
    shape: MatchedBy | None = None
    unjudged = Counter[str]()
    for number, image in enumerate(labelled.images, 1):
        try:
            low = min(LEAST_CONFIDENCE, conf)
            session = ImageSession(model, read_image(image.path), conf=low, iou=iou, max_det=max_det)
            prepared, decoded = session.prepared, session.detections
            own_classes, others = (decoded, ()) if judged is None else judged.split(decoded, image.truths)
            detections = tuple(sorted(own_classes, key=lambda one: -one.confidence))
            shape = shape or told_shape(prepared.raw) or (seen_shape(decoded, truths) if decoded else None)
            own = shape and _measure(prepared, image, detections, choose(shape, truths), labelled)
        except (InputError, RuntimeError, MemoryError) as error:
            failed.append((image.path, " ".join(str(error).split())))
        else:
            images.append(image)
            unjudged.update(one.class_name for one in others if one.confidence >= conf)
            every.append(tuple(replace(one, polygons=None, keypoints=None) for one in detections))
            reported.append(tuple(one for one in detections if one.confidence >= conf))
            overlaps.append(own)
        advance(number)
    by = choose(shape or "box", truths)
    return Predictions(
        tuple(images), tuple(reported), tuple(every), tuple(failed), unjudged,
        tuple(
            own or measure(image.truths, (), by, size=image.size) for own, image in zip(overlaps, images, strict=True)
        ),
        by, tuple(matching_notes(images, shape or "box", by)),
    )  # fmt: skip


def _measure(
    prepared: PreparedImage,
    image: LabelledImage,
    detections: tuple[Detection, ...],
    by: MatchedBy,
    labelled: LabelledSet,
) -> Overlaps:
    """One image's overlaps; masks as the detector makes them, where its raw output has what they are made of."""
    raw, letterbox, masks = prepared.raw, prepared.letterbox, None
    if by == "mask" and "prototypes" in raw.extras and detections and image.truths:
        anchors = torch.tensor([one.anchor for one in detections], device=raw.boxes.device)
        found = found_masks(raw, prepared.index, anchors, letterbox)
        masks = found, labelled_masks(image.truths, letterbox, (found.shape[1], found.shape[2]))
    return measure(image.truths, detections, by, size=image.size, sigmas=labelled.keypoint_sigmas, masks=masks)
