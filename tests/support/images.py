"""Images that are drawn: smooth colours, and scenes of the bundled detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from detcam.demo.scenes import make_scene, render


def _two_alike() -> int:
    for seed in range(200_000, 200_500):
        classes = [thing.class_id for thing in make_scene(seed).things]
        if len(classes) == 4 and len(set(classes)) == 3:
            return seed
    raise AssertionError("no scene has four things of three classes")


SCENE_WITH_TWO_ALIKE = _two_alike()


def photograph(height: int = 120, width: int = 200, seed: int = 0) -> np.ndarray:
    """Smooth random colours, RGB uint8: cubic interpolation in whole numbers, so of the same bytes on every processor.

    OpenCV's gives other pixels where it dispatches to other instructions, and a network's answers follow.
    """
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3))
    rows, columns = _cubic_weights(height, 8), _cubic_weights(width, 12)
    total = columns @ (rows @ coarse.reshape(8, 36)).reshape(height, 12, 3)
    return ((total + 2**21) >> 22).clip(0, 255).astype(np.uint8)


def _cubic_weights(size: int, cells: int) -> np.ndarray:
    """(size, cells): what each pixel takes of each cell, in whole 2048ths."""
    place = (np.arange(size) + 0.5) * cells / size - 0.5
    first = np.floor(place).astype(int)
    near = place - first
    far = 1 - near
    inner = [1.25 * t * t * t - 2.25 * t * t + 1 for t in (near, far)]
    outer = [-0.75 * t * t * t + 3.75 * t * t - 6 * t + 3 for t in (near + 1, far + 1)]
    weights = np.zeros((size, cells), int)
    for step, share in zip((-1, 0, 1, 2), (outer[0], *inner, outer[1]), strict=True):
        np.add.at(weights, (np.arange(size), (first + step).clip(0, cells - 1)), np.rint(2048 * share).astype(int))
    return weights


def write_images(folder: Path, count: int) -> Path:
    """A new folder with so many scenes."""
    folder.mkdir()
    for seed in range(count):
        Image.fromarray(render(make_scene(seed))).save(folder / f"{seed:05d}.png", compress_level=1)
    return folder
