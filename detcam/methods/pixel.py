"""Maps at the pixels, from gradients with respect to the detector's input.

Each takes a :class:`Pixels`: one image and what may be asked about it, for all of its detections at once. It returns
maps (detection, height, width) over the input. Nothing is normalised here.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

STEPS = 50
"""Points on the path of integrated gradients."""
SAMPLES = 50
"""Noisy copies of SmoothGrad."""
NOISE = 0.15
"""Their noise, as a share of the input's range."""


class Pixels(Protocol):
    """One image's targets, differentiable with respect to its pixels."""

    image: Tensor
    """(3, h, w), the detector's input."""
    seed: int

    def gradients(self, image: Tensor) -> Tensor:
        """Gradient of each detection's target at an image like it: (detection, 3, h, w)."""

    def guided_gradients(self, image: Tensor) -> Tensor:
        """The same with every rectifier gated: (detection, 3, h, w)."""

    def full_gradients(self, image: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """Gradients (detection, 3, h, w), and for each detection bias x gradient (channel, h', w') of every layer."""

    def gradcam(self) -> Tensor:
        """Each detection's Grad-CAM map: (detection, h', w'), not negative."""


def saliency(pixels: Pixels) -> Tensor:
    """The largest gradient magnitude of a pixel's channels (Simonyan et al. 2014, arXiv:1312.6034)."""
    return _largest(pixels.gradients(pixels.image))


def guided_backprop(pixels: Pixels) -> Tensor:
    """The largest magnitude of a pixel's channels, gradients gated (Springenberg et al. 2015, arXiv:1412.6806)."""
    return _largest(pixels.guided_gradients(pixels.image))


def guided_gradcam(pixels: Pixels) -> Tensor:
    """Guided backpropagation times Grad-CAM enlarged bilinearly (Selvaraju et al. 2017, arXiv:1610.02391)."""
    coarse = F.interpolate(pixels.gradcam()[:, None], pixels.image.shape[-2:], mode="bilinear")
    return _largest(pixels.guided_gradients(pixels.image) * coarse)


def smoothgrad(pixels: Pixels) -> Tensor:
    """The mean gradient over noisy copies (Smilkov et al. 2017, arXiv:1706.03825): the largest magnitude of a pixel's.

    50 copies with Gaussian noise of 15 % of the input's range, the paper's settings.
    """
    generator = torch.Generator().manual_seed(pixels.seed)
    image = pixels.image
    spread = NOISE * (image.amax() - image.amin())
    total = torch.zeros(())
    for _ in range(SAMPLES):
        noise = torch.randn(image.shape, generator=generator).to(image)
        total = pixels.gradients(image + spread * noise) + total.to(image)
    return _largest(total / SAMPLES)


def integrated_gradients(pixels: Pixels) -> Tensor:
    """Gradients integrated from a blank input to the image, times it, signed (arXiv:1703.01365).

    Sundararajan et al. 2017. The blank is zero where the network reads it: black for YOLO, the mean colour for
    classifiers that normalise. 50 points of Gauss-Legendre quadrature; the channels are summed, so a map's sum is the
    change of the target.
    """
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    total = torch.zeros(())
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        total = float(weight) * pixels.gradients(float(node) * pixels.image) + total.to(pixels.image)
    return (total * pixels.image).sum(1)


def fullgrad(pixels: Pixels) -> Tensor:
    """Input x gradient and every bias x gradient: magnitudes, scaled layer by layer, summed (arXiv:1905.00780).

    Srinivas & Fleuret 2019. Each layer's magnitudes are scaled to [0, 1] over all of its channels, as the paper's
    authors do; the parts before that scaling add up to the target exactly in networks of convolutions, normalisations,
    rectifiers, pooling, sums and concatenations, attention excepted.
    """
    gradients, biases = pixels.full_gradients(pixels.image)
    size = pixels.image.shape[-2:]
    maps = []
    for gradient, layers in zip(gradients, biases, strict=True):
        parts = [_scaled(gradient * pixels.image), *(_scaled(layer) for layer in layers)]
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
