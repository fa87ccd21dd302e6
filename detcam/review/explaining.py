"""Explanations of errors: what the map is asked depends on the error's type, and the answer is one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detcam.adapters.base import DetectorAdapter
from detcam.data import Truth
from detcam.explainer import Explainer
from detcam.methods.windows import Scan, scan
from detcam.metrics.localization import box_mask, energy_inside
from detcam.options import name_class
from detcam.probing.probe import Probe
from detcam.review.errors import ImageErrors
from detcam.review.misses import MissTrace
from detcam.session import ImageSession
from detcam.targets import Contrast
from detcam.types import Detection, Explanation, Heatmap

SIDES = ("left", "top", "right", "bottom")
NO_ERROR = ("TP", "ignored")


@dataclass(frozen=True, eq=False)
class ErrorExplanation:
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
class ReviewedImage:
    """One image with its detections, its truths, and what became of either.

    Attributes:
        session: the image, which is asked about its detections.
        detections, truths: boxes xyxy in original pixels.
        outcomes: of each detection and each truth.
    """

    session: ImageSession
    detections: Sequence[Detection]
    truths: Sequence[Truth]
    outcomes: ImageErrors

    def truth_of(self, number: int) -> Truth | None:
        """The truth that a detection claimed or is confused with."""
        truth = self.outcomes.detections[number].truth
        return None if truth is None else self.truths[truth]

    def rival_of(self, number: int) -> Truth | None:
        """The truth whose class an error of class was mistaken about; None for other outcomes."""
        return self.truth_of(number) if self.outcomes.detections[number].error == "Cls" else None


@dataclass
class ErrorExplainer:
    """Explains the errors of images, one image at a time.

    An error of class gets the map of ``windows``: what each costs its class's lead over the true one is measured.
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

    def check(self) -> None:
        """Whether the method can be had.

        Raises:
            UsageError: no such method, or none for this model.
        """
        Explainer(self.model, self.method, verify=True, escalation=["effect"], seed=self.seed)

    def errors(self, image: ReviewedImage) -> tuple[dict[int, ErrorExplanation], dict[int, Scan]]:
        """Explain an image's false positives, and the boxes that duplicates repeat.

        Args:
            image: with its detections, truths and outcomes.

        Returns:
            The explanations, and the windows slid over errors of class; both by the detection's index.
        """
        outcomes = image.outcomes.detections
        explanations: dict[int, Explanation] = {}
        scans: dict[int, Scan] = {}
        for n in range(len(outcomes)):
            if (rival := image.rival_of(n)) is not None:
                explanations[n], scans[n] = self._scanned(image, n, rival)
        targets = {
            n: self._target(image, n)
            for n, outcome in enumerate(outcomes)
            if outcome.error not in NO_ERROR and n not in scans
        }
        originals = {
            n: image.outcomes.truths[outcome.truth].found_by
            for n, outcome in enumerate(outcomes)
            if outcome.error == "Dupe" and outcome.truth is not None
        }
        targets |= {n: "class" for n in originals.values() if n is not None and n not in targets}
        for target in sorted(set(targets.values())):
            numbers = [n for n, other in targets.items() if other == target]
            several = self._explain(image.session, [image.detections[n] for n in numbers], target)
            explanations |= dict(zip(numbers, several, strict=True))
        answers = {
            n: ErrorExplanation(one, self._text(image, n, explanations, originals.get(n)), _share_inside(one))
            for n, one in explanations.items()
        }
        return answers, scans

    def miss(self, session: ImageSession, trace: MissTrace) -> ErrorExplanation:
        """Explain a missed object: what spoke against it, for another class, or for the box that was suppressed.

        Args:
            session: the image.
            trace: what became of the raw prediction that came closest.
        """
        for_it = trace.where in ("suppressed", "other_class") or not self.model.differentiable
        (explanation,) = self._explain(session, [trace.detection], "class" if for_it else "against", verify=False)
        shown = f"the map shows what spoke {'for' if for_it else 'against'} {trace.detection.class_name}"
        return ErrorExplanation(explanation, f"{trace.text}; {shown}", _share_inside(explanation))

    def _scanned(self, image: ReviewedImage, number: int, rival: Truth) -> tuple[Explanation, Scan]:
        """The map of an error of class by method ``windows``, and the windows: its evidence is sought in them too."""
        detection, session = image.detections[number], image.session
        probe = Probe(session.prepared, [(detection, Contrast(rival.class_id))])
        scanned = scan(replace(probe.frame(0), model=session.model))  # as its evidence, by the detector as it is
        raw = np.maximum(scanned.map(session.letterbox.network), 0)
        target = f"contrast:{name_class(rival.class_id, session.model.names)}"
        explanation = Explanation(
            detection, Heatmap(raw, session.letterbox), "windows", target, ("input",), "ok", "",
            session.image, forwards=probe.forwards,
        )  # fmt: skip
        if not raw.any():
            reason = f"no window around {detection.class_name!r} speaks for it against {rival.class_name!r}"
            return replace(explanation, status="no_signal", reason=reason), scanned
        receipt = session.receipt(explanation)
        return replace(explanation, status="ok" if receipt.supported else "unsupported", receipt=receipt), scanned

    def _target(self, image: ReviewedImage, number: int) -> str:
        """What an error's map is asked about."""
        truth = image.truth_of(number)
        error = image.outcomes.detections[number].error
        if truth is None or error != "Loc" or not self.model.differentiable:
            return "class"
        return SIDES[wrong_side(image.detections[number], truth)[0]]

    def _explain(
        self, session: ImageSession, detections: Sequence[Detection], target: str, verify: bool = True
    ) -> list[Explanation]:
        """``verify`` is for detections; a raw prediction below every threshold has too little score to search by."""
        gradient = self.method == "auto" and not verify and session.model.differentiable
        method = "layercam" if gradient else self.method
        return session.explain(detections, method, target=target, verify=verify, escalation=["effect"])

    def _text(
        self, image: ReviewedImage, number: int, explanations: dict[int, Explanation], original: int | None
    ) -> str:
        """What an error's map answers."""
        detection, outcome = image.detections[number], image.outcomes.detections[number]
        truth = image.truth_of(number)
        if outcome.error == "Cls" and truth is not None:
            return f"{truth.class_name} taken for {detection.class_name}: the map shows what speaks for the latter"
        if outcome.error == "Loc" and truth is not None:
            side, off = wrong_side(detection, truth)
            way = "out" if off > 0 else "in"
            by = image.outcomes.matched_by
            shape = f"by its {by} it overlaps the object by {outcome.iou:.2f}; of its upright box the "
            start = "" if by == "box" else shape
            return f"{start}{SIDES[side]} side {abs(off):.0f} px too far {way}: the map shows what holds it there"
        if outcome.error == "Dupe" and original is not None:
            shared = shared_mass(explanations[number].heatmap.array, explanations[original].heatmap.array)
            return f"second box on one {detection.class_name}: {shared:.0%} of its evidence is the other box's too"
        inside = _share_inside(explanations[number])
        where = "no evidence was found" if np.isnan(inside) else f"{inside:.0%} of the evidence lies inside the box"
        what = {"Bkg": "no labelled object here", "Both": f"badly placed, and no {detection.class_name}"}
        return f"{what.get(outcome.error, 'found its object')}: {where}"


def wrong_side(detection: Detection, truth: Truth) -> tuple[int, float]:
    """The side that is furthest off for the object's size, and by how much.

    Args:
        detection: whose box is badly placed.
        truth: the object.

    Returns:
        The side (left, top, right, bottom = 0 .. 3), and original pixels: positive where the box reaches too far out.
    """
    off = (detection.xyxy - truth.xyxy) * np.array([-1, -1, 1, 1])
    width, height = np.maximum(truth.xyxy[2:] - truth.xyxy[:2], 1e-6)
    worst = int(np.abs(off / np.array([width, height, width, height])).argmax())
    return worst, float(off[worst])


def shared_mass(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """What two maps have in common, each scaled to a mass of 1: the sum of the smaller of the two, in [0, 1].

    Args:
        first: (H, W), nowhere negative.
        second: (H, W), nowhere negative.
    """
    masses = [float(one.sum(dtype=np.float64)) for one in (first, second)]
    if min(masses) <= 0:
        return 0.0
    return float(np.minimum(first / masses[0], second / masses[1]).sum(dtype=np.float64))


def _share_inside(explanation: Explanation) -> float:
    """The share of a map's mass in its box."""
    heat = explanation.heatmap.array
    return energy_inside(heat, box_mask(explanation.detection.xyxy, heat.shape))
