"""Detectors as detcam sees them; :func:`load` chooses the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from detcam.adapters.base import DetectorAdapter
from detcam.errors import WeightsError


def load(
    weights: Any,
    *,
    device: Any = None,
    imgsz: int | Sequence[int] | None = None,
    half: bool = False,
    nms: bool | None = None,
    trust_weights: bool = False,
) -> DetectorAdapter:
    """Make a detector ready to be explained.

    Args:
        weights: the path of a ``.pt`` checkpoint, an official Ultralytics name such as ``yolo26n.pt`` (downloaded where
            it is not on disk), an ``ultralytics.YOLO`` object, its ``nn.Module``, or a loaded detector to be
            adjusted. Nothing passed in is changed.
        device: ``cpu``, ``cuda:0``, ...; ``None`` takes the CPU for a file and the model's own device for a model.
        imgsz: size to letterbox to, one side or (height, width); ``None`` takes the checkpoint's.
        half: compute in float16 (CUDA).
        nms: which branch of an end-to-end head answers: ``None``, the one ``predict()`` takes by default; ``False``,
            the NMS-free one.
        trust_weights: load any pickle. Weights are code: a pickle runs what is in it. Without this only the classes on
            Ultralytics' allow-list are loaded.

    Raises:
        WeightsError: the weights cannot be used.
        UsageError: a bad device, size or branch.
    """
    import torch
    from torch import nn

    from detcam.adapters.ultralytics import UltralyticsDetector
    from detcam.adapters.weights import read_checkpoint

    with torch.inference_mode(False):  # the caller may be in it, and its tensors can have no gradient
        if isinstance(weights, UltralyticsDetector):
            return weights.adjusted(device=device, imgsz=imgsz, half=half, nms=nms)
        module = weights
        if isinstance(weights, str | PathLike):
            module = read_checkpoint(Path(weights), trust=trust_weights)
        elif hasattr(weights, "overrides"):  # ultralytics.YOLO: a module around its module
            module = weights.model
            imgsz = imgsz if imgsz is not None else weights.overrides.get("imgsz")
        if not isinstance(module, nn.Module):
            raise WeightsError(
                f"cannot explain a {type(module).__name__}; give the path of a .pt file, an ultralytics.YOLO "
                "or its nn.Module"
            )
        return UltralyticsDetector(module, device=device, imgsz=imgsz, half=half, nms=nms)
