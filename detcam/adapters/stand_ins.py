"""What stands for parts of a checkpoint that are not needed, or cannot be made here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn


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


class Wrapper(nn.Module):
    """Stands for a module around a model: ``DataParallel``, ``DistributedDataParallel``, an average, a compiled one."""

    def __new__(cls, *arguments: Any) -> Wrapper:
        """Empty, or around the first of its arguments."""
        return cls.around(arguments[0] if arguments and isinstance(arguments[0], nn.Module) else None)

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Its modules, and no more."""
        self._modules.update(state.get("_modules", {}))

    @classmethod
    def around(cls, inner: nn.Module | None) -> Wrapper:
        """One around a model, or empty.

        Args:
            inner: the model.
        """
        made = super().__new__(cls)
        nn.Module.__init__(made)
        if inner is not None:
            made.module = inner
        return made


def forget(value: Any) -> None:
    """Take what is :class:`Forgotten` out of the modules of a checkpoint that was read with trust.

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
        if isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, list | tuple | set):
            stack += item
        elif isinstance(item, nn.Module):
            item._modules = {name: part for name, part in item._modules.items() if not isinstance(part, Forgotten)}
            stack += vars(item).values()
        elif type(item).__module__.startswith(("ultralytics.", "torchvision.")):
            stack += vars(item).values()
