"""From rows to a table of methods, and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detcam.evaluate.faithfulness import STEPS, interval

REFERENCE = "box"
"""The baseline that the lead of every method is measured against, detection by detection."""
MAIN = "faithfulness_blur"
MEANS = (
    "deletion_blur", "insertion_blur", "sufficient_blur", "pointing_box", "energy_box", "energy_mask", "discrimination",
    "compactness", "seconds", "forwards",
)  # fmt: skip


def summarise(table: pl.DataFrame) -> list[dict[str, Any]]:
    """One line for each method, best first: figures with bootstrap 95 % intervals, and their price.

    ``lead`` is the mean difference to the Gaussian in the box on the same detections.
    """
    lines = []
    keys = ["image", "detection"]
    reference = table.filter(pl.col("method") == REFERENCE).select(*keys, pl.col(MAIN).alias("reference"))
    for name in table["method"].unique(maintain_order=True):
        rows = table.filter(pl.col("method") == name)
        line: dict[str, Any] = {"method": name, "detections": len(rows)}
        for figure in (MAIN, "faithfulness_mean", "faithfulness_anchor_blur"):
            line[figure], line[f"{figure}_low"], line[f"{figure}_high"] = interval(rows[figure].to_numpy())
        paired = rows.join(reference, on=keys)
        lead = interval((paired[MAIN] - paired["reference"]).to_numpy()) if len(paired) else (np.nan,) * 3
        line["lead"], line["lead_low"], line["lead_high"] = lead
        for figure in MEANS:
            line[figure] = _mean(rows[figure]) if figure in rows.columns else float("nan")
        for stratum in ("small", "medium", "large"):
            line[f"{MAIN}_{stratum}"] = _mean(rows.filter(pl.col("size") == stratum)[MAIN])
        line["no_signal"] = int((rows["status"] == "no_signal").sum())
        lines.append(line)
    return sorted(lines, key=lambda line: -line[MAIN])


def write_summary(table: pl.DataFrame, lines: Sequence[dict[str, Any]], out: Path) -> None:
    """``evaluation.parquet``, ``summary.csv``, ``summary.json``, ``curves.png`` and ``ranking.png``."""
    table.write_parquet(out / "evaluation.parquet")
    summary = pl.DataFrame(list(lines))
    summary.write_csv(out / "summary.csv")
    summary.write_json(out / "summary.json")
    _curves(table, lines, out / "curves.png")
    _ranking(lines, out / "ranking.png")


def _mean(values: pl.Series) -> float:
    finite = values.cast(pl.Float64).drop_nans().drop_nulls()
    return float(np.mean(finite.to_numpy())) if len(finite) else float("nan")


def _curves(table: pl.DataFrame, lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Mean deletion and insertion curves with 95 % bands."""
    figure = Figure(figsize=(11, 4.6), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    colours = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]
    steps = np.arange(STEPS + 1) / STEPS
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("deletion", "insertion"), strict=True):
        for number, line in enumerate(lines):
            curves = np.array(table.filter(pl.col("method") == line["method"])[f"curve_{kind}_blur"].to_list())
            bands = np.array([interval(curves[:, step]) for step in range(STEPS + 1)])
            colour = colours[number % len(colours)]
            axes.plot(steps, bands[:, 0], color=colour, label=line["method"], linewidth=1.6)
            axes.fill_between(steps, bands[:, 1], bands[:, 2], color=colour, alpha=0.08)
        axes.set_xlabel("hottest pixels, in areas of the box")
        axes.set_title(f"{kind}: score with them {'blurred' if kind == 'deletion' else 'alone in the blurred image'}")
        axes.grid(alpha=0.25)
    figure.axes[0].set_ylabel("share of the detection's score")
    figure.axes[1].legend(fontsize=7, ncols=2, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, bbox_inches="tight")


def _ranking(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Insertion minus deletion of every method, with intervals, and what it costs."""
    figure = Figure(figsize=(7.5, 0.34 * len(lines) + 1.2), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, line in enumerate(reversed(lines)):
        low, high = line[f"{MAIN}_low"], line[f"{MAIN}_high"]
        axes.plot([low, high], [place, place], color="0.6", linewidth=3, solid_capstyle="round")
        axes.plot(line[MAIN], place, "o", color="black", markersize=5)
    axes.set_yticks(range(len(lines)), [f"{line['method']}  ({line['forwards']:.0f})" for line in reversed(lines)])
    axes.axvline(next((line[MAIN] for line in lines if line["method"] == REFERENCE), 0), color="0.3", linestyle=":")
    axes.set_xlabel("insertion - deletion, 95 % interval (dotted: the Gaussian in the box; brackets: forward passes)")
    axes.xaxis.label.set_fontsize(8)
    axes.grid(axis="x", alpha=0.25)
    figure.savefig(path, bbox_inches="tight")
