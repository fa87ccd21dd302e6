"""Ultralytics models that find objects: YOLOv3u to 26, RT-DETR, YOLO-World, YOLOE; with masks, poses, rotated boxes.

The adapter runs a private copy of the model and computes the head itself from the live neck features
(:mod:`detcam.adapters.heads`): only the branch that answers, whichever release the checkpoint came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detcam.adapters.answers import RotatedOutput, best_pairs, enclosing_boxes, outlines_of, suppress
from detcam.adapters.base import RawOutput
from detcam.adapters.decoding import DecodeSettings
from detcam.adapters.heads import (
    KNOWN_HEADS,
    check_head,
    has_one_to_one,
    is_class_agnostic,
    is_rtdetr,
    predicts_one_to_one,
    read_answer,
    run_head,
)
from detcam.adapters.own_forward import OwnPredictions
from detcam.adapters.torch_base import Outline, Selection
from detcam.adapters.yolo_base import COARSEST_STRIDE, YoloDetector, check_stride, description_of
from detcam.errors import UsageError, WeightsError
from detcam.geometry import Letterbox
from detcam.runtime import check_sides

LARGEST_TRAINED = 4096
"""Side of the images that a checkpoint may say it was trained at, pixels."""
PREDICT_MAX_DET = 300
"""The pairs that an NMS-free head chooses in ``predict()``, which cuts them to ``max_det`` only afterwards."""


class UltralyticsDetector(YoloDetector):
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
        check_head(layers[-1], getattr(model, "task", None) or "unknown")
        description = description_of(model)
        if (channels := description.get("channels", description.get("ch", 3))) != 3:  # ch until 8.3
            raise WeightsError(f"this model takes {channels}-channel images; detcam explains RGB detectors")
        self.one_to_one = _takes_one_to_one(layers[-1], nms)
        stride = check_stride(getattr(model, "stride", COARSEST_STRIDE))
        super().__init__(model, device, imgsz if imgsz is not None else _trained_imgsz(model), half, stride)

    def rebuild(
        self, device: torch.device, imgsz: tuple[int, int], half: bool, one_to_one: bool
    ) -> UltralyticsDetector:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`."""
        nms = not one_to_one if has_one_to_one(self.head) else None
        return UltralyticsDetector(self.model, device, imgsz, half, nms)

    def check_branch(self, nms: bool | None) -> bool:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`."""
        return self.one_to_one if nms is None else _takes_one_to_one(self.head, nms)

    def is_vendor_head(self, kind: type) -> bool:
        """See :class:`~detcam.adapters.yolo_base.YoloDetector`."""
        return kind in KNOWN_HEADS

    def branches(self, head: Any) -> list[bool]:
        """See :class:`~detcam.adapters.yolo_base.YoloDetector`."""
        both = has_one_to_one(head) and getattr(head, "cv2", None) is not None
        return [self.one_to_one, not self.one_to_one] if both else [self.one_to_one]

    def run_whole(self, model: Any, batch: Tensor, one_to_one: bool) -> Any:
        """See :class:`~detcam.adapters.yolo_base.YoloDetector`."""
        if has_one_to_one(model.model[-1]):
            model.model[-1].end2end = one_to_one
        return model(batch)

    def own_predictions(self, answer: Any, raw: RawOutput) -> OwnPredictions:
        """See :class:`~detcam.adapters.yolo_base.YoloDetector`."""
        return read_answer(self.head, answer, raw, self.one_to_one)

    @property
    def takes_crops(self) -> bool:
        """Whether parts of an image, at sizes of their own, can be given in its place; RT-DETR's input is fixed."""
        return not is_rtdetr(self.head)

    def letterbox(self, image: NDArray[np.uint8]) -> Letterbox:
        """The minimal stride-multiple letterbox of ``predict()``; RT-DETR's images are stretched to the square.

        Args:
            image: uint8 (H, W, 3), of which only the shape counts.
        """
        if is_rtdetr(self.head):
            return Letterbox(image.shape[:2], self.imgsz, self.imgsz, (0, 0))
        return super().letterbox(image)

    def run_model(self, batch: Tensor) -> RawOutput:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`."""
        features, *prompts = self.head_inputs(batch)
        context = prompts[0] if prompts else None
        if isinstance(features, list) and len(features) > len(self.head.f):  # YOLOE's come behind the features
            *features, context = features
        out = run_head(self.head, features, context, self.one_to_one, (batch.shape[2], batch.shape[3]))
        boxes, extras = enclosing_boxes(out)
        kind = RotatedOutput if "rotated" in extras else RawOutput
        return kind(out.logits, boxes, out.sides, out.strides, extras=extras)

    def select(self, raw: RawOutput, index: int, letterbox: Letterbox, settings: DecodeSettings) -> Selection:
        """What ``predict()`` reports; no wall clock ends the suppression early.

        Args:
            raw: of a batch.
            index: the image's position in it.
            letterbox: where the image is in the input.
            settings: which predictions are reported.
        """
        agnostic = is_class_agnostic(self.head)
        scores = raw.logits[index].sigmoid()
        if is_rtdetr(self.head):
            return best_pairs(scores, len(scores), len(scores), settings)
        if self.one_to_one:
            most = min(max(settings.max_det, PREDICT_MAX_DET), len(scores))
            return best_pairs(scores, most, most, settings, agnostic)
        return suppress(raw, index, settings, agnostic)

    def outline(self, raw: RawOutput, index: int, letterbox: Letterbox, selection: Selection) -> list[Outline]:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`."""
        return outlines_of(raw, index, selection.anchors, letterbox, stretched=is_rtdetr(self.head))


def _takes_one_to_one(head: Any, nms: bool | None) -> bool:
    """Whether the one-to-one branch answers."""
    if nms is False and not has_one_to_one(head):
        raise UsageError("nms=False asks for an NMS-free branch, which this model does not have; leave nms out")
    if nms is True and has_one_to_one(head) and getattr(head, "cv2", None) is None:
        raise UsageError("nms=True asks for the one-to-many branch, which was removed when this model was fused")
    return predicts_one_to_one(head) if nms is None else not nms


def _trained_imgsz(model: nn.Module) -> Any:
    """The image size in the settings that a model was trained with; 640 where there is none.

    Raises:
        WeightsError: it is no size of an image.
    """
    settings = getattr(model, "args", None) or {}
    size = (settings.get("imgsz") if isinstance(settings, Mapping) else getattr(settings, "imgsz", None)) or 640
    try:
        if max(check_sides(size)) <= LARGEST_TRAINED:
            return size
    except UsageError:
        pass
    raise WeightsError(
        f"this checkpoint says it was trained at imgsz={str(size)[:40]}, which is no size of an image; give imgsz"
    )
