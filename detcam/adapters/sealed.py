"""Unpickle known classes without ever calling one.

torch's own safe unpickler calls whatever class is on its list, and a model's constructor may read files, download, or
evaluate text. Here classes come sealed: their objects can be made and filled, as unpickling does, but a call is
refused. The list is the caller's alone: what others registered with torch, for as long as the process lives, is set
aside while a file is read.
"""

from __future__ import annotations

import pathlib
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

PATHS: dict[str, type] = {  # a path of another system cannot be made here, and nothing follows it
    f"{module}.{kind[4:]}": getattr(pathlib, kind)
    for module in ("pathlib", "pathlib._local")
    for kind in ("PurePosixPath", "PureWindowsPath")
}
_LOCK = threading.Lock()


def load_sealed(path: Path, allow: Callable[[str], Any]) -> Any:
    """What a checkpoint holds, on the CPU, its classes sealed.

    Args:
        path: a ``.pt`` file.
        allow: the dotted name of a class a file asks for -> that class sealed, a harmless one as it is, or None.

    Raises:
        pickle.UnpicklingError: it asks for a class that is not allowed, or calls one that is sealed.
    """
    serialization = torch.serialization
    with _LOCK:
        registered = serialization.get_safe_globals()
        serialization.clear_safe_globals()
        try:
            try:
                wanted = serialization.get_unsafe_globals_in_checkpoint(path)
            except ValueError:  # not the zip archive of today's torch.save: nothing but plain values is read from it
                wanted = []
            allowed = [(found, name) for name in wanted if (found := allow(name)) is not None]
            serialization.add_safe_globals([*allowed, *_plain_values()])
            return torch.load(path, map_location="cpu", weights_only=True)
        finally:
            serialization.clear_safe_globals()
            serialization.add_safe_globals(registered)


def sealed(found: type) -> Any:
    """A class whose objects can be made and filled but which cannot be called.

    Args:
        found: the class.

    Returns:
        A subclass of the same name, whose constructor raises ``pickle.UnpicklingError``.
    """

    def refuse(self: object, *arguments: Any, **keywords: Any) -> None:
        raise pickle.UnpicklingError(f"refused CALL {found.__name__}")

    return type(found.__name__, (found,), {"__init__": refuse, "sealed": True})


def unseal(value: Any) -> None:
    """Give every object in a model, its attributes and its containers its own class back.

    Args:
        value: a model, or what a checkpoint holds; changed in place.
    """
    visited: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if id(item) in visited or isinstance(item, torch.Tensor | np.ndarray | str | bytes | int | float | type(None)):
            continue
        visited.add(id(item))
        if "sealed" in vars(type(item)):
            item.__class__ = type(item).__bases__[0]
        if isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, list | tuple | set):
            stack += item
        elif isinstance(item, nn.Module) or type(item).__module__.startswith(("ultralytics.", "torchvision.")):
            stack += vars(item).values()


def _plain_values() -> list[Any]:
    """Paths and NumPy numbers, which checkpoints of an unfinished training hold beside the model."""
    makers = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(0).__reduce__()[0]}
    named = [(made, f"numpy.{core}.multiarray.{n}") for n, made in makers.items() for core in ("core", "_core")]
    dtypes = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32")]
    return [*named, *dtypes, *((found, name) for name, found in PATHS.items()), np.dtype, np.ndarray]
