"""Masks as Ultralytics' own ``val`` compares them: in the cells of the prototypes, a quarter of the input's size.

On so coarse a grid the overlap of small objects is another than in the image's pixels, so average precision is too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detcam.adapters.base import RawOutput
from detcam.alone import alone
from detcam.data import Truth
from detcam.geometry import Letterbox

with alone():
    from ultralytics.data.utils import polygon2mask
    from ultralytics.utils.ops import process_mask, resample_segments


def found_masks(raw: RawOutput, index: int, anchors: Tensor, letterbox: Letterbox) -> NDArray[np.uint8]:
    """The masks of predictions, as ``predict()`` makes them but for the last step: not enlarged to the input's size.

    Args:
        raw: of a batch, with ``mask`` and ``prototypes`` among its extras.
        index: the image's place in it.
        anchors: int64 (N,), the predictions.
        letterbox: where the image is in the input.

    Returns:
        (N, h, w), 0 or 1.
    """
    coefficients, prototypes = raw.extras["mask"][index, anchors], raw.extras["prototypes"][index]
    boxes = raw.boxes[index, anchors].detach()
    masks = process_mask(prototypes.detach(), coefficients.detach(), boxes, letterbox.network)
    return np.asarray(masks.cpu().numpy(), np.uint8)


def labelled_masks(truths: Sequence[Truth], letterbox: Letterbox, cells: tuple[int, int]) -> NDArray[np.uint8]:
    """The masks of truths in the same cells. As in the labels of ``val``, of two objects the smaller is in front.

    Crowds are in front of nothing and behind nothing; an object without an outline is its box, and likewise.

    Args:
        truths: in original-image pixels.
        letterbox: where the image is in the input.
        cells: (h, w) of the prototypes.

    Returns:
        (M, h, w), 0 or 1.
    """
    masks = [cv2.resize(_drawn(truth, letterbox), cells[::-1]) for truth in truths]
    in_front = np.zeros(cells, bool)
    for place in sorted(range(len(masks)), key=lambda place: int(masks[place].sum())):
        if truths[place].outline is not None and not truths[place].crowd:
            masks[place][in_front] = 0
            in_front |= masks[place] > 0
    return np.stack(masks)


def _drawn(truth: Truth, letterbox: Letterbox) -> NDArray[np.uint8]:
    """A truth in the input's pixels, 0 or 1."""
    if isinstance(truth.outline, Mapping):
        mask = truth.mask(*letterbox.original)
        (gain_y, gain_x), (top, left) = letterbox.gain, letterbox.offset
        # The centre of a pixel stays a centre.
        placed = np.array([[gain_x, 0, left + (gain_x - 1) / 2], [0, gain_y, top + (gain_y - 1) / 2]])
        size = letterbox.network[::-1]
        return np.asarray(cv2.warpAffine(np.asarray(mask, np.uint8), placed, size, flags=cv2.INTER_NEAREST), np.uint8)
    x1, y1, x2, y2 = truth.xyxy
    polygons: Sequence[NDArray[Any]] = truth.outline or (np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]),)
    drawn = np.zeros(letterbox.network, np.uint8)
    for polygon in polygons:
        (points,) = resample_segments([letterbox.to_network(polygon)], n=max(1000, len(polygon) + 1))
        drawn |= polygon2mask(letterbox.network, [points])
    return drawn
