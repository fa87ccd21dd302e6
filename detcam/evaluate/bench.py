"""How fast the methods are against the detector alone: in one process, in alternation, as ratios."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from detcam.adapters.base import DetectorAdapter
from detcam.attribution.image_maps import ImageMaps
from detcam.attribution.prepared_image import PreparedImage
from detcam.explainer import Explainer
from detcam.methods import perturb
from detcam.probing.probe import TOGETHER
from detcam.types import Detection

ROUNDS = 3
"""Alternations; the medians of their ratios are reported."""
MASKS = 32
"""D-RISE masks of one round."""
LONG = 8
"""How many times more masks the memory is measured over."""
SOAK = (200, 2000)
"""Images after which :func:`soak` looks at the memory."""
PRICED = ("gradcam", "layercam", "hirescam", "effect")
"""Methods whose price for each detection is told, pictures apart; that of `effect` with evidence and receipt."""


@dataclass(frozen=True)
class Figure:
    """One measured figure: what, its value, its unit, and what it says."""

    name: str
    value: float
    unit: str
    note: str


def bench(model: DetectorAdapter, image: NDArray[np.uint8], conf: float = 0.25) -> list[Figure]:
    """Throughput of masked forward passes, memory over many masks, and the price of a gradient map.

    Args:
        model: the detector.
        image: RGB uint8 (H, W, 3), best with several detections.
        conf: least confidence of a detection.
    """
    batch, letterboxes = model.prepare([image])
    raw = model.forward(batch)
    detections = model.decode(raw, letterboxes, conf=conf, iou=0.7, classes=None, max_det=300)[0]
    many = batch.expand(TOGETHER, -1, -1, -1).contiguous()
    prepared = PreparedImage(batch, raw, 0, letterboxes[0])

    def plain() -> None:
        for _ in range(MASKS // TOGETHER):
            model.forward(many)

    figures = []
    alone = [_seconds(plain) for _ in range(2)][-1]
    figures.append(
        Figure("plain forward", MASKS / alone, "images/s", f"batches of {TOGETHER}, {tuple(batch.shape[2:])}")
    )
    if detections:
        explainer = Explainer(model, "drise", budget=MASKS)
        maker: ImageMaps = explainer.image_maps
        ratio = _ratio(plain, lambda: maker(prepared, detections))
        note = f"{len(detections)} detections share the masks; share of the plain forward's rate"
        figures.append(Figure("drise", 100 * ratio, "%", note))
        figures.append(_growth(maker, prepared, list(detections)))
    if detections and model.differentiable:
        for name in PRICED:
            explain = Explainer(model, name, conf=conf)
            took = median(_seconds(lambda: explain(image)) for _ in range(ROUNDS))  # noqa: B023
            one = median(_seconds(lambda: model.forward(batch)) for _ in range(ROUNDS))
            note = f"plain forward passes of one image for each of {len(detections)} detections, all told"
            figures.append(Figure(name, took / one / len(detections), "forwards", note))
    return figures


def soak(model: DetectorAdapter, image: NDArray[np.uint8], conf: float = 0.25) -> list[Figure]:
    """Time and memory over many images, each a little different: what a run of days would do.

    Args:
        model: the detector.
        image: RGB uint8 (H, W, 3), moved round by one row more for each.
        conf: least confidence of a detection.
    """
    explainer = Explainer(model, "layercam" if model.differentiable else "random", conf=conf)
    process, figures = psutil.Process(), []
    start, rows = time.perf_counter(), 0
    for number in range(1, SOAK[-1] + 1):
        rows += len(explainer(np.roll(image, number, 0))[0])
        if number in SOAK:
            held = process.memory_info().rss / 2**20
            figures.append(Figure(f"memory after {number} images", held, "MiB", f"{rows} maps"))
    growth = figures[-1].value - figures[0].value
    figures.append(Figure("growth", growth, "MiB", f"from {SOAK[0]} to {SOAK[-1]} images"))
    figures.append(Figure("rate", SOAK[-1] / (time.perf_counter() - start), "images/s", "one map a detection"))
    return figures


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


def _growth(maker: ImageMaps, prepared: PreparedImage, detections: list[Detection]) -> Figure:
    """How much more memory the process holds after many more masks."""
    process = psutil.Process()
    stable, perturb.STABLE = perturb.STABLE, 0.0  # every mask is wanted here
    try:
        maker(prepared, detections)
        before = process.memory_info().rss
        replace(maker, budget=LONG * MASKS)(prepared, detections)
        grown = (process.memory_info().rss - before) / 2**20
    finally:
        perturb.STABLE = stable
    return Figure("drise memory", grown, "MiB", f"growth from {MASKS} to {LONG * MASKS} masks")
