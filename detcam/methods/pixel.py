"""Maps at the pixels, from gradients with respect to the detector's input.

Each takes a :class:`~detcam.methods.subject.Subject`: one image and what may be asked about it, for all of its
detections at once. It returns maps (detection, height, width) over the input. Nothing is normalised here.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detcam.methods.subject import Subject

PATH_POINTS = 50
"""Points on the path of integrated gradients."""
NOISY_COPIES = 50
"""Noisy copies of SmoothGrad."""
NOISE_SHARE = 0.15
"""Their noise, as a share of the input's range."""


def saliency(subject: Subject) -> Tensor:
    """The largest gradient magnitude of a pixel's channels (Simonyan et al. 2014, arXiv:1312.6034).

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h, w), not negative.
    """
    return _largest(subject.gradients(subject.image))


def guided_backprop(subject: Subject) -> Tensor:
    """The largest magnitude of a pixel's channels, gradients gated (Springenberg et al. 2015, arXiv:1412.6806).

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h, w), not negative.
    """
    return _largest(subject.guided_gradients(subject.image))


def guided_gradcam(subject: Subject) -> Tensor:
    """Guided backpropagation times Grad-CAM enlarged bilinearly (Selvaraju et al. 2017, arXiv:1610.02391).

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h, w), not negative.
    """
    coarse = F.interpolate(subject.layer_maps("gradcam")[:, None], subject.image.shape[-2:], mode="bilinear")
    return _largest(subject.guided_gradients(subject.image) * coarse)


def smoothgrad(subject: Subject) -> Tensor:
    """The mean gradient over noisy copies (Smilkov et al. 2017, arXiv:1706.03825): its largest magnitude at each pixel.

    50 copies with Gaussian noise of 15 % of the input's range, the paper's settings.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h, w), not negative.
    """
    generator = torch.Generator().manual_seed(subject.seed)
    image = subject.image
    spread = NOISE_SHARE * (image.amax() - image.amin())
    total = torch.zeros(())
    for _ in range(NOISY_COPIES):
        noise = torch.randn(image.shape, generator=generator).to(image)
        total = subject.gradients(image + spread * noise) + total.to(image)
    return _largest(total / NOISY_COPIES)


def integrated_gradients(subject: Subject) -> Tensor:
    """Gradients integrated from a blank input to the image, times it, signed (arXiv:1703.01365).

    Sundararajan et al. 2017. The blank is zero where the network reads it: black for YOLO, the mean colour for
    classifiers that normalise. 50 points of Gauss-Legendre quadrature; the channels are summed, so a map's sum is the
    change of the target.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h, w), signed.
    """
    nodes, weights = np.polynomial.legendre.leggauss(PATH_POINTS)
    total = torch.zeros(())
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        total = float(weight) * subject.gradients(float(node) * subject.image) + total.to(subject.image)
    return (total * subject.image).sum(1)


def fullgrad(subject: Subject) -> Tensor:
    """Input x gradient and every bias x gradient: magnitudes, scaled layer by layer, summed (arXiv:1905.00780).

    Srinivas & Fleuret 2019. Each layer's magnitudes are scaled to [0, 1] over all of its channels, as the paper's
    authors do; the parts before that scaling add up to the target exactly in networks of convolutions, normalisations,
    rectifiers, pooling, sums and concatenations, attention excepted.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h, w), not negative.
    """
    gradients, biases = subject.full_gradients(subject.image)
    size = subject.image.shape[-2:]
    maps = []
    for gradient, layers in zip(gradients, biases, strict=True):
        parts = [_scaled(gradient * subject.image), *(_scaled(layer) for layer in layers)]
        enlarged = [F.interpolate(part.sum(0)[None, None], size, mode="bilinear")[0, 0] for part in parts]
        maps.append(torch.stack(enlarged).sum(0))
    return torch.stack(maps)


def _largest(gradients: Tensor) -> Tensor:
    """(..., 3, h, w) -> (..., h, w)."""
    return gradients.abs().amax(-3)


def _scaled(part: Tensor) -> Tensor:
    """Magnitudes from 0, the layer's least, to 1, its largest."""
    size = part.abs()
    size = size - size.amin()
    largest = size.amax()
    return size / largest if largest > 0 else size
