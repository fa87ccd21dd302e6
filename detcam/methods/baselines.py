"""Maps that know nothing of the detector: what every method has to beat."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detcam.methods.regions import box_gaussian
from detcam.methods.subject import Subject


def box(subject: Subject) -> Tensor:
    """A Gaussian in each detection's box, whose standard deviations are a quarter of the box's sides.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h, w) in (0, 1].
    """
    shape = (subject.image.shape[1], subject.image.shape[2])
    return torch.stack([box_gaussian(box, shape) for box in subject.boxes])


def edges(subject: Subject) -> Tensor:
    """The image's own edges (Sobel, the gradient's magnitude), the same for every detection.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h, w), not negative, zero in the padding.
    """
    grey = subject.image.mean(0)[None, None]
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).to(grey)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    slopes = [F.conv2d(padded, kernel[None, None])[0, 0] for kernel in (across, across.T)]
    strength = torch.hypot(slopes[0], slopes[1]) * subject.inside
    return strength.expand(len(subject.boxes), -1, -1)
