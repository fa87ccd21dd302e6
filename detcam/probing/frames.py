"""Frames: the part of an image, at a size of its own, in which one detection's score is asked of changed images.

A crop around a box costs a fraction of a pass over the whole image, and mostly holds all that the box rests on. Whether
it does is measured once, on the crop as it is; where the score falls, a larger frame is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from detcam.adapters.base import DetectorAdapter, RawOutput
from detcam.adapters.scoring import tracked_scores, tracked_scores_by_class
from detcam.probing.prepared_image import CropKey
from detcam.targets import Target, class_logit, class_probability, hold_target, score
from detcam.types import Detection

IMAGES_PER_PASS = 16
"""Images of one forward pass, where they are as large as the detector's input; more of smaller ones."""
CROP_SIZES = ((1.8, 256), (1.8, 416), (1.8, 640), (3.0, 640), (5.0, 640), (8.0, 640))
"""Crops tried before the whole image, the cheapest first: how many times the box's sides, and the longest side in
pixels."""
MAX_CROP_AREA_SHARE = 0.8
"""A crop is tried that costs at most this share of the whole image."""
MIN_CROP_SIDE_PX = 96
"""No window around a box is narrower, pixels of the whole input."""
CROP_STRIDE_PX = 32
"""Crops begin at multiples of this, so that their anchors are the image's own, and are as large as multiples of it."""
KEPT_SCORE_SHARE = 0.9
"""A crop is taken in which at least this share of the score is left."""
MAX_WATCHED_CLASSES = 100
"""Of a model with more classes, those most probable in the frame are watched."""

SCORE_TARGETS = (class_logit, class_probability, score)
"""Targets whose change is followed by the tracked score, IoU x probability, which follows a box that moves."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One detection in a part of its image.

    Attributes:
        model: the detector.
        image: (3, h, w) in [0, 1], what it is given.
        inside: bool (h, w), False in the letterbox's padding.
        fills: (3, h, w) by name, what stands for "removed".
        box: (4,) xyxy, pixels of this frame.
        detection, target: what is explained.
        window: left, top, right, bottom of the frame in the detector's input, pixels.
        price: of a pass over it, in passes over the whole input.
        dtype: of the detector's input.
        count: called with the price of each forward pass.
        outputs: raw outputs of frames as they are, shared by all frames of one image.
    """

    model: DetectorAdapter
    image: Tensor
    inside: Tensor
    fills: dict[str, Tensor]
    box: Tensor
    detection: Detection
    target: Target
    window: tuple[int, int, int, int]
    price: float
    dtype: torch.dtype
    count: Callable[[float], None]
    outputs: dict[CropKey, RawOutput] = field(default_factory=dict)

    @property
    def raw(self) -> RawOutput:
        """The raw output of the frame as it is; one forward pass for all detections of the image that ask for it."""
        key = self.window, self.image.shape
        if key not in self.outputs:
            self.outputs[key] = self.forward(self.image[None])
        return self.outputs[key]

    @cached_property
    def anchor(self) -> int:
        """The prediction that speaks most for the box in this frame."""
        box = self.box.double().cpu().numpy()
        return self.raw.tracked_anchor(0, box, self.detection.class_id)[0]

    @property
    def tracked(self) -> bool:
        """Whether the tracked score is what is asked about: for the targets ``class``, ``score`` and ``probability``.

        Where the detector has objectness ``probability`` is another number, and not tracked.
        """
        return self.target in SCORE_TARGETS and (self.target is not class_probability or self.raw.objectness is None)

    @cached_property
    def class_ids(self) -> list[int]:
        """The classes watched, the detection's own first."""
        own = self.detection.class_id
        ids = [class_id for class_id in self.model.names if class_id != own]
        if len(ids) >= MAX_WATCHED_CLASSES:
            best = self.raw.probability(0, slice(None), slice(None)).amax(0)
            ids = sorted(ids, key=lambda class_id: -float(best[class_id]))[: MAX_WATCHED_CLASSES - 1]
        return [own, *ids]

    @torch.no_grad()
    def forward(self, images: Tensor) -> RawOutput:
        """One forward pass.

        Args:
            images: (n, 3, h, w), of this frame's size.
        """
        self.count(len(images) * self.price)
        return self.model.forward(images.to(self.dtype))

    def _parts(self, images: Tensor) -> Sequence[Tensor]:
        return torch.split(images, max(round(IMAGES_PER_PASS / max(self.price, 0.25)), 1))

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """The tracked score of the box as its class: the largest IoU x class probability over all raw predictions.

        Args:
            images: (n, 3, h, w), of this frame's size.

        Returns:
            (n,) in [0, 1].
        """
        ids = [self.detection.class_id]
        parts = [tracked_scores(self.forward(part), self.box[None], ids) for part in self._parts(images)]
        return torch.cat(parts)[:, 0]

    @torch.no_grad()
    def class_scores(self, images: Tensor) -> Tensor:
        """The tracked scores of the box as each of :attr:`class_ids`.

        Args:
            images: (n, 3, h, w), of this frame's size.

        Returns:
            (n, class) in [0, 1].
        """
        raws = (self.forward(part) for part in self._parts(images))
        return torch.cat([tracked_scores_by_class(raw, self.box, self.class_ids) for raw in raws])

    @property
    def own_class_scores(self) -> Tensor:
        """:meth:`class_scores` of the frame as it is: (class,) in [0, 1]."""
        return tracked_scores_by_class(self.raw, self.box, self.class_ids)[0]

    @torch.no_grad()
    def values(self, images: Tensor) -> Tensor:
        """What is explained, in other images.

        The tracked score where that is asked about. Any other target is read at the anchor that overlaps the box best,
        weighted by class probability; where predictions lie on no grid, that anchor is looked for in each image anew.

        Args:
            images: (n, 3, h, w), of this frame's size.

        Returns:
            (n,), in the target's own unit.
        """
        if self.tracked:
            return self.scores(images)
        target = hold_target(self.target, self.raw, 0, replace(self.detection, anchor=self.anchor))
        values = []
        for part in self._parts(images):
            raw = self.forward(part)
            for index in range(len(part)):
                anchor = self.anchor
                if not (raw.on_grid and raw.strides[anchor] > 0):
                    anchor, _ = raw.tracked_anchor(index, self.box.double().cpu().numpy(), self.detection.class_id)
                values.append(target(raw, index, replace(self.detection, anchor=anchor)).float())
        return torch.stack(values)

    def without(self, parts: Tensor, fill: str) -> Tensor:
        """Copies of the frame in which parts are replaced.

        Args:
            parts: (n, h, w) in [0, 1]: how much of each pixel is replaced. The padding stays.
            fill: a name in :attr:`fills`.

        Returns:
            (n, 3, h, w).
        """
        return torch.lerp(self.image, self.fills[fill], (parts * self.inside)[:, None].to(self.image))

    def to_input(self, values: Tensor, shape: tuple[int, int]) -> Tensor:
        """Values of this frame over the whole of the detector's input, zero elsewhere.

        Args:
            values: (h, w), over this frame.
            shape: (height, width) of the input.

        Returns:
            (height, width).
        """
        left, top, right, bottom = self.window
        full = values.new_zeros(shape)
        size = (bottom - top, right - left)
        full[top:bottom, left:right] = F.interpolate(values[None, None].float(), size, mode="bilinear")[0, 0]
        return full

    def box_to_input(self, xyxy: Sequence[float]) -> list[float]:
        """A rectangle of this frame in pixels of the detector's input.

        Args:
            xyxy: pixels of this frame.
        """
        left, top, right, bottom = self.window
        across, down = (right - left) / self.image.shape[2], (bottom - top) / self.image.shape[1]
        x1, y1, x2, y2 = xyxy
        return [left + x1 * across, top + y1 * down, left + x2 * across, top + y2 * down]


def crop_size(whole: Frame, growth: float, longest: int) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """The window of a crop around the box, xyxy in pixels of the whole image, and (height, width) of the crop itself.

    Args:
        whole: the whole image as a frame.
        growth: the window's sides, in those of the box.
        longest: side of the crop, pixels; a longer window is made smaller.
    """
    height, width = whole.inside.shape
    x1, y1, x2, y2 = whole.box.tolist()
    spare = max((growth - 1) / 2 * max(x2 - x1, y2 - y1), (MIN_CROP_SIDE_PX - min(x2 - x1, y2 - y1)) / 2)
    ends = []
    for low, high, length in ((y1, y2, height), (x1, x2, width)):
        ends += [max(math.floor((low - spare) / CROP_STRIDE_PX) * CROP_STRIDE_PX, 0),
                 min(math.ceil((high + spare) / CROP_STRIDE_PX) * CROP_STRIDE_PX, length)]  # fmt: skip
    top, bottom, left, right = ends
    tall, wide = bottom - top, right - left
    scale = longest / max(tall, wide, 1)
    if scale >= 1:
        return (left, top, right, bottom), (tall, wide)
    return (left, top, right, bottom), (
        max(round(tall * scale / CROP_STRIDE_PX), 1) * CROP_STRIDE_PX,
        max(round(wide * scale / CROP_STRIDE_PX), 1) * CROP_STRIDE_PX,
    )


def crop_frame(whole: Frame, window: tuple[int, int, int, int], size: tuple[int, int]) -> Frame:
    """A window of the whole image as a frame.

    Args:
        whole: the whole image as a frame.
        window: xyxy, whole pixels of the whole image.
        size: (height, width) that the window is resized to, pixels.
    """
    height, width = whole.inside.shape
    left, top, right, bottom = window

    def cut(image: Tensor) -> Tensor:
        part = image[..., top:bottom, left:right]
        if part.shape[-2:] == size:
            return part.contiguous()
        return F.interpolate(part[None], size, mode="bilinear", antialias=True)[0]

    factor = whole.box.new_tensor([size[1] / (right - left), size[0] / (bottom - top)] * 2)
    return replace(
        whole,
        image=cut(whole.image),
        inside=cut(whole.inside[None].float())[0] > 0.5,
        fills={name: cut(fill) for name, fill in whole.fills.items()},
        box=(whole.box - whole.box.new_tensor([left, top, left, top])) * factor,
        window=window,
        price=size[0] * size[1] / (height * width),
    )


def choose_frame(whole: Frame, score_before: float) -> Frame:
    """The cheapest frame that keeps the detection's score.

    Args:
        whole: the whole image.
        score_before: the tracked score there.
    """
    if not getattr(whole.model, "takes_crops", False) or score_before <= 0:
        return whole
    most = MAX_CROP_AREA_SHARE * whole.inside.numel()
    sizes = {crop_size(whole, growth, longest) for growth, longest in CROP_SIZES}
    for window, (tall, wide) in sorted(sizes, key=lambda one: (one[1][0] * one[1][1], one)):
        if not 0 < tall * wide <= most:
            continue
        frame = crop_frame(whole, window, (tall, wide))
        kept = float(tracked_scores(frame.raw, frame.box[None], [frame.detection.class_id])[0, 0])
        if kept >= KEPT_SCORE_SHARE * score_before:
            return frame
    return whole
