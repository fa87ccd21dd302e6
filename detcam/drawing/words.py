"""The words of pictures: what a box rests on, whether its map passed its check, how it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detcam.attribution.sentence import sentence_of
from detcam.drawing.heat import is_pixelwise, shows_heat
from detcam.methods import METHODS

if TYPE_CHECKING:
    from detcam.types import Evidence, Explanation


def shown_sentence(explanation: Explanation) -> str:
    """The sentence below a picture: the explanation's own; one that was made without a sentence gets it here."""
    return explanation.sentence or sentence_of(explanation)


def note_of(explanation: Explanation) -> str:
    """The line below the sentence: the check's result, the method, the target where it is not the class."""
    target = "" if explanation.target == "class" else f", target {explanation.target}"
    smoothed = ", drawn smoothed" if is_pixelwise(explanation) and shows_heat(explanation) else ""
    replaced = f" ({explanation.reason})" if explanation.reason and explanation.status == "ok" else ""
    return f"{verdict(explanation)} \N{MIDDLE DOT} {explanation.method}{target}{smoothed}{replaced}"


def verdict(explanation: Explanation) -> str:
    """A few words, with a tick or a cross: whether there is a map, and whether its receipt supports it."""
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
    """The method's name, and in one line what its maps can and cannot say."""
    known = METHODS.get(explanation.method)
    label = "not a registered method, so what its maps mean is not known" if known is None else known.label
    return f"{explanation.method}: {label}"


def evidence_words(evidence: Evidence) -> str:
    """The label beside an evidence patch: what the box becomes without it, such as ``without this: gem 0.98``.

    Args:
        evidence: of one detection.
    """
    what = "without this" if len(evidence.patches) == 1 else "without both"
    what = "without what surrounds it" if evidence.is_all_around else what
    return f"{what}: {'lost' if evidence.becomes is None else f'{evidence.becomes} {evidence.confidence:.2f}'}"
