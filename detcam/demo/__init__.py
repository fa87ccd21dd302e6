"""The bundled detectors, and the scenes whose causes are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detcam.demo.causes import Thing as CausedThing
from detcam.demo.scenes import GEM, KITE, Scene, Thing, make_scene
from detcam.geometry import iou_matrix
from detcam.metrics.localization import box_mask
from detcam.metrics.recovery import recovery
from detcam.types import Explanation, ImageResult

WEIGHTS = Path(__file__).with_name("detector.pt")
CAUSES_WEIGHTS = Path(__file__).with_name("causes.pt")
"""Trained on :mod:`detcam.demo.causes`: one detector with causes of every kind."""
KITE_SCENE, GEM_SCENE, PLAIN_SCENE = 300_004, 300_025, 300_032


def demo_scenes() -> dict[str, Scene]:
    """The scenes of the demo by file name: a kite and a gem, each with and without the mark, and one with neither."""
    kites, gems = make_scene(KITE_SCENE), make_scene(GEM_SCENE)
    return {
        "1-kite-with-its-mark": kites.with_marks(True, KITE),
        "2-same-kite-mark-removed": kites.with_marks(False, KITE),
        "3-gem-as-it-is": gems.with_marks(False, GEM),
        "4-same-gem-mark-added": gems.with_marks(True, GEM),
        "5-no-kite-no-gem": make_scene(PLAIN_SCENE),
    }


def mark_precision(explanation: Explanation, thing: Thing) -> float:
    """How much of its hottest pixels a map has on a thing's mark, in [0, 1].

    Of as many of the hottest pixels outside the thing's box as the mark has pixels, it is the share on the mark.

    Args:
        explanation: of a scene's detection.
        thing: of the same scene, with a mark.
    """
    heat = explanation.heatmap.array
    mark, box = (box_mask(xyxy, heat.shape) for xyxy in (thing.mark_xyxy, thing.xyxy))
    return recovery(heat, mark, ~box)["precision"]


def explanation_over(result: ImageResult, thing: Thing | CausedThing) -> Explanation | None:
    """The most confident explanation whose box overlaps a thing's (IoU 0.5 or more), or None.

    Args:
        result: of the scene's image.
        thing: of the scene.
    """
    truth = np.array([thing.xyxy])
    over = (e for e in result if iou_matrix(e.detection.xyxy[None], truth)[0, 0] >= 0.5)
    return next(over, None)
