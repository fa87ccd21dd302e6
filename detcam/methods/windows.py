"""Windows slid over a box and its surroundings: what a detection loses without each, smoothed into a map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detcam.adapters.scoring import tracked_scores
from detcam.methods.subject import Subject
from detcam.probing.frames import Frame
from detcam.targets import Contrast
from detcam.tensors.fills import soften_masks

WINDOW_SIDE, WINDOW_STEP, WINDOW_REACH = 0.35, 0.18, 0.9
"""The windows' side, their step, and how far they reach from the box's centre; in box sides."""
SMOOTHING_WINDOW_SIDES = 0.35
"""How far a window's loss counts around its centre (standard deviation), in window sides."""
MIN_SIDE_SHARE = 0.02
"""No rectangle is narrower than this share of the image's longer side."""
CELL_PX = 8
"""Side of a map's cells, pixels of the detector's input."""
IMAGES_PER_PASS = 16


@dataclass(frozen=True, eq=False)
class Scan:
    """What a detection loses under windows slid over and around its box.

    Attributes:
        windows: xyxy, pixels of the detector's input: int64 (window, 4).
        losses: what the scalar loses without each, under the blurred fill: float64 (window,).
    """

    windows: NDArray[np.int64]
    losses: NDArray[np.float64]

    def map(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """The losses of the windows around each cell of the input, the nearer the more.

        Args:
            shape: height and width of the detector's input, pixels.

        Returns:
            float32 (height / 8, width / 8), signed; zero where no window was.
        """
        rows, columns = ((np.arange(side // CELL_PX) + 0.5) * CELL_PX for side in shape)
        total, weight = np.zeros((len(rows), len(columns))), np.zeros((len(rows), len(columns)))
        covered = np.zeros_like(total, bool)
        for (x1, y1, x2, y2), loss in zip(self.windows.tolist(), self.losses, strict=True):
            across = np.exp(-0.5 * ((columns - (x1 + x2) / 2) / (SMOOTHING_WINDOW_SIDES * (x2 - x1))) ** 2)
            down = np.exp(-0.5 * ((rows - (y1 + y2) / 2) / (SMOOTHING_WINDOW_SIDES * (y2 - y1))) ** 2)
            near = np.outer(down, across)
            total += loss * near
            weight += near
            covered |= np.outer((rows >= y1) & (rows < y2), (columns >= x1) & (columns < x2))
        return np.divide(total, weight, out=np.zeros_like(total), where=covered).astype(np.float32)


def windows(subject: Subject) -> Tensor:
    """What each detection loses under windows slid over its box and around it.

    Of the target ``class`` it is the tracked score, IoU x probability; of ``contrast:CLASS`` that score's lead over the
    other class's at the same box, not the difference of their logits; of any other target its own value. 82 forward
    passes a detection.

    Args:
        subject: the image and its K scalars.

    Returns:
        (K, h / 8, w / 8), not negative.
    """
    shape = subject.image.shape[1], subject.image.shape[2]
    scans = [scan(subject.frame(number)) for number in range(len(subject.boxes))]
    return torch.stack([torch.from_numpy(one.map(shape)).clamp(min=0) for one in scans])


def scan(frame: Frame) -> Scan:
    """Slide windows over a box and its surroundings.

    Args:
        frame: the whole image as one detection's frame; its target says what is measured.
    """
    x1, y1, x2, y2 = frame.box.tolist()
    width, height = x2 - x1, y2 - y1
    image = image_rectangle(frame.inside)
    offsets = np.arange(-WINDOW_REACH, WINDOW_REACH - WINDOW_SIDE + 1e-6, WINDOW_STEP)
    rectangles = []
    for down in offsets:
        for across in offsets:
            left, top = (x1 + x2) / 2 + across * width, (y1 + y2) / 2 + down * height
            window = [round(side) for side in (left, top, left + WINDOW_SIDE * width, top + WINDOW_SIDE * height)]
            rectangles.append(widen_rectangle(clip_rectangle(window, image), image))
    rectangles = [one for one in rectangles if one[2] > one[0] and one[3] > one[1]]
    measure = _measure(frame)
    parts = torch.stack([rectangle_mask(one, frame.inside) for one in rectangles])
    left_over = []
    for some in torch.split(parts, IMAGES_PER_PASS):
        kept = 1 - soften_masks(some, frame.inside)[:, None]
        left_over.append(measure(torch.lerp(frame.fills["blur"], frame.image, kept)))
    losses = (measure(frame.image[None]) - torch.cat(left_over)).cpu().numpy()
    return Scan(np.array(rectangles, np.int64), losses.astype(np.float64))


def _measure(frame: Frame) -> Callable[[Tensor], Tensor]:
    """What is measured of images (n, 3, h, w): (n,)."""
    if not isinstance(frame.target, Contrast):
        return frame.values
    class_ids = [frame.detection.class_id, frame.target.other]
    boxes = frame.box.expand(2, 4)

    def lead(images: Tensor) -> Tensor:
        scores = tracked_scores(frame.forward(images), boxes, class_ids)
        return scores[:, 0] - scores[:, 1]

    return lead


def image_rectangle(inside: Tensor) -> tuple[int, int, int, int]:
    """Where the image is in the detector's input.

    Args:
        inside: bool (h, w), False in the padding.

    Returns:
        xyxy, whole pixels.
    """
    rows, columns = (torch.where(inside.any(axis))[0] for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def clip_rectangle(rectangle: Sequence[int], image: tuple[int, int, int, int]) -> list[int]:
    """A rectangle cut to the image's.

    Args:
        rectangle: xyxy, whole pixels.
        image: the image's, in the same frame.

    >>> clip_rectangle([-5, 2, 50, 8], (0, 0, 20, 20))
    [0, 2, 20, 8]
    """
    left, top, right, bottom = image
    return [min(max(rectangle[0], left), right), min(max(rectangle[1], top), bottom),
            max(min(rectangle[2], right), left), max(min(rectangle[3], bottom), top)]  # fmt: skip


def widen_rectangle(rectangle: Sequence[int], image: tuple[int, int, int, int]) -> list[int]:
    """A rectangle made at least 2 % of the image's longer side wide and tall, within the image's.

    Args:
        rectangle: xyxy, whole pixels.
        image: the image's, in the same frame.

    >>> widen_rectangle([10, 10, 11, 30], (0, 0, 200, 100))
    [8, 10, 12, 30]
    """
    low, high = image[:2], image[2:]
    least = math.ceil(MIN_SIDE_SHARE * max(high[0] - low[0], high[1] - low[1]))
    wide = list(rectangle)
    for axis in (0, 1):
        spare = max(least - (wide[axis + 2] - wide[axis]), 0)
        wide[axis] = max(wide[axis] - (spare + 1) // 2, low[axis])
        wide[axis + 2] = min(wide[axis + 2] + spare // 2, high[axis])
    return wide


def rectangle_mask(rectangle: Sequence[int], inside: Tensor) -> Tensor:
    """The pixels of a rectangle that are the image's.

    Args:
        rectangle: xyxy, whole pixels.
        inside: bool (h, w), False in the padding.

    Returns:
        Bool (h, w).
    """
    part = torch.zeros_like(inside)
    part[rectangle[1] : rectangle[3], rectangle[0] : rectangle[2]] = True
    return part & inside
