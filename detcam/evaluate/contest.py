"""Many methods on the same detections: one row of figures for each map."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detcam.adapters.base import DetectorAdapter
from detcam.data import LabelledImage
from detcam.evaluate.contestants import make_explainers
from detcam.evaluate.examples import kept_map
from detcam.evaluate.judge import Judge, likeness_to_box
from detcam.evaluate.sanity import Case, randomised, remaining, sanity
from detcam.geometry import iou_matrix
from detcam.methods import METHODS
from detcam.metrics.faithfulness import faithfulness, strata
from detcam.metrics.localization import plausibility
from detcam.probing.probe import Probe
from detcam.session import ImageSession
from detcam.targets import class_logit
from detcam.tensors.fills import FILLS
from detcam.types import Detection, Explanation

LEAST_SIDE_PX = 16
"""Boxes with a shorter side than this, in pixels of the detector's input, are left out: a step of the curves would be a
handful of pixels."""
MATCHED_IOU = 0.5
"""IoU from which a detection has found a truth."""

Row = dict[str, Any]


class Contest:
    """Measures methods on images, one image at a time.

    Args:
        model: the detector.
        methods: each ``NAME[@LAYERS][:BUDGET]``, see :class:`~detcam.evaluate.contestants.Contestant`.
        conf: least confidence of a detection, in [0, 1].
        per_image: most detections taken of one image, drawn with the seed.
        seed: of the draws, of ties and of the methods.
        unseen: judge under fills that no method uses as well, and make every map again with all weights shuffled.

    Raises:
        UsageError: no such method or layer, or a method twice.
    """

    def __init__(
        self,
        model: DetectorAdapter,
        methods: Sequence[str],
        conf: float,
        per_image: int,
        seed: int,
        unseen: bool = False,
    ) -> None:
        self.model, self.conf, self.per_image, self.seed, self.unseen = model, conf, per_image, seed, unseen
        self._explainers = make_explainers(model, methods, conf, seed)
        has_weights = isinstance(getattr(model, "model", None), nn.Module)
        self._shuffled = randomised(model, 1.0, seed) if unseen and has_weights else None

    def rows(self, labelled: LabelledImage, image: NDArray[np.uint8], most: int) -> Iterator[Row]:
        """One row for each method and detection of an image.

        Args:
            labelled: the image's path, which with the seed decides what detections are drawn, and its truths.
            image: RGB uint8 (H, W, 3).
            most: detections taken at most.
        """
        session = ImageSession(self.model, image, conf=self.conf)
        numbers = self._drawn(labelled.path, session)[:most]
        if not numbers:
            return
        measured = [session.detections[number] for number in numbers]
        probe = Probe(session.prepared, [(detection, class_logit) for detection in measured])
        measures = _Measures(probe, session.prepared.batch, self.seed, self.unseen)
        for name, explainer in self._explainers.items():
            start = time.perf_counter()
            explanations = explainer.explain_named({str(labelled.path): image}, numbers)[0]
            seconds = (time.perf_counter() - start) / len(numbers)
            shuffled = (
                explainer.raw_maps(session.prepared.seen_again(explainer.layers, self._shuffled), measured)
                if self._shuffled is not None
                else None
            )
            for place, explanation in enumerate(explanations):
                forwards = probe.forwards
                figures = measures.figures(explanation, place, None if shuffled is None else shuffled[place].map)
                detection = explanation.detection
                mask = mask_of(labelled, detection, image.shape[:2])
                others = [other.xyxy for number, other in enumerate(session.detections) if number != numbers[place]]
                yield {
                    "image": str(labelled.path), "detection": numbers[place], "method": name,
                    "class_name": detection.class_name, "confidence": detection.confidence,
                    **strata(_side(probe.boxes[place].tolist()), detection.confidence),
                    "status": explanation.status, "seconds": seconds, "forwards": float(explanation.forwards),
                    "judge_forwards": float(probe.forwards - forwards), **kept_map(explanation), **figures,
                    **plausibility(explanation.heatmap.array, detection.xyxy, mask, others),
                }  # fmt: skip

    def sanity(self, path: Path, image: NDArray[np.uint8]) -> Iterator[Row]:
        """One row of sanity figures for each method on an image; searches are left out for their price.

        Args:
            path: the image's, which with the seed decides what detections are drawn.
            image: RGB uint8 (H, W, 3).
        """
        session = ImageSession(self.model, image, conf=self.conf)
        numbers = self._drawn(path, session)
        if not numbers:
            return
        case = Case(session.prepared, tuple(session.detections[number] for number in numbers))
        for name, explainer in self._explainers.items():
            method = METHODS[explainer.method_name]
            if method.explains == "target" or method.budget:
                yield {"image": str(path), "method": name, **sanity(explainer, case, self.seed)}

    def _drawn(self, path: Path, session: ImageSession) -> list[int]:
        """Which detections are measured, in order: by the image's name and the seed alone."""
        boxes = [session.letterbox.to_network(detection.xyxy) for detection in session.detections]
        large = [n for n, b in enumerate(boxes) if min(b[2] - b[0], b[3] - b[1]) >= LEAST_SIDE_PX]
        draw = np.random.default_rng([self.seed, *path.name.encode()]).permutation(large)
        return sorted(int(number) for number in draw[: self.per_image])


class _Measures:
    """Measures maps of one image's detections by the detector's own scores.

    Args:
        probe: asks the detector about the detections.
        batch: the detector's input, (1, 3, h, w).
        seed: of ties, and of fills.
        unseen: judge under fills that no method uses as well.
    """

    def __init__(self, probe: Probe, batch: torch.Tensor, seed: int, unseen: bool) -> None:
        self._probe, self._seed = probe, seed
        places = range(len(probe.boxes))
        self._before = [probe.scores_apart(batch, place)[0] for place in places]
        fills = {name: make(probe.image, probe.inside)[None] for name, make in FILLS.items()}
        self._blank = [{name: probe.scores_apart(fill, place)[0] for name, fill in fills.items()} for place in places]
        self._judge = Judge(probe, seed) if unseen else None

    def figures(self, explanation: Explanation, place: int, shuffled: torch.Tensor | None) -> Row:
        """The figures of one map.

        Args:
            explanation: of the probe's detection ``place``.
            place: counted from 0.
            shuffled: the map (h', w') of that detection with all weights shuffled, or None.
        """
        probe = self._probe
        heat = torch.tensor(explanation.heatmap.raw, device=probe.image.device)

        def score(images: torch.Tensor) -> torch.Tensor:
            return probe.scores_apart(images, place)

        box, inside = probe.boxes[place], probe.inside
        figures: Row = {
            **faithfulness(
                heat, probe.image, box, inside, self._before[place], score, self._seed, self._blank[place]
            ),
            **likeness_to_box(heat, box, inside),
        }  # fmt: skip
        if self._judge is not None:
            figures |= self._judge.figures(heat, place)
        if shuffled is not None:
            figures |= remaining(heat, shuffled.detach(), inside)
        return figures


def mask_of(labelled: LabelledImage, detection: Detection, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The mask, bool (H, W), of the truth a detection found: best overlap of its class, at least 0.5; None without.

    Args:
        labelled: the image's truths.
        detection: in the same image.
        size: (H, W) of the image.
    """
    alike = [t for t in labelled.truths if t.class_id == detection.class_id and not t.crowd]
    if not alike:
        return None
    overlap = iou_matrix(detection.xyxy[None], np.stack([t.xyxy for t in alike]))[0]
    return alike[int(overlap.argmax())].mask(*size) if overlap.max() >= MATCHED_IOU else None


def _side(xyxy: Sequence[float]) -> float:
    """The geometric mean of a box's sides."""
    return float(np.sqrt(max((xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1]), 0)))
