"""The detector and the explainer that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from detcam.adapters import load
from detcam.config import ExplainConfig, ModelConfig, numbers, split_list
from detcam.errors import UsageError, WeightsError
from detcam.explainer import Explainer, ExplainerOptions

T = TypeVar("T")


def load_model(config: ModelConfig) -> Any:
    """The detector that a configuration asks for.

    Args:
        config: names the weights, and how the detector runs.

    Raises:
        UsageError: no weights were named, or an option does not fit.
        WeightsError: the weights cannot be used.
    """
    return _with_weights(config, load)


def build_explainer(config: ExplainConfig) -> Explainer:
    """The explainer that a configuration asks for; its options are checked before weights are read.

    Args:
        config: names the weights, the method and its options.

    Raises:
        UsageError: no weights were named, or an option does not fit.
        WeightsError: the weights cannot be used.
    """
    options: ExplainerOptions = {
        "method": config.method,
        "layers": split_list(config.layers) or [],
        "target": config.target,
        "smoothing": split_list(config.smoothing) or (),
        "fusion": config.fusion,
        "budget": config.budget,
        "verify": config.verify,
        "seed": config.seed,
        "conf": config.conf,
        "iou": config.iou,
        "max_det": config.max_det,
        "classes": split_list(config.classes),
        "detection": numbers(config.detection, "detection", int),
        "box": numbers(config.box, "box", float),
        "class_name": config.class_name,
        "batch": config.batch,
    }
    return _with_weights(config, partial(Explainer, **options))


def _with_weights(config: ModelConfig, make: Callable[..., T]) -> T:
    """What ``make`` makes of the weights and the settings of a configuration.

    Raises:
        UsageError: there are no weights.
        WeightsError: they cannot be read.
    """
    if not config.weights:
        raise UsageError("no weights: name a checkpoint with --weights best.pt")
    try:
        return make(
            config.weights,
            device=config.device,
            imgsz=numbers(config.imgsz, "imgsz", int),
            half=config.half,
            nms=config.nms,
            trust_weights=config.trust_weights,
            yolov5_repo=config.yolov5_repo,
        )
    except OSError as error:  # a name too long for any file, a folder that may not be entered
        raise WeightsError(f"{config.weights}: cannot be read: {error.strerror or error}") from error
