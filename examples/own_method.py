"""A method from outside detcam: ``python own_method.py WEIGHTS IMAGE FOLDER``."""

import sys
from pathlib import Path

import torch

import detcam

CELLS = 8


def hidden_cells(subject: detcam.Subject) -> torch.Tensor:
    """What the score loses when one cell of a grid is painted grey."""
    height, width = subject.image.shape[1:]
    cells = torch.eye(CELLS**2).view(-1, 1, CELLS, CELLS)
    masks = torch.nn.functional.interpolate(cells, (height, width)).to(subject.image) * subject.inside
    grey = subject.image * (1 - masks) + 0.5 * masks  # (64, 3, height, width), each without one cell
    lost = subject.before - subject.scores(grey)  # (64, K)
    return lost.T.reshape(-1, CELLS, CELLS)


def main(weights: str, image: str, folder: str) -> None:
    """Explain by the function itself, then by the name under which it is registered."""
    first = detcam.explain(weights, image, method=hidden_cells, detection=0)[0]
    described = detcam.Method(hidden_cells, label="what is lost under a grey cell", signed=True, models="any")
    detcam.register_method("hidden-cells", described)
    again = detcam.explain(weights, image, method="hidden-cells", detection=0)[0]
    again.save(Path(folder) / "hidden-cells.png")
    same = (first.heatmap.raw == again.heatmap.raw).all()
    print(f"{first.method} and {again.method}: {'the same map' if same else 'different maps'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
