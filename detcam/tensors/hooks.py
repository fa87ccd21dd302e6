"""The one place that hooks modules: record the activations of a forward pass, and start the autograd graph there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from detcam.errors import UsageError


@contextmanager
def capture(
    modules: Mapping[str, nn.Module], instead: Mapping[str, Tensor] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Record the output of each module while the block runs; leaving it, by an exception too, removes every hook.

    An output that carries no graph yet becomes a leaf that requires a gradient, so a model whose parameters require
    none builds its graph from the first captured layer on and not before. A layer further down keeps its graph, so
    gradients reach every captured layer whole. What flows on is a clone: an in-place activation that follows cannot
    change what was recorded.

    Args:
        modules: by the name their activations get.
        instead: for some of these names, what flows on in place of the module's own output.

    Yields:
        A dictionary that the forward pass fills, each (batch, channel, height, width).

    Raises:
        UsageError: a module ran more than once, or gave something other than one four-dimensional tensor.
    """
    activations: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, arguments: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            given = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise UsageError(
                f"layer {name!r} ({type(module).__name__}) gives {given}; "
                "only one (batch, channel, height, width) tensor can be explained"
            )
        if name in activations:
            raise UsageError(f"layer {name!r} ({type(module).__name__}) runs more than once in a forward pass")
        if instead and name in instead:
            output = instead[name].to(output)
        activations[name] = output if output.requires_grad or instead else output.detach().requires_grad_()
        return activations[name].clone()

    handles = []
    try:
        for name, module in modules.items():
            handles.append(module.register_forward_hook(partial(record, name)))
        yield activations
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def record_shapes(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[int, int, int]]]:
    """Record (channel, height, width) of each module that gives one four-dimensional tensor while the block runs.

    Args:
        modules: by the name their shapes get. One that runs twice keeps the later shape.

    Yields:
        A dictionary that the forward pass fills.
    """
    shapes: dict[str, tuple[int, int, int]] = {}

    def record(name: str, module: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            shapes[name] = (output.shape[1], output.shape[2], output.shape[3])

    handles = [module.register_forward_hook(partial(record, name)) for name, module in modules.items()]
    try:
        yield shapes
    finally:
        for handle in handles:
            handle.remove()
