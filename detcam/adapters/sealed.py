"""Unpickle known classes without ever calling one.

torch's own safe unpickler calls whatever class is on its list, and a model's constructor may read files, download, or
evaluate text. Here classes come sealed: their objects can be made and filled, as unpickling does, but a call of a class
or of an object is refused. The list is the caller's alone: what others registered with torch, for as long as the
process lives, is set aside while a file is read.
"""

from __future__ import annotations

import enum
import pathlib
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

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
OWN_METHODS = ("forward", "forward_fuse", "forward_split")
"""Methods that Ultralytics sets in place of a module's forward pass, and that checkpoints therefore ask for by name."""
_LOCK = threading.Lock()


class Forgotten:
    """Stands for what a checkpoint holds and nothing here needs: made of anything, and empty."""

    def __new__(cls, *arguments: Any, **keywords: Any) -> Forgotten:
        """An empty object."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Nothing is kept."""

    def __getattr__(self, name: str) -> Forgotten:
        """As empty."""
        if name.startswith("__"):
            raise AttributeError(name)
        return Forgotten()


class OwnMethod(NamedTuple):
    """A module's own method, named in a checkpoint; not the method, which could be called as the file is read."""

    owner: Any
    name: str


def named_attribute(owner: Any, name: str) -> Any:
    """What stands in the place of ``getattr``: a record of a forward pass, or a member of an enumeration.

    Args:
        owner: a sealed module or class, whose ``name`` is one of :data:`OWN_METHODS`; or an enumeration.
        name: of the attribute.

    Raises:
        pickle.UnpicklingError: anything else is asked for.
    """
    kind = owner if isinstance(owner, type) else type(owner)
    if owner is kind and issubclass(kind, enum.Enum) and name in kind.__members__:
        return kind[name]
    if issubclass(kind, Forgotten):
        return Forgotten()
    if issubclass(kind, nn.Module) and "sealed" in vars(kind) and name in OWN_METHODS:
        return OwnMethod(owner, name)
    raise pickle.UnpicklingError(f"refused CALL getattr: {kind.__name__}.{name}")


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
        A subclass of the same name, whose constructor and whose objects, called, raise ``pickle.UnpicklingError``.
    """

    def refuse(self: object, *arguments: Any, **keywords: Any) -> None:
        raise pickle.UnpicklingError(f"refused CALL {found.__name__}")

    return type(found.__name__, (found,), {"__init__": refuse, "__call__": refuse, "sealed": True})


def unseal(value: Any) -> None:
    """Give every object in a model, its attributes and its containers its own class back, and its own methods.

    What was :class:`Forgotten` is no longer among a module's modules.

    Args:
        value: a model, or what a checkpoint holds; changed in place.

    Raises:
        pickle.UnpicklingError: a module's forward pass is another module's method.
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
            if isinstance(item, nn.Module):
                kept = {name: part for name, part in item._modules.items() if not isinstance(part, Forgotten)}
                item._modules = kept
            vars(item).update({name: _unsealed(held, item) for name, held in vars(item).items()})
            stack += vars(item).values()


def _unsealed(held: Any, item: Any) -> Any:
    """An attribute of an object: a class as it was before it was sealed, and a method as one of the object."""
    if isinstance(held, type) and "sealed" in vars(held):
        return held.__bases__[0]
    if not isinstance(held, OwnMethod):
        return held
    if isinstance(held.owner, type):
        return getattr(held.owner.__bases__[0], held.name)
    if held.owner is not item:
        raise pickle.UnpicklingError(f"refused CALL getattr: the {held.name} of another module")
    return getattr(type(item), held.name).__get__(item)


def _plain_values() -> list[Any]:
    """Paths and NumPy numbers, which checkpoints of an unfinished training hold beside the model."""
    dtypes = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32")]
    named = [(made, name) for name, made in (PATHS | NUMPY_MAKERS).items()]
    return [*named, *dtypes, np.dtype, np.ndarray]
