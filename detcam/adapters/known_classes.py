"""The classes that an Ultralytics checkpoint may hold, under the names that today's and earlier releases gave them.

Without trust, a checkpoint gets these and no others; with trust, it gets these and whatever else it asks for, so
that trust never loads less.
"""

from __future__ import annotations

import importlib
import pathlib
from typing import Any

import numpy as np
from torch import nn

from detcam.adapters.stand_ins import Forgotten, Wrapper
from detcam.alone import alone

LAYER_PACKAGES = ("torch.nn.modules.", "ultralytics.nn.modules.", "torchvision.models.", "torchvision.ops.")
"""Their layers may be made; so may all classes of these modules."""
SAFE_MODULES = {
    "ultralytics.nn.modules", "ultralytics.nn.tasks", "ultralytics.utils.loss", "ultralytics.utils.tal",
    "torchvision.transforms.transforms",
}  # fmt: skip
SAFE_CLASSES = {f"ultralytics.data.augment.{name}" for name in ("ClassifyLetterBox", "CenterCrop", "ToTensor")}
"""Single classes of other modules that may be made: what early classifiers prepare images with."""
HOLDERS = {
    "ultralytics.utils.IterableSimpleNamespace",
    "torchvision.transforms.functional.InterpolationMode",
}
"""Classes that hold what they are given, and no more."""
PATHS: dict[str, Any] = {  # a path of another system cannot be made here, and nothing follows it
    f"{module}.{kind[4:]}": getattr(pathlib, kind)
    for module in ("pathlib", "pathlib._local")
    for kind in ("PurePosixPath", "PureWindowsPath")
}
NUMPY_MAKERS: dict[str, Any] = {  # NumPy 2 renamed the package
    f"numpy.{core}.multiarray.{name}": made
    for core in ("core", "_core")
    for name, made in {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(0).__reduce__()[0]}.items()
}
UNSAFE_MODULES = {"ultralytics.nn.distill_model", "torch.nn.modules.rnn", "torch.nn.modules.lazy"}
"""Whose classes do more than hold layers when they are filled, or load other files."""
RENAMED_MODULES = {
    "ultralytics.yolo.utils": "ultralytics.utils",
    "ultralytics.yolo.v8": "ultralytics.models.yolo",
    "ultralytics.yolo.data": "ultralytics.data",
    "ultralytics.yolo": "ultralytics",
}
"""Packages in older checkpoints, and what they are called today; the first that fits counts."""
RENAMED_CLASSES = {
    "ultralytics.nn.modules.block.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.utils.loss.v10DetectLoss": "ultralytics.utils.loss.E2EDetectLoss",
}
"""Classes in older checkpoints, and what they are called today."""
FORGOTTEN_PACKAGES = (
    "ultralytics.nn.text_model.", "clip.", "mobileclip.", "open_clip.", "torch._dynamo.", "torch._inductor.",
    "torch.distributed.algorithms.",
)  # fmt: skip
"""Text models, which are not needed once prompts are embedded, and what surrounds compiled and distributed models."""
FORGOTTEN_NAMES = {
    "torch._TorchCompileInductorWrapper", "contextlib.nullcontext", "functools.partial",
    "torch.nn.parallel.distributed._BucketCapacityConfig",
}  # fmt: skip
"""What is harmless and could be called; read sealed, it is not made. With a partial, torchvision's blocks say how they
made their normalisation."""


WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel",
    "torch.nn.parallel.distributed.DistributedDataParallel",
    "torch.optim.swa_utils.AveragedModel",
    "torch._dynamo.eval_frame.OptimizedModule",
}


def unwrap(model: Any) -> Any:
    """The model in wrappers of any number, loaded or not; any other object as it is.

    Args:
        model: any object.
    """
    while isinstance(model, Wrapper) or f"{type(model).__module__}.{type(model).__name__}" in WRAPPERS:
        model = model._modules.get("module", model._modules.get("_orig_mod"))
    return model


def current_name(name: str) -> str:
    """What a class is called today.

    Args:
        name: its dotted name in a checkpoint.

    >>> current_name("ultralytics.yolo.utils.loss.v10DetectLoss")
    'ultralytics.utils.loss.E2EDetectLoss'
    """
    for old, new in RENAMED_MODULES.items():
        if name.startswith(f"{old}."):
            name = new + name[len(old) :]
            break
    return RENAMED_CLASSES.get(name, name)


def stand_in(name: str) -> Any:
    """What is made in the place of a class that is not needed or cannot be made here; None for any other.

    Args:
        name: a dotted name.
    """
    if name in WRAPPERS:
        return Wrapper
    if name.startswith(FORGOTTEN_PACKAGES):
        return Forgotten
    return PATHS.get(name) or NUMPY_MAKERS.get(name)


def allowed(name: str) -> Any:
    """The class that a checkpoint gets for a name, or what stands for it; None for what it may not ask for.

    Args:
        name: a dotted name.
    """
    if name in WRAPPERS:
        return Wrapper
    name = current_name(name)
    if name.startswith(FORGOTTEN_PACKAGES) or name in FORGOTTEN_NAMES:
        return Forgotten
    if name in HOLDERS:
        return find_class(name)
    if not is_place_of_layers(name):
        return None
    module, found = name.rpartition(".")[0], find_class(name)
    if not isinstance(found, type) or found.__module__ in UNSAFE_MODULES:
        return None
    if issubclass(found, nn.Module):
        return found
    return None if module.startswith(LAYER_PACKAGES) or found.__module__ != module else found


def is_place_of_layers(name: str) -> bool:
    """Whether a name is of a module whose classes may be made, which alone is imported because a file asks for it.

    Args:
        name: a dotted name of today.
    """
    module = name.rpartition(".")[0]
    return module in SAFE_MODULES or module.startswith(LAYER_PACKAGES) or name in SAFE_CLASSES


def find_class(name: str) -> Any:
    """The class or function of a dotted name, which is imported; None where it is not installed.

    Args:
        name: of a module and a name in it.
    """
    module, _, kind = name.rpartition(".")
    try:
        with alone():
            return getattr(importlib.import_module(module), kind, None)
    except ImportError:
        return None
