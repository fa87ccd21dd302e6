"""Class activation maps as pure functions of tensors.

Each takes a layer's activations ``A`` and, where it needs them, the gradients ``g`` of the target with respect to them,
both ``(..., channel, height, width)``, and returns a map ``(..., height, width)``. Nothing is normalised here. Where a
method ends by summing weighted channels, ``reduce`` may replace that sum: eigen smoothing gives their first principal
component instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from detcam.errors import UsageError
from detcam.tensors.fills import gaussian_blur

Reduce = Callable[[Tensor], Tensor]
"""(..., channel, height, width) -> (..., height, width)."""


def positive_sum(weighted: Tensor) -> Tensor:
    """ReLU of the sum of weighted channels.

    Args:
        weighted: (..., channel, height, width).

    Returns:
        (..., height, width), not negative.

    >>> positive_sum(torch.tensor([[[1.0, -3.0]], [[1.0, 1.0]]])).tolist()
    [[2.0, 0.0]]
    """
    return weighted.sum(-3).relu()


def positive_component(weighted: Tensor) -> Tensor:
    """ReLU of the first principal component of weighted channels, with the sign that agrees with their sum.

    Args:
        weighted: (..., channel, height, width).

    Returns:
        (..., height, width), not negative.
    """
    component = _first_component(weighted)
    agreement = (component * weighted.sum(-3)).sum((-2, -1), keepdim=True)
    return torch.where(agreement < 0, -component, component).relu()


def cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Channels weighted by the classifier's own row for the class, signed (Zhou et al. 2016, arXiv:1512.04150).

    ``sum_k w_k A_k``, where ``w_k`` is the linear layer's weight for the class. Behind global average pooling and a
    linear layer the gradient of a logit is the same in every cell of a channel, and its sum over the cells is that
    weight: no other network has a CAM.

    Args:
        activations: (..., channel, height, width).
        gradients: of the target with respect to them, the same shape.

    Returns:
        (..., height, width), signed.

    Raises:
        UsageError: gradients differ within a channel, so the layer is not followed by global average pooling.
    """
    spread = gradients.amax((-2, -1)) - gradients.amin((-2, -1))
    if (spread > 1e-4 * gradients.abs().amax().clamp(min=torch.finfo(gradients.dtype).tiny)).any():
        raise UsageError(
            "'cam' needs a layer that only global average pooling and one linear layer follow, and this one's "
            "gradients differ from cell to cell; use 'gradcam' or 'hirescam'"
        )
    return (gradients.sum((-2, -1), keepdim=True) * activations).sum(-3)


def gradcam(activations: Tensor, gradients: Tensor, reduce: Reduce = positive_sum) -> Tensor:
    """Channels weighted by their mean gradient (Selvaraju et al. 2017, arXiv:1610.02391).

    ``relu(sum_k mean(g_k) A_k)``.

    Args:
        activations: (..., channel, height, width).
        gradients: of the target with respect to them, the same shape.
        reduce: how weighted channels become a map.

    Returns:
        (..., height, width), not negative unless ``reduce`` makes it so.

    >>> activations = torch.tensor([[[1.0, 2.0]], [[3.0, 0.0]]])
    >>> gradcam(activations, torch.tensor([[[1.0, 3.0]], [[-1.0, -1.0]]])).tolist()  # means 2 and -1
    [[0.0, 4.0]]
    """
    return reduce(gradients.mean((-2, -1), keepdim=True) * activations)


def gradcam_plus_plus(activations: Tensor, gradients: Tensor, reduce: Reduce = positive_sum) -> Tensor:
    """Grad-CAM with pixel-wise weighted positive gradients (Chattopadhay et al. 2018, arXiv:1710.11063).

    ``relu(sum_k w_k A_k)`` with ``w_k = sum(a_k relu(g_k))`` and ``a_k = g_k^2 / (2 g_k^2 + sum(A_k) g_k^3)``. A weight
    whose denominator is zero is zero; no epsilon is added, which would drown the small gradients of detectors.

    Args:
        activations: (..., channel, height, width).
        gradients: of the target with respect to them, the same shape.
        reduce: how weighted channels become a map.

    Returns:
        (..., height, width), not negative unless ``reduce`` makes it so.
    """
    return reduce(_second_order_weights(activations, gradients, torch.ones_like(activations)) * activations)


def xgradcam(activations: Tensor, gradients: Tensor, reduce: Reduce = positive_sum) -> Tensor:
    """Channels weighted by their mean gradient, each cell counted as its share of the channel (arXiv:2008.02312).

    Fu et al. 2020: ``relu(sum_k w_k A_k)`` with ``w_k = sum(g_k A_k) / sum(A_k)``. A channel whose activations sum to
    zero has no such shares, and is left out.

    Args:
        activations: (..., channel, height, width).
        gradients: of the target with respect to them, the same shape.
        reduce: how weighted channels become a map.

    Returns:
        (..., height, width), not negative unless ``reduce`` makes it so.
    """
    total = activations.sum((-2, -1), keepdim=True)
    weights = _divide((gradients * activations).sum((-2, -1), keepdim=True), total)
    return reduce(weights * activations)


def hirescam(activations: Tensor, gradients: Tensor, reduce: Reduce = positive_sum) -> Tensor:
    """Products of gradient and activation, cell by cell (Draelos & Carin 2020, arXiv:2011.08891).

    ``relu(sum_k g_k A_k)``.

    Args:
        activations: (..., channel, height, width).
        gradients: of the target with respect to them, the same shape.
        reduce: how weighted channels become a map.

    Returns:
        (..., height, width), not negative unless ``reduce`` makes it so.

    >>> hirescam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, -1.0]]])).tolist()
    [[3.0, 0.0]]
    """
    return reduce(gradients * activations)


def layercam(activations: Tensor, gradients: Tensor, reduce: Reduce = positive_sum) -> Tensor:
    """Activations times their positive gradients (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943).

    ``relu(sum_k relu(g_k) A_k)``.

    Args:
        activations: (..., channel, height, width).
        gradients: of the target with respect to them, the same shape.
        reduce: how weighted channels become a map.

    Returns:
        (..., height, width), not negative unless ``reduce`` makes it so.

    >>> layercam(torch.tensor([[[1.0, 2.0]], [[1.0, 1.0]]]), torch.tensor([[[3.0, -1.0]], [[-5.0, 1.0]]])).tolist()
    [[3.0, 1.0]]
    """
    return reduce(gradients.relu() * activations)


def odam(activations: Tensor, gradients: Tensor, box: Tensor, reduce: Reduce = positive_sum) -> Tensor:
    """Locally smoothed gradients times activations (Zhao & Chan 2023, arXiv:2304.06354).

    The paper smooths the gradients by a Gaussian whose window follows the object's size and leaves the figure open;
    here its standard deviation is an eighth of the box's mean side. Without that smoothing ODAM is HiResCAM of one
    detection's scalar, which is also what its authors' released code computes.

    Args:
        activations: (..., channel, height, width).
        gradients: the same shape.
        box: (4,) xyxy in cells of the layer.
        reduce: how channels become a map.
    """
    width, height = (float(side) for side in (box[2:] - box[:2]).clamp(min=0))
    return reduce(gaussian_blur(gradients, math.sqrt(width * height) / 8) * activations)


def ssgradcam(activations: Tensor, gradients: Tensor, reduce: Reduce = positive_sum) -> Tensor:
    """Grad-CAM times each channel's own gradient magnitudes, over their largest (Yamauchi & Ishikawa 2022).

    Spatial Sensitive Grad-CAM, doi:10.1109/ICIP46576.2022.9897350: ``relu(sum_k mean(g_k) A_k |g_k| / max|g_k|)``.

    Args:
        activations: (..., channel, height, width).
        gradients: of the target with respect to them, the same shape.
        reduce: how weighted channels become a map.

    Returns:
        (..., height, width), not negative unless ``reduce`` makes it so.
    """
    return reduce(gradients.mean((-2, -1), keepdim=True) * activations * _sensitivity(gradients))


def ssgradcam_plus_plus(
    activations: Tensor, gradients: Tensor, anchor: Tensor, reduce: Reduce = positive_sum
) -> Tensor:
    """SSGrad-CAM with Grad-CAM++'s weights, their activations taken from the detection's cell alone.

    Yamauchi 2024, CVPR Workshops, pages 8164-8168.

    Args:
        activations: (..., channel, height, width).
        gradients: the same shape.
        anchor: (2,) x, y of the detection's anchor in cells of the layer.
        reduce: how channels become a map.
    """
    height, width = activations.shape[-2:]
    column, row = min(max(int(anchor[0]), 0), width - 1), min(max(int(anchor[1]), 0), height - 1)
    cell = torch.zeros_like(activations)
    cell[..., row, column] = 1
    return reduce(_second_order_weights(activations, gradients, cell) * activations * _sensitivity(gradients))


def gcame(
    activations: Tensor, gradients: Tensor, anchor: Tensor, stride: float, reduce: Reduce = positive_sum
) -> Tensor:
    """Grad-CAM's channels under a Gaussian at the anchor (Nguyen et al. 2023, arXiv:2306.03400).

    A channel's standard deviation, in cells, is ``|ln |mean gradient|| ln(stride) / k``, at least 1, where ``3 k`` is
    half of the layer's mean side, rounded down: the map is a prior around the anchor before it is evidence.

    Args:
        activations: (..., channel, height, width).
        gradients: the same shape.
        anchor: (2,) x, y of the detection's anchor in cells of the layer.
        stride: of the layer, pixels.
        reduce: how channels become a map.
    """
    height, width = activations.shape[-2:]
    weights = gradients.mean((-2, -1), keepdim=True)
    radius = max(math.floor((math.sqrt(height * width) - 1) / 2), 1) / 3
    spread = weights.abs().clamp(min=torch.finfo(weights.dtype).tiny).log().abs() * math.log(max(stride, 1)) / radius
    rows, columns = (torch.arange(n, device=weights.device, dtype=weights.dtype) + 0.5 for n in (height, width))
    distance = (rows - anchor[1])[:, None] ** 2 + (columns - anchor[0])[None] ** 2
    return reduce(weights * activations * (-distance / (2 * spread.clamp(min=1) ** 2)).exp())


def gradnorm(activations: Tensor, gradients: Tensor) -> Tensor:
    """Size of gradient times activation: where anything matters, for or against.

    ``sqrt(sum_k (g_k A_k)^2)``.

    Args:
        activations: (..., channel, height, width).
        gradients: of the target with respect to them, the same shape.

    Returns:
        (..., height, width), not negative.
    """
    return (gradients * activations).square().sum(-3).sqrt()


def eigencam(activations: Tensor) -> Tensor:
    """The first principal component of the activations (Muhammad & Yeasin 2020, arXiv:2008.00299).

    The component of the cells, as points in channel space, less their mean. Its arbitrary sign is fixed so that its
    largest magnitude is positive. The map knows nothing of any class or detection.

    Args:
        activations: (..., channel, height, width).

    Returns:
        (..., height, width), signed.
    """
    component = _first_component(activations)
    flat = component.flatten(-2)
    extreme = flat.gather(-1, flat.abs().argmax(-1, keepdim=True)).sign()
    oriented: Tensor = component * extreme[..., None]
    return oriented


def eigengradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """The first principal component of gradient times activation, its sign that of their sum, and ReLU.

    EigenCAM's idea with the class in it, as pytorch-grad-cam named it; there the sign is left to chance.

    Args:
        activations: (..., channel, height, width).
        gradients: of the target with respect to them, the same shape.

    Returns:
        (..., height, width), not negative.
    """
    return positive_component(gradients * activations)


def random(activations: Tensor, seed: int) -> Tensor:
    """Uniform noise at the layer's resolution: the baseline every method has to beat.

    Args:
        activations: (..., channel, height, width), of which only the shape is used.
        seed: of the noise; one seed, one map.

    Returns:
        (..., height, width) in [0, 1).
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (*activations.shape[:-3], *activations.shape[-2:])
    return torch.rand(shape, generator=generator).to(activations)


def _second_order_weights(activations: Tensor, gradients: Tensor, region: Tensor) -> Tensor:
    """Grad-CAM++'s channel weights, activations and curvature taken from a region (1 inside, 0 outside)."""
    square, cube = gradients**2, gradients**3
    denominator = 2 * square * region + (activations * region).sum((-2, -1), keepdim=True) * cube
    return (_divide(square, denominator) * gradients.relu()).sum((-2, -1), keepdim=True)


def _sensitivity(gradients: Tensor) -> Tensor:
    """Gradient magnitudes over the largest of each channel, in [0, 1]."""
    size = gradients.abs()
    return _divide(size, size.amax((-2, -1), keepdim=True))


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, and zero where the denominator is."""
    return torch.where(denominator != 0, numerator / denominator, torch.zeros_like(numerator))


def _first_component(channels: Tensor) -> Tensor:
    """The cells' projection on their first principal component in channel space, sign arbitrary."""
    flat = channels.flatten(-2).transpose(-2, -1)
    centred = flat - flat.mean(-2, keepdim=True)
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    projection = (centred @ components[..., :1, :].transpose(-2, -1)).squeeze(-1)
    component: Tensor = projection.reshape(*channels.shape[:-3], *channels.shape[-2:])
    return component
