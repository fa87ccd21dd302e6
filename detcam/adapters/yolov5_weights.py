"""Read an original YOLOv5 checkpoint, whose classes live in the repository or the ``yolov5`` package.

Of the vendor's code only ``models`` is imported, with stand-ins for what drawing, training and downloading would need,
and neither ``sys.path`` nor ``sys.modules`` keeps a trace of it.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import pickle
import re
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detcam.adapters.building import build
from detcam.adapters.file_kinds import names_in
from detcam.adapters.known_classes import PATHS
from detcam.adapters.weights import TRUST, describe_failure
from detcam.errors import WeightsError

BLOCKS = [
    "Conv", "DWConv", "DWConvTranspose2d", "Focus", "Contract", "Expand", "Concat", "Bottleneck", "BottleneckCSP",
    "CrossConv", "C3", "C3x", "C3TR", "C3SPP", "C3Ghost", "GhostConv", "GhostBottleneck", "SPP", "SPPF",
    "TransformerLayer", "TransformerBlock", "Proto", "Classify", "Sum", "MixConv2d",
]  # fmt: skip
SAFE_CLASSES = {
    "models.yolo": ["Model", "DetectionModel", "SegmentationModel", "ClassificationModel", "Detect", "Segment"],
    "models.common": BLOCKS,
    "models.experimental": BLOCKS,  # where some of the blocks were until v6.1
}
SAFE_LAYERS: tuple[type[nn.Module], ...] = (
    nn.Sequential, nn.ModuleList, nn.Identity, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.LayerNorm, nn.Linear,
    nn.Dropout, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample, nn.ZeroPad2d, nn.MultiheadAttention,
    nn.modules.linear.NonDynamicallyQuantizableLinear, nn.SiLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU,
    nn.GELU, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid,
)  # fmt: skip
VENDOR_ROOTS = {"models", "utils", "yolov5"}
STAND_INS = {"utils", "yolov5.utils", "pandas", "seaborn", "IPython", "thop"}


def is_original_checkpoint(path: Path) -> bool:
    """Whether a file asks for the classes of the original YOLOv5, found without unpickling anything.

    Args:
        path: any file.
    """
    return any(name.startswith("models.yolo.") for name in names_in(path))


def read_original_checkpoint(path: Path, repo: Path | None = None, trust: bool = False) -> nn.Module:
    """The float32 model of an original YOLOv5 checkpoint, on the CPU (EMA weights where there are any).

    A checkpoint is a pickle, and a pickle is code. Only known classes are made, and none is called: the constructor of
    a YOLOv5 model evaluates text from its configuration.

    Args:
        path: a ``.pt`` file.
        repo: a clone of ``ultralytics/yolov5``, whose ``models`` are imported; ``None`` takes the ``yolov5`` package.
        trust: load any pickle, which runs whatever code is in it.

    Raises:
        WeightsError: neither a repository nor the package; damaged, refused by the allow-list, or no model.
    """
    modules = _vendor_modules(repo.resolve() if repo is not None else None)
    try:
        if trust:
            checkpoint = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_reader(modules))
        else:
            checkpoint = build(path, _safe_classes(modules).get)
    except Exception as error:
        raise WeightsError(_why_refused(path, error)) from error
    return _model_of(path, checkpoint)


def _model_of(path: Path, checkpoint: Any) -> nn.Module:
    """The model inside a checkpoint, mended for this release of torch."""
    model: Any = checkpoint.get("ema") or checkpoint.get("model") if isinstance(checkpoint, dict) else checkpoint
    if not isinstance(model, nn.Module):
        raise WeightsError(f"{path} holds no model; give the checkpoint that YOLOv5 wrote")
    for module in model.modules():
        if isinstance(module, nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None  # checkpoints older than torch 1.11
        if isinstance(module, nn.SiLU | nn.Hardswish | nn.LeakyReLU | nn.ReLU) and not hasattr(module, "inplace"):
            module.inplace = False  # older than torch 1.7
    return model.float()


def _safe_classes(modules: Mapping[str, types.ModuleType]) -> dict[str, Any]:
    """Classes that may be made, by the name a checkpoint asks for them under."""
    safe: dict[str, Any] = {f"{layer.__module__}.{layer.__name__}": layer for layer in SAFE_LAYERS}
    for module, names in SAFE_CLASSES.items():
        safe |= {f"{module}.{name}": getattr(modules[module], name) for name in names if hasattr(modules[module], name)}
    return safe


def _reader(modules: Mapping[str, types.ModuleType]) -> Any:
    """A pickle module without an allow-list that finds ``models.*`` where they are."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found = getattr(modules[module], name) if module in modules else PATHS.get(f"{module}.{name}")
            return found or super().find_class(module, name)

    reader: Any = types.ModuleType("reader")
    reader.Unpickler, reader.load = Unpickler, pickle.load
    return reader


def _why_refused(path: Path, error: Exception) -> str:
    """One line on why an original YOLOv5 checkpoint cannot be loaded."""
    chain = " ".join(str(e) for e in (error, error.__cause__, error.__context__) if e is not None)
    if called := re.search(r"refused CALL (\w+)", chain):
        return f"{path} calls {called[1]}(...) as it is read, which YOLOv5's own checkpoints never do; {TRUST}"
    if asked := re.search(r"GLOBAL (\S+)", chain):
        return f"{path} asks for {asked[1]}, which is not on the list of classes that are safe to load; {TRUST}"
    if isinstance(error, AttributeError) and "models." in str(error):
        return f"{path} needs another YOLOv5 ({error}); give the repository it was trained with (yolov5_repo)"
    return describe_failure(path, error)


@functools.cache
def _vendor_modules(repo: Path | None) -> dict[str, types.ModuleType]:
    """The vendor's ``models.yolo``, ``models.common`` and ``models.experimental``, imported and hidden again."""
    prefix, names = "" if repo is not None else "yolov5.", ("yolo", "common", "experimental")
    if repo is not None and not (repo / "models" / "yolo.py").is_file():
        raise WeightsError(f"{repo} has no models/yolo.py; give a clone of https://github.com/ultralytics/yolov5")
    if repo is None and importlib.util.find_spec("yolov5") is None:
        ways = "pip install --no-deps yolov5==7.0.14, or give a clone of the repository (yolov5_repo)"
        raise WeightsError(f"original YOLOv5 weights need the classes of YOLOv5: {ways}")
    try:
        with _borrowed(repo):
            return {f"models.{name}": importlib.import_module(f"{prefix}models.{name}") for name in names}
    except Exception as error:
        raise WeightsError(
            f"{repo or 'the yolov5 package'} cannot be imported: {type(error).__name__}: {error}"
        ) from error


@contextmanager
def _borrowed(repo: Path | None) -> Iterator[None]:
    """Import the vendor's code within; afterwards ``sys.path`` and ``sys.modules`` are as if nobody had."""
    path, set_aside = list(sys.path), {name: sys.modules.pop(name) for name in _vendor_names()}
    finder = _StandInFinder()
    sys.meta_path.insert(0, finder)
    sys.path[:0] = [] if repo is None else [str(repo)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.meta_path.remove(finder)
        sys.path[:] = path
        for name in _vendor_names():
            del sys.modules[name]
        sys.modules.update(set_aside)


def _vendor_names() -> list[str]:
    """The modules in ``sys.modules`` that are the vendor's, or stand in for what it imports."""
    return [n for n, module in sys.modules.items() if n.split(".")[0] in VENDOR_ROOTS or isinstance(module, _StandIn)]


class _StandIn(types.ModuleType):
    """A module that no forward pass of a model uses: every name in it is itself, and can be called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self


class _StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives stand-ins for the vendor's own tools and for the heavy packages they draw and count with."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        wanted = any(f"{fullname}.".startswith(f"{name}.") for name in STAND_INS)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if wanted else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""
