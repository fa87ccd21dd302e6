"""What each command does once its configuration is known."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from detcam.adapters import load
from detcam.config import (
    BenchConfig,
    DemoConfig,
    EvaluateConfig,
    ExplainConfig,
    LayersConfig,
    MethodsConfig,
    ModelConfig,
    split_list,
)
from detcam.data import read_data
from detcam.errors import InputError, UsageError, is_count, nearest
from detcam.explainer import Explainer
from detcam.images import read_image
from detcam.methods import METHODS, table_row
from detcam.render import colourmap
from detcam.sources import find_images
from detcam.store import RunFolder, file_sha256
from detcam.types import ImageResult

NOT_MEASURED = ("out", "overwrite", "json", "limit", "sanity")
"""Options of an evaluation that its rows do not depend on."""
PICTURES = ("overlay", "heatmap", "panel")


def explain(config: ExplainConfig, stdout: TextIO) -> int:
    """Explain every image of the sources into a run folder; 1 if some could not be."""
    save = _pictures(config)
    if not config.source:
        raise UsageError("nothing to explain: name an image, a folder, a glob pattern or a list")
    if not config.out:
        raise UsageError("no run folder: name one with --out DIR")
    explainer = build_explainer(config)
    resolved = {key: value for key, value in asdict(config).items() if key not in ("out", "overwrite", "json")}
    folder = RunFolder(Path(config.out), "explain", resolved, config.overwrite)
    weights = Path(config.weights)
    folder.describe(
        weights={"path": config.weights, "sha256": file_sha256(weights) if weights.is_file() else None},
        device=str(explainer.model.device),
        imgsz=getattr(explainer.model, "imgsz", None),
        layers=explainer.layers,
        classes=explainer.model.names,
    )
    images, missing = find_images(config.source)
    console = Console(stderr=True)
    for source in missing:
        _fail(folder, console, source.source, source.reason)
    complete = False
    try:
        with _progress(console) as progress:
            task = progress.add_task("explaining", total=len(images), failed=len(missing))
            for chunk in _chunks(images, config.batch):
                for outcome in _explain_chunk(explainer, chunk):
                    if isinstance(outcome, ImageResult):
                        rows = folder.add(outcome, save, config.colormap, config.opacity)
                        if config.json:
                            _print_rows(rows, stdout)
                    else:
                        _fail(folder, console, *outcome)
                    progress.advance(task)
        complete = True
    finally:
        counts = folder.finish(complete)
    silent = f", {counts['no_signal']} without signal" if counts["no_signal"] else ""
    silent += f", {counts['unsupported']} unsupported by their receipts" if counts["unsupported"] else ""
    failed = f"; {counts['failed']} inputs failed, see {config.out}/errors.jsonl" if counts["failed"] else ""
    console.print(
        f"{counts['detections']} detections in {counts['images']} images explained{silent} -> {config.out}{failed}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    return 1 if counts["failed"] else 0


def layers(config: LayersConfig, stdout: TextIO) -> int:
    """Print the layers that can be explained."""
    found = load_model(config).layers()
    if config.json:
        for layer in found:
            stdout.write(json.dumps(asdict(layer)) + "\n")
        return 0
    table = Table("name", "type", "stride", "channels x height x width", "groups")
    for layer in found:
        stride = "x".join(f"{side:g}" for side in dict.fromkeys(layer.stride))
        table.add_row(layer.name, layer.type, stride, " x ".join(map(str, layer.shape)), ", ".join(layer.groups))
    console = Console(file=stdout)
    if not found:
        console.print("this model can only be called: it has no layers to explain", highlight=False)
        return 0
    console.print(table)
    console.print("auto takes the backbone group; any other module path can be named too", highlight=False)
    return 0


def evaluate(config: EvaluateConfig, stdout: TextIO) -> int:
    """Measure methods; 1 if some images could not be."""
    from detcam.evaluate.command import check_sanity, report, show_sanity
    from detcam.evaluate.command import evaluate as measure
    from detcam.evaluate.results import Results

    if not config.data:
        raise UsageError("nothing to measure on: name labelled data or images with --data")
    for name, count in (("limit", config.limit), ("per_image", config.per_image)):
        if not is_count(count):
            raise UsageError(f"{name} must be a whole number, at least 1, got {count!r}")
    model = load_model(config)
    labelled = read_data(config.data, config.split, names=model.names)
    console = Console(stderr=True)
    for path, reason in labelled.problems:
        console.print(f"detcam: {path}: {reason}", style="red", highlight=False, markup=False, soft_wrap=True)
    kept = {key: value for key, value in asdict(config).items() if key not in NOT_MEASURED}
    weights = Path(config.weights)
    kept["sha256"] = file_sha256(weights) if weights.is_file() else None
    results = Results(Path(config.out), kept, config.overwrite)
    with _progress(console) as progress:
        task = progress.add_task("measuring", total=config.limit)
        failed = measure(
            model,
            labelled.images,
            split_list(config.methods) or [],
            results,
            conf=config.conf,
            limit=config.limit,
            per_image=config.per_image,
            seed=config.seed,
            advance=lambda measured: progress.update(task, completed=measured),
        )
    for path, reason in failed:
        console.print(f"detcam: {path}: {reason}", style="red", highlight=False, markup=False, soft_wrap=True)
    report(results, stdout, config.json)
    if config.sanity:
        checked = check_sanity(
            model, labelled.images, split_list(config.methods) or [], results.path, conf=config.conf, seed=config.seed
        )
        if not config.json:
            show_sanity(checked, stdout)
    return 1 if failed or labelled.problems else 0


def methods(config: MethodsConfig, stdout: TextIO) -> int:
    """Print every method."""
    rows = [table_row(name) for name in METHODS]
    if config.json:
        for told in rows:
            stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
        return 0
    table = Table(*(title for title in rows[0] if title not in ("paper", "cost")), show_lines=True)
    for told in rows:
        table.add_row(*(text for title, text in told.items() if title not in ("paper", "cost")))
    console = Console(file=stdout)
    console.print(table)
    console.print("papers and costs: `detcam methods --json`, or docs/methods.md", highlight=False)
    return 0


def bench(config: BenchConfig, stdout: TextIO) -> int:
    """Print what was measured."""
    from detcam.bench import bench as measure

    images, missing = find_images(config.source)
    if missing or len(images) != 1:
        reason = f"{missing[0].source}: {missing[0].reason}" if missing else f"{len(images)} images were named"
        raise UsageError(f"one image is measured; {reason}")
    figures = measure(load_model(config), read_image(images[0]), config.conf)
    if config.json:
        for figure in figures:
            stdout.write(json.dumps(asdict(figure)) + "\n")
        return 0
    table = Table("figure", "value", "unit", "note")
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:.2f}", figure.unit, figure.note)
    Console(file=stdout).print(table)
    return 0


def demo(config: DemoConfig, stdout: TextIO) -> int:
    """Explain a handful of drawn scenes with the bundled detector."""
    from detcam.demo import run_demo

    return run_demo(Path(config.out), stdout)


def load_model(config: ModelConfig) -> Any:
    """The detector a configuration asks for."""
    if not config.weights:
        raise UsageError("no weights: name a checkpoint with --weights best.pt")
    return load(
        config.weights,
        device=config.device,
        imgsz=_numbers(config.imgsz, "imgsz", int),
        half=config.half,
        nms=config.nms,
        trust_weights=config.trust_weights,
        yolov5_repo=config.yolov5_repo,
    )


def build_explainer(config: ExplainConfig) -> Explainer:
    """The explainer a configuration asks for."""
    return Explainer(
        load_model(config),
        config.method,
        split_list(config.layers) or [],
        config.target,
        smoothing=split_list(config.smoothing) or (),
        fusion=config.fusion,
        budget=config.budget,
        conf=config.conf,
        iou=config.iou,
        max_det=config.max_det,
        classes=split_list(config.classes),
        detection=_numbers(config.detection, "detection", int),
        box=_numbers(config.box, "box", float),
        class_name=config.class_name,
        batch=config.batch,
        seed=config.seed,
        verify=config.verify,
    )


def _explain_chunk(explainer: Explainer, chunk: Sequence[Path]) -> Iterator[ImageResult | tuple[str, str]]:
    """A result, or (path, reason), for each image: one that fails takes no other with it."""
    arrays: dict[str, NDArray[np.uint8]] = {}
    for path in chunk:
        try:
            arrays[str(path)] = read_image(path)
        except InputError as error:
            yield str(path), _without(path, error)
    try:
        yield from explainer.explain_named(arrays)
    except (InputError, RuntimeError, MemoryError):
        for name, array in arrays.items():
            try:
                yield explainer.explain_named({name: array})[0]
            except (InputError, RuntimeError, MemoryError) as error:
                yield name, _without(name, error)


def _without(path: object, error: Exception) -> str:
    """The reason without the path, which is told beside it, on one line."""
    text = str(error).removeprefix(f"{path}: ").strip() or type(error).__name__
    return " ".join(text.split())


def _chunks(images: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _fail(folder: RunFolder, console: Console, source: str, reason: str) -> None:
    folder.fail(source, reason)
    console.print(f"detcam: {source}: {reason}", style="red", highlight=False, markup=False, soft_wrap=True)


def _print_rows(rows: Sequence[dict[str, Any]], stdout: TextIO) -> None:
    for row in rows:
        stdout.write(json.dumps({**row, "layers": row["layers"].split(",")}, ensure_ascii=False) + "\n")
    stdout.flush()


def _pictures(config: ExplainConfig) -> set[str]:
    asked = set(split_list(config.save) or []) - {"none"}
    for name in sorted(asked - set(PICTURES)):
        raise UsageError(f"cannot save {name!r}{nearest(name, [*PICTURES, 'none'])}")
    colourmap(config.colormap)
    if not 0 <= config.opacity <= 1:
        raise UsageError(f"opacity must lie in [0, 1], got {config.opacity}")
    return asked


def _numbers(value: Any, name: str, kind: type) -> list[Any] | None:
    try:
        return None if value is None else [kind(part) for part in split_list(value) or [""]]
    except ValueError as error:
        raise UsageError(f"--{name} takes numbers separated by commas, got {value!r}") from error


class _Rate(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.2f} images/s")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
    )
