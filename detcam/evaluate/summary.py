"""From a row for each map to a table of methods, and what it says in sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detcam.metrics.faithfulness import interval
from detcam.metrics.unseen import UNSEEN

BASELINES = ("box", "edges", "random")
"""Methods that know nothing of the detector."""
REFERENCE = "box"
"""The baseline that the lead of every method is measured against, detection by detection."""
FEW_DETECTIONS = 30
"""With fewer detections, bootstrap intervals are too narrow to rely on."""
MAIN_FIGURE = "faithfulness_blur"
"""Insertion minus deletion under a blur: the figure that methods are ordered by."""
MEANS = (
    "deletion_blur", "insertion_blur", "outside_blur", "sufficient_blur", "pointing_box", "energy_box", "energy_mask",
    "discrimination", "compactness", "seconds", "forwards", "judge_forwards", "box_spearman", "box_pearson",
)  # fmt: skip
"""Figures of which a table has the mean alone."""
RIVALS = ("box", "layercam")
"""What leads under unseen fills are over: ``unseen_over_box``, ``unseen_inpaint_over_layercam``."""
UNSEEN_FIGURES = ("unseen", *(f"unseen_{fill}" for fill in UNSEEN))
"""The mean over the fills that no method uses, and each fill's own."""
LIKE_BOX_CORRELATION = 0.9
"""Above this rank correlation with the Gaussian in the box, a map says little more than where the box is."""


def summarise(table: pl.DataFrame) -> list[dict[str, Any]]:
    """One line for each method, best first: means of figures with bootstrap 95 % intervals, and their price.

    Args:
        table: the rows of an evaluation, one for each detection and method.

    Returns:
        Lines with ``method``, ``detections`` and a key for each figure; a figure with an interval has ``_low`` and
        ``_high`` beside it. ``lead`` is the mean difference to the Gaussian in the box on the same detections. What was
        not measured is NaN.
    """
    lines = []
    for name in table["method"].unique(maintain_order=True):
        rows = table.filter(pl.col("method") == name)
        line: dict[str, Any] = {"method": name, "detections": len(rows)}
        for figure in (MAIN_FIGURE, "faithfulness_mean", "faithfulness_anchor_blur"):
            line |= _with_interval(figure, interval(rows[figure].to_numpy()))
        line |= _with_interval("lead", lead(table, name, REFERENCE))
        for figure in MEANS:
            line[figure] = _mean(rows[figure]) if figure in rows.columns else float("nan")
        if "box_spearman" in rows.columns:
            known = rows["box_spearman"].drop_nans().drop_nulls()
            line["box_spearman_above"] = _mean(known > LIKE_BOX_CORRELATION)
        if "unseen" in rows.columns:
            line |= _judged(table, name)
        for stratum in ("small", "medium", "large"):
            line[f"{MAIN_FIGURE}_{stratum}"] = _mean(rows.filter(pl.col("size") == stratum)[MAIN_FIGURE])
        line["no_signal"] = int((rows["status"] == "no_signal").sum())
        lines.append(line)
    return sorted(lines, key=lambda line: -line[MAIN_FIGURE])


def _judged(table: pl.DataFrame, name: str) -> dict[str, Any]:
    """A method's figures under unseen fills, its leads there, and what randomising all weights leaves of its maps."""
    rows = table.filter(pl.col("method") == name)
    line: dict[str, Any] = {}
    for figure in UNSEEN_FIGURES:
        line |= _with_interval(figure, interval(rows[figure].to_numpy()))
        for rival in RIVALS:
            line |= _with_interval(f"{figure}_over_{rival}", lead(table, name, rival, figure))
    for fill in UNSEEN:
        for figure in (f"unseen_insertion_{fill}", f"unseen_deletion_{fill}"):
            line[figure] = _mean(rows[figure])
        line[f"unseen_sufficient_{fill}"] = float(np.exp(np.log(rows[f"unseen_sufficient_{fill}"].to_numpy()).mean()))
    if "randomised" in rows.columns:
        line |= _with_interval("randomised", interval(rows["randomised"].to_numpy()))
        line["vanished"] = int(rows["vanished"].drop_nans().sum())
    return line


def leads(
    table: pl.DataFrame, names: Sequence[str], rivals: Sequence[str] = RIVALS, figures: Sequence[str] = UNSEEN_FIGURES
) -> pl.DataFrame:
    """Paired leads of chosen methods: a row for each method, rival and figure, with ``lead``, its interval, ``pairs``.

    Args:
        table: the rows of an evaluation.
        names: methods; a method beside itself is left out, and a rival that was not measured.
        rivals: the methods they are compared with.
        figures: columns of the table.
    """
    measured = set(table["method"])
    return pl.DataFrame(
        [
            {"method": name, "over": rival, "figure": figure, **_with_interval("lead", interval(values)),
             "pairs": int(np.isfinite(values).sum())}
            for name in names for rival in rivals if rival != name and rival in measured for figure in figures
            for values in [_paired(table, name, rival, figure)]
        ]
    )  # fmt: skip


def lead(table: pl.DataFrame, name: str, other: str, figure: str = MAIN_FIGURE) -> tuple[float, float, float]:
    """The mean difference of a method to another on the same detections, and its bootstrap 95 % interval.

    Args:
        table: the rows of an evaluation.
        name: the method.
        other: the method it is compared with.
        figure: a column of the table.

    Returns:
        The mean, the lower and the upper end; NaN where the other was not measured.
    """
    return interval(_paired(table, name, other, figure))


def _paired(table: pl.DataFrame, name: str, other: str, figure: str) -> NDArray[np.float64]:
    """The differences of a figure on the detections that two methods share."""
    keys = ["image", "detection"]
    first, second = (table.filter(pl.col("method") == one).select(*keys, figure) for one in (name, other))
    paired = first.join(second, on=keys, suffix="_other")
    return np.asarray((paired[figure] - paired[f"{figure}_other"]).to_numpy(), np.float64)


def _with_interval(name: str, figure: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), figure, strict=True))


def is_baseline(name: str) -> bool:
    """Whether a contestant is a baseline, whatever its layers, as in ``random@neck``."""
    return re.split("[@:]", name)[0] in BASELINES


def standing(line: Mapping[str, Any]) -> str:
    """How a method compares with the Gaussian in the box, by the interval of its lead.

    Args:
        line: from :func:`summarise`.

    Returns:
        ``above``, ``level`` (the interval holds zero) or ``below``; ``baseline`` for the baselines themselves;
        ``unknown``
        where the Gaussian was not measured.
    """
    if is_baseline(line["method"]):
        return "baseline"
    if not np.isfinite(line["lead"]):
        return "unknown"
    return "above" if line["lead_low"] > 0 else "below" if line["lead_high"] < 0 else "level"


def verdict(table: pl.DataFrame, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the figures say, in sentences; the first is the verdict.

    Args:
        table: the rows of an evaluation.
        lines: from :func:`summarise`, best first.
    """
    methods = [line for line in lines if not is_baseline(line["method"])]
    baselines = [f"{line['method']} {line[MAIN_FIGURE]:+.2f}" for line in lines if is_baseline(line["method"])]
    if not methods:
        return ["Only baselines were measured."]
    best, count = methods[0], max(line["detections"] for line in lines)
    groups = {
        place: [line["method"] for line in methods if standing(line) == place] for place in ("above", "level", "below")
    }
    sentences = [_leading(best, groups["above"])]
    if len(methods) > 1:
        second = methods[1]["method"]
        mean, low, high = lead(table, best["method"], second)
        apart = "" if low > 0 else ": the two cannot be told apart"
        sentences.append(f"The next is {second}, {mean:.3f} [{low:+.2f}, {high:+.2f}] behind{apart}.")
    if standing(best) == "above" and len(groups["above"]) > 1:
        sentences.append(f"Also above the box: {_listed(groups['above'][1:])}.")
    if groups["level"]:
        sentences.append(f"Not told apart from the box: {_listed(groups['level'])}.")
    if groups["below"]:
        sentences.append(f"Below the box: {_listed(groups['below'])}.")
    if baselines:
        sentences.append(f"Baselines: {', '.join(baselines)}.")
    if count < FEW_DETECTIONS:
        sentences.append(f"Few detections were measured ({count}): intervals from so few are too narrow.")
    return sentences


def _leading(best: Mapping[str, Any], above: Sequence[str]) -> str:
    """Who leads, and whether that means anything; ``above`` names the methods that beat the box."""
    name, figure, place = best["method"], f"insertion minus deletion {format_figure(best, MAIN_FIGURE)}", standing(best)
    if place == "unknown":
        return (
            f"{name} is first with {figure}. Whether any method tells more than where the box is remains unknown: "
            f"the Gaussian in the box ({REFERENCE}) was not measured."
        )
    if place == "above":
        gain = f"{format_figure(best, 'lead')} above the Gaussian in the box"
        return f"{name} leads with {figure}: {gain}, and the interval excludes zero."
    which = f"No method but {_listed(above)}" if above else "None of the methods"
    meaning = "below zero" if place == "below" else "which may be nothing"
    return (
        f"{which} beats the Gaussian in the box. The highest mean is that of {name}, {figure}; its lead on the box is "
        f"{format_figure(best, 'lead')}, {meaning}."
    )


def format_figure(line: Mapping[str, Any], key: str) -> str:
    """A figure with its interval as text: ``+0.123 [-0.01, +0.25]``.

    Args:
        line: from :func:`summarise`.
        key: of a figure that has an interval.
    """
    return f"{line[key]:+.3f} [{line[f'{key}_low']:+.2f}, {line[f'{key}_high']:+.2f}]"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _mean(values: pl.Series) -> float:
    finite = values.cast(pl.Float64).drop_nans().drop_nulls()
    return float(np.mean(finite.to_numpy())) if len(finite) else float("nan")
