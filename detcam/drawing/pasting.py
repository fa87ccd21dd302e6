"""A patch of one image put into another, as a cause is tested and as counterfactuals are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BESIDE_SHARE = 0.5
"""A patch of which this share lies outside the box is beside the object."""


def paste(
    patch: NDArray[np.uint8],
    place: NDArray[np.floating],
    source: NDArray[np.floating],
    image: NDArray[np.uint8],
    target: NDArray[np.floating],
) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """A patch put beside another object as it lay beside its own, scaled with the boxes.

    Args:
        patch: RGB uint8 (h, w, 3).
        place: where its centre lay from its own box's, in box widths and heights, (2,).
        source: its own box (4,), xyxy.
        image: RGB uint8 (H, W, 3), the image that gets it; not changed.
        target: the box there (4,).

    Returns:
        The new image and where the patch is, xyxy; None where it would leave the image.
    """
    own, other = (np.maximum(box[2:] - box[:2], 1).astype(float) for box in (source, target))
    scale = float(np.sqrt(np.prod(other / own)))
    width, height = (max(round(side * scale), 2) for side in (patch.shape[1], patch.shape[0]))
    centre = (target[:2] + target[2:]) / 2 + place * other
    left, top = (round(float(c) - side / 2) for c, side in zip(centre, (width, height), strict=True))
    if left < 0 or top < 0 or left + width > image.shape[1] or top + height > image.shape[0]:
        return None
    changed = image.copy()
    changed[top : top + height, left : left + width] = cv2.resize(patch, (width, height), interpolation=cv2.INTER_AREA)
    return changed, np.array([left, top, left + width, top + height])
