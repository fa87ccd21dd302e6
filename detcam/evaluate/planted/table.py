"""From a row for each map to a table of methods, and one sentence on which finds known causes best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detcam.evaluate.summary import is_baseline
from detcam.metrics.faithfulness import interval
from detcam.metrics.recovery import FIGURES

MAIN_FIGURE, TIE_FIGURE = "precision", "peak"
"""The figure that methods are ordered by, and what breaks ties."""
REFERENCES = ("cause", "elsewhere")
"""Maps no method made: the cause itself, and for a kite as large a part as its mark at the same height on the box's
other side."""

Row = dict[str, Any]


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One line for each kind and method, kind by kind, best first.

    Lines are ordered by :data:`MAIN_FIGURE`, then by :data:`TIE_FIGURE`.

    Args:
        rows: a row for each map, as :func:`detcam.evaluate.planted.measure.measure_causes` makes them.

    Returns:
        Lines with ``kind``, ``method``, ``detections``, for each of the :data:`~detcam.metrics.recovery.FIGURES` its
        mean, bootstrap 95 % interval and median (``peak``, ``peak_low``, ``peak_high``, ``peak_median``),
        ``evidence``: how many have any, ``holds``: the share of all whose evidence holds the cause, NaN for a method
        that gave none at all, ``no_signal``, ``forwards``, and where receipts were asked ``judged``, ``right`` and
        ``quick_right``: how many of them could be judged, and how many of those were right, full and quick ones.
    """
    with_evidence = {row["method"] for row in rows if row["evidence"]}
    lines = []
    for kind, name in dict.fromkeys((row["kind"], row["method"]) for row in rows):
        own = [row for row in rows if (row["kind"], row["method"]) == (kind, name)]
        line: Row = {"kind": kind, "method": name, "detections": len(own)}
        for figure in FIGURES:
            values = np.array([row[figure] for row in own])
            line[figure], line[f"{figure}_low"], line[f"{figure}_high"] = interval(values)
            known = values[np.isfinite(values)]
            line[f"{figure}_median"] = float(np.median(known)) if len(known) else float("nan")
        line["evidence"] = sum(row["evidence"] for row in own)
        line["holds"] = float(np.mean([row["holds"] for row in own])) if name in with_evidence else float("nan")
        line["forwards"] = float(np.mean([row["forwards"] for row in own]))
        line["no_signal"] = sum(row["status"] == "no_signal" for row in own)
        if any("right" in row for row in own):
            judged = [row["right"] for row in own if row.get("right") is not None]
            line["judged"], line["right"] = len(judged), sum(judged)
            line["quick_right"] = sum(bool(row.get("quick_right")) for row in own)
        lines.append(line)
    order = list(dict.fromkeys(line["kind"] for line in lines))
    return sorted(lines, key=lambda line: (order.index(line["kind"]), -line[MAIN_FIGURE], -line[TIE_FIGURE]))


def find_best(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The best method that is neither a baseline nor a reference, and one sentence on how far ahead it is.

    Args:
        rows: a row for each map; each method's are of the same detections in the same order. Those of a texture, most
            of which chance finds, count only where there are no others.
    """
    rows = [row for row in rows if row["kind"] != "texture"] or rows
    values = {
        name: np.array([row[MAIN_FIGURE] for row in rows if row["method"] == name])
        for name in dict.fromkeys(row["method"] for row in rows)
        if name not in REFERENCES
    }
    intervals = {name: interval(own) for name, own in values.items()}
    ranked = sorted(values, key=lambda name: -intervals[name][0])
    baselines = [name for name in ranked if is_baseline(name)]
    methods = [name for name in ranked if name not in baselines]
    (best, *others), rivals = (methods, baselines[:1]) if methods else (baselines, [])
    mean, low, high = intervals[best]
    verdict = (
        f"{best} finds causes best: of as many of its hottest pixels as the cause has, {mean:.0%} "
        f"[{low:.0%}, {high:.0%}] lie on it on average, and {np.nanmedian(values[best]):.0%} in the middle case"
    )
    for rival in (*others[:1], *rivals):
        lead, low, high = interval(values[best] - values[rival])
        note = "" if low > 0 else ", within noise" if high >= 0 else ", which finds them better"
        verdict += f"; lead over {rival} {lead:+.1%} [{low:+.1%}, {high:+.1%}]{note}"
    return best, verdict
