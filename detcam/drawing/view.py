"""Which part of an image a picture shows, how large, and turned by how much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    Points = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """A part of an image as a picture.

    Attributes:
        window: x1, y1, x2, y2 in the image's pixels; whole numbers where nothing is turned.
        size: (height, width) of the picture.
        angle: degrees that the part is turned by about its centre.
    """

    window: tuple[float, float, float, float]
    size: tuple[int, int]
    angle: float = 0

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> View:
        """The view that shows an image as it is.

        Args:
            shape: (H, W, ...) of the image.
        """
        height, width = shape[:2]
        return cls((0, 0, width, height), (height, width))

    @classmethod
    def fitted(cls, window: tuple[int, int, int, int], width: int, height: int) -> View:
        """A part of an image, made as large as fits.

        Args:
            window: x1, y1, x2, y2 in the image's pixels.
            width: of the picture at most, pixels.
            height: of the picture at most, pixels.
        """
        across, down = window[2] - window[0], window[3] - window[1]
        scale = min(width / across, height / down)
        return cls(window, (max(round(down * scale), 1), max(round(across * scale), 1)))

    @property
    def scale(self) -> tuple[float, float]:
        """(horizontal, vertical) pixels of the picture for one of the image."""
        x1, y1, x2, y2 = self.window
        return self.size[1] / (x2 - x1), self.size[0] / (y2 - y1)

    @property
    def place(self) -> Points:
        """The affine map (2, 3) from the image's continuous coordinates to the picture's."""
        (across, down), (x1, y1, x2, y2) = self.scale, self.window
        turn = cv2.getRotationMatrix2D((0, 0), self.angle, 1)[:, :2] * [across, down]
        shift = np.array([self.size[1], self.size[0]]) / 2 - turn @ np.array([x1 + x2, y1 + y2]) / 2
        return np.concatenate([turn, shift[:, None]], 1)

    def points(self, points: NDArray[np.floating]) -> Points:
        """Points of the image in the picture's pixels.

        Args:
            points: (n, 2), x and y in the image's pixels.

        Returns:
            float64 (n, 2).
        """
        place = self.place
        moved: Points = np.asarray(points, np.float64) @ place[:, :2].T + place[:, 2]
        return moved

    def corners(self, xyxy: NDArray[np.floating] | NDArray[np.int64]) -> Points:
        """The corners of a box of the image, in the picture's pixels.

        Args:
            xyxy: (4,), in the image's pixels.

        Returns:
            float64 (4, 2).
        """
        x1, y1, x2, y2 = np.asarray(xyxy, np.float64).tolist()
        return self.points(np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]))

    def bounds(self, xyxy: NDArray[np.floating] | NDArray[np.int64]) -> Points:
        """The upright box around a box of the image, in the picture's pixels.

        Args:
            xyxy: (4,), in the image's pixels.

        Returns:
            float64 (4,), xyxy.
        """
        corners = self.corners(xyxy)
        return np.concatenate([corners.min(0), corners.max(0)])

    def photograph(self, image: Picture) -> Picture:
        """The part of an image that is shown.

        Args:
            image: RGB uint8 (H, W, 3).

        Returns:
            A new RGB uint8 picture of :attr:`size`.
        """
        if self.angle:
            return np.asarray(cv2.warpAffine(image, self._inverse(1, 1), self.size[::-1], flags=_CUBIC), np.uint8)
        x1, y1, x2, y2 = (round(edge) for edge in self.window)
        part = image[y1:y2, x1:x2]
        if part.shape[:2] == self.size:
            return np.array(part, np.uint8)
        how = cv2.INTER_AREA if min(self.scale) < 1 else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(part, self.size[::-1], interpolation=how), np.uint8)

    def heat(self, heat: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The part of a map that is shown, float32 of :attr:`size`.

        Args:
            heat: float32 (h, w) over the whole image, at any resolution.
            shape: (H, W, ...) of the image.
        """
        if self == View.whole(heat.shape) and heat.shape == shape[:2]:
            return heat
        inverse = self._inverse(heat.shape[1] / shape[1], heat.shape[0] / shape[0])
        part = cv2.warpAffine(heat, inverse, self.size[::-1], flags=_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(np.clip(part, 0, 1), np.float32)

    def _inverse(self, across: float, down: float) -> Points:
        """From the centres of the picture's pixels to those of an array of so many pixels for one of the image."""
        back = cv2.invertAffineTransform(self.place) * np.array([[across], [down]])
        back[:, 2] += back[:, :2] @ [0.5, 0.5] - 0.5
        return np.asarray(back, np.float64)


_LINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_CUBIC = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP


def upright(corners: NDArray[np.float32], patches: NDArray[np.int64], side: int) -> View:
    """The square of three times a rotated box's longer side around it, or more to show the patches, turned upright.

    Args:
        corners: (4, 2) of the box, in the image's pixels.
        patches: (n, 4), xyxy in the image's pixels.
        side: of the picture, pixels.
    """
    along, across = corners[0] - corners[3], corners[0] - corners[1]
    longer = max(float(np.linalg.norm(along)), float(np.linalg.norm(across)), 16.0)
    x, y = corners.mean(0).tolist()
    reach = np.hypot(*(patches.reshape(-1, 2) - [x, y]).T)
    half = max(1.5 * longer, float(reach.max(initial=0)))
    return View((x - half, y - half, x + half, y + half), (side, side), math.degrees(math.atan2(along[1], along[0])))
