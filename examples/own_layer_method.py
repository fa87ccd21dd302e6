"""A method from outside detcam that works at layers: ``python own_layer_method.py WEIGHTS IMAGE FOLDER``."""

import sys
from pathlib import Path

import torch

import detcam


def near_the_box(activations: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """The mean size of a layer's activations, (channel, h, w), faded with the distance from the box's centre."""
    height, width = activations.shape[1:]
    rows, columns = torch.arange(height).to(box) + 0.5, torch.arange(width).to(box) + 0.5
    x, y = (box[:2] + box[2:]) / 2
    distance = ((rows - y) / height)[:, None] ** 2 + ((columns - x) / width) ** 2
    return activations.abs().mean(0) * torch.exp(-10 * distance)


def main(weights: str, image: str, folder: str) -> None:
    """Register it, and explain the most confident detection at the backbone."""
    label = "what is active near the box, whatever the class"
    detcam.register_method("near-the-box", detcam.Method(near_the_box, on="layer", label=label))
    e = detcam.explain(weights, image, method="near-the-box", layers="backbone", detection=0)[0]
    e.save(Path(folder) / "near-the-box.png")
    print(f"{e.detection.caption}, {e.method} at {', '.join(e.layers)}: {e.status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
