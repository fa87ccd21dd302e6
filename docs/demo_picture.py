"""Make ``docs/demo.jpg``, the picture in the README: ``python docs/demo_picture.py``."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

import detcam
from detcam.demo import WEIGHTS, demo_scenes, explanation_over
from detcam.demo.scenes import GEM, render
from detcam.geometry import Letterbox
from detcam.render import write_image

SIDE = 360


def main() -> None:
    """Draw the gem without and with the mark, each beside the map of its detection, enlarged."""
    explainer = detcam.Explainer(WEIGHTS)
    tiles = []
    for name in ("3-gem-as-it-is", "4-same-gem-mark-added"):
        scene = demo_scenes()[name]
        image = render(scene)
        gem = next(thing for thing in scene.things if thing.class_id == GEM)
        e = explanation_over(explainer(image)[0], gem)
        if e is None:
            raise SystemExit(f"{name}: nothing was detected where the gem is")
        large = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        heatmap = replace(e.heatmap, letterbox=Letterbox((SIDE, SIDE), image.shape[:2], image.shape[:2], (0, 0)))
        detection = replace(e.detection, xyxy=e.detection.xyxy * (SIDE / image.shape[0]))
        tiles += [large, replace(e, image=large, heatmap=heatmap, detection=detection).plot()]
    gap = np.full((SIDE, 8, 3), 255, np.uint8)
    write_image(Path(__file__).with_name("demo.jpg"), np.hstack([tiles[0], *(x for t in tiles[1:] for x in (gap, t))]))


if __name__ == "__main__":
    main()
