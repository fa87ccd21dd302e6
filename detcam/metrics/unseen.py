"""Fills for judging maps that no method uses, so that no method can be tuned to them.

Each function takes an image (3, h, w), ``inside`` (bool (h, w), False in the padding) and a seed, and returns a fill: a
function from what is removed, bool (n, h, w), to the images (n, 3, h, w) without it. Padding stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Fill = Callable[[Tensor], Tensor]

PAINTED_SIDE_PX = 96
"""Pixels along the longer side of the reduced image in which holes are painted over."""
TELEA_RADIUS_PX = 3
"""Around a pixel, in those pixels, what Telea's method looks at."""
BLOCKS_ALONG = 16
"""Blocks along the longer side that are shuffled."""


def inpaint(image: Tensor, inside: Tensor, seed: int) -> Fill:
    """Removed pixels are painted over from what is left around them; nothing removed shows through.

    By the fast marching method (Telea 2004, doi:10.1080/10867651.2004.10487596).

    It is done in an image reduced to 96 pixels along its longer side, where a pixel is the mean of what is left in it,
    and is a hole where nothing is. Where nothing at all is left, the image's mean colour stands in.

    Args:
        image: (3, h, w) in [0, 1], the detector's input.
        inside: bool (h, w), False in the padding.
        seed: not used.

    Returns:
        The fill, see the module.
    """
    top, bottom, left, right = _window(inside)
    part = image[:, top:bottom, left:right]
    height, width = part.shape[1:]
    scale = min(1.0, PAINTED_SIDE_PX / max(height, width))
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    mean = part.mean((1, 2))

    def fill(removed: Tensor) -> Tensor:
        result = image.repeat(len(removed), 1, 1, 1)
        for one, gone in zip(result, removed[:, top:bottom, left:right], strict=True):
            painted = mean[:, None, None].expand_as(part)
            if not gone.all():
                left_over = (~gone).to(part)[None]
                weights = F.adaptive_avg_pool2d(left_over, size)
                colours = F.adaptive_avg_pool2d(part * left_over, size) / weights.clamp(min=1e-9)
                small = _telea(colours.float().cpu().numpy(), (weights[0] == 0).cpu().numpy())
                enlarged = F.interpolate(torch.from_numpy(small)[None], (height, width), mode="bilinear")[0]
                painted = enlarged.to(part)
            one[:, top:bottom, left:right] = torch.where(gone, painted, part)
        return result

    return fill


def shuffle(image: Tensor, inside: Tensor, seed: int) -> Fill:
    """Removed pixels are those of the same image with its blocks in another order; no block keeps its place.

    Args:
        image: (3, h, w) in [0, 1], the detector's input.
        inside: bool (h, w), False in the padding.
        seed: of the order.

    Returns:
        The fill, see the module.
    """
    top, bottom, left, right = _window(inside)
    part = image[:, top:bottom, left:right]
    height, width = part.shape[1:]
    side = max(round(max(height, width) / BLOCKS_ALONG), 1)
    rows, columns = -(-height // side), -(-width // side)
    whole = _mirrored(_mirrored(part, 1, rows * side), 2, columns * side)
    blocks = whole.unfold(1, side, side).unfold(2, side, side).flatten(1, 2)  # (3, block, side, side)
    order = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(seed)).to(image.device)
    mixed = torch.empty_like(blocks)
    mixed[:, order] = blocks[:, order.roll(1)]  # one cycle through all blocks
    laid = mixed.view(-1, rows, columns, side, side).transpose(2, 3).reshape(-1, rows * side, columns * side)
    other = image.clone()
    other[:, top:bottom, left:right] = laid[:, :height, :width]
    return _instead(image, inside, other)


def roll(image: Tensor, inside: Tensor, seed: int) -> Fill:
    """Removed pixels are those half the image's height and width away, around its edges.

    Args:
        image: (3, h, w) in [0, 1], the detector's input.
        inside: bool (h, w), False in the padding.
        seed: not used.

    Returns:
        The fill, see the module.
    """
    top, bottom, left, right = _window(inside)
    other = image.clone()
    part = image[:, top:bottom, left:right]
    other[:, top:bottom, left:right] = part.roll((part.shape[1] // 2, part.shape[2] // 2), (1, 2))
    return _instead(image, inside, other)


UNSEEN: dict[str, Callable[[Tensor, Tensor, int], Fill]] = {"inpaint": inpaint, "shuffle": shuffle, "roll": roll}


def _instead(image: Tensor, inside: Tensor, other: Tensor) -> Fill:
    """A fill whose pixels are another image's, whatever is removed."""
    return lambda removed: torch.where((removed & inside)[:, None], other, image)


def _telea(colours: NDArray[np.float32], holes: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Colours (3, h, w) in [0, 1] with their holes, bool (h, w), painted over, to a 255th."""
    bytes_ = np.rint(np.clip(colours, 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)
    painted = cv2.inpaint(np.ascontiguousarray(bytes_), holes.astype(np.uint8), TELEA_RADIUS_PX, cv2.INPAINT_TELEA)
    return np.ascontiguousarray(painted.transpose(2, 0, 1) / np.float32(255), np.float32)


def _mirrored(part: Tensor, axis: int, length: int) -> Tensor:
    """An image made longer along an axis by what lies before its end, backwards."""
    lacking = length - part.shape[axis]
    return torch.cat([part, part.flip(axis).narrow(axis, 0, lacking)], axis) if lacking else part


def _window(inside: Tensor) -> tuple[int, int, int, int]:
    """The rectangle of the image without its padding: top, bottom, left, right."""
    rows, columns = (torch.where(inside.any(axis))[0] for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
