"""Original YOLOv5 (the ``ultralytics/yolov5`` repository, the ``yolov5`` package): v6 and v7 models, ``models.yolo.*``.

A score is sigmoid(objectness) x sigmoid(class logit). The adapter runs the head itself on a private copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import nms

from detcam.adapters.base import RawOutput
from detcam.adapters.settings import check_device, check_place, private_copy
from detcam.adapters.ultralytics import UltralyticsDetector
from detcam.errors import InputError, UsageError, WeightsError
from detcam.geometry import Letterbox
from detcam.tensors.hooks import capture
from detcam.types import Detection

IMGSZ = 640  # what detect.py and AutoShape take, whatever a model was trained at
CLASS_OFFSET = 7680  # pixels; boxes of different classes are moved this far apart, so that they suppress nothing
MOST_CANDIDATES = 30_000


class YoloV5Detector(UltralyticsDetector):
    """A :class:`~detcam.adapters.base.DetectorAdapter` for original YOLOv5 models whose last layer is ``Detect``.

    Layers, letterbox and input are those of :class:`UltralyticsDetector`; the head and the suppression are its own. An
    anchor is counted as the vendor counts: by level, then anchor shape, then row, then column.

    Args:
        model: a ``DetectionModel``, or ``AutoShape`` or ``DetectMultiBackend`` around one; copied, never changed.
        device, half: as :class:`UltralyticsDetector`'s.
        imgsz: what to letterbox to, one side or (height, width); ``None`` takes 640.

    Raises :class:`WeightsError` and :class:`UsageError` as that does.
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
        self.device, self.dtype = check_place(device if device is not None else next(inner.parameters()).device, half)
        # In pixels, (level, anchor, 2); taken before the copy may become float16, which has too few digits.
        sizes = head.anchors.detach().cpu().float() * head.stride.detach().cpu().float()[:, None, None]
        self.anchor_sizes = sizes.to(self.device)
        self.model = private_copy(inner).to(self.device, self.dtype)
        self.head = self.model.model[-1]
        self.head.forward = lambda features: features  # its convolutions run in `forward`
        names = getattr(inner, "names", None) or range(head.nc)
        self.names: Mapping[int, str] = dict(names if isinstance(names, Mapping) else enumerate(map(str, names)))
        self.strides = [int(stride) for stride in head.stride]
        self.stride = max(*self.strides, 32)
        self.imgsz = self._check_imgsz(imgsz if imgsz is not None else IMGSZ)

    def adjusted(
        self,
        device: str | torch.device | None = None,
        imgsz: int | Sequence[int] | None = None,
        half: bool = False,
        nms: bool | None = None,
    ) -> YoloV5Detector:
        """This detector where nothing is asked to differ, else one like it with other settings."""
        if nms is False:
            raise UsageError("nms=False asks for an NMS-free branch, which YOLOv5 does not have; leave nms out")
        wanted = self._check_imgsz(imgsz) if imgsz is not None else self.imgsz
        place = self.device if device is None else check_device(device)
        half = half or (self.dtype == torch.float16 and place.type == "cuda")
        if (place, half, wanted) == (self.device, self.dtype == torch.float16, self.imgsz):
            return self
        return YoloV5Detector(self.model, place, wanted, half)

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
            outputs = [conv(x) for conv, x in zip(self.head.m, self.model(batch), strict=True)]
            levels = [self._decode_level(level, output) for level, output in enumerate(outputs)]
            logits, boxes, sides = (torch.cat(parts, 1) for parts in list(zip(*levels, strict=True))[:3])
        if missed := [name for name in layers if name not in activations]:
            raise UsageError(f"layer {missed[0]!r} takes no part in the forward pass that made the detections")
        strides = torch.cat([level[3] for level in levels])
        height, width = batch.shape[2:]
        return RawOutput(logits[..., 5:], boxes, sides, strides, activations, logits[..., 4], size=(height, width))

    def _decode_level(self, level: int, output: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One level's logits (B, A, 5 + nc), and its boxes and sides (B, A, 4) and strides (A,) in pixels.

        A box's centre is (2 sigmoid(xy) - 0.5 + cell) x stride, its size (2 sigmoid(wh))^2 x the anchor's.
        """
        exact = torch.promote_types(self.dtype, torch.float32)  # float16 has too few digits for pixels
        stride, shapes = self.strides[level], self.anchor_sizes[level].to(exact)
        rows, columns = (torch.arange(n, device=output.device, dtype=exact) + 0.5 for n in output.shape[2:])
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        middles = torch.stack([x, y], -1).flatten(0, 1).repeat(len(shapes), 1)
        logits = output.to(exact).view(len(output), len(shapes), -1, *output.shape[2:]).movedim(2, -1).flatten(1, 3)
        shift = (2 * logits[..., :2].sigmoid() - 1) * stride
        half_size = (2 * logits[..., 2:4].sigmoid()) ** 2 * shapes.repeat_interleave(x.numel(), 0) / 2
        boxes = torch.cat([middles * stride + shift - half_size, middles * stride + shift + half_size], -1)
        sides = torch.cat([half_size - shift, half_size + shift], -1)
        return logits, boxes, sides, torch.full_like(middles[:, 0], stride)

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
        """The detections ``detect.py`` reports, each with its anchor; no wall clock ends the suppression early.

        Objectness alone and its product with the best class both have to exceed ``conf``.
        """
        assert raw.objectness is not None
        found = []
        for image, letterbox in enumerate(letterboxes):
            objectness = raw.objectness[image].detach().sigmoid()
            scores, class_ids = (raw.logits[image].detach().sigmoid() * objectness[:, None]).max(1)
            candidates = (objectness > conf) & (scores > conf)
            if classes is not None:
                candidates &= torch.isin(class_ids, torch.tensor(list(classes), device=class_ids.device))
            anchors = candidates.nonzero().view(-1)
            anchors = anchors[scores[anchors].argsort(descending=True, stable=True)[:MOST_CANDIDATES]]
            boxes = raw.boxes[image].detach()[anchors]
            kept = nms(boxes + CLASS_OFFSET * class_ids[anchors, None], scores[anchors], iou)[:max_det]
            original, anchors = _to_original(boxes[kept].cpu().numpy(), letterbox), anchors[kept]
            if not np.isfinite(original).all():
                raise InputError("the detector's boxes are not finite: damaged weights, or half precision overflowed")
            kinds, confidences = class_ids[anchors].tolist(), scores[anchors].tolist()
            parts = zip(original, kinds, confidences, anchors.tolist(), strict=True)
            found.append(
                tuple(
                    Detection(xyxy, c, self.names.get(c, str(c)), p, a, int(raw.strides[a])) for xyxy, c, p, a in parts
                )
            )
        return found


def unwrap(model: Any) -> nn.Module:
    """The module whose ``model`` is its sequence of layers, out of ``AutoShape`` and ``DetectMultiBackend``."""
    inner = model
    while inner is not None and not isinstance(getattr(inner, "model", None), nn.Sequential):
        inner = getattr(inner, "model", None)
    if not isinstance(inner, nn.Module):
        raise WeightsError(f"{type(model).__name__} is not a YOLOv5 detector: it has no sequence of layers")
    return inner


def is_original(model: Any) -> bool:
    """Whether a model, wrapped or not, ends in a head with anchors, as the original YOLOv5's do."""
    with suppress(WeightsError):
        head = unwrap(model).model[-1]  # type: ignore[index]
        return isinstance(getattr(head, "m", None), nn.ModuleList) and isinstance(
            getattr(head, "anchors", None), Tensor
        )
    return False


def _check_head(model: nn.Module) -> Any:
    head: Any = model.model[-1]  # type: ignore[index]
    if type(head).__name__ != "Detect" or not is_original(model) or head.no != head.nc + 5 or head.stride is None:
        what = f"this model ends in {type(head).__name__}; of original YOLOv5 models detcam explains those that end in "
        raise WeightsError(what + "Detect, with anchors of known stride and 5 numbers more than classes each")
    if (channels := (getattr(model, "yaml", None) or {}).get("ch", 3)) != 3:
        raise WeightsError(f"this model takes {channels}-channel images; detcam explains RGB detectors")
    return head


def _to_original(boxes: NDArray[np.float32], letterbox: Letterbox) -> NDArray[np.floating]:
    """Boxes (N, 4), network -> original pixels, cut to the image; with one gain and no rounding, as the vendor does."""
    network, original = np.array(letterbox.network[::-1]), np.array(letterbox.original[::-1])
    gain = (network / original).min()
    return letterbox.clip((boxes - np.tile((network - original * gain) / 2, 2)) / gain)
