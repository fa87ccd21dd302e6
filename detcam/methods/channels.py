"""Maps from forward passes in which a layer's channels or cells are tried one by one: no gradient is taken."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detcam.methods.subject import Subject
from detcam.tensors.fusion import fuse_maps

IMAGES_PER_PASS = 16
"""Images scored together."""


def scorecam(subject: Subject) -> Tensor:
    """Channels weighted by the score of the image seen through them alone (Wang et al. 2020, arXiv:1910.01279).

    A channel enlarged and scaled to [0, 1] masks the image; the softmax over channels of the target's values is their
    weights. Maps of several layers are summed.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h', w') at the finest layer's resolution, not negative.
    """
    layers = []
    for activations in subject.activations().values():
        values = []
        for part in torch.split(activations, IMAGES_PER_PASS):
            masks = F.interpolate(part[:, None], subject.image.shape[-2:], mode="bilinear")
            low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
            masks = torch.where(high > low, (masks - low) / (high - low), 0)
            values.append(subject.values(subject.image * torch.where(subject.inside, masks, 1)))
        weights = torch.cat(values).softmax(0)
        layers.append(torch.einsum("ck,chw->khw", weights, activations).relu())
    return _summed(layers)


def ablationcam(subject: Subject) -> Tensor:
    """Channels weighted by what the target loses without them (doi:10.1109/WACV45572.2020.9093360).

    Ramaswamy & Desai 2020: ``relu(sum_k w_k A_k)`` with ``w_k = (y - y_k) / |y|``, where ``y_k`` is the target with
    channel k at zero. The loss is over the target's magnitude, so that evidence keeps its sign where the value is
    negative. Maps of several layers are summed.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h', w') at the finest layer's resolution, not negative.
    """
    layers = []
    for name, activations in subject.activations().items():
        own = subject.values_with(name, activations[None])[0]
        values = []
        for start in range(0, len(activations), IMAGES_PER_PASS):
            part = range(start, min(start + IMAGES_PER_PASS, len(activations)))
            without = activations.expand(len(part), -1, -1, -1).clone()
            without[range(len(part)), part] = 0
            values.append(subject.values_with(name, without))
        weights = (own - torch.cat(values)) / own.abs().clamp(min=torch.finfo(own.dtype).tiny)
        layers.append(torch.einsum("ck,chw->khw", weights, activations).relu())
    return _summed(layers)


def reciprocam(subject: Subject) -> Tensor:
    """The target's value where a layer holds one cell's activations alone (Byun & Lee 2022, arXiv:2209.14074).

    The layer is the coarsest of those chosen; the cell's activations stand under a 3 x 3 Gaussian around it. Each map's
    lowest value is taken off it. The target is used as it is, not a softmax over classes.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h', w') at that layer's resolution, not negative.
    """
    name, activations = min(subject.activations().items(), key=lambda layer: layer[1][0].numel())
    rows, columns = activations.shape[-2:]
    gaussian = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]], device=activations.device) / 16
    flat = activations.flatten(1)
    values = []
    for cells in torch.split(torch.arange(rows * columns, device=activations.device), IMAGES_PER_PASS):
        masks = torch.zeros(len(cells), 1, rows * columns, device=activations.device)
        masks[torch.arange(len(cells)), 0, cells] = 1
        masks = F.conv2d(masks.view(-1, 1, rows, columns), gaussian[None, None], padding=1)
        values.append(subject.values_with(name, flat[:, cells].T[:, :, None, None] * masks))
    maps = torch.cat(values).T.reshape(-1, rows, columns)
    return maps - maps.amin((1, 2), keepdim=True)


def _summed(layers: list[Tensor]) -> Tensor:
    """(K, h, w) of several layers -> their sum at the finest resolution."""
    return torch.stack([fuse_maps([layer[k] for layer in layers]) for k in range(len(layers[0]))])
