"""An image as the detector gets it, with what the detector says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detcam.adapters.base import DetectorAdapter, RawOutput
from detcam.geometry import Letterbox


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """One image after its forward pass.

    Attributes:
        batch: (1, 3, h, w), the detector's input.
        raw: a raw output of which that input was a part.
        index: its position there.
        letterbox: where the original image is in the input.
    """

    batch: Tensor
    raw: RawOutput
    index: int
    letterbox: Letterbox


def prepare_images(
    model: DetectorAdapter, images: Sequence[NDArray[np.uint8]], layers: Sequence[str] = ()
) -> list[PreparedImage]:
    """Images of one letterboxed shape, RGB uint8 (H, W, 3), after one forward pass that they share.

    Args:
        model: the detector.
        images: one or more.
        layers: to capture; the raw output has a graph from the first of them on.
    """
    batch, letterboxes = model.prepare(images)
    raw = model.forward(batch, layers)
    return [PreparedImage(batch[i : i + 1], raw, i, letterbox) for i, letterbox in enumerate(letterboxes)]
