"""A forward pass within bounds: a layer that would take gigabytes or hours ends in an error before it runs.

A checkpoint's layers are numbers that a stranger wrote: an enlargement by a billion is as easily written as one by two.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

NUMBERS_PER_PIXEL = 1000
"""Of the largest tensor of a pass; those of real detectors have up to some 100."""
LEAST_NUMBERS = 4_000_000
PRODUCTS_PER_PIXEL = 20_000_000
"""Multiplications of all convolutions; real detectors take up to some 2,000,000."""
MOST_STEPS = 100_000
_SHAPED = ("zeros", "ones", "full", "empty", "rand", "expand", "repeat", "upsample", "adaptive", "view", "reshape")


class BoundsError(RuntimeError):
    """A pass takes more than any detector."""


class Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, no step of torch's makes a tensor that no detector needs.

    Args:
        pixels: of the images that are passed.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = max(NUMBERS_PER_PIXEL * pixels, LEAST_NUMBERS)
        self.products = max(PRODUCTS_PER_PIXEL * pixels, LEAST_NUMBERS)
        self.steps = 0

    def step(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One step, looked at before it runs and after."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise BoundsError(f"a pass takes more than {MOST_STEPS:,} steps")
        name = func._schema.name.partition("::")[2].strip("_")
        size = _size_of(name, args)
        if size > self.most:
            raise BoundsError(f"{name} would make {size:.3g} numbers")
        if name == "convolution":
            self.products -= size * args[1][0].numel() if not args[6] else args[0].numel() * args[1][0].numel()
            if self.products < 0:
                raise BoundsError("its convolutions take more than any detector's")
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, Tensor) and one.numel() > self.most:
                raise BoundsError(f"{name} makes {one.numel():.3g} numbers")
        return made


# Set from outside: torch wraps what the class itself defines into something that imports its whole compiler.
Bounded.__torch_dispatch__ = Bounded.step  # type: ignore[assignment,method-assign]


def _size_of(name: str, args: Any) -> float:
    """How many numbers a step would make, where its arguments tell."""
    first = args[0] if args and isinstance(args[0], Tensor) else None
    if name == "convolution" and first is not None and isinstance(args[1], Tensor):
        return _convolution_size(*args[:9])
    if "pad" in name and first is not None and len(args) > 1 and isinstance(args[1], list | tuple):
        extra = [args[1][n] + args[1][n + 1] for n in range(0, len(args[1]) - 1, 2)]
        sides = list(first.shape[::-1])
        padded = [max(side + more, 0) for side, more in zip(sides, extra + [0] * len(sides), strict=False)]
        return float(math.prod(padded))
    if name in ("arange", "linspace", "eye") or name.startswith(("arange", "one_hot")):
        return max([abs(float(one)) for one in args if isinstance(one, int | float)], default=0.0)
    if name.startswith(("new_", *_SHAPED)):
        lists = [one for one in args if isinstance(one, list | tuple) and one and all(type(n) is int for n in one)]
        wanted = float(max((math.prod(map(abs, one)) for one in lists), default=0))
        if first is not None and name.startswith(("upsample", "adaptive")):
            return wanted * first.shape[0] * first.shape[1]
        return wanted * first.numel() if first is not None and name.startswith("repeat") else wanted
    return 0.0


def _convolution_size(
    x: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> float:
    """How many numbers a convolution gives."""
    size = float(x.shape[0]) * (weight.shape[1] * groups if transposed else weight.shape[0])
    for number, side in enumerate(x.shape[2:]):
        step, edge, gap, kernel = (
            part[min(number, len(part) - 1)] for part in (stride, padding, dilation, weight.shape[2:])
        )
        reach = gap * (kernel - 1) + 1
        if transposed:
            size *= max((side - 1) * step - 2 * edge + reach, 0)
        else:
            size *= max((side + 2 * edge - reach) // max(step, 1) + 1, 0)
            if side + 2 * edge > 64 * side + 1024:  # the padded image is made too
                size = math.inf
    return size
