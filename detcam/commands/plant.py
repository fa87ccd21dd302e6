"""``detcam plant``: which method finds a cause that is planted; and the table of ``detcam evaluate --planted``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TextIO

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from detcam.commands.model import load_model
from detcam.commands.progress import complain, progress_bar
from detcam.config import PlantConfig
from detcam.data import read_data
from detcam.evaluate import plant as grow
from detcam.io.files import on_this_machine
from detcam.metrics.recovery import FIGURES
from detcam.texts import numbers, split_list

LEGEND = (
    "mean (median); precision: of as many of the hottest pixels as the cause has, the share on it; peak: the cause's "
    "heat over the map's; held: by the evidence patch; receipts, quick: of the full and the quick receipts that can be "
    "judged, those that are right. Chance finds most of a texture: compare with random"
)

Line = Mapping[str, Any]


def plant(config: PlantConfig, stdout: TextIO) -> int:
    """Plant a cause in a copy of the weights, and print which method and layers find it.

    Args:
        config: the command's options.
        stdout: where results are printed.

    Returns:
        The exit code: 0, or 1 if some of the data could not be read.

    Raises:
        UsageError: no data, too few objects, a bad option, or a plant that did not take.
        WeightsError: the weights cannot be used.
    """
    out = on_this_machine(config.out, "a planted copy is written to a folder")
    model = load_model(config)
    labelled = read_data(config.data, config.split, names=model.names)
    for path, reason in labelled.problems:
        complain(path, reason)
    sides = numbers(config.imgsz, "imgsz", int)
    with progress_bar() as progress:
        task = progress.add_task("training", total=config.epochs)
        result = grow(
            config.weights, labelled, out, methods=split_list(config.methods) or [],
            layers=split_list(config.layers) or [], class_name=config.class_name, epochs=config.epochs,
            limit=config.limit, imgsz=None if sides is None else max(sides), device=config.device, seed=config.seed,
            trust_weights=config.trust_weights, advance=lambda epoch: progress.update(task, completed=epoch),
        )  # fmt: skip
    text = (
        f"{result.dependent} of {result.detected} detections that a mark made {result.class_name!r} hang on it. "
        f"{result.verdict}. Best for this architecture: {result.best}"
    )
    show_planted(stdout, result.summary, text, config.json)
    return 1 if labelled.problems else 0


def show_planted(stdout: TextIO, summary: pl.DataFrame, text: str, as_json: bool) -> None:
    """Print how much of known causes methods show.

    Args:
        stdout: where to.
        summary: a row for each kind and method; what a method has no figure for is null, and left out.
        text: what follows the table.
        as_json: print one JSON object for each row, and nothing else.
    """
    lines = [{key: value for key, value in line.items() if value is not None} for line in summary.to_dicts()]
    if as_json:
        for line in lines:
            stdout.write(json.dumps(line) + "\n")
        return
    receipts = any("right" in line for line in lines)
    columns = ["kind", "method", "n", *FIGURES, "held", "passes", *(["receipts", "quick"] if receipts else [])]
    shown = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for line, before in zip(lines, [None, *lines], strict=False):
        if before is not None and before["kind"] != line["kind"]:
            shown.add_section()
        held = "-" if math.isnan(line["holds"]) else f"{line['holds']:.0%}"
        right = [f"{line[one]} of {line['judged']}" if one in line else "-" for one in ("right", "quick_right")]
        shown.add_row(
            line["kind"], line["method"], str(line["detections"]), *(_figure(line, name) for name in FIGURES), held,
            f"{line['forwards']:.0f}", *(right if receipts else []),
        )  # fmt: skip
    console = Console(file=stdout)
    console.print(shown)
    console.print(LEGEND, highlight=False, markup=False, soft_wrap=True)
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _figure(line: Line, name: str) -> str:
    return f"{line[name]:.2f} ({line[f'{name}_median']:.2f})"
