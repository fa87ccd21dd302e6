"""Target and layers tried on a blank image: what a model does not have is told before any image is explained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from detcam.adapters.base import DetectorAdapter, RawOutput
from detcam.errors import InputError, UsageError
from detcam.probing.prepared_image import prepare_images
from detcam.targets import Target, find_target, target_parts
from detcam.types import Detection

BLANK_SIDE_PX = 64
ALWAYS_THERE = ("class", "against", "probability", "score")
"""Targets that every detector has; and ``contrast``, whose class is looked up by name."""


def try_options(model: DetectorAdapter, target: str | Target, layers: Sequence[str]) -> None:
    """Refuse a target that the model does not have, or a layer that cannot be explained.

    Nothing is run where every model has the target and the layers are among those listed; else one forward pass.

    Args:
        model: the detector; one that can only be called is not called.
        target: its name, or itself.
        layers: module paths, of a method at layers.

    Raises:
        UsageError: the model has no such target, or a layer does not give one four-dimensional tensor, once.
    """
    parts = [part for part in target_parts(target) if not _is_always_there(part)]
    listed = {layer.name for layer in model.layers()} if layers else set()
    unlisted = [name for name in layers if name not in listed]
    if not parts and not unlisted:
        return
    if (raw := _blank_output(model, unlisted)) is None:
        return
    class_id = min(model.names)
    detection = Detection(np.zeros(4, np.float32), class_id, model.names[class_id], 0.0, 0, int(raw.strides[0]))
    for part in parts:
        try:
            find_target(part, model.names)(raw, 0, detection)
        except UsageError:
            raise
        except Exception:  # a target from outside may need more of a detection than a blank image gives
            continue


def _is_always_there(part: str | Target) -> bool:
    return isinstance(part, str) and (part in ALWAYS_THERE or part.startswith("contrast:"))


def _blank_output(model: DetectorAdapter, layers: Sequence[str]) -> RawOutput | None:
    """What the model says of a blank image; None where that cannot be had, or is no prediction at all."""
    if not model.differentiable:
        boxes = torch.zeros(1, 1, 4)
        return RawOutput(torch.zeros(1, 1, max(model.names) + 1), boxes, boxes, torch.zeros(1), size=(1, 1))
    try:
        blank = np.full((BLANK_SIDE_PX, BLANK_SIDE_PX, 3), 114, np.uint8)
        raw = prepare_images(model, [blank], layers)[0].raw
    except (InputError, RuntimeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        return None
    return raw if raw.logits.shape[1] else None
