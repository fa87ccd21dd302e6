"""Torch's own functions intercepted while a network runs: modules stay as they are, also those used several times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_KINKED = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.leaky_relu, F.leaky_relu_}
_CURVED = {F.silu, F.hardswish, F.gelu, F.mish, F.elu, F.relu6, F.hardtanh, F.hardtanh_}


class GuidedGradients(TorchFunctionMode):
    """Gate what flows back through every rectifier (Springenberg et al. 2015, arXiv:1412.6806).

    A gradient passes where it is positive and where the rectifier's input was, times the rectifier's own derivative:
    for ReLU guided backpropagation as published, for SiLU and its like that rule carried over.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _KINKED | _CURVED:
            return func(*args, **kwargs)
        inputs: Tensor = args[0] if args else kwargs["input"]
        positive = inputs.detach() > 0
        output = func(*args, **kwargs)
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient.clamp(min=0) * positive)
        return output


class BiasGradients(TorchFunctionMode):
    """Hand over bias times gradient, (channel, h, w), for every feature map that a bias was added to.

    With them a network's output splits without rest into its input's and its biases' parts (Srinivas & Fleuret 2019,
    arXiv:1905.00780). Batch normalisation's bias holds its running mean; a smooth activation's implicit bias is what
    its tangent at the input leaves over.

    Args:
        receive: called in each backward pass, layer by layer from the last, with one image's (channel, h, w).
    """

    def __init__(self, receive: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._receive = receive

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        bias = self._bias(func, args, kwargs)
        output = func(*args, **kwargs)
        if bias is not None and output.ndim == 4 and output.requires_grad:
            output.register_hook(lambda gradient: self._receive((bias * gradient)[0].detach()))
        return output

    @staticmethod
    def _bias(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
        """What a function adds to a linear one, to be multiplied with the gradient at its output."""
        if func in (F.conv2d, F.conv_transpose2d):
            own: Tensor | None = args[2] if len(args) > 2 else kwargs.get("bias")
            return None if own is None else own.detach()[:, None, None]
        if func is F.batch_norm:
            return _normalisation_bias(*args, **kwargs)
        if func in _CURVED:
            with torch.enable_grad():
                inputs = args[0].detach().clone().requires_grad_()
                (slope,) = torch.autograd.grad(_fresh(func, inputs, args, kwargs).sum(), inputs)
                tangent_rest: Tensor = _fresh(func, inputs, args, kwargs).detach() - slope * inputs.detach()
            return tangent_rest
        return None


def _fresh(func: Callable[..., Any], inputs: Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """An activation of a copy, which an in-place one may overwrite."""
    return func(inputs.clone(), *args[1:], **kwargs)


def _normalisation_bias(
    inputs: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """What batch normalisation adds in evaluation mode."""
    if training or mean is None or variance is None:
        return None
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
    shift: Tensor = (0 if bias is None else bias) - mean * scale
    return shift.detach()[:, None, None]
