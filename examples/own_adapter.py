"""An adapter from outside detcam: ``python own_adapter.py LEVEL_FILE IMAGE FOLDER``.

The detector is a toy: its weights are a text file ``*.level`` with one number, and what is as bright gets a box.
"""

import sys
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

import detcam


def load_level(weights: Any, *, trust_weights: bool, **settings: Any) -> detcam.DetectorAdapter | None:
    """The detector of a ``.level`` file; None for other weights."""
    if not isinstance(weights, str | PathLike) or Path(weights).suffix != ".level":
        return None
    level = int(Path(weights).read_text())

    def predict(images: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [find_bright(image, level) for image in images]

    return detcam.BlackBox(predict, ["bright"]).adjusted(**settings)  # refuses device, imgsz and half


def find_bright(image: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4), xyxy in pixels, and their class scores (N, 1): here one, its score the share that is bright."""
    bright = image.min(axis=2) >= level
    if not bright.any():
        return np.zeros((0, 4)), np.zeros((0, 1))
    rows, columns = bright.nonzero()
    x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return np.array([[x1, y1, x2, y2]]), np.array([[bright[y1:y2, x1:x2].mean()]])


def main(weights: str, image: str, folder: str) -> None:
    """Register the loader, and explain as with any other weights."""
    detcam.register_adapter("level", load_level)
    for e in detcam.explain(weights, image):
        e.save(Path(folder) / "bright.png")
        print(f"{e.detection.caption}: {e.status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
