"""A detector run over a labelled set: the reported detections, and all those that average precision needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from detcam.adapters.base import DetectorAdapter
from detcam.adapters.decoding import DecodeSettings
from detcam.data import LabelledImage, LabelledSet
from detcam.errors import InputError
from detcam.io.images import read_image
from detcam.types import Detection

LEAST_CONFIDENCE = 0.001
"""Confidence from which detections count for average precision, as in Ultralytics' ``val()``."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a detector reports on a labelled set.

    Attributes:
        images: those that could be read, in order.
        detections: of each, from the threshold on, in descending confidence.
        every: of each, from 0.1 % confidence on.
        failed: paths and reasons of the others.
    """

    images: tuple[LabelledImage, ...]
    detections: tuple[tuple[Detection, ...], ...]
    every: tuple[tuple[Detection, ...], ...]
    failed: tuple[tuple[Path, str], ...]


def detect(
    model: DetectorAdapter,
    labelled: LabelledSet,
    *,
    conf: float,
    iou: float,
    max_det: int,
    advance: Callable[[int], object],
) -> Predictions:
    """Run a detector over a labelled set, one image at a time.

    Args:
        model: the detector.
        labelled: the set.
        conf: confidence from which a detection is reported, in [0, 1].
        iou: overlap above which the weaker of two boxes is suppressed, in [0, 1].
        max_det: most detections of an image.
        advance: called after each image with how many have been tried.
    """
    images, reported, every, failed = [], [], [], []
    for number, image in enumerate(labelled.images, 1):
        try:
            batch, letterboxes = model.prepare([read_image(image.path)])
            with torch.inference_mode(False), torch.no_grad():
                raw = model.forward(batch)
                low = min(LEAST_CONFIDENCE, conf)
                (detections,) = model.decode(raw, letterboxes, DecodeSettings(low, iou, max_det))
        except (InputError, RuntimeError, MemoryError) as error:
            failed.append((image.path, " ".join(str(error).split())))
        else:
            images.append(image)
            every.append(tuple(replace(one, polygons=None, keypoints=None) for one in detections))
            reported.append(tuple(one for one in detections if one.confidence >= conf))
        advance(number)
    return Predictions(tuple(images), tuple(reported), tuple(every), tuple(failed))
