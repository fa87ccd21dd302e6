"""Explanations of very large images, at a size that can be drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from detcam.types import Detection, Explanation, Heatmap, ImageResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWN = 4096
"""Pixels: pictures of longer images are drawn this long. A map of 400 megapixels takes 1.6 GB; no screen shows it."""


def reduced(result: ImageResult, side: int = DRAWN) -> ImageResult:
    """A result on its image made smaller: the longer side is ``side`` pixels; the same object where it is no longer.

    Boxes, outlines and keypoints shrink along; raw maps, and all that was found out, stay as they are.
    """
    height, width = result.image.shape[:2]
    if max(height, width) <= side:
        return result
    size = tuple(max(round(length * side / max(height, width)), 1) for length in (height, width))
    image = np.asarray(cv2.resize(result.image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    image.flags.writeable = False
    scale = np.array([size[1] / width, size[0] / height], np.float32)

    def smaller(explanation: Explanation) -> Explanation:
        letterbox = replace(explanation.heatmap.letterbox, original=size)
        heatmap = Heatmap(explanation.heatmap.raw, letterbox)
        return replace(explanation, detection=_scaled(explanation.detection, scale), heatmap=heatmap, image=image)

    return ImageResult(
        result.source,
        image,
        tuple(_scaled(detection, scale) for detection in result.detections),
        tuple(smaller(explanation) for explanation in result),
    )


def _scaled(detection: Detection, scale: NDArray[np.float32]) -> Detection:
    """A detection in an image scaled by (horizontal, vertical)."""
    points = detection.keypoints
    if points is not None:
        points = np.concatenate([points[:, :2] * scale, points[:, 2:]], 1)
    return replace(
        detection,
        xyxy=detection.xyxy * np.tile(scale, 2),
        asked=None if detection.asked is None else detection.asked * np.tile(scale, 2),
        polygons=detection.polygons and tuple(outline * scale for outline in detection.polygons),
        keypoints=points,
    )
