"""Detectors as detcam sees them; :func:`load` chooses the adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import Any

from detcam.adapters.base import DetectorAdapter
from detcam.adapters.settings import check_place
from detcam.alone import alone
from detcam.errors import DetcamError, UsageError, WeightsError
from detcam.inputs import check_weights
from detcam.registry import Registry
from detcam.runtime import check_sides

Loader = Callable[..., DetectorAdapter | None]
"""(weights, \\*, device, imgsz, half, trust_weights) -> a detector, or None where the weights are not of its kind."""


def _as_loader(given: Loader) -> Loader:
    """A loader as it is.

    Raises:
        UsageError: it cannot be called.
    """
    if not callable(given):
        raise UsageError(f"an adapter is registered as a function of weights and settings, got {given!r}")
    return given


ADAPTERS: Registry[Loader] = Registry("adapter", "detcam.adapters", _as_loader, {})
"""Loaders from outside by name: the registered ones, and those of entry points ``detcam.adapters``."""


def register_adapter(name: str, loader: Loader) -> None:
    """Let :func:`load` take more kinds of weights in this process; an entry point ``detcam.adapters`` does so for all.

    Args:
        name: letters, digits and any of ``_ . + -``; messages call the loader so.
        loader: called with whatever :func:`load` was given, be it a path, a module or anything else, and by keyword
            ``device``, ``imgsz``, ``half`` and ``trust_weights`` as there. It gives a
            :class:`~detcam.adapters.base.DetectorAdapter`, or None, soon and without reading more than it must, where
            the weights are none of its own. Loaders are asked before detcam's adapters, in the order of registration.

    Raises:
        UsageError: the name is taken or cannot be one, or ``loader`` cannot be called.
    """
    ADAPTERS.add(name, loader)


def load(
    weights: Any,
    *,
    device: Any = None,
    imgsz: int | Sequence[int] | None = None,
    half: bool = False,
    nms: bool | None = None,
    trust_weights: bool = False,
    yolov5_repo: str | PathLike[str] | None = None,
) -> DetectorAdapter:
    """Make a detector ready to be explained.

    Args:
        weights: the path of a ``.pt`` checkpoint (Ultralytics' or original YOLOv5's), an official Ultralytics name
            such as ``yolo26n.pt`` (downloaded where it is not on disk), an ``ultralytics.YOLO`` object, its
            ``nn.Module``, a torchvision detector, an image classifier, an ``.onnx`` export of a YOLO, or a loaded
            detector (a :class:`~detcam.adapters.blackbox.BlackBox` too) to be adjusted; or what a registered adapter
            takes. Nothing passed in is changed.
        device: ``cpu``, ``cuda:0``, ...; ``None`` takes the CPU for a file and the model's own device for a model.
        imgsz: size to letterbox to, one side or (height, width); ``None`` takes the checkpoint's.
        half: compute in float16 (CUDA).
        nms: which branch of an end-to-end head answers: ``None``, the one ``predict()`` takes by default; ``False``,
            the NMS-free one.
        trust_weights: load any pickle. Weights are code: a pickle runs what is in it. Without this only the classes on
            Ultralytics' allow-list are loaded.
        yolov5_repo: a clone of ``ultralytics/yolov5``, for checkpoints in its original format; ``None`` takes the
            ``yolov5`` package.

    Raises:
        WeightsError: the weights cannot be used.
        UsageError: a bad device, size or branch. Of a file, device, size and precision are checked before it is read.
    """
    with alone():
        from torch import nn

        from detcam.adapters.known_classes import unwrap
        from detcam.tensors.calm import calm

    settings: dict[str, Any] = {"device": device, "imgsz": imgsz, "half": half}
    if imgsz is not None:
        check_sides(imgsz)
    with calm():  # the caller may be in it, and its tensors can have no gradient
        if hasattr(weights, "adjusted"):
            adjusted: DetectorAdapter = weights.adjusted(**settings, nms=nms)
            return adjusted
        for name, loader in ADAPTERS.items():
            external = _ask(name, loader, weights, trust_weights=trust_weights, **settings)
            if external is not None:
                return external if nms is None else load(external, nms=nms)
        module = weights
        if isinstance(weights, str | PathLike):  # before the file is opened
            check_place("cpu" if device is None else device, half)
        if isinstance(weights, str | PathLike) and Path(weights).suffix.lower() == ".onnx":
            from detcam.adapters.blackbox import onnx_detector

            check_weights(weights)
            return load(onnx_detector(weights), **settings, nms=nms)
        if isinstance(weights, str | PathLike):
            module = _read(Path(weights), trust_weights, yolov5_repo)
        elif hasattr(weights, "overrides"):  # ultralytics.YOLO: a module around its module
            module = weights.model
            settings["imgsz"] = imgsz if imgsz is not None else weights.overrides.get("imgsz")
        module = unwrap(module)
        if not isinstance(module, nn.Module) and not hasattr(module, "model"):
            raise WeightsError(
                f"cannot explain a {type(module).__name__}; give the path of a .pt file, an ultralytics.YOLO "
                "or its nn.Module"
            )
        try:
            detector: DetectorAdapter = _adapter_for(module)(module, **settings)
        except DetcamError:
            raise
        except Exception as error:
            if not isinstance(weights, str | PathLike):
                raise
            raise WeightsError(f"{weights} holds a damaged model: {type(error).__name__}: {error}") from error
        return detector if nms is None else load(detector, nms=nms)


def _ask(name: str, loader: Loader, weights: Any, **settings: Any) -> DetectorAdapter | None:
    """What a loader from outside makes of some weights.

    Raises:
        WeightsError: it failed, or gave something that is not a detector; the message names what is missing and what
            cannot be called as detcam calls it.
    """
    try:
        detector = loader(weights, **settings)
    except DetcamError:
        raise
    except Exception as error:
        raise WeightsError(f"adapter {name!r} failed on these weights: {type(error).__name__}: {error}") from error
    if detector is not None and (faults := _faults_of(detector)):
        raise WeightsError(
            f"adapter {name!r} gave a {type(detector).__name__}, which is no detector: {'; '.join(faults)}; "
            "see detcam.DetectorAdapter"
        )
    return detector


def _faults_of(detector: Any) -> list[str]:
    """What keeps an object from being a :class:`~detcam.adapters.base.DetectorAdapter`, in words."""
    functions = {name: part for name, part in vars(DetectorAdapter).items() if name[0] != "_" and callable(part)}
    missing = [name for name in (*DetectorAdapter.__annotations__, *functions) if not hasattr(detector, name)]
    faults = [f"it has no {', '.join(missing)}"] if missing else []
    for name, function in functions.items():
        parameters = list(signature(function).parameters.values())[1:]  # without self
        positional = [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY]
        keywords = {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
        try:
            if name not in missing:
                signature(getattr(detector, name)).bind(*positional, **keywords)
        except TypeError:
            call = ", ".join(positional + [f"{keyword}=" for keyword in keywords])
            faults.append(f"its {name} cannot be called as {name}({call})")
        except ValueError:  # compiled code says nothing of its arguments
            continue
    return faults


def _adapter_for(module: Any) -> Any:
    """The adapter class of a model.

    Raises:
        WeightsError: it is of a family that none is for.
    """
    from detcam.adapters.file_kinds import unknown_family

    homes = [kind.__module__ for kind in type(module).__mro__]
    kinds = {type(part) for part in module.modules()} if hasattr(module, "modules") else set()
    if family := unknown_family(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds):
        raise WeightsError(f"this {type(module).__name__} cannot be explained: {family}")
    if any(home.startswith("torchvision.models.detection") for home in homes):
        from detcam.adapters.torchvision import TorchvisionDetector

        return TorchvisionDetector
    if type(module).__name__ == "ClassificationModel":
        from detcam.adapters.classifier import Classifier

        return Classifier
    if any(home.startswith("ultralytics.") for home in homes):
        from detcam.adapters.ultralytics import UltralyticsDetector

        return UltralyticsDetector
    from detcam.adapters.yolov5 import YoloV5Detector, is_original

    if is_original(module):
        return YoloV5Detector
    from detcam.adapters.classifier import Classifier

    return Classifier


def _read(path: Path, trust: bool, yolov5_repo: str | PathLike[str] | None) -> Any:
    """The model of a checkpoint, of whichever of the two formats."""
    from detcam.adapters.file_kinds import names_in, unknown_family
    from detcam.adapters.weights import read_checkpoint
    from detcam.adapters.yolov5_weights import is_original_checkpoint, read_original_checkpoint

    given = trust and yolov5_repo is not None  # whatever is in the repository that is named
    if path.is_file() and is_original_checkpoint(path) and (given or unknown_family(names_in(path)) is None):
        return read_original_checkpoint(path, None if yolov5_repo is None else Path(yolov5_repo), trust)
    return read_checkpoint(path, trust)
