"""How alike two rotated boxes or two poses are, by the functions of Ultralytics' own ``val``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools.cocoeval import Params

from detcam.alone import alone

with alone():
    from ultralytics.utils.metrics import batch_probiou, kpt_iou
    from ultralytics.utils.ops import xyxyxyxy2xywhr

OBJECT_SHARE_OF_BOX = 0.53
"""What of its box an object covers, as Ultralytics takes it for the similarity of keypoints."""


def rotated_boxes(outlines: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """The smallest rotated boxes around points: those of ``val``, which is how labelled corners become a box.

    Args:
        outlines: of each (n, 2) x, y, in pixels.

    Returns:
        (N, 5) centre, width, height, angle in radians.
    """
    return np.array([xyxyxyxy2xywhr(points[None])[0] for points in outlines], np.float64).reshape(-1, 5)


def rotated_iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """ProbIoU (Murrugarra-Llerena et al. 2021, arXiv:2106.06072), in [0, 1], which for equal boxes is 0.9995.

    It compares the Gaussians that have the boxes' spread, so it changes as an IoU does but is not the share of areas:
    that of a box 10 times as long as wide with the same turned by a right angle is 0.10, where areas give 0.05.

    Args:
        boxes: (N, 5) centre, width, height, angle in radians.
        others: (M, 5).

    Returns:
        (N, M).
    """
    return np.asarray(batch_probiou(torch.from_numpy(boxes), torch.from_numpy(others)).numpy())


def keypoint_similarity(
    found: NDArray[Any], labelled: NDArray[Any], boxes: NDArray[Any], sigmas: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """COCO's object keypoint similarity (OKS), in [0, 1], with an object's area taken from its box as ``val`` does.

    Args:
        found: (N, n, 2 or more) x, y, in pixels.
        labelled: (M, n, 3) x, y and visibility; a point of visibility 0 is not compared, and where all are 0 the
            similarity is 0.
        boxes: (M, 4) xyxy of what is labelled.
        sigmas: of each point, how far it may be off as a share of the object's size; None for COCO's where there are
            17, and one over their number else.

    Returns:
        (N, M).
    """
    if sigmas is None:
        number = labelled.shape[1]
        sigmas = Params("keypoints").kpt_oks_sigmas.tolist() if number == 17 else [1 / number] * number
    areas = torch.from_numpy((boxes[:, 2:] - boxes[:, :2]).prod(1) * OBJECT_SHARE_OF_BOX).double()
    of_each = kpt_iou(
        torch.from_numpy(np.asarray(labelled, np.float64)),
        torch.from_numpy(np.asarray(found, np.float64)),
        areas,
        list(sigmas),
    )
    return np.asarray(of_each.T.numpy())
