"""A PyTorch detector from outside detcam, with layers and gradients: ``python own_torch_adapter.py IMAGE FOLDER``.

The detector is a toy: every cell of 8 x 8 pixels scores how bright it is, and has a box of three by three cells.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torchvision.ops import nms

import detcam
from detcam.adapters.base import Layer
from detcam.adapters.layers import measure_layers
from detcam.adapters.torch_base import Outline, Selection, TorchDetector

CELL_PIXELS = 8


class BrightCells(torch.nn.Module):
    """(B, 3, h, w) in [0, 1] -> (B, 1, h / 8, w / 8) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = torch.nn.AvgPool2d(CELL_PIXELS)
        self.score = torch.nn.Conv2d(3, 1, 1)
        torch.nn.init.constant_(self.score.weight, 4.0)
        torch.nn.init.constant_(self.score.bias, -8.0)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """One logit for each cell."""
        return self.score(self.cells(batch))


class BrightDetector(TorchDetector):
    """What differs from other detectors; the private copy, layers, settings and gradients are the base's."""

    def __init__(self, model: torch.nn.Module, device: Any = None, imgsz: Any = None, half: bool = False) -> None:
        super().__init__(model, device, half)
        self.names, self.imgsz = {0: "bright"}, self.check_imgsz(imgsz or 128)

    def rebuild(self, device: torch.device, imgsz: tuple[int, int], half: bool, one_to_one: bool) -> "BrightDetector":
        """One like this with other settings."""
        return BrightDetector(self.model, device, imgsz, half)

    def letterbox(self, image: np.ndarray) -> detcam.Letterbox:
        """Images are stretched to the input."""
        return detcam.Letterbox(image.shape[:2], self.imgsz, self.imgsz, (0, 0))

    def make_batch(self, images: Sequence[np.ndarray], letterboxes: Sequence[detcam.Letterbox]) -> torch.Tensor:
        """RGB uint8 images -> (B, 3, h, w) in [0, 1]."""
        arrays = np.stack([cv2.resize(image, self.imgsz[::-1]) for image in images])
        return torch.from_numpy(arrays).to(self.device).permute(0, 3, 1, 2).to(self.dtype) / 255

    def list_layers(self) -> list[Layer]:
        """One layer gives a feature map: ``auto`` is the group ``backbone``."""
        blank = self.blank_batch(self.imgsz)
        blocks = {"cells": self.model.cells}
        return measure_layers(blocks, lambda: self.model(blank), self.imgsz, lambda shapes: {"backbone": {"cells"}})

    def run_model(self, batch: torch.Tensor) -> detcam.RawOutput:
        """One prediction for each cell, before any threshold, attached to the graph."""
        logits = self.model(batch).float()
        rows, columns = (torch.arange(n, device=batch.device) + 0.5 for n in logits.shape[2:])
        y, x = (part.flatten() * CELL_PIXELS for part in torch.meshgrid(rows, columns, indexing="ij"))
        sides = torch.full((len(batch), len(x), 4), 1.5 * CELL_PIXELS, device=batch.device)
        centres = torch.stack([x, y], -1)
        boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], -1)
        return detcam.RawOutput(logits.flatten(2).transpose(1, 2), boxes, sides, torch.full_like(x, CELL_PIXELS))

    def select(
        self, raw: detcam.RawOutput, index: int, letterbox: detcam.Letterbox, settings: detcam.DecodeSettings
    ) -> Selection:
        """The cells that are reported."""
        confidences, class_ids = raw.logits[index].sigmoid().max(1)
        anchors = ((confidences > settings.conf) & settings.keeps(class_ids)).nonzero().view(-1)
        anchors = anchors[nms(raw.boxes[index, anchors], confidences[anchors], settings.iou)][: settings.max_det]
        return Selection(anchors, class_ids[anchors], confidences[anchors])

    def outline(
        self, raw: detcam.RawOutput, index: int, letterbox: detcam.Letterbox, selection: Selection
    ) -> list[Outline]:
        """Their boxes, in original pixels."""
        boxes = letterbox.to_original(raw.boxes[index, selection.anchors].cpu().numpy())
        return [Outline(xyxy) for xyxy in letterbox.clip(boxes)]


def load_bright(weights: Any, *, trust_weights: bool, **settings: Any) -> detcam.DetectorAdapter | None:
    """The detector of a ``BrightCells``; None for other weights."""
    return BrightDetector(weights, **settings) if isinstance(weights, BrightCells) else None


def main(image: str, folder: str) -> None:
    """Register the loader, and explain by gradients at a layer as with any other model."""
    detcam.register_adapter("bright", load_bright)
    for e in detcam.explain(BrightCells(), image, method="layercam", iou=0.0):
        e.save(Path(folder) / "bright.png")
        print(f"{e.detection.caption}, layercam at {', '.join(e.layers)}: {e.status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
