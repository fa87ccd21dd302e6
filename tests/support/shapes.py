"""Truths and detections that are more than boxes, by hand."""

import math

import numpy as np

from detcam.data import Truth
from detcam.types import Detection
from support.labelled_boxes import CAT, NAMES


def corners(x, y, length, width, degrees):
    """Of a box around a point, turned; (4, 2)."""
    turn = math.radians(degrees)
    along = np.array([math.cos(turn), math.sin(turn)]) * length / 2
    across = np.array([-math.sin(turn), math.cos(turn)]) * width / 2
    return np.array([x, y]) + np.array([along + across, along - across, -along - across, across - along])


def _enclosing(points):
    return np.concatenate([points.min(0), points.max(0)])


def outlined(*polygons, class_id=CAT, crowd=False):
    """A truth of polygons."""
    polygons = tuple(np.asarray(polygon, np.float64) for polygon in polygons)
    return Truth("", _enclosing(np.concatenate(polygons)), class_id, NAMES[class_id], crowd, polygons)


def found_outline(*polygons, class_id=CAT, confidence=0.5):
    """A detection of polygons."""
    polygons = tuple(np.asarray(polygon, np.float32) for polygon in polygons)
    box = _enclosing(np.concatenate(polygons))
    return Detection(box, class_id, NAMES[class_id], confidence, anchor=0, stride=8, polygons=polygons)


def posed(box, points, class_id=CAT, crowd=False):
    """A truth of keypoints (n, 3)."""
    return Truth("", np.float32(box), class_id, NAMES[class_id], crowd, keypoints=points)


def found_pose(box, points, class_id=CAT, confidence=0.5):
    """A detection of keypoints (n, 2 or 3)."""
    points = np.asarray(points, np.float32)
    return Detection(np.float32(box), class_id, NAMES[class_id], confidence, anchor=0, stride=8, keypoints=points)
