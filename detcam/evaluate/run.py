"""Many methods on the same detections: one row of figures for each map."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detcam.adapters.base import DetectorAdapter
from detcam.data import LabelledImage
from detcam.errors import UsageError
from detcam.evaluate.judge import Judge, likeness_to_box
from detcam.evaluate.pictures import kept
from detcam.evaluate.sanity import Case, randomised, remaining, sanity
from detcam.explainer import Explainer
from detcam.geometry import Letterbox, iou_matrix
from detcam.methods import METHODS
from detcam.metrics.faithfulness import faithfulness, strata
from detcam.metrics.localization import plausibility
from detcam.probing.probe import Probe
from detcam.targets import class_logit
from detcam.tensors.fills import FILLS
from detcam.types import Detection

LEAST_SIDE = 16
"""Boxes with a shorter side than this, in network pixels, are left out: a step would be a handful of pixels."""

MATCHED = 0.5
"""Overlap at which a detection has found a truth."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Contestant:
    """A method with its layers and budget, written ``NAME[@LAYERS][:BUDGET]``: ``layercam@neck``, ``guided:256``."""

    text: str
    method: str
    layers: str
    budget: int | None

    @classmethod
    def parse(cls, text: str) -> Contestant:
        """Read one from its text.

        Raises:
            UsageError: the budget is no whole number.
        """
        rest, _, budget = text.partition(":")
        method, _, layers = rest.partition("@")
        if budget and not budget.isdigit():
            raise UsageError(f"the budget of {text!r} must be a whole number, as in guided:64")
        return cls(text, method, layers.replace("+", ",") or "auto", int(budget) if budget else None)


def usual(model: DetectorAdapter) -> list[str]:
    """What is compared where nothing is named.

    The baselines; what others draw (EigenCAM and Grad-CAM at the head's inputs, as the EigenCAM-for-YOLO scripts and
    pytorch-grad-cam's recipe do; LayerCAM there, as Ultralytics' own heatmaps do); gradient maps at their best layers;
    and methods that mask the image. What a model cannot answer is left out.
    """
    if not model.differentiable:
        return ["random", "edges", "box", "occlusion", "drise", "guided", "effect"]
    neck = "@neck" if any("neck" in layer.groups for layer in model.layers()) else ""
    peers = [f"{name}{neck}" for name in ("eigencam", "gradcam", "layercam")]
    own = ["gradcam++", "hirescam", f"odam{neck}", "occlusion", "guided", "effect"]
    return ["random", "edges", "box", *peers, *(["layercam"] if neck else []), *own]


class Contest:
    """Measures contestants on images, one image at a time.

    Args:
        model: the detector.
        contestants: methods, as :class:`Contestant` writes them.
        conf: least confidence of a detection.
        per_image: most detections taken of one image, drawn with the seed.
        seed: of the draws, of ties and of the methods.
        unseen: judge under fills that no method uses as well, and make every map again with all weights shuffled.

    Raises:
        UsageError: no such method or layer, or a method twice.
    """

    def __init__(
        self,
        model: DetectorAdapter,
        contestants: Sequence[str],
        conf: float,
        per_image: int,
        seed: int,
        unseen: bool = False,
    ) -> None:
        self.model, self.per_image, self.seed, self.unseen = model, per_image, seed, unseen
        has_weights = isinstance(getattr(model, "model", None), nn.Module)
        self._shuffled = randomised(model, 1.0, seed) if unseen and has_weights else None
        self.contestants = [Contestant.parse(text) for text in contestants]
        if twice := {c.text for c in self.contestants if contestants.count(c.text) > 1}:
            raise UsageError(f"{min(twice)!r} is named twice")
        self._explainers = {
            one.text: Explainer(model, one.method, one.layers.split(","), budget=one.budget, conf=conf, seed=seed)
            for one in self.contestants
        }
        self._decode: dict[str, Any] = {"conf": conf, "iou": 0.7, "classes": None, "max_det": 300}

    def rows(self, labelled: LabelledImage, image: NDArray[np.uint8], most: int) -> Iterator[Row]:
        """One row for each contestant and detection of an image.

        Args:
            labelled: the image's path, which with the seed decides what detections are drawn, and its truths.
            image: RGB uint8 (H, W, 3).
            most: detections taken at most.
        """
        path = labelled.path
        batch, letterboxes = self.model.prepare([image])
        raw = self.model.forward(batch)
        found = self.model.decode(raw, letterboxes, **self._decode)[0]
        numbers = self._drawn(path, found, letterboxes[0])[:most]
        if not numbers:
            return
        asked = [(found[number], class_logit) for number in numbers]
        probe = Probe(self.model, batch, raw, 0, letterboxes[0], asked)
        before = [probe.scores_apart(batch, place)[0] for place in range(len(numbers))]
        fills = {name: make(probe.image, probe.inside)[None] for name, make in FILLS.items()}
        blank = [
            {name: probe.scores_apart(fill, place)[0] for name, fill in fills.items()} for place in range(len(numbers))
        ]
        judge = Judge(probe, self.seed) if self.unseen else None
        for one in self.contestants:
            explainer = self._explainers[one.text]
            start = time.perf_counter()
            explanations = explainer.explain_named({str(path): image}, numbers)[0]
            seconds = (time.perf_counter() - start) / len(numbers)
            shuffled = (
                explainer.remade(self._shuffled, batch, letterboxes[0], [found[number] for number in numbers])
                if self._shuffled is not None
                else None
            )
            for place, explanation in enumerate(explanations):
                asked_before = probe.forwards
                heat = torch.tensor(explanation.heatmap.raw, device=batch.device)

                def score(images: torch.Tensor, place: int = place) -> torch.Tensor:
                    return probe.scores_apart(images, place)

                figures = faithfulness(
                    heat,
                    probe.image,
                    probe.boxes[place],
                    probe.inside,
                    before[place],
                    score,
                    self.seed,
                    blank[place],
                )
                figures |= likeness_to_box(heat, probe.boxes[place], probe.inside)
                if judge is not None:
                    figures |= judge.figures(heat, place)
                if shuffled is not None:
                    figures |= remaining(heat, shuffled[place].map.detach(), probe.inside)
                others = [detection.xyxy for number, detection in enumerate(found) if number != numbers[place]]
                box = explanation.detection.xyxy
                mask = mask_of(labelled, explanation.detection, image.shape[:2])
                yield {
                    "image": str(path), "detection": numbers[place], "method": one.text,
                    "class_name": explanation.detection.class_name, "confidence": explanation.detection.confidence,
                    **strata(_side(probe.boxes[place].tolist()), explanation.detection.confidence),
                    "status": explanation.status, "seconds": seconds, "forwards": float(explanation.forwards),
                    "judge_forwards": float(probe.forwards - asked_before),
                    **kept(explanation), **figures, **plausibility(explanation.heatmap.array, box, mask, others),
                }  # fmt: skip

    def sanity(self, path: Path, image: NDArray[np.uint8]) -> Iterator[Row]:
        """One row of sanity figures for each contestant on an image; searches are left out for their price."""
        batch, letterboxes = self.model.prepare([image])
        found = self.model.decode(self.model.forward(batch), letterboxes, **self._decode)[0]
        numbers = self._drawn(path, found, letterboxes[0])
        if not numbers:
            return
        case = Case(batch, letterboxes[0], tuple(found[number] for number in numbers))
        for one in self.contestants:
            if METHODS[one.method].explains == "target" or METHODS[one.method].budget:
                yield {"image": str(path), "method": one.text, **sanity(self._explainers[one.text], case, self.seed)}

    def _drawn(self, path: Path, found: Sequence[Detection], letterbox: Letterbox) -> list[int]:
        """Which detections are measured, in order: by the image's name and the seed alone."""
        sides = [letterbox.to_network(d.xyxy) for d in found]
        large = [n for n, b in enumerate(sides) if min(b[2] - b[0], b[3] - b[1]) >= LEAST_SIDE]
        draw = np.random.default_rng([self.seed, *path.name.encode()]).permutation(large)
        return sorted(int(number) for number in draw[: self.per_image])


def mask_of(labelled: LabelledImage, detection: Detection, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The mask, bool (H, W), of the truth a detection found: best overlap of its class, at least 0.5; None without."""
    alike = [t for t in labelled.truths if t.class_id == detection.class_id and not t.crowd]
    if not alike:
        return None
    overlap = iou_matrix(detection.xyxy[None], np.stack([t.xyxy for t in alike]))[0]
    return alike[int(overlap.argmax())].mask(*size) if overlap.max() >= MATCHED else None


def _side(xyxy: Sequence[float]) -> float:
    return float(np.sqrt(max((xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1]), 0)))
