"""Slightly changed copies of a batch, over which maps are averaged; the target moves with the image."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from detcam.adapters.base import RawOutput
from detcam.types import Detection

BRIGHTNESS_FACTORS = (0.9, 1.0, 1.1)
"""What the copies of ``aug`` are multiplied by."""
NOISY_COPIES = 8
"""Noisy copies."""
NOISE_SHARE = 0.05
"""Their noise, as a share of the input's range."""


@dataclass(frozen=True, eq=False)
class View:
    """A changed copy of a batch.

    Attributes:
        batch: (B, 3, h, w).
        flipped: whether it is flipped left to right.
    """

    batch: Tensor
    flipped: bool


def views(batch: Tensor, smoothing: Collection[str], seed: int) -> Iterator[View]:
    """The batch itself, then its copies: flipped and at three brightnesses for ``aug``, each noisy for ``noise``.

    Args:
        batch: (B, 3, h, w), the detector's input.
        smoothing: any of ``aug`` and ``noise``; others are ignored here.
        seed: of the noise.

    Yields:
        Views of the batch's shape, the batch first.
    """
    turns = (False, True) if "aug" in smoothing else (False,)
    gains = BRIGHTNESS_FACTORS if "aug" in smoothing else (1.0,)
    generator = torch.Generator().manual_seed(seed)
    spread = NOISE_SHARE * (batch.amax((1, 2, 3), keepdim=True) - batch.amin((1, 2, 3), keepdim=True))
    yield View(batch, False)
    for flipped in turns:
        for gain in gains:
            changed = (batch.flip(-1) if flipped else batch) * gain
            if "noise" in smoothing:
                for _ in range(NOISY_COPIES):
                    noise = torch.randn(batch.shape[1:], generator=generator).to(batch)
                    yield View(changed + spread * noise, flipped)
            elif flipped or gain != 1:
                yield View(changed, flipped)


def mirror(detection: Detection, index: int, raw: RawOutput, flipped: RawOutput) -> Detection:
    """The same detection in the flipped image: the anchor in the mirrored cell, with the same rank within it.

    Predictions on no grid (queries, proposals) are found again by the mirrored box: overlap times class probability.

    Args:
        detection: in the image as it is.
        index: the image's position in the batch.
        raw: the raw output of the batch.
        flipped: that of its mirror image.
    """
    anchor, width = detection.anchor, raw.size[1]
    if raw.on_grid and raw.strides[anchor] > 0:
        place = raw.places(index)
        here = _in_cell(place, place[anchor], raw.strides, anchor)
        there = _in_cell(
            flipped.places(index), torch.stack([width - place[anchor, 0], place[anchor, 1]]), raw.strides, anchor
        )
        rank = int((here == anchor).nonzero()[0])
        if rank < len(there):
            return replace(detection, anchor=int(there[rank]))
    box = raw.box_of(index, anchor, detection.class_id).detach().float().cpu().numpy()
    box[[0, 2]] = width - box[[2, 0]]
    return replace(detection, anchor=flipped.tracked_anchor(index, box, detection.class_id)[0])


def _in_cell(places: Tensor, place: Tensor, strides: Tensor, anchor: int) -> Tensor:
    """The anchors of one level that share a cell's centre, in order."""
    near = (places - place).abs().amax(1) < strides[anchor] / 4
    return (near & (strides == strides[anchor])).nonzero().view(-1)
