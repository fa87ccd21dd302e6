"""Explanations of an image at another size: very large ones smaller, so that they can be drawn, tiny ones larger."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from detcam.types import Detection, Evidence, Explanation, Heatmap, ImageResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_DRAWN_SIDE_PX = 4096
"""Pictures of longer images are drawn at this longer side: a map of 400 megapixels would take 1.6 GB."""


def reduced(result: ImageResult, side: int = MOST_DRAWN_SIDE_PX) -> ImageResult:
    """A result on its image made smaller; the same object where it is small enough already.

    Boxes, outlines, keypoints and evidence are scaled along; raw maps and all findings stay as they are.

    Args:
        result: the image with its explanations.
        side: the longer side at most, pixels.
    """
    height, width = result.image.shape[:2]
    longer = max(height, width)
    if longer <= side:
        return result
    return resized(result, (max(round(height * side / longer), 1), max(round(width * side / longer), 1)))


def resized(result: ImageResult, size: tuple[int, int]) -> ImageResult:
    """A result on its image made another size, with everything in the image scaled along.

    Args:
        result: the image with its explanations.
        size: (height, width), pixels.
    """
    height, width = result.image.shape[:2]
    how = cv2.INTER_AREA if size[0] < height else cv2.INTER_CUBIC
    image = np.asarray(cv2.resize(result.image, size[::-1], interpolation=how), np.uint8)
    image.flags.writeable = False
    scale = np.array([size[1] / width, size[0] / height], np.float32)

    def other(explanation: Explanation) -> Explanation:
        letterbox = replace(explanation.heatmap.letterbox, original=size)
        return replace(
            explanation,
            detection=_scaled(explanation.detection, scale),
            heatmap=Heatmap(explanation.heatmap.raw, letterbox),
            image=image,
            evidence=explanation.evidence and _scaled_evidence(explanation.evidence, scale),
        )

    return ImageResult(
        result.source,
        image,
        tuple(_scaled(detection, scale) for detection in result.detections),
        tuple(other(explanation) for explanation in result),
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


def _scaled_evidence(evidence: Evidence, scale: NDArray[np.float32]) -> Evidence:
    """Evidence in an image scaled by (horizontal, vertical): whole pixels, at least one of them on either side."""
    patches = np.rint(evidence.patches * np.tile(scale, 2)).astype(np.int64)
    patches[:, 2:] = np.maximum(patches[:, 2:], patches[:, :2] + 1)
    return replace(evidence, patches=patches)
