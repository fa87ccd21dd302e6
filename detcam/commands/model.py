"""The detector and the explainer that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from detcam.adapters import ADAPTERS, load
from detcam.adapters.settings import check_place
from detcam.config import ExplainConfig, ModelConfig
from detcam.errors import WeightsError
from detcam.explainer import Explainer, ExplainerOptions
from detcam.runs.schema import file_sha256
from detcam.texts import numbers, split_list

T = TypeVar("T")

NOT_EXPLAINED = ("source", "out", "overwrite", "json", "engine", "ray_address", "workers", "max_pixels")
"""Options that a run's rows do not depend on; a run grows by sources."""


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
        "max_pixels": config.max_pixels,
    }
    return _with_weights(config, partial(Explainer, **options))


def configuration_of(config: ExplainConfig, device: Any) -> dict[str, Any]:
    """What the rows of a run depend on, as ``run.json`` keeps it.

    Args:
        config: the options.
        device: as the detector is given it, where that is another than the option.

    Raises:
        OSError: the weights cannot be read.
    """
    resolved = {key: value for key, value in asdict(config).items() if key not in NOT_EXPLAINED}
    weights = Path(config.weights)
    resolved["weights_sha256"] = file_sha256(weights) if weights.is_file() else None
    resolved["device"] = device
    return resolved


def check_place_of(config: ModelConfig) -> None:
    """Refuse a device that is not here before anything of the weights is read.

    Args:
        config: names the device.

    Raises:
        UsageError: it cannot be used here.
    """
    if not ADAPTERS:  # which may know other devices
        check_place("cpu" if config.device is None else config.device, config.half)


def _with_weights(config: ModelConfig, make: Callable[..., T]) -> T:
    """What ``make`` makes of the weights and the settings of a configuration.

    Raises:
        WeightsError: they cannot be read.
    """
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
