"""What a box rests on, in one plain sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detcam.types import Detection, Evidence, Explanation, Receipt

LITTLE_CONTEXT, MUCH_CONTEXT = 0.1, 0.4
"""Surroundings matter little below the first of these shares of the score, and much from the second on."""
BARELY_SHARE = 0.25
"""A patch is inside the box with at most this share outside it, and outside with at most this share inside."""
SCATTERED_BOX_SIDES = 0.25
"""What is hot is in several places where it spreads this far on average (standard deviation), in sides of the box."""
HOT_PEAK_SHARE = 0.25
"""Heat counts as high from this share of the peak on."""


def sentence_of(explanation: Explanation) -> str:
    """What a box rests on in one sentence, from its evidence, its receipt and its status.

    Args:
        explanation: with these set; its ``sentence`` is not read.
    """
    what = explanation.detection.caption
    if explanation.status == "no_signal":
        return f"{what}: this method sees no signal here."
    receipt, evidence = explanation.receipt, explanation.evidence
    if evidence is not None:
        more = "" if evidence.is_all_around else _surroundings(receipt)
        return f"{what}: {_hangs_on(explanation.detection, evidence)}.{more}"
    if explanation.status == "no_evidence":
        return f"{what}: no part found that matters more than any other.{_surroundings(receipt)}"
    if receipt is None:
        return f"{what}: a map by {explanation.method}, not checked against the detector."
    if not receipt.supported:
        return f"{what}: the map is not borne out; removing its hottest part costs no more than removing others does."
    share, place = _resting(explanation)
    removed, random = (float(np.mean(list(scores.values()))) for scores in (receipt.removed, receipt.removed_random))
    rests = "rests on" if removed < receipt.score / 2 else "rests in part on"
    return (
        f"{what}: {rests} {share} of the box's area, {place}; without it {removed:.2f} "
        f"(without a random {share}: {random:.2f}).{_surroundings(receipt)}"
    )


def _hangs_on(detection: Detection, evidence: Evidence) -> str:
    """What the box becomes without its evidence."""
    if evidence.is_all_around:
        which = "its surroundings, up to the outline," if _is_near(detection, evidence) else "all its surroundings"
        return f"without {which} {_lost_or(evidence)}"
    sizes = [f"{x2 - x1} x {y2 - y1} px" for x1, y1, x2, y2 in evidence.patches.tolist()]
    side = "outside the box" if evidence.outside >= 1 - BARELY_SHARE else "across the box's edge"
    within = evidence.outside <= BARELY_SHARE
    if len(sizes) > 1:
        name = "both outlined patches in the box" if within else f"both outlined patches, {side},"
    elif within:
        x1, y1, x2, y2 = detection.xyxy
        middle = (evidence.xyxy[:2] + evidence.xyxy[2:]) / 2
        part = part_of((middle[1] - y1) / max(y2 - y1, 1), (middle[0] - x1) / max(x2 - x1, 1))
        name = f"the outlined {sizes[0]} patch in the box's {part}"
    else:
        name = f"the outlined {sizes[0]} patch {place_of(detection.xyxy, evidence.xyxy)}, {side},"
    return f"without {name} {_lost_or(evidence)}"


def _is_near(detection: Detection, evidence: Evidence) -> bool:
    """Whether what surrounds a box was taken away only near it."""
    x1, y1, x2, y2 = detection.xyxy
    wide = evidence.patches[:, 2].max() - evidence.patches[:, 0].min()
    tall = evidence.patches[:, 3].max() - evidence.patches[:, 1].min()
    return bool(max(wide - (x2 - x1), tall - (y2 - y1)) <= 1.5 * max(x2 - x1, y2 - y1))


def _lost_or(evidence: Evidence) -> str:
    """What the box then is."""
    if evidence.becomes is None:
        return f"it is lost ({evidence.after:.2f})"
    article = "an" if evidence.becomes[:1].lower() in "aeiou" else "a"
    return f"it is {article} {evidence.becomes} {evidence.confidence:.2f}"


def place_of(box: NDArray[np.floating], patch: NDArray[np.number]) -> str:
    """Where a patch lies, seen from the centre of a box: "above right", "in the middle", "far left", ...

    Args:
        box: (4,) xyxy, pixels.
        patch: (4,) xyxy in the same frame.

    >>> place_of(np.array([0.0, 0, 10, 10]), np.array([0, 0, 2, 2]))
    'above left'
    """
    sides = np.maximum([box[2] - box[0], box[3] - box[1]], 1)
    centre = np.array([patch[0] + patch[2], patch[1] + patch[3]]) / 2 - np.array([box[0] + box[2], box[1] + box[3]]) / 2
    across, down = centre / sides
    words = [
        "above" if down < -1 / 6 else "below" if down > 1 / 6 else "",
        "left" if across < -1 / 6 else "right" if across > 1 / 6 else "",
    ]
    if abs(across) > 2 or abs(down) > 2:
        words.insert(0, "far")
    return " ".join(word for word in words if word) or "in the middle"


def _surroundings(receipt: Receipt | None) -> str:
    """How much all outside the box matters."""
    if receipt is None:
        return ""
    share = receipt.context_dependence
    if share <= -LITTLE_CONTEXT:
        alone = float(np.mean(list(receipt.box_only.values())))
        return f" Its surroundings hold it down: alone it scores {alone:.2f}."
    share = max(share, 0.0)
    how = "little" if share < LITTLE_CONTEXT else "much" if share >= MUCH_CONTEXT else "somewhat"
    return f" Surroundings matter {how} ({share:.0%})."


def _resting(explanation: Explanation) -> tuple[str, str]:
    """How much of the box is hot, and where in it."""
    heat, box = explanation.heatmap.array, explanation.detection.xyxy
    height, width = heat.shape
    x1, y1, x2, y2 = _clipped(box, width, height)
    own = heat[y1:y2, x1:x2]
    receipt = explanation.receipt
    area = max((x2 - x1) * (y2 - y1), 1)
    count = max(round(receipt.hot_share * heat.size), 1) if receipt is not None else 1
    share = f"{min(count / area, 9.99):.0%}"
    inside = float(own.sum()) / max(float(heat.sum()), 1e-12)
    if inside < 0.5:
        rows, columns = np.nonzero(heat >= HOT_PEAK_SHARE * heat.max())
        return (
            share,
            f"most of it outside, {place_of(box, np.array([columns.min(), rows.min(), columns.max(), rows.max()]))}",
        )
    hot = own >= np.quantile(own, 0.9)
    rows, columns = np.nonzero(hot & (own > 0))
    if not len(rows):
        return share, "all over it"
    if max(rows.std() / max(y2 - y1, 1), columns.std() / max(x2 - x1, 1)) >= SCATTERED_BOX_SIDES:
        return share, "in several places"
    down, across = (rows.mean() + 0.5) / max(y2 - y1, 1), (columns.mean() + 0.5) / max(x2 - x1, 1)
    return share, f"mostly its {part_of(down, across)}"


def part_of(down: float, across: float) -> str:
    """The part of a box that a place is in: "upper left", "lower part", "middle", ...

    Args:
        down: from 0 at the box's upper edge to 1 at its lower one.
        across: from 0 at its left edge to 1 at its right one.

    >>> part_of(0.1, 0.5)
    'upper part'
    """
    vertical = "upper" if down < 0.4 else "lower" if down > 0.6 else ""
    horizontal = "left" if across < 0.4 else "right" if across > 0.6 else ""
    if vertical and horizontal:
        return f"{vertical} {horizontal}"
    return f"{vertical or horizontal} part" if vertical or horizontal else "middle"


def _clipped(box: Sequence[float] | NDArray[np.floating], width: int, height: int) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (float(side) for side in box)
    left, top = min(max(int(x1), 0), width - 1), min(max(int(y1), 0), height - 1)
    return left, top, min(max(int(np.ceil(x2)), left + 1), width), min(max(int(np.ceil(y2)), top + 1), height)
