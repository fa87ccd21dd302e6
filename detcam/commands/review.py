"""``detcam review``: a labelled set's errors, typed, explained, and traced to causes."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import webbrowser
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from detcam.commands.model import load_model
from detcam.commands.progress import complain, progress_bar
from detcam.config import ExportConfig, ReportConfig, ReviewConfig, split_list
from detcam.data import LabelledSet, read_data
from detcam.errors import InputError, UsageError
from detcam.io.files import on_this_machine, write_whole
from detcam.report.build import build_report
from detcam.review.closing import close
from detcam.review.compare import compare, counted
from detcam.review.errors import TYPES, find_errors
from detcam.review.explaining import ErrorExplainer
from detcam.review.run import REVIEW_COLUMNS, TABLES, Reviewer, detect, first_truths, summary, truth_table, write_json
from detcam.runs.folder import RunFolder
from detcam.runs.schema import file_sha256

NOT_REVIEWED = ("out", "overwrite", "json", "serve", "port", "against")
"""Options that a review's rows do not depend on."""


def review(config: ReviewConfig, stdout: TextIO) -> int:
    """Review a labelled set; 1 if some of it could not be."""
    if not config.data:
        raise UsageError("nothing to review: name a COCO .json or a data.yaml with --data")
    for name, value in (("conf", config.conf), ("iou", config.iou)):
        if not 0 <= value <= 1:
            raise UsageError(f"{name} must lie in [0, 1], got {value!r}")
    out = on_this_machine(config.out, "a review keeps its folder")
    model = load_model(config)
    labelled = read_data(config.data, config.split, model.names, _renames(config.map), config.images_dir)
    if not labelled.labelled:
        raise UsageError(f"{config.data}: no labels there, so nothing is right or wrong; name a labelled set")
    explainer = ErrorExplainer(model, config.method, config.seed)
    explainer.check()
    resolved = {key: value for key, value in asdict(config).items() if key not in NOT_REVIEWED}
    weights = Path(config.weights)
    resolved["weights_sha256"] = file_sha256(weights) if weights.is_file() else None
    resolved["labels_sha256"] = fingerprint(labelled)
    if config.overwrite and (out / "verdicts.json").is_file():  # a person's work, of detections that will be others
        (out / "verdicts.json").replace(out / "verdicts-before.json")
    folder = RunFolder(out, "review", resolved, config.overwrite, REVIEW_COLUMNS, TABLES)
    folder.describe(device=str(model.device), imgsz=getattr(model, "imgsz", None), classes=model.names)
    for name, count in labelled.unmapped.items():
        complain(config.data, f"class {name!r} ({count} labels) is none of the model's; see --map")
    complete = False
    try:
        with progress_bar() as progress:
            for path, reason in labelled.problems:
                folder.fail(str(path), reason)
                complain(path, reason)
            task = progress.add_task("detecting", total=len(labelled.images))
            found = detect(
                model, labelled, conf=config.conf, iou=config.iou, max_det=config.max_det,
                advance=lambda: progress.advance(task),
            )  # fmt: skip
            for path, reason in found.failed:
                folder.fail(str(path), reason)
                complain(path, reason)
            first = first_truths(labelled)
            errors = find_errors(found.images, found.detections)
            write_json(out / "summary.json", summary(found, errors, labelled))
            write_whole(out / "truths.parquet", truth_table(found, errors, first).write_parquet)
            reviewer = Reviewer(model, config.conf, config.iou, explainer, config.seed)
            task = progress.add_task("explaining", total=len(found.images))
            for image, several, told in zip(found.images, found.detections, errors.images, strict=True):
                if str(image.path) not in folder:
                    try:
                        reviewer(folder, image, several, told, first[image.path])
                    except (InputError, RuntimeError, MemoryError) as error:
                        reason = " ".join(str(error).split())
                        folder.fail(str(image.path), reason)
                        complain(image.path, reason)
                progress.advance(task)
        complete = True
    finally:
        counts = folder.finish(complete, hold=complete)
    with progress_bar() as progress:
        task = progress.add_task("causes", total=None)
        causes = close(model, out, found, errors, config.conf, lambda: progress.advance(task))
    page = build_report(out)
    folder.release()
    _tell(
        stdout, config, json.loads((out / "summary.json").read_text(encoding="utf-8")), [c.text for c in causes], page
    )
    code = 1 if counts["failed"] else 0
    if config.against is not None:
        code = max(code, _against(config, out, stdout))
    if config.serve:
        _serve(out, config.port)
    return code


def _against(config: ReviewConfig, out: Path, stdout: TextIO) -> int:
    """Review other weights below the first review, and tell what they mend and make."""
    other = out / "against"
    asked = replace(config, weights=config.against or "", against=None, out=str(other), serve=False, json=False)
    code = review(asked, sys.stderr)
    table = counted(compare(out, other))
    if config.json:
        stdout.write(json.dumps({"against": config.against, "comparison": table}) + "\n")
        return code
    shown = Table("type", "mended", "kept", "new", title=f"{config.weights} against {config.against}")
    for row in table:
        shown.add_row(*(str(row[name]) for name in ("type", "mended", "kept", "new")))
    console = Console(file=stdout)
    console.print(shown)
    console.print(
        f"each error, and how its evidence moved: {out / 'comparison.parquet'}", highlight=False, soft_wrap=True
    )
    return code


def fingerprint(labelled: LabelledSet) -> str:
    """SHA-256 of the labels: a review of others is another review."""
    digest = hashlib.sha256()
    for image in labelled.images:
        digest.update(os.fsencode(image.path))
        for truth in image.truths:
            digest.update(f"{truth.class_id} {truth.crowd} {truth.xyxy.tolist()}".encode())
    return digest.hexdigest()


def report(config: ReportConfig, stdout: TextIO) -> int:
    """Build the report of a review again."""
    if not config.run:
        raise UsageError("no run folder: name one, as in detcam report runs/review")
    run = on_this_machine(config.run, "the report is built in a run folder")
    page = build_report(run)
    stdout.write(f"{page}\n")
    if config.serve:
        _serve(run, config.port)
    return 0


def export(config: ExportConfig, stdout: TextIO) -> int:
    """Write a run in another tool's format."""
    from detcam.export import export as write

    if not config.run or not config.to:
        raise UsageError("name a run folder and a format, as in detcam export runs/review --to coco")
    out = config.out or f"{config.run.rstrip('/')}-{config.to}"
    stdout.write(f"{write(config.run, config.to, out, config.name)}\n")
    return 0


def _serve(run: Path, port: int) -> None:
    try:
        from detcam.report.serve import serve
    except ImportError as error:
        raise UsageError("--serve needs Starlette and Uvicorn: pip install 'detcam[serve]'") from error

    def ready(address: str) -> None:
        Console(stderr=True).print(f"serving {run} at {address}; Ctrl-C ends it", highlight=False, soft_wrap=True)
        webbrowser.open(address)

    serve(run, port, ready=ready)


def _renames(text: str | list[str] | None) -> dict[str, str]:
    """``--map set:model,set:model``."""
    pairs = [pair.rpartition(":") for pair in split_list(text) or []]
    if wrong := [theirs for ours, colon, theirs in pairs if not colon or not ours or not theirs]:
        raise UsageError(f"--map takes SET:MODEL pairs separated by commas, as in car:vehicle; got {wrong[0]!r}")
    return {ours: theirs for ours, _, theirs in pairs}


def _tell(stdout: TextIO, config: ReviewConfig, told: dict[str, Any], causes: list[str], page: Path) -> None:
    """Counts, what mending each type would bring, and the causes."""
    if config.json:
        stdout.write(json.dumps({**told, "causes": causes, "report": str(page)}, ensure_ascii=False) + "\n")
        return
    table = Table("type", "count", "mAP50 gained if mended")
    for name in TYPES:
        gain = told["dap"].get(name)
        table.add_row(name, str(told["counts"][name]), "" if gain is None else f"+{gain:.3f}")
    console = Console(file=stdout)
    console.print(table)
    console.print(
        f"mAP50 {told['map50'] or 0:.3f}, mAP50-95 {told['map'] or 0:.3f}; {told['images']} images", highlight=False
    )
    for text in causes:
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(f"open {page}", highlight=False, markup=False, soft_wrap=True)
