"""``detcam evaluate``: which method tells the truth about these weights, on these photographs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from detcam.adapters.base import DetectorAdapter
from detcam.data import LabelledImage
from detcam.errors import InputError, UsageError
from detcam.evaluate.results import Results
from detcam.evaluate.run import Contest
from detcam.evaluate.summary import MAIN, RIVALS, UNSEEN_FIGURES, summarise, write_summary
from detcam.io.images import read_image

Advance = Callable[[int], None]

SANITY_IMAGES = 4
PAIRS = 4
"""Detections of an image whose maps are compared."""


def evaluate(
    model: DetectorAdapter,
    images: Sequence[LabelledImage],
    methods: list[str],
    results: Results,
    *,
    conf: float,
    limit: int,
    per_image: int,
    seed: int,
    unseen: bool,
    advance: Advance,
) -> list[tuple[Path, str]]:
    """Measure methods on up to ``limit`` detections, images in an order the seed decides; rows go to ``results``.

    Returns:
        The images that failed, with reasons.
    """
    contest = Contest(model, methods, conf, per_image, seed, unseen)
    order = np.random.default_rng(seed).permutation(len(images))
    measured, failed = 0, []
    for number in order:
        if measured >= limit:
            break
        labelled = images[number]
        path = labelled.path
        if not results.has(path):
            try:
                rows = list(contest.rows(labelled, read_image(path), limit - measured))
            except (InputError, RuntimeError, MemoryError) as error:
                failed.append((path, " ".join(str(error).split())))
                continue
            results.add(path, rows)
        measured += results.count(path)
        advance(measured)
    return failed


def check_sanity(
    model: DetectorAdapter, images: Sequence[LabelledImage], methods: list[str], out: Path, *, conf: float, seed: int
) -> list[dict[str, Any]]:
    """Sanity figures of every method, means over the first few images that have detections; ``sanity.csv``."""
    contest = Contest(model, methods, conf, PAIRS, seed)
    rows: list[dict[str, Any]] = []
    for number in np.random.default_rng(seed).permutation(len(images)):
        if len({row["image"] for row in rows}) == SANITY_IMAGES:
            break
        with contextlib.suppress(InputError):  # told already
            rows += contest.sanity(images[number].path, read_image(images[number].path))
    if not rows:
        return []
    numbers = [name for name in rows[0] if name not in ("image", "method")]
    table = pl.DataFrame(rows).with_columns(pl.col(numbers).fill_nan(None))
    means = table.group_by("method", maintain_order=True).agg(pl.col(numbers).mean())
    means.write_csv(out / "sanity.csv")
    return means.to_dicts()


def show_sanity(lines: Sequence[dict[str, Any]], stdout: TextIO) -> None:
    """Print the sanity figures."""
    if not lines:
        return
    shown = Table(
        *(name.replace("_", " ") for name in lines[0]),
        title="rank correlations: lower is better; sensitivity: how far a map moves under noise",
    )
    for line in lines:
        shown.add_row(*("-" if v is None else v if isinstance(v, str) else f"{v:.2f}" for v in line.values()))
    Console(file=stdout).print(shown)


def report(results: Results, stdout: TextIO, as_json: bool) -> None:
    """Write the summary and print it.

    Raises:
        UsageError: nothing was measured.
    """
    table = results.table()
    if not len(table):
        raise UsageError("no detection was measured: lower --conf, or name other images with --data")
    lines = summarise(table)
    write_summary(table, lines, results.path)
    if as_json:
        for line in lines:
            stdout.write(json.dumps(line) + "\n")
        return
    shown = Table("method", "ins - del (95 %)", "lead on the box", "mean fill", "in box", "forwards", "seconds")
    for line in lines:
        shown.add_row(
            line["method"], _with_interval(line, MAIN), _with_interval(line, "lead"),
            f"{line['faithfulness_mean']:+.3f}", f"{line['energy_box']:.0%}", f"{line['forwards']:.1f}",
            f"{line['seconds']:.2f}",
        )  # fmt: skip
    console = Console(file=stdout)
    console.print(shown)
    if "unseen" in lines[0]:
        for rival in RIVALS:
            if any(np.isfinite(line[f"unseen_over_{rival}"]) for line in lines):
                console.print(_leads_over(rival, lines))
        console.print(_suspicions(lines))
    console.print(
        f"{lines[0]['detections']} detections, {lines[0]['judge_forwards']:.0f} forward passes to judge a map; figures "
        f"and curves in {results.path}",
        highlight=False,
    )


def _leads_over(rival: str, lines: Sequence[dict[str, Any]]) -> Table:
    """Insertion minus deletion under each unseen fill: leads over one method on the same detections."""
    shown = Table(
        "method",
        *("all fills" if figure == "unseen" else figure.removeprefix("unseen_") for figure in UNSEEN_FIGURES),
        title=f"unseen fills, steps in the image's area: leads over {rival} (95 %)",
    )
    for line in lines:
        if line["method"] != rival:
            shown.add_row(
                line["method"], *(_with_interval(line, f"{figure}_over_{rival}") for figure in UNSEEN_FIGURES)
            )
    return shown


def _suspicions(lines: Sequence[dict[str, Any]]) -> Table:
    """What maps should not be: the box again, and the same whatever the weights are."""
    shown = Table("method", "like the box", "above 0.9", "with weights shuffled", "vanished", title="rank correlations")
    for line in lines:
        left = _with_interval(line, "randomised") if "randomised" in line else "-"
        shown.add_row(
            line["method"], f"{line['box_spearman']:+.2f}", f"{line['box_spearman_above']:.0%}", left,
            f"{line.get('vanished', '-')}",
        )  # fmt: skip
    return shown


def _with_interval(line: dict[str, Any], key: str) -> str:
    return f"{line[key]:+.3f} [{line[f'{key}_low']:+.2f}, {line[f'{key}_high']:+.2f}]"
