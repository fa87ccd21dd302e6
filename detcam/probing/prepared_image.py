"""One image after its forward pass: what every question about it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detcam.adapters.base import DetectorAdapter, RawOutput
from detcam.geometry import Letterbox
from detcam.tensors.fills import FILLS
from detcam.types import Detection

CropKey = tuple[tuple[int, int, int, int], torch.Size]
"""A crop's window in the detector's input, xyxy, and the shape of the tensor it was resized to."""


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """One image after its forward pass.

    Attributes:
        model: the detector.
        image: RGB uint8 (H, W, 3).
        batch: (1, 3, h, w), the detector's input.
        raw: a raw output of which that input was a part.
        index: its position there.
        letterbox: where the image is in the input.
        crop_outputs: raw outputs of crops of the input as they are, kept by :class:`~detcam.probing.frames.Frame`; a
            copy by :func:`dataclasses.replace` starts without any.
    """

    model: DetectorAdapter
    image: NDArray[np.uint8]
    batch: Tensor
    raw: RawOutput
    index: int
    letterbox: Letterbox
    crop_outputs: dict[CropKey, RawOutput] = field(default_factory=dict, init=False)

    @cached_property
    def pixels(self) -> Tensor:
        """(3, h, w), the input; float32 where the detector computes in float16."""
        return self.batch[0].float() if self.batch.dtype == torch.float16 else self.batch[0]

    @cached_property
    def inside(self) -> Tensor:
        """Bool (h, w), False in the letterbox's padding."""
        inside = torch.zeros(self.letterbox.network, dtype=torch.bool)
        (top, left), (height, width) = self.letterbox.offset, self.letterbox.resized
        inside[max(top, 0) : top + height, max(left, 0) : left + width] = True
        return inside.to(self.batch.device)

    @cached_property
    def fills(self) -> dict[str, Tensor]:
        """What stands for "removed": (3, h, w) for each name in :data:`detcam.tensors.fills.FILLS`."""
        return {name: make(self.pixels, self.inside) for name, make in FILLS.items()}

    def box_of(self, detection: Detection) -> Tensor:
        """A detection's own box as it was predicted, float32 (4,), xyxy in the detector's input.

        Args:
            detection: of this image, with its anchor.
        """
        return self.raw.box_of(self.index, detection.anchor, detection.class_id).detach().float()

    def seen_again(
        self, layers: Sequence[str], model: DetectorAdapter | None = None, batch: Tensor | None = None
    ) -> PreparedImage:
        """The image after another forward pass, of its own.

        Args:
            layers: to capture; the raw output has a graph from the first of them on.
            model: another detector with the same input; None takes the own one.
            batch: another input (1, 3, h, w) in the place of the own one.
        """
        model, batch = model or self.model, self.batch if batch is None else batch
        return replace(self, model=model, batch=batch, raw=forward(model, batch, layers), index=0)


def forward(model: DetectorAdapter, batch: Tensor, layers: Sequence[str]) -> RawOutput:
    """A detector's raw output, by the quickest copy of it that has these layers.

    Args:
        model: the detector.
        batch: (B, 3, h, w), its input.
        layers: to capture.
    """
    if not batch.requires_grad and hasattr(model, "quick_at"):
        model = model.quick_at(layers)
    return model.forward(batch, layers)


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
    raw = forward(model, batch, layers)
    return [
        PreparedImage(model, image, batch[i : i + 1], raw, i, letterbox)
        for i, (image, letterbox) in enumerate(zip(images, letterboxes, strict=True))
    ]
