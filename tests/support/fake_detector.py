"""A detector of two convolutions whose maps can be worked out by hand."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from detcam.adapters.base import Layer, RawOutput
from detcam.errors import UsageError
from detcam.explainer import Explainer
from detcam.geometry import Letterbox
from detcam.tensors.hooks import capture
from detcam.types import Detection

IMAGE = np.repeat(
    np.array([[0, 51, 102, 0], [0, 255, 204, 0], [0, 153, 51, 0], [0, 0, 0, 0]], np.uint8)[..., None], 3, 2
)
GREY = IMAGE[..., 0] / 255.0


class FakeDetector(torch.nn.Module):
    """Input (1, 1, 4, 4) -> `features` (1, 2, 4, 4): the image and its negative -> one anchor per cell, two classes.

    `features` is a 1x1 convolution with weights 1 and -1; class c's logit at a cell is the 3x3 box sum of
    ``class_weights[c] . features``, so its gradient is ``class_weights[c]`` on the 3x3 cells around the anchor.
    """

    names: ClassVar = {0: "light", 1: "dark"}
    differentiable = True
    device = torch.device("cpu")
    class_weights = torch.tensor([[2.0, 1.0], [-1.0, 0.5]])

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(1, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        self.classes = torch.nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.classes.weight.data = self.class_weights[..., None, None].expand(2, 2, 3, 3).clone()
        self.unused = torch.nn.Conv2d(2, 1, 1)
        self.requires_grad_(False)

    def adjusted(self, **settings):
        assert not any(settings.values())
        return self

    def layers(self):
        return [Layer("features", "Conv2d", (1.0, 1.0), (2, 4, 4), ("backbone",))]

    def resolve(self, layers):
        names = layers.split(",") if isinstance(layers, str) else list(layers)
        names = ["features" if name in ("auto", "backbone") else name for name in names]
        if unknown := [name for name in names if not hasattr(self, name)]:
            raise UsageError(f"no layer {unknown[0]!r}")
        return tuple(names)

    def letterbox(self, image):
        return Letterbox(image.shape[:2], (4, 4), (4, 4), (0, 0))

    def prepare(self, images):
        grey = np.stack([image[..., :1].transpose(2, 0, 1) for image in images]).astype(np.float32) / 255
        return torch.from_numpy(grey), [self.letterbox(image) for image in images]

    def forward(self, batch, layers=(), instead=None):
        with torch.enable_grad(), capture({name: getattr(self, name) for name in layers}, instead) as activations:
            features = self.features(batch)
            logits = self.classes(features).flatten(2).transpose(1, 2)
            self.unused(features.detach())
        centres = (
            torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")[::-1], -1).view(-1, 2) + 0.5
        )
        boxes = torch.cat([centres - 1, centres + 1], 1).expand(len(batch), -1, -1)
        return RawOutput(logits, boxes, torch.ones_like(boxes), torch.ones(16), activations, size=(4, 4))

    def decode(self, raw, letterboxes, settings):
        found = []
        for i, letterbox in enumerate(letterboxes):
            p, c = raw.logits[i].detach().sigmoid().max(1)
            order = p.argsort(descending=True, stable=True)[: settings.max_det].tolist()
            found.append(
                tuple(
                    Detection(
                        letterbox.clip(raw.boxes[i, a].numpy()), int(c[a]), self.names[int(c[a])], float(p[a]), a, 1
                    )
                    for a in order
                    if p[a] > settings.conf
                )
            )
        return found


def explained(method, anchor=5, target="class", layers="auto"):
    """The explanation of one anchor's detection on the fake detector."""
    results = Explainer(FakeDetector(), method, layers, target, conf=0)(IMAGE)
    return next(e for e in results[0] if e.detection.anchor == anchor)
