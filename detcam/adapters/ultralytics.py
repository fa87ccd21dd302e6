"""Ultralytics detectors with a ``Detect`` head: YOLOv3u, v5u, v6, v8, v9, v10, 11, 12, 26 and their P2 and P6 variants.

The adapter runs a private copy of the model and computes the head itself from the live neck features: only the branch
that answers, never on detached features, whichever release the checkpoint came from.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from ultralytics.nn.modules.head import Detect
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import scale_boxes

from detcam.adapters.base import Layer, RawOutput
from detcam.adapters.layers import LayerBook, measure_layers, stage_ends
from detcam.capture import capture
from detcam.errors import InputError, UsageError, WeightsError, is_count
from detcam.geometry import PADDING_GREY, Letterbox
from detcam.types import Detection


class UltralyticsDetector:
    """A :class:`~detcam.adapters.base.DetectorAdapter` for Ultralytics models whose last layer is ``Detect``.

    Args:
        model: a ``DetectionModel``; copied, never changed. Forward hooks of the caller's do not come along.
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
        head = _check_head(model)
        self.device = _check_device(device if device is not None else next(model.parameters()).device)
        if half and self.device.type != "cuda":
            raise UsageError(f"half precision needs a CUDA device, got {str(self.device)!r}; leave half out")
        self.dtype = torch.float16 if half else torch.float32
        self.model = _private_copy(model).to(self.device, self.dtype)
        self.head = self.model.model[-1]
        self.one_to_one = _takes_one_to_one(head, nms)
        names = getattr(model, "names", None) or range(head.nc)
        self.names: Mapping[int, str] = dict(names if isinstance(names, Mapping) else enumerate(map(str, names)))
        self.strides = [int(stride) for stride in head.stride]
        self.stride = max(*self.strides, 32)
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
        same_place = device is None or _check_device(device) == self.device
        same_kind = (not half or self.dtype == torch.float16) and (nms is None or (nms is False) == self.one_to_one)
        if same_place and same_kind and wanted == self.imgsz:
            return self
        half = half or self.dtype == torch.float16
        branch = nms if nms is not None else (False if self.one_to_one else None)
        place = device if device is not None else self.device
        return UltralyticsDetector(self.model, place, wanted, half, branch)

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
            lambda shapes: {"backbone": stage_ends(shapes, backbone, self.imgsz[0], self.strides), "neck": neck},
        )
        return LayerBook({name: module for name, module in self.model.named_modules() if name}, listed)

    def layers(self) -> Sequence[Layer]:
        """The top-level layers that give one feature map, measured by a forward pass on a blank image."""
        return self._book.listed

    def resolve(self, layers: str | Sequence[str]) -> tuple[str, ...]:
        """See :class:`~detcam.adapters.base.DetectorAdapter`."""
        return self._book.resolve(layers)

    def letterbox(self, image: NDArray[np.uint8]) -> Letterbox:
        """The minimal stride-multiple letterbox of ``predict()``."""
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

    def forward(self, batch: Tensor, layers: Sequence[str] = ()) -> RawOutput:
        """See :class:`~detcam.adapters.base.DetectorAdapter`. Layers inside the head may be named too."""
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(bool(layers)),
            torch.autocast(batch.device.type, enabled=False),
            capture({name: self._book.modules[name] for name in layers}) as activations,
        ):
            logits, sides, centres, strides = self._head_outputs(self.model(batch))
        if missed := [name for name in layers if name not in activations]:
            raise UsageError(f"layer {missed[0]!r} takes no part in the forward pass that made the detections")
        boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], -1) * strides[:, None]
        return RawOutput(logits, boxes, centres * strides[:, None], strides, activations)

    def _head_outputs(self, features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run the answering branch: logits (B, A, nc), sides (B, A, 4) and centres (A, 2) in cells, strides (A,)."""
        prefix = "one2one_" if self.one_to_one else ""
        box_convs, class_convs = getattr(self.head, f"{prefix}cv2"), getattr(self.head, f"{prefix}cv3")
        logits = torch.cat([conv(x).flatten(2) for conv, x in zip(class_convs, features, strict=True)], 2)
        distances = torch.cat([conv(x).flatten(2) for conv, x in zip(box_convs, features, strict=True)], 2)
        sides = self.head.dfl(distances)
        exact = torch.promote_types(self.dtype, torch.float32)  # float16 has too few digits for pixels
        centres, strides = [], []
        for level, stride in zip(features, self.strides, strict=True):
            rows, columns = (torch.arange(n, device=level.device, dtype=exact) + 0.5 for n in level.shape[2:])
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            centres.append(torch.stack([x, y], -1).flatten(0, 1))
            strides.append(torch.full((x.numel(),), stride, device=level.device, dtype=exact))
        logits, sides = logits.to(exact).transpose(1, 2), sides.to(exact).transpose(1, 2)
        return logits, sides, torch.cat(centres), torch.cat(strides)

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
        boxes, scores = raw.boxes.detach(), raw.logits.detach().sigmoid()
        if self.one_to_one:
            kept = [_top(image, conf, classes, max_det) for image in scores]
        else:
            centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
            rows, anchors = non_max_suppression(
                torch.cat([centre, size, scores], -1).transpose(1, 2), conf, iou, classes=classes, max_det=max_det,
                max_time_img=math.inf, return_idxs=True,
            )  # fmt: skip
            kept = [(a.long().view(-1), row[:, 5].long(), row[:, 4]) for a, row in zip(anchors, rows, strict=True)]
        found = []
        for image, (letterbox, (anchors_, class_ids, confidences)) in enumerate(zip(letterboxes, kept, strict=True)):
            # Not the letterbox's own inverse, from which this differs by up to a network pixel: the boxes people know.
            original = scale_boxes(letterbox.network, boxes[image, anchors_], letterbox.original).cpu().numpy()
            if not np.isfinite(original).all():
                raise InputError("the detector's boxes are not finite: damaged weights, or half precision overflowed")
            found.append(
                tuple(
                    Detection(xyxy, c, self.names.get(c, str(c)), p, a, int(raw.strides[a]))
                    for xyxy, c, p, a in zip(
                        original, class_ids.tolist(), confidences.tolist(), anchors_.tolist(), strict=True
                    )
                )
            )
        return found

    def _check_imgsz(self, imgsz: int | Sequence[int]) -> tuple[int, int]:
        """(height, width), each rounded up to a multiple of the largest stride, as ``predict()`` does."""
        sides: list[Any] = list(imgsz) if isinstance(imgsz, list | tuple) else [imgsz]
        if len(sides) not in (1, 2) or not all(is_count(side) for side in sides):
            raise UsageError(f"imgsz must be one or two whole numbers of pixels, got {imgsz!r}")
        sides = sides * 2 if len(sides) == 1 else sides
        height, width = (math.ceil(side / self.stride) * self.stride for side in sides)
        return height, width


def _top(scores: Tensor, conf: float, classes: Sequence[int] | None, max_det: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best (anchor, class) pairs of an end-to-end head, whose answers need no suppression.

    The best anchors are chosen by their best class, then the best pairs among those; thresholds come after.
    """
    anchors = scores.amax(1).topk(min(max(max_det, 300), len(scores))).indices
    confidences, pairs = scores[anchors].flatten().topk(len(anchors))
    anchors, class_ids = anchors[pairs // scores.shape[1]], pairs % scores.shape[1]
    keep = confidences > conf
    if classes is not None:
        keep &= torch.isin(class_ids, torch.tensor(list(classes), device=class_ids.device))
    keep = keep.nonzero().view(-1)[:max_det]
    return anchors[keep], class_ids[keep], confidences[keep]


def _private_copy(model: nn.Module) -> Any:
    """A frozen copy in evaluation mode, without the caller's hooks, whose forward pass ends with the head's inputs."""
    memo: dict[int, Any] = {}  # what deepcopy takes for copied already: hooks, with all they hold on to, and graphs
    for module in model.modules():
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            memo[id(getattr(module, hooks))] = OrderedDict()
        kept = [value for value in vars(module).values() if isinstance(value, Tensor) and value.grad_fn is not None]
        memo |= {id(value): value.detach() for value in kept}
    private: Any = copy.deepcopy(model, memo)
    private.model[-1].forward = lambda features: features  # the head proper runs in `_head_outputs`
    return private.eval().requires_grad_(False)


def _check_head(model: nn.Module) -> Detect:
    layers = getattr(model, "model", None)
    if not isinstance(layers, nn.Sequential):
        raise WeightsError(f"{type(model).__name__} is not an Ultralytics detector: it has no sequence of layers")
    head = layers[-1]
    if type(head).__name__ not in ("Detect", "v10Detect") or not isinstance(head, Detect):
        raise WeightsError(
            f"this model ends in {type(head).__name__} (task {getattr(model, 'task', None) or 'unknown'!r}); "
            "detcam explains models that end in Detect: YOLO detection weights such as yolov8n.pt or yolo26n.pt"
        )
    if (channels := (getattr(model, "yaml", None) or {}).get("channels", 3)) != 3:
        raise WeightsError(f"this model takes {channels}-channel images; detcam explains RGB detectors")
    return head


def _check_device(device: str | torch.device | int) -> torch.device:
    name = f"cuda:{device}" if str(device).isdigit() else str(device)
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device {str(device)!r} cannot be used here; use cpu, or cuda:0 where there is a GPU"
        ) from error
    return found


def _takes_one_to_one(head: Detect, nms: bool | None) -> bool:
    """Whether the one-to-one branch answers. This release's ``predict()`` takes it only when asked, or left alone."""
    has_one_to_one = getattr(head, "one2one_cv2", None) is not None
    only_one_to_one = has_one_to_one and head.cv2 is None
    if nms is False and not has_one_to_one:
        raise UsageError("nms=False asks for an NMS-free branch, which this model does not have; leave nms out")
    if nms is True and only_one_to_one:
        raise UsageError("nms=True asks for the one-to-many branch, which was removed when this model was fused")
    return only_one_to_one or nms is False


def _trained_imgsz(model: nn.Module) -> Any:
    settings = getattr(model, "args", None) or {}
    return (settings.get("imgsz") if isinstance(settings, Mapping) else getattr(settings, "imgsz", None)) or 640
