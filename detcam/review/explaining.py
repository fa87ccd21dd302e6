"""An explanation that fits the error: another question for each of TIDE's types, and its answer in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from detcam.adapters.base import DetectorAdapter
from detcam.attribution.prepared_image import PreparedImage
from detcam.data import Truth
from detcam.explainer import Explainer
from detcam.metrics.localization import box_mask, energy_inside
from detcam.review.errors import ImageErrors
from detcam.review.evidence import Scan, Scene, scan
from detcam.review.misses import Death
from detcam.types import Detection, Explanation, Heatmap

SIDES = ("left", "top", "right", "bottom")
RIGHT = ("TP", "ignored")
"""Outcomes that are no error."""


@dataclass(frozen=True, eq=False)
class Told:
    """One error's explanation.

    Attributes:
        explanation: the map that answers its question, with its receipt where it was a detection.
        text: the answer in a sentence.
        inside: share of the map's mass inside the box, in [0, 1]; nan for an empty map.
    """

    explanation: Explanation
    text: str
    inside: float


@dataclass(frozen=True, eq=False)
class Case:
    """One image with what was found on it.

    Attributes:
        name, image: the image's name; RGB uint8 (H, W, 3).
        scene: the same in the detector's input.
        found, truths: its detections and its truths.
        told: what became of either.
    """

    name: str
    image: NDArray[np.uint8]
    scene: Scene
    found: Sequence[Detection]
    truths: Sequence[Truth]
    told: ImageErrors

    def truth_of(self, number: int) -> Truth | None:
        """The truth that a detection claimed or is confused with."""
        truth = self.told.detections[number].truth
        return None if truth is None else self.truths[truth]


@dataclass
class ErrorExplainer:
    """Explains the errors of images, one image at a time.

    An error of class gets the map of windows slid over it: what each costs its class against the true one is measured.
    Gradients of the two logits' difference put their heat beside the cause on the demo, where the cause is known.

    Attributes:
        model: the detector.
        method: of other maps; ``auto`` takes ``effect`` for detections and ``layercam`` where a side or a miss needs a
            gradient. A model that can only be called is asked about its detections as they are.
        seed: of everything random.
    """

    model: DetectorAdapter
    method: str = "auto"
    seed: int = 0
    _explainers: dict[tuple[str, bool], Explainer] = field(default_factory=dict)

    def check(self) -> None:
        """Whether the method can be had.

        Raises:
            UsageError: no such method, or none for this model.
        """
        self._explainer("class", verify=True)

    def errors(self, case: Case) -> tuple[dict[int, Told], dict[int, Scan]]:
        """Explain an image's false positives, and the boxes that duplicates repeat; by index of the detection.

        Returns:
            The explanations; the windows slid over errors of class.
        """
        outcomes = case.told.detections
        rivals = {n: rival for n in range(len(outcomes)) if (rival := self.rival(case, n)) is not None}
        scans = {n: scan(case.scene, case.found[n], rival) for n, rival in rivals.items()}
        made = {n: self._contrast(case, n, scanned) for n, scanned in scans.items()}
        asked = {n: self._target(case, n) for n, o in enumerate(outcomes) if o.error not in RIGHT and n not in made}
        originals = {
            n: case.told.truths[o.truth].found_by
            for n, o in enumerate(outcomes)
            if o.error == "Dupe" and o.truth is not None
        }
        asked |= {n: "class" for n in originals.values() if n is not None and n not in asked}
        for target in sorted(set(asked.values())):
            numbers = [n for n, other in asked.items() if other == target]
            explainer = self._explainer(target, verify=True)
            several = explainer.explain_known(case.name, case.image, [case.found[n] for n in numbers])
            made |= dict(zip(numbers, several, strict=True))
        told = {n: Told(e, self._text(case, n, made, originals.get(n)), _inside(e)) for n, e in made.items()}
        return told, scans

    def rival(self, case: Case, number: int) -> int | None:
        """The true class of an error of class."""
        truth = case.truth_of(number)
        return truth.class_id if truth is not None and case.told.detections[number].error == "Cls" else None

    def miss(self, name: str, image: NDArray[np.uint8], death: Death) -> Told:
        """Explain a missed object: what spoke against it, for another class, or for the box that was suppressed."""
        for_it = death.where in ("suppressed", "other_class") or not self.model.differentiable
        explainer = self._explainer("class" if for_it else "against", verify=False)
        (explanation,) = explainer.explain_known(name, image, [death.detection])
        shown = f"the map shows what spoke {'for' if for_it else 'against'} {death.detection.class_name}"
        return Told(explanation, f"{death.text}; {shown}", _inside(explanation))

    def _contrast(self, case: Case, number: int, scanned: Scan) -> Explanation:
        """The map of an error of class: what its class loses to the true one under each window."""
        detection, truth, scene = case.found[number], case.truth_of(number), case.scene
        raw = np.maximum(scanned.map(scene.letterbox.network), 0)
        target = f"contrast:{truth.class_name if truth else ''}"
        price = float(len(scanned.windows))
        made = Explanation(
            detection, Heatmap(raw, scene.letterbox), "occlusion", target, ("input",), "ok", "", case.image,
            forwards=price,
        )  # fmt: skip
        if not raw.any():
            reason = f"no window around {detection.class_name!r} speaks for it against {target.partition(':')[2]!r}"
            return replace(made, status="no_signal", reason=reason)
        maps = self._explainer("class", verify=True).image_maps
        prepared = PreparedImage(scene.batch, scene.raw, 0, scene.letterbox)
        (receipt,) = maps.receipts(prepared, [detection], [torch.tensor(raw, device=scene.batch.device)])
        return replace(made, status="ok" if receipt.supported else "unsupported", receipt=receipt)

    def _target(self, case: Case, number: int) -> str:
        """What an error's map is asked about."""
        truth = case.truth_of(number)
        if truth is None or case.told.detections[number].error != "Loc" or not self.model.differentiable:
            return "class"
        return SIDES[wrong_side(case.found[number], truth)[0]]

    def _explainer(self, target: str, verify: bool) -> Explainer:
        """``verify`` is for detections; a raw prediction below every threshold has too little score to search by."""
        if (target, verify) not in self._explainers:
            method = self.method
            if method == "auto" and not verify and self.model.differentiable:
                method = "layercam"
            self._explainers[target, verify] = Explainer(
                self.model, method, target=target, seed=self.seed, verify=verify, escalation=["effect"]
            )
        return self._explainers[target, verify]

    def _text(self, case: Case, number: int, made: dict[int, Explanation], original: int | None) -> str:
        """What an error's map answers."""
        detection, outcome, truth = case.found[number], case.told.detections[number], case.truth_of(number)
        if outcome.error == "Cls" and truth is not None:
            return f"{truth.class_name} taken for {detection.class_name}: the map shows what speaks for the latter"
        if outcome.error == "Loc" and truth is not None:
            side, off = wrong_side(detection, truth)
            way = "out" if off > 0 else "in"
            return f"{SIDES[side]} side {abs(off):.0f} px too far {way}: the map shows what holds it there"
        if outcome.error == "Dupe" and original is not None:
            shared = overlap_of(made[number].heatmap.array, made[original].heatmap.array)
            return f"second box on one {detection.class_name}: {shared:.0%} of its evidence is the other box's too"
        inside = _inside(made[number])
        where = "no evidence was found" if np.isnan(inside) else f"{inside:.0%} of the evidence lies inside the box"
        what = {"Bkg": "no labelled object here", "Both": f"badly placed, and no {detection.class_name}"}
        return f"{what.get(outcome.error, 'found its object')}: {where}"


def wrong_side(detection: Detection, truth: Truth) -> tuple[int, float]:
    """The side (left, top, right, bottom = 0 .. 3) that is furthest off for the object's size, and by how many
    original pixels: positive where the box reaches too far out.
    """
    off = (detection.xyxy - truth.xyxy) * np.array([-1, -1, 1, 1])
    width, height = np.maximum(truth.xyxy[2:] - truth.xyxy[:2], 1e-6)
    worst = int(np.abs(off / np.array([width, height, width, height])).argmax())
    return worst, float(off[worst])


def overlap_of(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """What two maps (H, W) have in common, each over its own mass: the sum of the smaller of the two, in [0, 1]."""
    masses = [float(one.sum(dtype=np.float64)) for one in (first, second)]
    if min(masses) <= 0:
        return 0.0
    return float(np.minimum(first / masses[0], second / masses[1]).sum(dtype=np.float64))


def _inside(explanation: Explanation) -> float:
    """The share of a map's mass in its box."""
    heat = explanation.heatmap.array
    return energy_inside(heat, box_mask(explanation.detection.xyxy, heat.shape))
