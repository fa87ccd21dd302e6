"""Read an Ultralytics checkpoint. A checkpoint is a pickle, and a pickle is code: only known classes are made.

The classes are Ultralytics' and torch's layers and models, and what their checkpoints hold beside them; none is called,
because Ultralytics' own allow-list has constructors on it that load another file without any. ``trust`` skips all this.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import pickle
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detcam.adapters.building import build
from detcam.adapters.file_kinds import export_format, names_in, unknown_family
from detcam.adapters.known_classes import allowed, current_name, find_class, is_place_of_layers, stand_in, unwrap
from detcam.adapters.stand_ins import forget
from detcam.alone import alone
from detcam.errors import WeightsError
from detcam.inputs import no_weights

with alone():
    import ultralytics
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

TRUST = "weights are code: only if you trust where they came from, load them with trust_weights"
"""The way out of a refusal."""


def read_checkpoint(path: str | Path, trust: bool = False) -> nn.Module:
    """The float32 model of a checkpoint, on the CPU, as Ultralytics would load it (EMA weights where there are any).

    Nothing is downloaded unless ``path`` is the bare name of an official Ultralytics checkpoint (``yolo26n.pt``) that
    is not on disk.

    Args:
        path: a ``.pt`` file.
        trust: load any pickle, which runs whatever code is in it.

    Raises:
        WeightsError: missing, damaged, refused by the allow-list, or no PyTorch model.
    """
    path = Path(path)
    official = path.parent == Path() and path.name in GITHUB_ASSETS_NAMES
    if not path.exists() and not official:  # the name may only look like an official one
        raise no_weights(path)
    if exported := export_format(path):
        raise WeightsError(
            f"{path} is an exported model without gradients ({exported}); give the .pt checkpoint it came from, or an "
            ".onnx export of it"
        )
    if path.is_dir():
        raise WeightsError(_about_folder(path))
    if family := unknown_family(names_in(path)):
        raise WeightsError(f"{path} cannot be read: {family}")
    if path.suffix.lower() != ".pt":
        raise WeightsError(f"{path} does not end in .pt; give a PyTorch checkpoint made by Ultralytics")
    try:
        with quiet_ultralytics():
            found = path if path.exists() else Path(attempt_download_asset(str(path)))
            if trust:
                checkpoint: Any = torch.load(found, map_location="cpu", weights_only=False, pickle_module=_reader())
                forget(checkpoint)
            else:
                checkpoint = build(found, allowed)
    except Exception as error:
        raise WeightsError(describe_failure(path, error)) from error
    try:
        model: nn.Module = _model_of(path, checkpoint)
    except WeightsError:
        raise
    except Exception as error:  # whatever a damaged checkpoint leads to
        raise WeightsError(f"{path} is a damaged checkpoint: {type(error).__name__}: {error}") from error
    return model


def _about_folder(path: Path) -> str:
    """Why a folder is no checkpoint."""
    if (path / "config.json").is_file():
        family = unknown_family(["transformers.Detection"])
        return f"{path} cannot be read: {family}"
    return f"{path} is a folder; give the .pt file in it, such as {path / 'best.pt'}"


def _reader() -> Any:
    """A pickle module without an allow-list, which makes all that is made without, and names what is missing."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if found := stand_in(f"{module}.{name}"):
                return found
            if (today := current_name(f"{module}.{name}")) != f"{module}.{name}":
                module, _, name = today.rpartition(".")
            try:
                return super().find_class(module, name)
            except (ImportError, AttributeError) as error:
                raise pickle.UnpicklingError(f"missing GLOBAL {module}.{name}") from error

    reader: Any = types.ModuleType("reader")
    reader.Unpickler, reader.load = Unpickler, pickle.load
    return reader


def _model_of(path: Path, checkpoint: Any) -> Any:
    """The model inside a checkpoint, with the settings it was trained with in ``args``."""
    checkpoint = unwrap(checkpoint)
    if hasattr(checkpoint, "overrides"):  # a whole ultralytics.YOLO
        checkpoint = checkpoint.model
    if isinstance(checkpoint, nn.Module):
        return checkpoint.float()
    if not isinstance(checkpoint, dict):
        raise WeightsError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint made by Ultralytics")
    model: Any = unwrap(checkpoint.get("ema") if checkpoint.get("ema") is not None else checkpoint.get("model"))
    if not isinstance(model, nn.Module):
        keys = ", ".join(str(key) for key in list(checkpoint)[:4]) or "nothing"
        raise WeightsError(
            f"{path} holds no model (its keys: {keys}); a file of bare weights (a state_dict) does not say "
            "which network it belongs to: give the checkpoint that Ultralytics wrote"
        )
    model = model.float()
    settings = checkpoint.get("train_args")
    model.args = dict(settings) if isinstance(settings, dict) else {}
    for module in model.modules():
        if isinstance(module, nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None  # checkpoints older than torch 1.11
    return model


def describe_failure(path: Path, error: Exception) -> str:
    """Why a checkpoint cannot be loaded, in one line.

    Args:
        path: of the checkpoint.
        error: what loading it raised; its cause and context are read too.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:
        magic = file.read(1)
        if magic not in (b"P", b"\x80"):  # neither a zip archive nor a pickle
            return f"{path} is not a PyTorch checkpoint: it is empty or another kind of file"
    chain = " ".join(str(e) for e in (error, error.__cause__, error.__context__) if e is not None)
    refused = re.search(r"GLOBAL (\S+)", chain)
    name = current_name(refused[1]) if refused else ""
    missing = error.name if isinstance(error, ModuleNotFoundError) else ""
    if (name or missing or "").startswith("models") or re.search(r"(?<![\w.])models\.yolo", chain):
        return (
            f"{path} is an original YOLOv5 checkpoint (it needs the classes of the yolov5 repository, "
            f"{name or missing or 'models.yolo'}), which neither yolov5_repo nor the yolov5 package could give"
        )
    if name.startswith("ultralytics.") and is_place_of_layers(name) and find_class(name) is None:
        return (
            f"{path} needs {name.rpartition('.')[2]} ({name}) from the fork of Ultralytics it was trained with, which "
            f"the installed ultralytics {ultralytics.__version__} does not have; install that fork in its place"
        )
    package = (name or missing or "").partition(".")[0]
    if missing or (package and package not in sys.modules and importlib.util.find_spec(package) is None):
        return f"{path} needs {name or missing}, of a Python module {package!r} that is not installed here; install it"
    if called := re.search(r"refused CALL (\w+)", chain):
        return f"{path} calls {called[1]}(...) as it is read, which checkpoints never do; {TRUST}"
    if name or "references types outside" in chain:
        asked = name or "a class"
        return f"{path} asks for {asked}, which is not on the list of classes that are safe to load; {TRUST}"
    if isinstance(error, PermissionError):
        return f"{path} cannot be read: permission denied"
    last = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if any(
        word in chain for word in ("PytorchStreamReader", "corrupt", "truncated", "EOF", "invalid load key", "pickle")
    ):
        return f"{path} is not a readable PyTorch checkpoint: it is truncated or damaged"
    return f"{path} cannot be loaded: {last}"


@contextlib.contextmanager
def quiet_ultralytics() -> Iterator[None]:
    """Hold back Ultralytics' own notices while the block runs: what matters in them comes back as a WeightsError."""
    logger = logging.getLogger("ultralytics")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
