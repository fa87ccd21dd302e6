"""What is wrong with a command's options and can be said without torch: before the command itself is imported.

A configuration has checked its values by then. Here it is looked at what they name, and whether they fit together.
"""

from __future__ import annotations

from functools import singledispatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from detcam.attribution.fit import check_fit, is_left_open
from detcam.config import (
    BenchConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    LayersConfig,
    ModelConfig,
    PlantConfig,
    ReportConfig,
    ReviewConfig,
)
from detcam.errors import UsageError, WeightsError, nearest
from detcam.inputs import check_data, check_run, check_weights, find_missing
from detcam.methods import choose_method, find_method
from detcam.options import EXPORT_FORMATS, brought_names, split_contestant
from detcam.texts import split_list


@singledispatch
def check_inputs(config: Any) -> None:
    """Refuse what a command cannot do with its options.

    Args:
        config: a command's configuration.

    Raises:
        UsageError: something is not named that has to be, is not there, or does not fit the rest.
        WeightsError: the weights are not there.
    """


@check_inputs.register
def _layers(config: LayersConfig) -> None:
    _check_weights(config)


@check_inputs.register
def _explain(config: ExplainConfig) -> None:
    if not config.source:
        raise UsageError("nothing to explain: name an image, a folder, a glob pattern or a list")
    if not config.out:
        raise UsageError("no run folder: name one with --out DIR")
    _check_fit(config)
    if config.engine == "ray":
        _need("ray", "engine ray needs Ray: pip install 'ray[data]'")
    _check_command("explain", config)
    _check_weights(config)
    _check_colormap(config.colormap)


@check_inputs.register
def _evaluate(config: EvaluateConfig) -> None:
    if config.planted:
        _check_kinds(split_list(config.kind) or [])
    elif not config.data:
        raise UsageError("nothing to measure on: name labelled data or images with --data")
    _check_contestants(config.methods)
    _check_folder(config.out, "an evaluation keeps its folder")
    if not config.planted:
        _check_command("evaluate", config)
        _check_weights(config)
        _check_data(config.data)


@check_inputs.register
def _plant(config: PlantConfig) -> None:
    if not config.data:
        raise UsageError("nothing to plant in: name a COCO .json or a data.yaml with --data")
    for text in split_list(config.methods) or []:
        if "@" in text:
            raise UsageError(f"{text!r}: name layers with --layers, which every method here is compared at")
    _check_contestants(config.methods)
    _check_folder(config.out, "a planted copy is written to a folder")
    _check_weights(config)
    _check_data(config.data)


@check_inputs.register
def _review(config: ReviewConfig) -> None:
    if not config.data:
        raise UsageError("nothing to review: name a COCO .json or a data.yaml with --data")
    _check_folder(config.out, "a review keeps its folder")
    _check_command("review", config)
    _check_serving(config.serve)
    _check_weights(config)
    if config.against is not None:
        _check_weights(config, config.against)
    _check_data(config.data, config.images_dir)


@check_inputs.register
def _report(config: ReportConfig) -> None:
    if not config.run:
        raise UsageError("no run folder: name one, as in detcam report runs/review")
    _check_serving(config.serve)
    check_run(config.run)


@check_inputs.register
def _export(config: ExportConfig) -> None:
    if not config.run or not config.to:
        raise UsageError("name a run folder and a format, as in detcam export runs/review --to coco")
    if config.to not in EXPORT_FORMATS:
        raise UsageError(f"cannot export to {config.to!r}{nearest(config.to, EXPORT_FORMATS)}")
    check_run(config.run)


@check_inputs.register
def _bench(config: BenchConfig) -> None:
    if not config.source:
        raise UsageError("one image is measured; 0 images were named")
    if missing := find_missing(config.source):
        raise UsageError(f"one image is measured; {missing[0]}: no such file or folder")
    _check_weights(config)


def _check_weights(config: ModelConfig, weights: str | None = None) -> None:
    """The weights of a configuration, or others in their place."""
    named = config.weights if weights is None else weights
    if not named:
        raise UsageError("no weights: name a checkpoint with --weights best.pt")
    if brought_names("detcam.adapters"):  # which may take what is no file
        return
    try:
        check_weights(named)
    except OSError as error:  # a name too long for any file, a folder that may not be entered
        raise WeightsError(f"{named}: cannot be read: {error.strerror or error}") from error


def _check_data(data: str, images_dir: str | None = None) -> None:
    if not brought_names("detcam.data_formats"):  # which may take what is no file
        check_data(data, images_dir)


def _check_folder(out: str, what: str) -> None:
    if "://" in out:
        from detcam.io.files import on_this_machine

        on_this_machine(out, what)


def _check_command(command: str, config: ExplainConfig | EvaluateConfig | ReviewConfig) -> None:
    """Refuse a folder of this machine that holds a run of another command."""
    if "://" not in config.out and (Path(config.out) / "run.json").is_file():
        from detcam.runs.held import check_folder

        check_folder(config.out, command, {}, config.overwrite)


def _check_serving(serve: bool) -> None:
    for package in ("uvicorn", "starlette") if serve else ():
        _need(package, f"serving a report needs {package}: pip install starlette uvicorn")


def _need(package: str, message: str) -> None:
    if find_spec(package) is None:
        raise UsageError(message)


def _check_kinds(kinds: list[str]) -> None:
    from detcam.demo.causes import KINDS

    for kind in kinds if kinds != ["all"] else ():
        if kind not in KINDS:
            raise UsageError(f"no kind of cause {kind!r}{nearest(kind, KINDS)}")


def _check_colormap(name: str) -> None:
    if name != ExplainConfig.colormap:
        from detcam.drawing.heat import colourmap

        colourmap(name)


def _check_fit(config: ExplainConfig) -> None:
    layers, smoothing = split_list(config.layers) or [], split_list(config.smoothing) or []
    name = config.method
    if name == "auto":
        at_layers = not is_left_open(layers) or bool(smoothing) or config.fusion != "sum"
        name = choose_method(config.target, at_layers)
    check_fit(
        name, find_method(name), config.target, layers=layers, smoothing=smoothing, fusion=config.fusion,
        budget=config.budget,
    )  # fmt: skip


def _check_contestants(methods: str | list[str] | None) -> None:
    for text in split_list(methods) or []:
        name, layers, budget = split_contestant(text)
        check_fit(name, find_method(name), "class", layers=layers.split(","), budget=budget)
