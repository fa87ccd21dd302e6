"""The detector and the explainer that a configuration asks for."""

from __future__ import annotations

from typing import Any

from detcam.adapters import load
from detcam.config import ExplainConfig, ModelConfig, split_list
from detcam.errors import UsageError, WeightsError
from detcam.explainer import Explainer


def load_model(config: ModelConfig) -> Any:
    """The detector a configuration asks for."""
    if not config.weights:
        raise UsageError("no weights: name a checkpoint with --weights best.pt")
    try:
        return load(
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
        detection=numbers(config.detection, "detection", int),
        box=numbers(config.box, "box", float),
        class_name=config.class_name,
        batch=config.batch,
        seed=config.seed,
        verify=config.verify,
    )


def numbers(value: Any, name: str, kind: type) -> list[Any] | None:
    """``"1,2"``, ``3`` or ``[1, 2]`` as numbers; ``None`` stays.

    Raises:
        UsageError: something else; ``name`` is the option's.
    """
    try:
        return None if value is None else [kind(part) for part in split_list(value) or [""]]
    except ValueError as error:
        raise UsageError(f"--{name} takes numbers separated by commas, got {value!r}") from error
