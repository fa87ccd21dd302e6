"""Make ``docs/demo.jpg``, the picture in the README: ``python docs/demo_picture.py``."""

from pathlib import Path

import numpy as np

import detcam
from detcam.demo import WEIGHTS, demo_scenes, explanation_over
from detcam.demo.scenes import GEM, render
from detcam.drawing.render import captioned, write_image

GAP = 16
"""Pixels between the two pictures."""


def main() -> None:
    """Draw the gem without and with the mark, each with the map of its detection, side by side."""
    explainer = detcam.Explainer(WEIGHTS)
    pictures = []
    for name in ("3-gem-as-it-is", "4-same-gem-mark-added"):
        scene = demo_scenes()[name]
        gem = next(thing for thing in scene.things if thing.class_id == GEM)
        explanation = explanation_over(explainer(render(scene))[0], gem)
        if explanation is None:
            raise SystemExit(f"{name}: nothing was detected where the gem is")
        pictures.append(captioned(explanation))
    height = max(len(picture) for picture in pictures)
    lower = [height - len(picture) for picture in pictures]
    pads = [((0, down), (0, GAP if n == 0 else 0), (0, 0)) for n, down in enumerate(lower)]
    both = [np.pad(picture, pad, constant_values=255) for picture, pad in zip(pictures, pads, strict=True)]
    write_image(Path(__file__).with_name("demo.jpg"), np.hstack(both))


if __name__ == "__main__":
    main()
