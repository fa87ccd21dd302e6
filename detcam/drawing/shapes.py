"""Boxes, outlines and points of detections, and the part they rest on. Lines have dark rims, to show on anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detcam.drawing.view import View
    from detcam.types import Detection

    Colour = tuple[int, int, int]
    Picture = NDArray[np.uint8]

BOX_COLOUR = (90, 255, 170)
ASKED_COLOUR = (255, 255, 255)
EVIDENCE_COLOUR = (0, 90, 255)
"""Of the dashes on white around what a box rests on: far from the box's colour for the colour-blind, too."""
DARK = (0, 0, 0)
WHITE = (255, 255, 255)
DASH_LENGTH = 4
"""Length of a dash, in widths of its line."""


def line_width(size: tuple[int, ...]) -> int:
    """The width of lines, in pixels, for a picture.

    Args:
        size: (height, width, ...) of the picture, pixels.
    """
    return int(np.clip(round(max(size[:2]) / 320 + 0.7), 1, 12))


def ring_width(line: int) -> int:
    """How many pixels the outline of a patch reaches beyond the patch, for lines of ``line`` pixels."""
    return line + 5


def rotated_corners(detection: Detection) -> NDArray[np.float32] | None:
    """The corners, float32 (4, 2) in original pixels, of a rotated box; None for an upright box and for a mask.

    Args:
        detection: whose ``polygons`` are one of four corners where it is rotated.
    """
    polygons = detection.polygons or ()
    return polygons[0] if len(polygons) == 1 and len(polygons[0]) == 4 else None


def draw_detection(picture: Picture, detection: Detection, view: View, line: int) -> None:
    """Draw a detection's box (rotated where it is), mask outlines and keypoints, and the box that was asked about.

    Args:
        picture: RGB uint8 (H, W, 3), drawn into.
        detection: in the original image's pixels.
        view: which part of the image the picture shows.
        line: width of lines, pixels.
    """
    if detection.asked is not None:
        draw_outline(picture, view.corners(detection.asked), ASKED_COLOUR, line)
    if rotated_corners(detection) is None:
        draw_outline(picture, view.corners(detection.xyxy), BOX_COLOUR, line)
    for outline in detection.polygons or ():
        draw_outline(picture, view.points(outline), BOX_COLOUR, line)
    for x, y, *visible in () if detection.keypoints is None else detection.keypoints:
        if not visible or visible[0] >= 0.5:
            column, row = np.rint(view.points(np.array([[x, y]]))[0]).astype(int).tolist()
            cv2.circle(picture, (column, row), 2 * line + 1, DARK, -1, cv2.LINE_AA)
            cv2.circle(picture, (column, row), 2 * line, BOX_COLOUR, -1, cv2.LINE_AA)


def draw_patch(picture: Picture, patch: NDArray[np.int64], view: View, line: int) -> None:
    """Draw blue dashes on a white line around a patch, outside of it wherever there is room.

    Args:
        picture: RGB uint8 (H, W, 3), drawn into.
        patch: (4,), xyxy in the original image's pixels.
        view: which part of the image the picture shows.
        line: width of the boxes' lines, pixels.
    """
    corners = view.corners(patch)
    outwards = np.sign(corners - corners.mean(0)) * ((line + 4) // 2 + 1)
    height, width = picture.shape[:2]
    ring = np.clip(corners + outwards, line // 2, np.array([width, height]) - 1 - line // 2)
    draw_outline(picture, ring, WHITE, line + 1)
    for start, end in zip(ring, np.roll(ring, -1, 0), strict=True):  # a dash at either end, so that corners are whole
        pieces = 2 * max(round(float(np.hypot(*(end - start))) / (2 * DASH_LENGTH * (line + 1))), 1) + 1
        ends = np.linspace(start, end, pieces + 1)
        for number in range(0, pieces, 2):
            cv2.line(picture, _whole(ends[number]), _whole(ends[number + 1]), EVIDENCE_COLOUR, line + 1)


def draw_outline(picture: Picture, points: NDArray[np.floating], colour: Colour, line: int) -> None:
    """Draw a closed outline, with a dark rim where the line is wide enough for one.

    Args:
        picture: RGB uint8 (H, W, 3), drawn into.
        points: (n, 2), x and y in the picture's pixels.
        colour: RGB.
        line: width, pixels.
    """
    outline = [np.rint(points).astype(np.int32)]
    smooth = cv2.LINE_8 if _is_upright(points) else cv2.LINE_AA
    if line > 1:
        cv2.polylines(picture, outline, True, DARK, line + 2, smooth)
    cv2.polylines(picture, outline, True, colour, line, smooth)


def _is_upright(points: NDArray[np.floating]) -> bool:
    return len(points) == 4 and bool((np.abs(points - np.roll(points, 1, 0)).min(1) < 0.5).all())


def _whole(point: NDArray[np.floating]) -> tuple[int, int]:
    x, y = np.rint(point).astype(int).tolist()
    return x, y
