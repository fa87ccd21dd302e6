"""``detcam evaluate``: methods measured against each other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from detcam.commands.model import load_model
from detcam.commands.plant import evaluate_planted
from detcam.commands.progress import complain, progress_bar
from detcam.config import EvaluateConfig, split_list
from detcam.data import read_data
from detcam.errors import UsageError, is_count
from detcam.evaluate.command import check_sanity, report, show_sanity
from detcam.evaluate.command import evaluate as measure
from detcam.evaluate.results import Results
from detcam.evaluate.run import usual
from detcam.io.files import on_this_machine
from detcam.report.evaluation import write_page
from detcam.runs.schema import file_sha256

NOT_MEASURED = ("out", "overwrite", "json", "limit", "sanity", "planted")
"""Options of an evaluation that its rows do not depend on."""


def evaluate(config: EvaluateConfig, stdout: TextIO) -> int:
    """Measure methods; 1 if some images could not be."""
    if config.planted:
        return evaluate_planted(config, stdout)
    if not config.data:
        raise UsageError("nothing to measure on: name labelled data or images with --data")
    for name, count in (("limit", config.limit), ("per_image", config.per_image)):
        if not is_count(count):
            raise UsageError(f"{name} must be a whole number, at least 1, got {count!r}")
    out = on_this_machine(config.out, "an evaluation keeps its folder")
    model = load_model(config)
    labelled = read_data(config.data, config.split, names=model.names)
    for path, reason in labelled.problems:
        complain(path, reason)
    methods = split_list(config.methods) or usual(model)
    kept = {key: value for key, value in asdict(config).items() if key not in NOT_MEASURED}
    kept["methods"] = methods
    weights = Path(config.weights)
    kept["sha256"] = file_sha256(weights) if weights.is_file() else None
    results = Results(out, kept, config.overwrite)
    with progress_bar() as progress:
        task = progress.add_task("measuring", total=config.limit)
        failed = measure(
            model,
            labelled.images,
            methods,
            results,
            conf=config.conf,
            limit=config.limit,
            per_image=config.per_image,
            seed=config.seed,
            unseen=config.unseen,
            advance=lambda measured: progress.update(task, completed=measured),
        )
    for path, reason in failed:
        complain(path, reason)
    report(results, stdout, config.json)
    if config.sanity:
        checked = check_sanity(model, labelled.images, methods, results.path, conf=config.conf, seed=config.seed)
        if not config.json:
            show_sanity(checked, stdout)
    write_page(results.path)
    return 1 if failed or labelled.problems else 0
