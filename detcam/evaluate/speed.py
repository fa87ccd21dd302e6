"""How fast the methods are against the detector alone: in one process, in alternation, as ratios."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from detcam.adapters.base import DetectorAdapter
from detcam.explainer import Explainer
from detcam.methods import METHODS
from detcam.methods.perturb import drise
from detcam.probing.probe import IMAGES_PER_PASS
from detcam.session import ImageSession

ROUNDS = 3
"""Alternations; the medians of their ratios are reported."""
MASKS = 32
"""D-RISE masks of one round."""
MORE_MASKS = 8 * MASKS
"""Masks over which the memory's growth is measured."""
SOAK_IMAGES = (200, 2000)
"""Images after which :func:`soak` looks at the memory."""
TIMED_METHODS = ("gradcam", "layercam", "hirescam", "effect")
"""Methods whose price for each detection is measured, pictures apart; that of `effect` with evidence and receipt."""


@dataclass(frozen=True)
class Measurement:
    """One measured figure.

    Attributes:
        name: what was measured.
        value: how much of it, in ``unit``.
        unit: ``images/s``, ``%``, ``MiB`` or ``forwards``.
        note: how it was measured.
    """

    name: str
    value: float
    unit: str
    note: str


def bench(model: DetectorAdapter, image: NDArray[np.uint8], conf: float = 0.25) -> list[Measurement]:
    """Throughput of masked forward passes, memory over many masks, and the price of a gradient map.

    Args:
        model: the detector, from :func:`detcam.load`.
        image: RGB uint8 (H, W, 3), best with several detections; without any, the plain forward pass alone is measured.
        conf: least confidence of a detection, in [0, 1].
    """
    session = ImageSession(model, image, conf=conf)
    batch, detections = session.prepared.batch, session.detections
    many = batch.expand(IMAGES_PER_PASS, -1, -1, -1).contiguous()

    def plain() -> None:
        for _ in range(MASKS // IMAGES_PER_PASS):
            model.forward(many)

    alone = [_seconds(plain) for _ in range(2)][-1]
    note = f"batches of {IMAGES_PER_PASS}, {tuple(batch.shape[2:])}"
    measurements = [Measurement("plain forward", MASKS / alone, "images/s", note)]
    if detections:
        explainer = Explainer(model, "drise", budget=MASKS)
        ratio = _ratio(plain, lambda: explainer.raw_maps(session.prepared, detections))
        note = f"{len(detections)} detections share the masks; share of the plain forward's rate"
        measurements.append(Measurement("drise", 100 * ratio, "%", note))
        measurements.append(_growth(session))
    if detections and model.differentiable:
        for name in TIMED_METHODS:
            explain = Explainer(model, name, conf=conf)
            explaining = median(_seconds(lambda: explain(image)) for _ in range(ROUNDS))  # noqa: B023
            forward = median(_seconds(lambda: model.forward(batch)) for _ in range(ROUNDS))
            note = f"plain forward passes of one image for each of {len(detections)} detections, all told"
            measurements.append(Measurement(name, explaining / forward / len(detections), "forwards", note))
    return measurements


def soak(model: DetectorAdapter, image: NDArray[np.uint8], conf: float = 0.25) -> list[Measurement]:
    """Time and memory over 2,000 images, each a little different: what a run of days would do.

    Args:
        model: the detector, from :func:`detcam.load`.
        image: RGB uint8 (H, W, 3), moved round by one row more for each.
        conf: least confidence of a detection, in [0, 1].
    """
    explainer = Explainer(model, "layercam" if model.differentiable else "random", conf=conf)
    process, measurements = psutil.Process(), []
    start, maps = time.perf_counter(), 0
    for number in range(1, SOAK_IMAGES[-1] + 1):
        maps += len(explainer(np.roll(image, number, 0))[0])
        if number in SOAK_IMAGES:
            used = process.memory_info().rss / 2**20
            measurements.append(Measurement(f"memory after {number} images", used, "MiB", f"{maps} maps"))
    growth = measurements[-1].value - measurements[0].value
    note = f"from {SOAK_IMAGES[0]} to {SOAK_IMAGES[-1]} images"
    measurements.append(Measurement("growth", growth, "MiB", note))
    rate = SOAK_IMAGES[-1] / (time.perf_counter() - start)
    measurements.append(Measurement("rate", rate, "images/s", "one map a detection"))
    return measurements


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _ratio(plain: Callable[[], object], other: Callable[[], object]) -> float:
    """The median over rounds of plain time over other time, one after the other."""
    other()
    return median(_seconds(plain) / _seconds(other) for _ in range(ROUNDS))


def _growth(session: ImageSession) -> Measurement:
    """How much more memory the process holds after many more masks; none is saved because the maps are stable."""
    method = replace(METHODS["drise"], function=partial(drise, tolerance=0.0), name="drise-to-the-end")
    few, many = (Explainer(session.model, method, budget=budget) for budget in (MASKS, MORE_MASKS))
    process = psutil.Process()
    few.raw_maps(session.prepared, session.detections)
    before = process.memory_info().rss
    many.raw_maps(session.prepared, session.detections)
    grown = (process.memory_info().rss - before) / 2**20
    return Measurement("drise memory", grown, "MiB", f"growth from {MASKS} to {MORE_MASKS} masks")
