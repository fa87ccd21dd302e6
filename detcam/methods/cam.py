"""Class activation maps as pure functions of tensors.

Each takes a layer's activations ``A`` and, where it needs them, the gradients ``g`` of the target with respect to them,
both ``(..., channel, height, width)``, and returns a map ``(..., height, width)``. Nothing is normalised here.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """ReLU of the channels weighted by their mean gradient (Selvaraju et al. 2017, arXiv:1610.02391)."""
    weights = gradients.mean((-2, -1), keepdim=True)
    return (weights * activations).sum(-3).relu()


def gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM with pixel-wise weighted positive gradients (Chattopadhay et al. 2018, arXiv:1710.11063).

    A weight whose denominator is zero is zero; no epsilon is added, which would drown the small gradients of detectors.
    """
    square, cube = gradients**2, gradients**3
    denominator = 2 * square + activations.sum((-2, -1), keepdim=True) * cube
    alpha = torch.where(denominator != 0, square / denominator, torch.zeros_like(square))
    weights = (alpha * gradients.relu()).sum((-2, -1), keepdim=True)
    return (weights * activations).sum(-3).relu()


def hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    """ReLU of the summed products of gradient and activation (Draelos & Carin 2020, arXiv:2011.08891).

    With one detection's scalar as the target this is also ODAM (Zhao & Chan 2023) without its Gaussian smoothing.
    """
    return (gradients * activations).sum(-3).relu()


def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """ReLU of the activations times their positive gradients (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943)."""
    return (gradients.relu() * activations).sum(-3).relu()


def gradnorm(activations: Tensor, gradients: Tensor) -> Tensor:
    """Root of the summed squares of gradient times activation: where anything matters, for or against."""
    return (gradients * activations).square().sum(-3).sqrt()


def eigencam(activations: Tensor) -> Tensor:
    """The first principal component of the activations (Muhammad & Yeasin 2020, arXiv:2008.00299).

    The component of the cells, as points in channel space, less their mean. Its arbitrary sign is fixed so that its
    largest magnitude is positive. The map knows nothing of any class or detection.
    """
    flat = activations.flatten(-2).transpose(-2, -1)
    centred = flat - flat.mean(-2, keepdim=True)
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    projection = (centred @ components[..., :1, :].transpose(-2, -1)).squeeze(-1)
    extreme = projection.gather(-1, projection.abs().argmax(-1, keepdim=True))
    oriented: Tensor = projection * extreme.sign()
    return oriented.reshape(*activations.shape[:-3], *activations.shape[-2:])


def random(activations: Tensor, seed: int) -> Tensor:
    """Uniform noise at the layer's resolution: the baseline every method has to beat. One seed, one map."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*activations.shape[:-3], *activations.shape[-2:])
    return torch.rand(shape, generator=generator).to(activations)
