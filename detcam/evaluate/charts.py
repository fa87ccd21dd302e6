"""An evaluation's charts: every method's figures, its curves, its price, and where it is good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from detcam.alone import alone
from detcam.evaluate.summary import MAIN_FIGURE, REFERENCE, is_baseline, standing
from detcam.metrics.faithfulness import STEPS, interval

with alone():  # else matplotlib asks other programs for their fonts
    from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Line = Mapping[str, Any]

COLOURS = {"above": "#0072b2", "level": "#6b6b6b", "below": "#d55e00", "unknown": "#0072b2", "baseline": "#333333"}
"""By :func:`detcam.evaluate.summary.standing`; told apart by the colour-blind (Okabe & Ito)."""
BEST_COLOURS = ("#0072b2", "#d55e00", "#009e73")
"""Of the best methods' curves, best first."""
LEADER = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
"""The thin line from a name to what it names."""
STRATA = (("size", "small"), ("size", "medium"), ("size", "large"), ("sure", "sure"), ("sure", "unsure"))


def charts(table: pl.DataFrame, lines: Sequence[Line]) -> dict[str, Figure]:
    """Every chart by its file's name.

    Args:
        table: the rows of an evaluation.
        lines: from :func:`detcam.evaluate.summary.summarise`, best first.
    """
    return {
        "ranking": _ranking(lines),
        "curves": _curves(table, lines),
        "cost": _cost(lines),
        "strata": _strata(table, lines),
    }


def _ranking(lines: Sequence[Line]) -> Figure:
    """Insertion minus deletion of every method and, where there is the box, its lead on the box; with intervals."""
    keys = [(MAIN_FIGURE, "insertion - deletion")]
    if any(line["method"] == REFERENCE for line in lines):
        keys.append(("lead", "lead on the Gaussian in the box, same detections"))
    figure = Figure(figsize=(4.2 * len(keys) + 0.8, 0.25 * len(lines) + 0.9), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(keys), sharey=True, squeeze=False)[0], keys, strict=True):
        for place, line in enumerate(lines):
            if key == MAIN_FIGURE or line["method"] != REFERENCE:
                _dot(axes, line, place, (line[key], line[f"{key}_low"], line[f"{key}_high"]))
        axes.set_xlabel(label)
        for line in lines:
            if line["method"] == REFERENCE:
                axes.axvline(line[key], color="#333333", linewidth=1, linestyle=":")
    _name_rows(figure.axes[0], lines)
    return figure


def _strata(table: pl.DataFrame, lines: Sequence[Line]) -> Figure:
    """Insertion minus deletion of every method in each stratum of detections."""
    parts = [(name, table.filter(pl.col(column) == name)) for column, name in STRATA if column in table.columns]
    parts = [(name, rows) for name, rows in parts if len(rows)]
    figure = Figure(figsize=(1.75 * len(parts) + 1.6, 0.25 * len(lines) + 1.1), layout="constrained")
    grid = figure.subplots(1, len(parts), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, rows) in zip(grid, parts, strict=True):
        for place, line in enumerate(lines):
            values = rows.filter(pl.col("method") == line["method"])[MAIN_FIGURE].to_numpy()
            _dot(axes, line, place, interval(values))
        axes.set_title(f"{name}: {_detections(rows)}", fontsize=9)
        if len(box := rows.filter(pl.col("method") == REFERENCE)):
            axes.axvline(box[MAIN_FIGURE].mean(), color="#333333", linewidth=1, linestyle=":")
    figure.supxlabel("insertion - deletion", fontsize=9)
    _name_rows(figure.axes[0], lines)
    return figure


def _dot(axes: Axes, line: Line, place: int, figure: tuple[float, float, float]) -> None:
    axes.plot(
        figure[1:], [place, place], color=COLOURS[standing(line)], alpha=0.45, linewidth=3, solid_capstyle="round"
    )
    _mark(axes, line, figure[0], place, 5)


def _mark(axes: Axes, line: Line, x: float, y: float, size: float) -> None:
    colour, baseline = COLOURS[standing(line)], is_baseline(line["method"])
    face = "white" if baseline else colour
    axes.plot(x, y, "D" if baseline else "o", color=colour, markersize=size, markerfacecolor=face)


def _name_rows(axes: Axes, lines: Sequence[Line]) -> None:
    axes.set_yticks(range(len(lines)), [_plain(line["method"]) for line in lines], parse_math=False)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    for one in axes.figure.axes:
        _dress(one)
        one.tick_params(axis="y", length=0)
        one.grid(axis="y", alpha=0.15)


def _curves(table: pl.DataFrame, lines: Sequence[Line]) -> Figure:
    """Mean deletion and insertion curves: the best methods, the box and noise with 95 % bands, the others in grey."""
    best = [line["method"] for line in lines if not is_baseline(line["method"])][: len(BEST_COLOURS)]
    styles = dict(zip(best, ((colour, "-") for colour in BEST_COLOURS), strict=False))
    styles |= {REFERENCE: ("#333333", "--"), "random": ("#777777", ":")}
    figure = Figure(figsize=(9.2, 4.3), layout="constrained")
    steps = np.arange(STEPS + 1) / STEPS
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("deletion", "insertion"), strict=True):
        ends = {}
        for line in reversed(lines):
            name = line["method"]
            curves = np.array(table.filter(pl.col("method") == name)[f"curve_{kind}_blur"].to_list())
            if name not in styles:
                axes.plot(steps, curves.mean(0), color="#9a9a9a", linewidth=0.7, alpha=0.6)
                continue
            colour, dashes = styles[name]
            bands = np.array([interval(values) for values in curves.T])
            axes.plot(steps, bands[:, 0], color=colour, linestyle=dashes, linewidth=2)
            axes.fill_between(steps, bands[:, 1], bands[:, 2], color=colour, alpha=0.1, linewidth=0)
            ends[name] = float(bands[-1, 0])
        low, high = axes.get_ylim()
        for name, place in _apart(ends, 0.055 * (high - low), low).items():
            axes.annotate(
                _plain(name), (1, ends[name]), (1.04, place), color=styles[name][0], fontsize=9, va="center",
                annotation_clip=False, parse_math=False, arrowprops={**LEADER, "color": styles[name][0]},
            )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_xlabel("hottest pixels, in areas of the box")
        title = "deletion: they are blurred" if kind == "deletion" else "insertion: all else is blurred"
        axes.set_title(title, fontsize=10)
        _dress(axes)
    figure.axes[0].set_ylabel("share of the detection's score")
    return figure


def _apart(places: Mapping[str, float], gap: float, lowest: float) -> dict[str, float]:
    """Places moved so that they are a gap apart, in the same order, about where they were, none below the lowest."""
    moved: list[float] = []
    names = sorted(places, key=lambda name: places[name])
    for name in names:
        moved.append(max(places[name], moved[-1] + gap) if moved else places[name])
    shift = max(np.mean(list(places.values())) - np.mean(moved), lowest - moved[0]) if moved else 0.0
    return {name: float(place + shift) for name, place in zip(names, moved, strict=True)}


def _cost(lines: Sequence[Line]) -> Figure:
    """Insertion minus deletion against forward passes; a line joins the methods that no cheaper one equals."""
    figure = Figure(figsize=(8, max(4.0, 0.2 * len(lines) + 1)), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("symlog", linthresh=1, linscale=0.35)
    cheapest = sorted(lines, key=lambda line: (line["forwards"], -line[MAIN_FIGURE]))
    front = [
        line for n, line in enumerate(cheapest) if all(line[MAIN_FIGURE] > other[MAIN_FIGURE] for other in cheapest[:n])
    ]
    axes.step(
        [line["forwards"] for line in front], [line[MAIN_FIGURE] for line in front], where="post", color="#9a9a9a",
        alpha=0.25, linewidth=7, solid_joinstyle="round",
    )  # fmt: skip
    for line in lines:
        _mark(axes, line, line["forwards"], line[MAIN_FIGURE], 6)
    axes.set_xlim(-0.3, 3 * max(1.0, *(line["forwards"] for line in lines)))
    low, high = axes.get_ylim()
    gap = 0.17 * (high - low) / figure.get_figheight()
    columns: list[dict[str, Line]] = []
    right = -1.0
    for line in cheapest:  # methods of about one price, whose names would be written over each other
        if not columns or 1 + line["forwards"] > 1.45 * (1 + right):
            columns.append({})
        right = line["forwards"]
        columns[-1][line["method"]] = line
    for beside in columns:
        right = max(line["forwards"] for line in beside.values())
        for name, place in _apart({name: line[MAIN_FIGURE] for name, line in beside.items()}, gap, low).items():
            line = beside[name]
            colour = COLOURS[standing(line)]
            axes.annotate(
                _plain(name), (line["forwards"], line[MAIN_FIGURE]), (1.2 * right + 0.12, place), va="center",
                fontsize=8.5, fontweight="bold" if line in front else "normal", color=colour, parse_math=False,
                arrowprops={**LEADER, "color": colour},
            )  # fmt: skip
    ticks = [tick for tick in (0, 1, 10, 100, 1000, 10_000) if tick <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xlabel("forward passes for each detection")
    axes.set_ylabel("insertion - deletion")
    _dress(axes)
    return figure


def _dress(axes: Axes) -> None:
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _plain(name: str) -> str:
    return name.encode("ascii", "replace").decode()


def _detections(rows: pl.DataFrame) -> int:
    return rows.select("image", "detection").n_unique()
