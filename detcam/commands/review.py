"""``detcam review``: a labelled set's errors, printed and reported."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table

from detcam.commands.model import load_model
from detcam.commands.progress import complain, progress_bar, show_steps
from detcam.commands.report import serve_report
from detcam.config import ReviewConfig
from detcam.io.files import on_this_machine
from detcam.review.api import run_review
from detcam.review.comparison import compare, count_fates
from detcam.review.errors import TYPES
from detcam.review.result import ReviewResult
from detcam.runs.held import check_folder
from detcam.runs.schema import file_sha256
from detcam.texts import renames, split_list

NOT_REVIEWED = ("out", "overwrite", "json", "serve", "port", "against", "max_pixels")
"""Options that a review's rows do not depend on."""


def review(config: ReviewConfig, stdout: TextIO) -> int:
    """Review a labelled set and print its errors.

    Args:
        config: the command's options.
        stdout: where results are printed.

    Returns:
        The exit code: 0, or 1 if some of the set could not be reviewed.

    Raises:
        UsageError: no data, a bad option, or a folder that cannot be used.
        WeightsError: the weights cannot be used.
    """
    out = on_this_machine(config.out, "a review keeps its folder")
    configuration = {key: value for key, value in asdict(config).items() if key not in NOT_REVIEWED}
    check_folder(out, "review", configuration, config.overwrite)
    model = load_model(config)
    weights = Path(config.weights)
    configuration["weights_sha256"] = file_sha256(weights) if weights.is_file() else None
    with progress_bar() as progress:
        result = run_review(
            model, config.data, out, split=config.split, rename=renames(config.map), images_dir=config.images_dir,
            method=config.method, conf=config.conf, iou=config.iou, max_det=config.max_det,
            classes=split_list(config.classes), seed=config.seed,
            overwrite=config.overwrite, configuration=configuration, progress=show_steps(progress), complain=complain,
        )  # fmt: skip
    print_review(result, stdout, config.json)
    code = 1 if result.failed() else 0
    if config.against is not None:
        code = max(code, _against(config, result, stdout))
    if config.serve:
        serve_report(out, config.port)
    return code


def _against(config: ReviewConfig, result: ReviewResult, stdout: TextIO) -> int:
    """Review other weights below the first review, and print what they mend and make."""
    other = result.path / "against"
    options = replace(config, weights=config.against or "", against=None, out=str(other), serve=False, json=False)
    code = review(options, sys.stderr)
    rows = count_fates(compare(result.path, other))
    if config.json:
        stdout.write(json.dumps({"against": config.against, "comparison": rows}) + "\n")
        return code
    table = Table("type", "mended", "kept", "new", title=f"{config.weights} against {config.against}")
    for row in rows:
        table.add_row(*(str(row[name]) for name in ("type", "mended", "kept", "new")))
    console = Console(file=stdout)
    console.print(table)
    where = result.path / "comparison.parquet"
    console.print(f"each error, and how its evidence moved: {where}", highlight=False, soft_wrap=True)
    return code


def print_review(result: ReviewResult, stdout: TextIO, as_json: bool = False) -> None:
    """Print counts, the mAP gained by fixing each error type, the causes, and what to open.

    Args:
        result: the review.
        stdout: where to.
        as_json: print one JSON object and nothing else.
    """
    texts = [cause["text"] for cause in result.causes()]
    if as_json:
        figures = {**result.summary, "causes": texts, "report": str(result.page)}
        stdout.write(json.dumps(figures, ensure_ascii=False) + "\n")
        return
    table = Table("type", "count", "mAP50 gained if mended")
    for name in TYPES:
        gain = result.gains.get(name)  # none of true positives
        words = "" if gain is None else "undefined" if math.isnan(gain) else f"+{gain:.3f}"
        table.add_row(name, str(result.counts[name]), words)
    console = Console(file=stdout)
    console.print(table)
    map50, mean = ("undefined" if math.isnan(value) else f"{value:.3f}" for value in (result.map50, result.map))
    images = result.summary["images"]
    by = result.summary.get("matched_by", "box")
    how = "" if by == "box" else f", matched by {by}"
    console.print(f"mAP50 {map50}, mAP50-95 {mean}{how}; {images} images", highlight=False)
    for text in (result.summary["figures"], *texts, f"open {result.page}"):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
