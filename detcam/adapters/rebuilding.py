"""What checkpoints call as they are read, done by our own code: tensors, sizes, paths, NumPy's numbers, containers.

None of the functions named in a checkpoint is called. A name that is not in :data:`FUNCTIONS` or :data:`VALUES` is a
class (:mod:`detcam.adapters.known_classes`) or is refused.
"""

from __future__ import annotations

import math
import pathlib
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detcam.adapters.archives import STORAGES
from detcam.adapters.pickles import add_pairs, is_plain_key

MOST_DIMENSIONS = 16
MOST_REPEATED = 65_536
"""Numbers that a tensor may have beyond those in its memory, which are then repeated."""
_NUMBERS = re.compile(r"[<>|=]?(?:[biufc](?:1|2|4|8|16)|b1)")


def tensor(memory: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor of memory that lies in the file, and no further.

    Args:
        memory: flat.
        offset: of its first number.
        size: of each dimension.
        stride: likewise.

    Raises:
        pickle.UnpicklingError: a number of it would lie outside.
    """
    shape = tuple(size) if isinstance(size, tuple) else None
    whole = [offset, *(shape or ()), *(stride if isinstance(stride, tuple) else [None])]
    if (
        not isinstance(memory, Tensor)
        or shape is None
        or not all(type(one) is int and 0 <= one < 2**62 for one in whole)
        or not len(shape) == len(stride) <= MOST_DIMENSIONS
    ):
        raise pickle.UnpicklingError("corrupt: a tensor's shape is no shape")
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    count = math.prod(shape)
    if (count and last >= memory.numel()) or count > memory.numel() + MOST_REPEATED or offset > memory.numel():
        raise pickle.UnpicklingError(
            f"corrupt: a tensor of shape {shape} lies outside of its memory of {memory.numel()} numbers"
        )
    return torch.empty(0, dtype=memory.dtype).set_(memory.untyped_storage(), offset, shape, stride)


def parameter(data: Any, requires_grad: Any = True, *_: Any) -> nn.Parameter:
    """A module's parameter.

    Args:
        data: a tensor.
        requires_grad: which only floating-point numbers can.

    Raises:
        pickle.UnpicklingError: it is none.
    """
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError(f"corrupt: a parameter that is a {type(data).__name__}")
    return nn.Parameter(data.detach(), requires_grad=bool(requires_grad) and data.is_floating_point())


def _size(lengths: Any = ()) -> torch.Size:
    return torch.Size([length for length in lengths if type(length) is int])


def _device(name: Any, index: Any = None) -> torch.device:
    return torch.device(str(name)[:20] if index is None else f"{str(name)[:20]}:{int(index)}")


def _ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    made: OrderedDict[Any, Any] = OrderedDict()
    add_pairs(made, [(key, value) for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)])
    return made


def _members(members: Any = ()) -> set[Any]:
    if not isinstance(members, list | tuple | set | frozenset) or not all(map(is_plain_key, members)):
        raise pickle.UnpicklingError("corrupt: a set of what cannot be in one")
    return set(members)


def _bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise pickle.UnpicklingError("corrupt: bytes in an unknown encoding")
    return text.encode("latin1")


def _dtype(name: Any, *_: Any) -> np.dtype[Any]:
    if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
        raise pickle.UnpicklingError(f"corrupt: NumPy's numbers {str(name)[:40]!r}")
    return np.dtype(name)


def _scalar(kind: Any, data: Any) -> Any:
    if not isinstance(kind, np.dtype) or not isinstance(data, bytes) or len(data) != kind.itemsize:
        raise pickle.UnpicklingError("corrupt: a NumPy number")
    return np.frombuffer(data, kind)[0]


def _unfilled_array(*_: Any) -> np.ndarray[Any, Any]:
    return np.zeros(0)


def filled_array(state: Any) -> np.ndarray[Any, Any]:
    """A NumPy array of numbers.

    Args:
        state: its version, shape, dtype, order and bytes.

    Raises:
        pickle.UnpicklingError: they do not fit together.
    """
    _, shape, kind, in_columns, data = state
    numbers = isinstance(kind, np.dtype) and isinstance(data, bytes) and isinstance(shape, tuple)
    if not numbers or not all(type(one) is int and one >= 0 for one in shape):
        raise pickle.UnpicklingError("corrupt: a NumPy array")
    if math.prod(shape) * kind.itemsize != len(data) or len(shape) > MOST_DIMENSIONS:
        raise pickle.UnpicklingError("corrupt: a NumPy array of another size than its shape")
    filled: np.ndarray[Any, Any] = np.frombuffer(data, kind).reshape(shape, order="F" if in_columns else "C").copy()
    return filled


def _path(kind: Callable[..., Any]) -> Callable[..., Any]:
    """A maker of paths, which nothing follows."""
    return lambda *parts: kind(*[part for part in parts if isinstance(part, str)])


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_parameter": parameter,
    "torch._utils._rebuild_parameter_with_state": parameter,
    "torch.nn.parameter.Parameter": parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "torch.torch_version.TorchVersion": lambda text="": str(text)[:80],
    "torch.serialization._get_layout": lambda *_: torch.strided,
    "collections.OrderedDict": _ordered,
    "collections.Counter": lambda counts=(): dict(_ordered(counts)),
    "builtins.dict": lambda pairs=(): dict(_ordered(pairs)),
    "builtins.set": _members,
    "builtins.frozenset": lambda members=(): frozenset(_members(members)),
    "builtins.list": lambda members=(): [*members],
    "builtins.tuple": lambda members=(): (*members,),
    "builtins.bytearray": lambda data=b"", *encoding: bytearray(_bytes(data, *encoding) if encoding else bytes(data)),
    "builtins.bytes": lambda: b"",
    "builtins.complex": lambda real=0.0, imaginary=0.0: complex(float(real), float(imaginary)),
    "_codecs.encode": _bytes,
    "numpy.dtype": _dtype,
    "numpy.ndarray": _unfilled_array,
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _unfilled_array for core in ("core", "_core")},
    **{
        f"{module}.{name}": _path(pathlib.PureWindowsPath if "Windows" in name else pathlib.PurePosixPath)
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
    },
}
"""Our own functions for those that checkpoints call, by their names there."""
VALUES: dict[str, Any] = {
    **{f"torch.{str(kind).removeprefix('torch.')}": kind for kind in STORAGES.values()},
    **{f"torch.{name}": getattr(torch, name) for name in ("complex64", "complex128", "strided")},
    **dict.fromkeys(STORAGES),
}
"""What else is named, and stands for a value."""
