"""``detcam evaluate``: methods measured against each other."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from rich.console import Console
from rich.table import Table

from detcam.commands.model import load_model
from detcam.commands.plant import show_planted
from detcam.commands.progress import complain, progress_bar
from detcam.config import EvaluateConfig
from detcam.data import read_data
from detcam.demo.causes import KINDS
from detcam.errors import UsageError
from detcam.evaluate import default_methods, evaluate_planted
from detcam.evaluate import evaluate as measure
from detcam.evaluate.summary import MAIN_FIGURE, RIVALS, UNSEEN_FIGURES, format_figure
from detcam.io.files import on_this_machine
from detcam.report.evaluation import write_page
from detcam.runs.held import check_folder
from detcam.runs.schema import file_sha256
from detcam.texts import split_list

NOT_MEASURED = ("out", "overwrite", "json", "limit", "sanity", "planted", "max_pixels")
"""Options of an evaluation that its rows do not depend on."""

Line = Mapping[str, Any]


def evaluate(config: EvaluateConfig, stdout: TextIO) -> int:
    """Measure methods against each other and print their table.

    Args:
        config: the command's options.
        stdout: where results are printed.

    Returns:
        The exit code: 0, or 1 if some images could not be measured.

    Raises:
        UsageError: no data, a bad option, or not one detection was measured.
        WeightsError: the weights cannot be used.
    """
    if config.planted:
        return _evaluate_planted(config, stdout)
    out = on_this_machine(config.out, "an evaluation keeps its folder")
    asked = split_list(config.methods)
    kept = {key: value for key, value in asdict(config).items() if key not in (*NOT_MEASURED, "methods")}
    check_folder(out, "evaluate", {**kept, "methods": asked} if asked else kept, config.overwrite)
    model = load_model(config)
    labelled = read_data(config.data, config.split, names=model.names)
    for path, reason in labelled.problems:
        complain(path, reason)
    kept["methods"] = methods = asked or default_methods(model)
    weights = Path(config.weights)
    kept["sha256"] = file_sha256(weights) if weights.is_file() else None
    with progress_bar() as progress:
        task = progress.add_task("measuring", total=config.limit)
        result = measure(
            model,
            labelled,
            methods,
            out,
            conf=config.conf,
            limit=config.limit,
            per_image=config.per_image,
            unseen=config.unseen,
            sanity=config.sanity,
            seed=config.seed,
            overwrite=config.overwrite,
            configuration=kept,
            advance=lambda measured: progress.update(task, completed=measured),
        )
    for failure in result.failures[len(labelled.problems) :]:
        complain(failure.path, failure.reason)
    if not len(result.rows):
        raise UsageError("no detection was measured: lower --conf, or name other images with --data")
    lines = result.summary.to_dicts()
    if config.json:
        for line in lines:
            stdout.write(json.dumps(line) + "\n")
    else:
        _show(lines, out, Console(file=stdout))
        if result.sanity is not None:
            _show_sanity(result.sanity.to_dicts(), Console(file=stdout))
    write_page(out)
    return 1 if result.failures else 0


def _evaluate_planted(config: EvaluateConfig, stdout: TextIO) -> int:
    """Measure methods on detections of the bundled detectors whose cause is known."""
    kinds = KINDS if config.kind == "all" else split_list(config.kind) or []
    each = math.ceil(config.limit / max(len(kinds), 1))
    methods = split_list(config.methods)
    result = evaluate_planted(methods, config.out, kinds=kinds, limit=each, seed=config.seed)
    show_planted(stdout, result.summary, result.verdict, config.json)
    return 0


def _show(lines: Sequence[Line], out: Path, console: Console) -> None:
    """Print the summary."""
    shown = Table("method", "ins - del (95 %)", "lead on the box", "mean fill", "in box", "forwards", "seconds")
    for line in lines:
        shown.add_row(
            line["method"], format_figure(line, MAIN_FIGURE), format_figure(line, "lead"),
            f"{line['faithfulness_mean']:+.3f}", f"{line['energy_box']:.0%}", f"{line['forwards']:.1f}",
            f"{line['seconds']:.2f}",
        )  # fmt: skip
    console.print(shown)
    if "unseen" in lines[0]:
        for rival in RIVALS:
            if any(np.isfinite(line[f"unseen_over_{rival}"]) for line in lines):
                console.print(_leads_over(rival, lines))
        console.print(_suspicions(lines))
    console.print(
        f"{lines[0]['detections']} detections, {lines[0]['judge_forwards']:.0f} forward passes to judge a map; figures "
        f"and curves in {out}",
        highlight=False,
    )


def _leads_over(rival: str, lines: Sequence[Line]) -> Table:
    """Insertion minus deletion under each unseen fill: leads over one method on the same detections."""
    shown = Table(
        "method",
        *("all fills" if figure == "unseen" else figure.removeprefix("unseen_") for figure in UNSEEN_FIGURES),
        title=f"unseen fills, steps in the image's area: leads over {rival} (95 %)",
    )
    for line in lines:
        if line["method"] != rival:
            shown.add_row(line["method"], *(format_figure(line, f"{figure}_over_{rival}") for figure in UNSEEN_FIGURES))
    return shown


def _suspicions(lines: Sequence[Line]) -> Table:
    """What maps should not be: the box again, and the same whatever the weights are."""
    shown = Table("method", "like the box", "above 0.9", "with weights shuffled", "vanished", title="rank correlations")
    for line in lines:
        left = format_figure(line, "randomised") if "randomised" in line else "-"
        shown.add_row(
            line["method"], f"{line['box_spearman']:+.2f}", f"{line['box_spearman_above']:.0%}", left,
            f"{line.get('vanished', '-')}",
        )  # fmt: skip
    return shown


def _show_sanity(lines: Sequence[Line], console: Console) -> None:
    """Print the sanity figures."""
    shown = Table(
        *(name.replace("_", " ") for name in lines[0]),
        title="rank correlations: lower is better; sensitivity: how far a map moves under noise",
    )
    for line in lines:
        shown.add_row(*("-" if v is None else v if isinstance(v, str) else f"{v:.2f}" for v in line.values()))
    console.print(shown)
