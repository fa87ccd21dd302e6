"""Original YOLOv5 (the ``ultralytics/yolov5`` repository, the ``yolov5`` package): v6 and v7 models, ``models.yolo.*``.

A score is sigmoid(objectness) x sigmoid(class logit). The adapter runs the head itself on a private copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import nms

from detcam.adapters.base import RawOutput
from detcam.adapters.decoding import DecodeSettings
from detcam.adapters.own_forward import OwnPredictions
from detcam.adapters.torch_base import Outline, Selection
from detcam.adapters.yolo_base import YoloDetector, check_stride, description_of
from detcam.errors import WeightsError
from detcam.geometry import Letterbox

DEFAULT_IMGSZ = 640
"""What ``detect.py`` and ``AutoShape`` take, whatever a model was trained at, pixels."""
CLASS_OFFSET_PIXELS = 7680
"""Boxes of different classes are moved this far apart, so that they suppress nothing of each other."""
MAX_CANDIDATES = 30_000
"""Predictions that enter suppression at most, the most confident."""


class YoloV5Detector(YoloDetector):
    """A :class:`~detcam.adapters.base.DetectorAdapter` for original YOLOv5 models whose last layer is ``Detect``.

    Layers, letterbox and input are as in Ultralytics' models; the head and the suppression are its own. Anchors are
    counted as the vendor counts them: by level, then anchor shape, then row, then column.

    Args:
        model: a ``DetectionModel``, or ``AutoShape`` or ``DetectMultiBackend`` around one; copied, never changed.
        device: as torch names it; ``None`` takes the model's own.
        imgsz: what to letterbox to, one side or (height, width); ``None`` takes 640.
        half: compute in float16; CUDA only.

    Raises:
        WeightsError: the model is no detector of this family.
        UsageError: ``half`` without CUDA, or a bad ``imgsz`` or ``device``.
    """

    def __init__(
        self,
        model: Any,
        device: str | torch.device | None = None,
        imgsz: int | Sequence[int] | None = None,
        half: bool = False,
    ) -> None:
        inner = unwrap(model)
        head = _check_head(inner)
        check_stride(head.stride)
        self.strides = [int(stride) for stride in head.stride]
        # In pixels, (level, anchor, 2); from the given head: the copy's may be float16, which has too few digits.
        self.anchor_sizes = head.anchors.detach().cpu().float() * head.stride.detach().cpu().float()[:, None, None]
        super().__init__(inner, device, imgsz if imgsz is not None else DEFAULT_IMGSZ, half, max(self.strides))

    def rebuild(self, device: torch.device, imgsz: tuple[int, int], half: bool, one_to_one: bool) -> YoloV5Detector:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`."""
        return YoloV5Detector(self.model, device, imgsz, half)

    def is_vendor_head(self, kind: type) -> bool:
        """See :class:`~detcam.adapters.yolo_base.YoloDetector`."""
        return kind.__module__.endswith("models.yolo")

    def own_predictions(self, answer: Any, raw: RawOutput) -> OwnPredictions:
        """See :class:`~detcam.adapters.yolo_base.YoloDetector`."""
        boxes, objectness, scores = answer[0][0].split([4, 1, raw.logits.shape[2]], 1)
        middles, sizes = (raw.boxes[0, :, :2] + raw.boxes[0, :, 2:]) / 2, raw.boxes[0, :, 2:] - raw.boxes[0, :, :2]
        assert raw.objectness is not None
        ours = torch.cat([raw.objectness[0][:, None], raw.logits[0]], 1).sigmoid()
        own = {"boxes": boxes, "scores": torch.cat([objectness, scores], 1)}
        return OwnPredictions(own, {"boxes": torch.cat([middles, sizes], 1), "scores": ours})

    def run_model(self, batch: Tensor) -> RawOutput:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`."""
        (features,) = self.head_inputs(batch)
        outputs = [conv(x) for conv, x in zip(self.head.m, features, strict=True)]
        levels = [self._decode_level(level, output) for level, output in enumerate(outputs)]
        logits, boxes, sides = (torch.cat(parts, 1) for parts in list(zip(*levels, strict=True))[:3])
        strides = torch.cat([level[3] for level in levels])
        return RawOutput(logits[..., 5:], boxes, sides, strides, objectness=logits[..., 4])

    def _decode_level(self, level: int, output: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One level's logits (B, A, 5 + nc), and its boxes and sides (B, A, 4) and strides (A,) in pixels.

        A box's centre is (2 sigmoid(xy) - 0.5 + cell) x stride, its size (2 sigmoid(wh))^2 x the anchor's.
        """
        exact = torch.promote_types(self.dtype, torch.float32)  # float16 has too few digits for pixels
        stride, shapes = self.strides[level], self.anchor_sizes[level].to(output.device, exact)
        rows, columns = (torch.arange(n, device=output.device, dtype=exact) + 0.5 for n in output.shape[2:])
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        middles = torch.stack([x, y], -1).flatten(0, 1).repeat(len(shapes), 1)
        logits = output.to(exact).view(len(output), len(shapes), -1, *output.shape[2:]).movedim(2, -1).flatten(1, 3)
        shift = (2 * logits[..., :2].sigmoid() - 1) * stride
        half_size = (2 * logits[..., 2:4].sigmoid()) ** 2 * shapes.repeat_interleave(x.numel(), 0) / 2
        boxes = torch.cat([middles * stride + shift - half_size, middles * stride + shift + half_size], -1)
        sides = torch.cat([half_size - shift, half_size + shift], -1)
        return logits, boxes, sides, torch.full_like(middles[:, 0], stride)

    def select(self, raw: RawOutput, index: int, letterbox: Letterbox, settings: DecodeSettings) -> Selection:
        """What ``detect.py`` reports; no wall clock ends the suppression early.

        Objectness alone and its product with the best class both have to exceed ``conf``.

        Args:
            raw: of a batch.
            index: the image's position in it.
            letterbox: where the image is in the input.
            settings: which predictions are reported.
        """
        assert raw.objectness is not None
        objectness = raw.objectness[index].sigmoid()
        scores, class_ids = (raw.logits[index].sigmoid() * objectness[:, None]).max(1)
        candidates = (objectness > settings.conf) & (scores > settings.conf) & settings.keeps(class_ids)
        anchors = candidates.nonzero().view(-1)
        anchors = anchors[scores[anchors].argsort(descending=True, stable=True)[:MAX_CANDIDATES]]
        boxes = raw.boxes[index, anchors] + CLASS_OFFSET_PIXELS * class_ids[anchors, None]
        anchors = anchors[nms(boxes, scores[anchors], settings.iou)[: settings.max_det]]
        return Selection(anchors, class_ids[anchors], scores[anchors])

    def outline(self, raw: RawOutput, index: int, letterbox: Letterbox, selection: Selection) -> list[Outline]:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`."""
        boxes = raw.boxes[index, selection.anchors].cpu().numpy()
        return [Outline(xyxy) for xyxy in _to_original(boxes, letterbox)]


def unwrap(model: Any) -> nn.Module:
    """The module whose ``model`` is its sequence of layers, out of ``AutoShape`` and ``DetectMultiBackend``.

    Raises:
        WeightsError: there is none.

    Args:
        model: any object.
    """
    inner = model
    while inner is not None and not isinstance(getattr(inner, "model", None), nn.Sequential):
        inner = getattr(inner, "model", None)
    if not isinstance(inner, nn.Module):
        raise WeightsError(f"{type(model).__name__} is not a YOLOv5 detector: it has no sequence of layers")
    return inner


def is_original(model: Any) -> bool:
    """Whether a model, wrapped or not, ends in a head with anchors, as the original YOLOv5's do.

    Args:
        model: any object.
    """
    with suppress(WeightsError):
        head = unwrap(model).model[-1]  # type: ignore[index]
        return isinstance(getattr(head, "m", None), nn.ModuleList) and isinstance(
            getattr(head, "anchors", None), Tensor
        )
    return False


def _check_head(model: nn.Module) -> Any:
    """A model's last layer.

    Raises:
        WeightsError: it is no detection head with anchors, or the model takes no RGB images.
    """
    head: Any = model.model[-1]  # type: ignore[index]
    if type(head).__name__ != "Detect" or not is_original(model) or head.no != head.nc + 5 or head.stride is None:
        what = f"this model ends in {type(head).__name__}; of original YOLOv5 models detcam explains those that end in "
        raise WeightsError(what + "Detect, with anchors of known stride and 5 numbers more than classes each")
    if (channels := description_of(model).get("ch", 3)) != 3:
        raise WeightsError(f"this model takes {channels}-channel images; detcam explains RGB detectors")
    return head


def _to_original(boxes: NDArray[np.float32], letterbox: Letterbox) -> NDArray[np.floating]:
    """Boxes (N, 4), network -> original pixels, cut to the image; with one gain and no rounding, as the vendor does."""
    network, original = np.array(letterbox.network[::-1]), np.array(letterbox.original[::-1])
    gain = (network / original).min()
    return letterbox.clip((boxes - np.tile((network - original * gain) / 2, 2)) / gain)
