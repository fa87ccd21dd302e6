"""Ultralytics models that find objects: YOLOv3u to 26, RT-DETR, YOLO-World, YOLOE; with masks, poses, rotated boxes.

The adapter runs a private copy of the model and computes the head itself from the live neck features
(:mod:`detcam.adapters.heads`): only the branch that answers, whichever release the checkpoint came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detcam.adapters.answers import RotatedOutput, best_pairs, enclosing_boxes, shapes_of, suppress
from detcam.adapters.base import Layer, RawOutput
from detcam.adapters.folding import folded
from detcam.adapters.heads import (
    check_head,
    has_one_to_one,
    is_class_agnostic,
    is_rtdetr,
    predicts_one_to_one,
    run_head,
)
from detcam.adapters.layers import LayerBook, measure_layers, stage_ends
from detcam.adapters.settings import check_device, check_place, check_sides, private_copy
from detcam.errors import InputError, UsageError, WeightsError
from detcam.geometry import PADDING_GREY, Letterbox
from detcam.tensors.hooks import capture
from detcam.types import Detection

SAME = 0.01
"""Logits and pixels by which a quicker copy's predictions may differ."""


class UltralyticsDetector:
    """A :class:`~detcam.adapters.base.DetectorAdapter` for Ultralytics models whose last layer is a detection head.

    Args:
        model: a ``DetectionModel``, or a model of another task that finds objects; copied, never changed. Hooks of the
            caller's do not come along.
        device: as torch names it; ``None`` takes the model's own.
        imgsz: what to letterbox to, one side or (height, width); ``None`` takes the training size in the checkpoint.
        half: compute in float16; CUDA only.
        nms: which branch of an end-to-end head (v10, 26) answers. ``None``: the one that this release's
            ``predict()`` takes by default. ``False``: the NMS-free one-to-one branch, as ``predict(nms=False)``.

    Raises:
        WeightsError: the model is no detector of this family.
        UsageError: ``half`` without CUDA, or a bad ``imgsz`` or ``device``.
    """

    differentiable = True

    def __init__(
        self,
        model: nn.Module,
        device: str | torch.device | None = None,
        imgsz: int | Sequence[int] | None = None,
        half: bool = False,
        nms: bool | None = None,
    ) -> None:
        layers = getattr(model, "model", None)
        if not isinstance(layers, nn.Sequential):
            raise WeightsError(f"{type(model).__name__} is not an Ultralytics detector: it has no sequence of layers")
        head: Any = layers[-1]
        check_head(head, getattr(model, "task", None) or "unknown")
        if (channels := (getattr(model, "yaml", None) or {}).get("channels", 3)) != 3:
            raise WeightsError(f"this model takes {channels}-channel images; detcam explains RGB detectors")
        self.device, self.dtype = check_place(device if device is not None else next(model.parameters()).device, half)
        self.model = _headless(model).to(self.device, self.dtype)
        self.head = self.model.model[-1]
        self.one_to_one = _takes_one_to_one(head, nms)
        names = getattr(model, "names", None) or range(head.nc)
        self.names: Mapping[int, str] = dict(names if isinstance(names, Mapping) else enumerate(map(str, names)))
        self.stride = max(int(torch.as_tensor(getattr(model, "stride", 32)).max()), 32)
        self.imgsz = self._check_imgsz(imgsz if imgsz is not None else _trained_imgsz(model))

    def adjusted(
        self,
        device: str | torch.device | None = None,
        imgsz: int | Sequence[int] | None = None,
        half: bool = False,
        nms: bool | None = None,
    ) -> UltralyticsDetector:
        """This detector where nothing is asked to differ, else one like it with other settings."""
        wanted = self._check_imgsz(imgsz) if imgsz is not None else self.imgsz
        same_place = device is None or check_device(device) == self.device
        same_kind = (not half or self.dtype == torch.float16) and (nms is None or (nms is False) == self.one_to_one)
        if same_place and same_kind and wanted == self.imgsz:
            return self
        half = half or (self.dtype == torch.float16 and (device is None or check_device(device).type == "cuda"))
        branch = nms if nms is not None else (not self.one_to_one if has_one_to_one(self.head) else None)
        place = device if device is not None else self.device
        return UltralyticsDetector(self.model, place, wanted, half, branch)

    def __getstate__(self) -> dict[str, Any]:
        """All but what is made from the weights, which a copy may change."""
        return {name: value for name, value in vars(self).items() if name != "for_scoring"}

    @cached_property
    def for_scoring(self) -> UltralyticsDetector:
        """The same detector, quicker where no gradient or layer is asked for: normalisation folded into convolutions,
        channels last. Itself where that would not give the same predictions.
        """
        twin = copy(self)
        twin.model = folded(self.model)
        twin.head = twin.model.model[-1]
        sides = (2 * self.stride, 2 * self.stride)
        sample = torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(0)).to(self.device, self.dtype)
        with torch.no_grad():
            own, quick = (model.forward(sample) for model in (self, twin))
        alike = all(
            torch.allclose(one, other, rtol=1e-3, atol=SAME)
            for one, other in ((own.logits, quick.logits), (own.boxes, quick.boxes))
        )
        return twin if alike else self

    @property
    def takes_crops(self) -> bool:
        """Whether parts of an image, at sizes of their own, can be given in its place; RT-DETR's input is fixed."""
        return not is_rtdetr(self.head)

    @cached_property
    def _book(self) -> LayerBook:
        blocks = {f"model.{i}": module for i, module in enumerate(self.model.model[:-1])}
        neck = {f"model.{i % len(self.model.model)}" for i in self.head.f}
        description = getattr(self.model, "yaml", None) or {}
        backbone = list(blocks)[: len(description.get("backbone", blocks))]
        blank = torch.zeros(1, 3, *self.imgsz, device=self.device, dtype=self.dtype)
        listed = measure_layers(
            blocks,
            lambda: self.model(blank),
            self.imgsz,
            lambda shapes: {"backbone": stage_ends(shapes, backbone, neck), "neck": neck},
        )
        return LayerBook({name: module for name, module in self.model.named_modules() if name}, listed)

    def layers(self) -> Sequence[Layer]:
        """The top-level layers that give one feature map, measured by a forward pass on a blank image."""
        return self._book.listed

    def resolve(self, layers: str | Sequence[str]) -> tuple[str, ...]:
        """See :class:`~detcam.adapters.base.DetectorAdapter`."""
        return self._book.resolve(layers)

    def letterbox(self, image: NDArray[np.uint8]) -> Letterbox:
        """The minimal stride-multiple letterbox of ``predict()``; RT-DETR's images are stretched to the square."""
        if is_rtdetr(self.head):
            return Letterbox(image.shape[:2], self.imgsz, self.imgsz, (0, 0))
        return Letterbox.fit(image.shape[:2], self.imgsz, self.stride)

    def prepare(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, list[Letterbox]]:
        """See :class:`~detcam.adapters.base.DetectorAdapter`; the batch is (B, 3, h, w) in [0, 1]."""
        boxes = [self.letterbox(image) for image in images]
        if len({box.network for box in boxes}) != 1:
            raise ValueError(
                f"images of one batch must share a letterboxed shape, got {[box.network for box in boxes]}"
            )
        arrays = []
        for image, box in zip(images, boxes, strict=True):
            height, width = box.resized
            if image.shape[:2] != (height, width):
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
            top, left = box.offset
            canvas = np.full((*box.network, 3), PADDING_GREY, np.uint8)
            canvas[top : top + height, left : left + width] = image
            arrays.append(canvas)
        batch = torch.from_numpy(np.stack(arrays)).to(self.device).permute(0, 3, 1, 2).contiguous()
        return batch.to(self.dtype).div_(255), boxes

    def forward(
        self, batch: Tensor, layers: Sequence[str] = (), instead: Mapping[str, Tensor] | None = None
    ) -> RawOutput:
        """See :class:`~detcam.adapters.base.DetectorAdapter`. Layers inside the head may be named too."""
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled((bool(layers) and not instead) or batch.requires_grad),
            torch.autocast(batch.device.type, enabled=False),
            capture({name: self._book.modules[name] for name in layers}, instead) as activations,
        ):
            features, *prompts = self.model(batch)
            context = prompts[0] if prompts else None
            if isinstance(features, list) and len(features) > len(self.head.f):  # YOLOE's come behind the features
                *features, context = features
            size = (batch.shape[2], batch.shape[3])
            out = run_head(self.head, features, context, self.one_to_one, size)
        if missed := [name for name in layers if name not in activations]:
            raise UsageError(f"layer {missed[0]!r} takes no part in the forward pass that made the detections")
        boxes, extras = enclosing_boxes(out)
        kind = RotatedOutput if "rotated" in extras else RawOutput
        return kind(out.logits, boxes, out.sides, out.strides, activations, extras=extras, size=size)

    def decode(
        self,
        raw: RawOutput,
        letterboxes: Sequence[Letterbox],
        *,
        conf: float,
        iou: float,
        classes: Sequence[int] | None,
        max_det: int,
    ) -> list[tuple[Detection, ...]]:
        """The detections ``predict()`` reports, each with its anchor; no wall clock ends the suppression early."""
        scores = raw.logits.detach().sigmoid()
        agnostic = is_class_agnostic(self.head)
        if is_rtdetr(self.head):
            queries = scores.shape[1]
            kept = [best_pairs(image, queries, queries, conf, classes, max_det) for image in scores]
        elif self.one_to_one:
            most = min(max(max_det, 300), scores.shape[1])
            kept = [best_pairs(image, most, most, conf, classes, max_det, agnostic) for image in scores]
        else:
            kept = suppress(raw, scores, conf, iou, classes, max_det, agnostic)
        return [
            self._detections(raw, index, letterbox, *found)
            for index, (letterbox, found) in enumerate(zip(letterboxes, kept, strict=True))
        ]

    def _detections(
        self, raw: RawOutput, index: int, letterbox: Letterbox, anchors: Tensor, class_ids: Tensor, confidences: Tensor
    ) -> tuple[Detection, ...]:
        """One image's detections, in original pixels."""
        shapes = shapes_of(raw, index, anchors, letterbox, stretched=is_rtdetr(self.head))
        if not all(np.isfinite(shape.xyxy).all() for shape in shapes):
            raise InputError("the detector's boxes are not finite: damaged weights, or half precision overflowed")
        found = zip(shapes, class_ids.tolist(), confidences.tolist(), anchors.tolist(), strict=True)
        return tuple(
            Detection(
                shape.xyxy,
                c,
                self.names.get(c, str(c)),
                p,
                a,
                int(raw.strides[a]),
                None,
                shape.polygons,
                shape.keypoints,
            )
            for shape, c, p, a in found
            if shape.polygons != ()
        )

    def _check_imgsz(self, imgsz: int | Sequence[int]) -> tuple[int, int]:
        """(height, width), each rounded up to a multiple of the largest stride, as ``predict()`` does."""
        height, width = (math.ceil(side / self.stride) * self.stride for side in check_sides(imgsz))
        return height, width


def _headless(model: nn.Module) -> Any:
    """A private copy whose forward pass ends with the inputs of its head, which runs in `run_head`."""
    private = private_copy(model)
    private.model[-1].forward = lambda *inputs: inputs
    return private


def _takes_one_to_one(head: Any, nms: bool | None) -> bool:
    """Whether the one-to-one branch answers."""
    if nms is False and not has_one_to_one(head):
        raise UsageError("nms=False asks for an NMS-free branch, which this model does not have; leave nms out")
    if nms is True and has_one_to_one(head) and getattr(head, "cv2", None) is None:
        raise UsageError("nms=True asks for the one-to-many branch, which was removed when this model was fused")
    return predicts_one_to_one(head) if nms is None else not nms


def _trained_imgsz(model: nn.Module) -> Any:
    settings = getattr(model, "args", None) or {}
    return (settings.get("imgsz") if isinstance(settings, Mapping) else getattr(settings, "imgsz", None)) or 640
