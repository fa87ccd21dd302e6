"""What pictures say: what a box rests on, how far its map can be trusted, and what its evidence is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detcam.drawing.heat import is_pixelwise, shows_heat
from detcam.methods import METHODS

if TYPE_CHECKING:
    from detcam.types import Evidence, Explanation

STATUSES = {
    "ok": "warm colours are where its map is strongest",
    "no_signal": "there is no map, because nothing in the image could be traced to this box",
    "no_evidence": "no part of the image was found that it needs more than any other",
    "unsupported": "do not trust this map, it failed its check",
}


def sentence_of(explanation: Explanation) -> str:
    """The explanation's sentence; where it has none, one of its class, confidence, evidence and status."""
    if explanation.sentence:
        return explanation.sentence
    return f"{explanation.detection.caption}: {_found(explanation)}."


def _found(explanation: Explanation) -> str:
    evidence = explanation.evidence
    if explanation.status != "ok" or evidence is None:
        reason = explanation.reason if explanation.status == "no_signal" else ""
        return STATUSES[explanation.status] + (f" ({reason})" if reason else "")
    what = "part outlined in blue" if len(evidence.patches) == 1 else "parts outlined in blue"
    what = "surroundings" if evidence.is_all_around else what
    if evidence.becomes is None:
        return f"without the {what} it is lost ({evidence.before:.2f} to {evidence.after:.2f})"
    return f"without the {what} it becomes {evidence.becomes} {evidence.confidence:.2f}"


def note_of(explanation: Explanation) -> str:
    """How the map was made and whether its check supports it."""
    target = "" if explanation.target == "class" else f", target {explanation.target}"
    smoothed = ", drawn smoothed" if is_pixelwise(explanation) and shows_heat(explanation) else ""
    took_over = f" ({explanation.reason})" if explanation.reason and explanation.status == "ok" else ""
    return f"{verdict(explanation)} \N{MIDDLE DOT} {explanation.method}{target}{smoothed}{took_over}"


def verdict(explanation: Explanation) -> str:
    """Whether there is a map and whether the receipt supports it."""
    if explanation.status == "no_signal":
        return "\N{BALLOT X} no map"
    if explanation.status == "no_evidence":
        return "\N{BALLOT X} no evidence found, no map drawn"
    if explanation.receipt is None and explanation.status == "ok":
        return "map not checked"
    if not shows_heat(explanation):
        return "\N{CHECK MARK} evidence tested; the map says no more and is not drawn"
    if explanation.receipt is not None and explanation.receipt.supported:
        return "\N{CHECK MARK} map supported by its check"
    return "\N{BALLOT X} map not supported by its check"


def method_of(explanation: Explanation) -> str:
    """A method's name and its one honest line."""
    known = METHODS.get(explanation.method)
    label = "not a registered method, so what its maps mean is not known" if known is None else known.label
    return f"{explanation.method}: {label}"


def evidence_words(evidence: Evidence) -> str:
    """What becomes of the box without its evidence, as drawn beside that."""
    what = "without this" if len(evidence.patches) == 1 else "without both"
    what = "without what surrounds it" if evidence.is_all_around else what
    return f"{what}: {'lost' if evidence.becomes is None else f'{evidence.becomes} {evidence.confidence:.2f}'}"
