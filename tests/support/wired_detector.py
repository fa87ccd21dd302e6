"""A detector wired by hand: each number of its raw output hangs on one patch of the image, and on nothing else."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from detcam.adapters.base import RawOutput
from detcam.errors import UsageError
from detcam.geometry import Letterbox
from detcam.types import Detection

SIZE = 128
BOX = (16, 16, 112, 112)
CENTRE, REACH, SHRINKS = 64.0, 48.0, 24.0
"""The box's centre, how far its sides are from it, and by how much each is nearer without its patch, pixels."""

_RING = [(row, column) for row in range(4) for column in range(4) if not {row, column} <= {1, 2}]
_INSIDE = (
    "class",
    "left",
    "visible",
    "rival",
    "bottom",
    "against",
    "mask",
    "top",
    "x",
    "decoy",
    "right",
    "other decoy",
)
PATCHES = {
    name: (22 + 24 * column, 22 + 24 * row, 34 + 24 * column, 34 + 24 * row)
    for name, (row, column) in zip(_INSIDE, _RING, strict=True)
} | {"objectness": (2, 2, 13, 13), "y": (115, 115, 126, 126)}
"""xyxy, pixels: a ring within the box, whose middle is left free; two outside it."""


def wired_image() -> np.ndarray:
    """RGB uint8 (SIZE, SIZE, 3): dark noise with the patches on it, all red, and each in a colour of its own."""
    rng = np.random.default_rng(5)
    image = rng.uniform(0.2, 0.4, (SIZE, SIZE, 3))
    for number, (x1, y1, x2, y2) in enumerate(PATCHES.values()):
        image[y1:y2, x1:x2] = 0.9, 0.1 + 0.8 * (number % 4) / 3, 0.1 + 0.8 * (number % 3) / 2
    return np.round(255 * image).astype(np.uint8)


class WiredDetector:
    """Two predictions: 1, over :data:`BOX`, is wired to the patches, 0, beside it, to the decoys.

    Args:
        objectness: whether it has any.
        proposals: whether predictions lie on no grid; they then change places as soon as the left side's patch fades.
    """

    names: ClassVar = {0: "bus", 1: "truck"}
    differentiable = True
    device = torch.device("cpu")

    def __init__(self, objectness: bool = False, proposals: bool = False) -> None:
        self.objectness, self.proposals = objectness, proposals

    def adjusted(self, **settings):
        assert not any(settings.values())
        return self

    def layers(self):
        return []

    def resolve(self, layers):
        raise UsageError("no layers")

    def letterbox(self, image):
        return Letterbox(image.shape[:2], (SIZE, SIZE), (SIZE, SIZE), (0, 0))

    def prepare(self, images):
        batch = np.stack([image.transpose(2, 0, 1) for image in images]).astype(np.float32) / 255
        return torch.from_numpy(batch), [self.letterbox(image) for image in images]

    def forward(self, batch, layers=(), instead=None):
        # About 1 where a patch is there, about 0 where it is not.
        there = {
            name: (batch[:, 0, y1:y2, x1:x2].mean((1, 2)) - 0.3) / 0.6 for name, (x1, y1, x2, y2) in PATCHES.items()
        }
        zero = torch.zeros_like(there["class"])
        bus, truck = -3 + 9 * there["class"] - 3 * there["against"], 2 - 6 * there["rival"]
        lost = -9 + there["decoy"]
        logits = torch.stack([torch.stack([lost, lost], 1), torch.stack([bus, truck], 1)], 1)
        own = torch.stack([REACH - SHRINKS * (1 - there[side]) for side in ("left", "top", "right", "bottom")], 1)
        sides = torch.stack([own * 0 + 9 * there["decoy"][:, None], own], 1)
        centres = torch.tensor([[20.0, 100.0], [CENTRE, CENTRE]])
        boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], -1)
        # The mask is the box: its left half always, its right half where the patch is; one cell is 4 x 4 pixels.
        halves = torch.zeros(2, SIZE // 4, SIZE // 4)
        halves[0, 4:28, 4:16], halves[1, 4:28, 16:28] = 1, 1
        coefficients = torch.stack([zero + 2, -2 + 4 * there["mask"]], 1)
        points = torch.stack([40 + 30 * there["x"], 40 + 30 * there["y"], -2 + 4 * there["visible"]], 1)
        still = torch.tensor([60.0, 60.0, 1.0]).expand_as(points)
        extras = {
            "mask": torch.stack([coefficients * 0 + there["other decoy"][:, None], coefficients], 1),
            "prototypes": halves.expand(len(batch), -1, -1, -1),
            "keypoints": torch.stack([torch.stack([still, still], 1), torch.stack([points, still], 1)], 1),
        }
        present = torch.stack([zero + 3, -3 + 6 * there["objectness"]], 1) if self.objectness else None
        if self.proposals:
            order = torch.stack([torch.tensor([1, 0]) if one < 0.95 else torch.tensor([0, 1]) for one in there["left"]])
            rows = torch.arange(len(batch))[:, None]
            logits, boxes, sides = (part[rows, order] for part in (logits, boxes, sides))
        strides = torch.zeros(2) if self.proposals else torch.full((2,), 32.0)
        return RawOutput(logits, boxes, sides, strides, {}, present, extras, (SIZE, SIZE))

    def decode(self, raw, letterboxes, settings):
        found = []
        for i, letterbox in enumerate(letterboxes):
            p, c = raw.probability(i, slice(None), slice(None)).detach().max(1)
            found.append(
                tuple(
                    Detection(letterbox.clip(raw.boxes[i, a].detach().numpy()), int(c[a]), self.names[int(c[a])],
                              float(p[a]), a, int(raw.strides[a]))
                    for a in (1, 0) if p[a] > settings.conf
                )
            )  # fmt: skip
        return found
