"""What stands for "removed": an image blurred, or its mean colour. The letterbox's padding is never touched."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

BLUR_SHARE = 0.05
"""Standard deviation of the blur, as a share of the image's longer side."""
SOFT_EDGE_SHARE = 0.012
"""Width of the edges of what is removed, as a share of the image's longer side: a hard edge is a shape of its own."""


def blur_image(image: Tensor, inside: Tensor) -> Tensor:
    """The image under a strong Gaussian blur into which no padding leaks.

    The standard deviation is 5 % of the image's longer side.

    Args:
        image: (3, h, w), the detector's input.
        inside: bool (h, w), False in the padding.

    Returns:
        (3, h, w); the padding as it was.
    """
    rows, columns = (torch.where(inside.any(axis))[0] for axis in (1, 0))
    window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    part = image[:, window[0], window[1]]
    sigma = BLUR_SHARE * max(part.shape[1:])
    part = _smooth_last_axis(_smooth_last_axis(part.transpose(1, 2), sigma).transpose(1, 2), sigma)
    result = image.clone()
    result[:, window[0], window[1]] = part
    return result


def fill_with_mean(image: Tensor, inside: Tensor) -> Tensor:
    """The image with its mean colour everywhere.

    Args:
        image: (3, h, w), the detector's input.
        inside: bool (h, w), False in the padding.

    Returns:
        (3, h, w); the padding as it was.
    """
    mean = image[:, inside].mean(1)
    return torch.where(inside, mean[:, None, None], image)


FILLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"blur": blur_image, "mean": fill_with_mean}


def gaussian_blur(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing along the last two axes, with zeros beyond the edges.

    Args:
        maps: (..., h, w), floating point.
        sigma: standard deviation, cells; the kernel is cut off at three of them. 0 changes nothing.

    Returns:
        The same shape.
    """
    radius = math.ceil(3 * sigma)
    if radius == 0:
        return maps
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = (-(offsets**2) / (2 * sigma**2)).exp()
    kernel = kernel / kernel.sum()
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    tall = F.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(radius, 0))
    return F.conv2d(tall, kernel.view(1, 1, 1, -1), padding=(0, radius)).view_as(maps)


def soften_masks(parts: Tensor, inside: Tensor) -> Tensor:
    """Masks grown by a few pixels, with edges that fade over as many.

    They grow by 1.2 % of the image's longer side, and the edge fades with that standard deviation.

    Args:
        parts: bool (n, h, w), what is removed.
        inside: bool (h, w), False in the padding.

    Returns:
        float32 (n, h, w) in [0, 1], zero in the padding.
    """
    return _faded(parts, inside, math.ceil(edge_width(inside)), edge_width(inside))


def fade_edges(parts: Tensor, inside: Tensor) -> Tensor:
    """Masks with edges that fade, half of which is left where the edge was.

    The edge fades with a standard deviation of 1.2 % of the image's longer side.

    Args:
        parts: bool (n, h, w), what is removed.
        inside: bool (h, w), False in the padding.

    Returns:
        float32 (n, h, w) in [0, 1], zero in the padding.
    """
    return _faded(parts, inside, 0, edge_width(inside) / 2)


def edge_width(inside: Tensor) -> float:
    """The standard deviation of a soft edge, pixels.

    Args:
        inside: bool (h, w), False in the padding.
    """
    return SOFT_EDGE_SHARE * max(int(inside.any(axis).sum()) for axis in (1, 0))


def _faded(parts: Tensor, inside: Tensor, radius: int, sigma: float) -> Tensor:
    """Masks (n, h, w) grown by a radius, pixels, with soft edges."""
    covered = gaussian_blur(inside[None].float(), sigma)[0].clamp(min=1e-6)  # nothing fades at the image's own edge
    soft = torch.zeros(parts.shape, device=parts.device)
    reach = radius + math.ceil(3 * sigma)
    for part, own in zip(parts, soft, strict=True):  # most are small, and nothing changes far from them
        if not part.any():
            continue
        window = []
        for axis in (1, 0):
            places = torch.where(part.any(axis))[0]
            window.append(slice(max(int(places[0]) - reach, 0), int(places[-1]) + 1 + reach))
        near = part[window[0], window[1]][None, None].float()
        tall = F.max_pool2d(near, (2 * radius + 1, 1), 1, (radius, 0))  # one way, then the other: a square
        grown = F.max_pool2d(tall, (1, 2 * radius + 1), 1, (0, radius))[0] * inside[window[0], window[1]]
        own[window[0], window[1]] = gaussian_blur(grown, sigma)[0] / covered[window[0], window[1]]
    return (soft * inside).clamp(0, 1)


def _smooth_last_axis(part: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing along the last axis; near an end, the weights that are left are scaled to one."""
    places = torch.arange(part.shape[-1], device=part.device, dtype=part.dtype)
    weights = torch.exp(-((places[:, None] - places) ** 2) / (2 * sigma**2))
    return part @ (weights / weights.sum(0, keepdim=True))
