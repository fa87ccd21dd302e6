"""An evaluation's pictures: charts of its figures, and the detections whose maps differ most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from detcam.drawing.render import BOX_COLOUR, blend, heat_of, zoom_window
from detcam.errors import InputError
from detcam.evaluate.sanity import rank_correlation
from detcam.evaluate.summary import MAIN, REFERENCE, is_baseline, standing
from detcam.io.images import read_image
from detcam.metrics.faithfulness import STEPS, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from detcam.types import Explanation

    Line = Mapping[str, Any]

SIDE = 48
"""Cells along either side of a kept map."""
COMPARED = 4
"""The best methods, whose maps say how much a detection is disputed."""
SHOWN = 4
"""Disputed detections shown, each of another image."""
MOST_MAPS = 13
"""Maps shown of each; those of the best methods."""
TILE = 200
"""Pixels along the longer side of a picture of a map."""

COLOURS = {"above": "#0072b2", "level": "#6b6b6b", "below": "#d55e00", "unknown": "#0072b2", "baseline": "#333333"}
"""By :func:`detcam.evaluate.summary.standing`; told apart by the colour-blind (Okabe & Ito)."""
BEST = ("#0072b2", "#d55e00", "#009e73")
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
    keys = [(MAIN, "insertion - deletion")]
    if any(line["method"] == REFERENCE for line in lines):
        keys.append(("lead", "lead on the Gaussian in the box, same detections"))
    figure = Figure(figsize=(4.2 * len(keys) + 0.8, 0.25 * len(lines) + 0.9), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(keys), sharey=True, squeeze=False)[0], keys, strict=True):
        for place, line in enumerate(lines):
            if key == MAIN or line["method"] != REFERENCE:
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
            values = rows.filter(pl.col("method") == line["method"])[MAIN].to_numpy()
            _dot(axes, line, place, interval(values))
        axes.set_title(f"{name}: {_detections(rows)}", fontsize=9)
        if len(box := rows.filter(pl.col("method") == REFERENCE)):
            axes.axvline(box[MAIN].mean(), color="#333333", linewidth=1, linestyle=":")
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
    best = [line["method"] for line in lines if not is_baseline(line["method"])][: len(BEST)]
    styles = dict(zip(best, ((colour, "-") for colour in BEST), strict=False))
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
    """Insertion minus deletion against forward passes; a line joins what nothing cheaper is as good as."""
    figure = Figure(figsize=(8, max(4.0, 0.2 * len(lines) + 1)), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("symlog", linthresh=1, linscale=0.35)
    cheapest = sorted(lines, key=lambda line: (line["forwards"], -line[MAIN]))
    front = [line for n, line in enumerate(cheapest) if all(line[MAIN] > other[MAIN] for other in cheapest[:n])]
    axes.step(
        [line["forwards"] for line in front], [line[MAIN] for line in front], where="post", color="#9a9a9a",
        alpha=0.25, linewidth=7, solid_joinstyle="round",
    )  # fmt: skip
    for line in lines:
        _mark(axes, line, line["forwards"], line[MAIN], 6)
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
        for name, place in _apart({name: line[MAIN] for name, line in beside.items()}, gap, low).items():
            line = beside[name]
            colour = COLOURS[standing(line)]
            axes.annotate(
                _plain(name), (line["forwards"], line[MAIN]), (1.2 * right + 0.12, place), va="center", fontsize=8.5,
                fontweight="bold" if line in front else "normal", color=colour, parse_math=False,
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


@dataclass(frozen=True)
class Example:
    """A detection whose maps differ: what it is, how alike they are, and pictures (JPEG).

    Attributes:
        agreement: mean rank correlation between the best methods' maps, in [-1, 1].
        maps: for each method, best first, its insertion minus deletion of this detection and its picture.
    """

    image: str
    class_name: str
    confidence: float
    agreement: float
    photograph: bytes
    maps: tuple[tuple[str, float, bytes], ...]


def kept(explanation: Explanation) -> dict[str, Any]:
    """What a row keeps of a map, to draw it later.

    Returns:
        ``box``: xyxy, and ``window``: the part of the image around it, both original pixels; ``map``: what of the map
        lies in the window, SIDE x SIDE bytes, rows from the top, 255 at the whole map's peak.
    """
    x1, y1, x2, y2 = window = zoom_window(explanation)
    small = cv2.resize(heat_of(explanation)[y1:y2, x1:x2], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return {
        "box": explanation.detection.xyxy.tolist(),
        "window": list(window),
        "map": np.rint(small * 255).astype(np.uint8).tobytes(),
    }


def examples(table: pl.DataFrame, lines: Sequence[Line]) -> Iterator[Example]:
    """The detections that the best methods' maps agree on least, each of another image.

    Rows without maps give none, and an image that cannot be read any more is passed over.
    """
    if "map" not in table.columns:
        return
    names = [line["method"] for line in lines]
    methods = [name for name in names if not is_baseline(name)]
    compared = methods[:COMPARED] if len(methods) > 1 else names[:COMPARED]
    disputed = []
    for _, rows in table.filter(pl.col("map").is_not_null()).group_by("image", "detection", maintain_order=True):
        by_method = {row["method"]: row for row in rows.to_dicts()}
        maps = [_map(by_method[name]) for name in compared if name in by_method]
        alike = [rank_correlation(one, other) for one, other in combinations(maps, 2)]
        alike = [value for value in alike if math.isfinite(value)]
        if alike:
            disputed.append((float(np.mean(alike)), [by_method[name] for name in names if name in by_method]))
    seen: set[str] = set()
    for agreement, found in sorted(disputed, key=lambda pair: pair[0]):
        first = found[0]
        if len(seen) == SHOWN or first["image"] in seen:
            continue
        try:
            image = read_image(first["image"])
        except InputError:
            continue
        seen.add(first["image"])
        drawn = tuple((row["method"], row[MAIN], _tile(image, row, _map(row))) for row in found[:MOST_MAPS])
        photograph = _tile(image, first)
        yield Example(first["image"], first["class_name"], first["confidence"], agreement, photograph, drawn)


def _map(row: Mapping[str, Any]) -> NDArray[np.float32]:
    cells = np.frombuffer(row["map"], np.uint8).reshape(SIDE, SIDE)
    return np.asarray(cells / 255, np.float32)


def _tile(image: NDArray[np.uint8], row: Mapping[str, Any], heat: NDArray[np.float32] | None = None) -> bytes:
    """The window of an image with its box, under its map where one is given: a JPEG."""
    x1, y1, x2, y2 = row["window"]
    scale = TILE / max(x2 - x1, y2 - y1)
    size = max(round((x2 - x1) * scale), 1), max(round((y2 - y1) * scale), 1)
    sampling = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(image[y1:y2, x1:x2], size, interpolation=sampling).astype(np.uint8, copy=False)
    if heat is not None:
        picture = blend(picture, cv2.resize(heat, size, interpolation=cv2.INTER_LINEAR))
    left, top, right, bottom = (round(v) for v in (np.array(row["box"]) - [x1, y1, x1, y1]) * scale)
    picture = np.ascontiguousarray(picture)
    cv2.rectangle(picture, (left, top), (right, bottom), (0, 0, 0), 4)
    cv2.rectangle(picture, (left, top), (right, bottom), BOX_COLOUR, 2)
    return cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()
