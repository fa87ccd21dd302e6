"""torchvision detectors: Faster, Mask and Keypoint R-CNN, RetinaNet, FCOS, SSD and SSDlite.

The adapter runs a private copy of the model step by step with torchvision's own modules, and repeats only its last
step, the choice among raw predictions, because that forgets which prediction made which box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from detcam.adapters.base import Layer, RawOutput, SoftmaxOutput
from detcam.adapters.decoding import DecodeSettings
from detcam.adapters.layers import measure_layers
from detcam.adapters.settings import check_names
from detcam.adapters.torch_base import Outline, Selection, TorchDetector
from detcam.errors import InputError, WeightsError
from detcam.geometry import Letterbox
from detcam.runtime import check_sides

COARSEST_STAGE_STRIDE = 32
"""The stride at which a classification network ends; a detector's coarser levels are added to it."""
MIN_PROPOSAL_SIDE_PX = 1e-2
"""Proposals with a shorter side are not reported, pixels of the detector's input."""


@dataclass(frozen=True, eq=False)
class ProposalOutput(SoftmaxOutput):
    """What an R-CNN says of each proposal, the anchor here. Each class has a box of its own.

    ``boxes`` and ``sides`` are those of each proposal's best class but the background. The proposals of a batch stand
    one image after the other, and those of other images are certain background without a box.

    Attributes:
        class_boxes: (anchor, class, 4) xyxy, pixels of the detector's input.
        proposals: (anchor, 4) xyxy, pixels of the detector's input.
    """

    on_grid: ClassVar[bool] = False
    boxes_by_class: ClassVar[bool] = True
    class_boxes: Tensor = field(kw_only=True)
    proposals: Tensor = field(kw_only=True)

    def box_of(self, index: int, anchor: int, class_id: int) -> Tensor:
        """See :class:`~detcam.adapters.base.RawOutput`."""
        return self.class_boxes[anchor, class_id]

    def boxes_for(self, class_id: int) -> Tensor:
        """See :class:`~detcam.adapters.base.RawOutput`."""
        return self.class_boxes[None, :, class_id].expand_as(self.boxes)

    def sides_of(self, index: int, anchor: int, class_id: int) -> Tensor:
        """See :class:`~detcam.adapters.base.RawOutput`."""
        return _sides(self.class_boxes[anchor, class_id], self.proposals[anchor])

    def tracked_anchor(
        self, index: int, box: NDArray[np.floating], class_id: int, least_overlap: float = 0.0
    ) -> tuple[int, float]:
        """See :class:`~detcam.adapters.base.RawOutput`; the overlap is with the box of the class asked about."""
        own = replace(self, boxes=self.boxes_for(class_id))
        return RawOutput.tracked_anchor(own, index, box, class_id, least_overlap)


@dataclass(frozen=True, eq=False)
class LevelOutput(RawOutput):
    """What RetinaNet or FCOS says of each anchor; FCOS's objectness is its centreness, and the score a square root.

    Attributes:
        levels: how many anchors each level has, finest first.
    """

    levels: Sequence[int] = field(kw_only=True)

    def probability(self, index: int, anchor: int | slice, class_id: int | slice) -> Tensor:
        """See :class:`~detcam.adapters.base.RawOutput`; the root of class times centreness in FCOS."""
        score = self.logits[index, anchor].sigmoid()
        if self.objectness is None:
            return score[..., class_id]
        return (score * self.objectness[index, anchor, None].sigmoid())[..., class_id].sqrt()


class TorchvisionDetector(TorchDetector):
    """A :class:`~detcam.adapters.base.DetectorAdapter` for the detectors of ``torchvision.models.detection``.

    R-CNN: an anchor is a proposal, and its class logit is differentiable through the features pooled from inside it.
    As in torchvision no gradient flows through the proposal's own coordinates, nor through its selection.

    Args:
        model: the detector; copied, never changed. Forward hooks of the caller's do not come along.
        device: as torch names it; ``None`` takes the model's own.
        imgsz: (shorter, longer) edge that images are scaled to fit, or one number for both; for SSD, which stretches
            every image, (height, width). ``None`` takes the model's own. ``self.imgsz`` is in the same order.
        half: compute the backbone in float16, and the rest in float32; CUDA only.
        names: class names by index, or in order, the background's at index 0 among them where the model has one (R-CNN
            and SSD), as in a torchvision weights entry's ``meta["categories"]``. ``None``: the model's own ``names``
            or the indices.

    Raises:
        WeightsError: the model is no detector of this family.
        UsageError: ``half`` without CUDA, a bad ``imgsz`` or ``device``, or ``names`` that do not fit the classes.
    """

    def __init__(
        self,
        model: nn.Module,
        device: str | torch.device | None = None,
        imgsz: int | Sequence[int] | None = None,
        half: bool = False,
        names: Mapping[int, str] | Sequence[str] | None = None,
    ) -> None:
        if not isinstance(model, (GeneralizedRCNN, RetinaNet, FCOS, SSD)):
            raise WeightsError(
                f"{type(model).__name__} is no torchvision detector that detcam knows; "
                "it explains Faster, Mask and Keypoint R-CNN, RetinaNet, FCOS, SSD and SSDlite"
            )
        super().__init__(model, device, half)
        self.transform = self.model.transform
        if imgsz is not None:
            self._scale_to(*check_sides(imgsz))
        fixed = self.transform.fixed_size
        self.imgsz = (fixed[1], fixed[0]) if fixed else (self.transform.min_size[-1], self.transform.max_size)
        self.names = check_names(names if names is not None else getattr(model, "names", None), _class_count(model))

    def rebuild(
        self, device: torch.device, imgsz: tuple[int, int], half: bool, one_to_one: bool
    ) -> TorchvisionDetector:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`."""
        return TorchvisionDetector(self.model, device, imgsz, half, self.names)

    def cast(self, model: Any) -> Any:
        """The backbone in the precision asked for, the rest in float32: boxes need more digits than float16 has.

        Args:
            model: the copy, on the device; changed in place.
        """
        model.to(torch.float32).backbone.to(self.dtype)
        return model

    def _scale_to(self, first: int, second: int) -> None:
        """Set what the model's transform scales images to, in the order of ``imgsz``."""
        if self.transform.fixed_size:
            self.transform.fixed_size = (second, first)
        else:
            self.transform.min_size, self.transform.max_size = (min(first, second),), max(first, second)

    def list_layers(self) -> Sequence[Layer]:
        """The backbone's and the pyramid's modules that give one feature map.

        Modules up to two below the backbone, three in the pyramid. ``backbone``: the last of each stage that the head
        or the pyramid uses; ``neck``: the head's inputs, the last module at each of their resolutions.
        """
        blocks = {
            name: module
            for name, module in self.model.named_modules()
            if name.startswith("backbone.") and name.count(".") <= 2 + name.startswith("backbone.fpn.")
        }
        side = self.imgsz[0]
        size = self.imgsz if self.transform.fixed_size else self.letterbox(np.zeros((side, side, 3), np.uint8)).network
        levels: set[tuple[int, ...]] = set()

        def run() -> None:
            features = self._features(self.blank_batch(size))
            levels.update(tuple(level.shape[2:]) for level in features.values())

        def group(shapes: Mapping[str, tuple[int, int, int]]) -> dict[str, set[str]]:
            at_levels = {name: shape[1:] for name, shape in shapes.items() if shape[1:] in levels}
            stages = {
                shape: name
                for name, shape in at_levels.items()
                if not name.startswith("backbone.fpn.") and size[0] // shape[0] <= COARSEST_STAGE_STRIDE
            }
            inputs = {shape: name for name, shape in at_levels.items()}
            return {"backbone": set(stages.values()), "neck": set(inputs.values())}

        return measure_layers(blocks, run, size, group)

    def letterbox(self, image: NDArray[np.uint8]) -> Letterbox:
        """Where the model's own transform puts an image: at the top left, padded to a multiple of 32; SSD stretches it.

        Args:
            image: uint8 (H, W, 3), of which only the shape counts.

        Raises:
            InputError: the image is so elongated that nothing would be left of its shorter edge.
        """
        height, width = original = image.shape[:2]
        if fixed := self.transform.fixed_size:
            resized = (fixed[1], fixed[0])
        else:
            scale = min(self.transform.min_size[-1] / min(original), self.transform.max_size / max(original))
            resized = (math.floor(height * scale), math.floor(width * scale))
            if min(resized) < 1:
                raise InputError(
                    f"an image of {width} x {height} pixels is too elongated for this model: it would be scaled to "
                    f"{resized[1]} x {resized[0]}"
                )
        multiple = self.transform.size_divisible
        padded_height, padded_width = (math.ceil(side / multiple) * multiple for side in resized)
        return Letterbox((height, width), (padded_height, padded_width), resized, (0, 0))

    def make_batch(self, images: Sequence[NDArray[np.uint8]], letterboxes: Sequence[Letterbox]) -> Tensor:
        """Images normalised as the model's own transform does, padded with 0, on the detector's device.

        Args:
            images: RGB uint8 (H, W, 3), all of one letterboxed shape.
            letterboxes: where each of them goes.

        Returns:
            (B, 3, h, w).
        """
        tensors = [torch.from_numpy(image.copy()).to(self.device).permute(2, 0, 1) / 255 for image in images]
        batch: Tensor = self.transform(tensors)[0].tensors
        return batch.to(self.dtype)

    def run_model(self, batch: Tensor) -> RawOutput:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`.

        R-CNN cuts its proposals to the image, whose size is read off the padding: the rows at the bottom and the
        columns at the right that are zero throughout.
        """
        features = self._features(batch)
        images = ImageList(batch, [_unpadded(image) for image in batch])
        return (self._proposals if isinstance(self.model, GeneralizedRCNN) else self._anchors)(images, features)

    def _features(self, batch: Tensor) -> dict[str, Tensor]:
        """The head's inputs, finest first. Boxes need more digits than float16 has, so all after this is float32."""
        features = self.model.backbone(batch)
        named = {"0": features} if isinstance(features, Tensor) else features
        return {name: level.to(torch.promote_types(level.dtype, torch.float32)) for name, level in named.items()}

    def _anchors(self, images: ImageList, features: dict[str, Tensor]) -> RawOutput:
        """RetinaNet, FCOS and SSD: every anchor's logits and box."""
        levels = list(features.values())
        outputs = self.model.head(levels)
        anchors = self.model.anchor_generator(images, levels)[0]
        coder = self.model.box_coder
        decode = coder.decode if isinstance(self.model, FCOS) else coder.decode_single
        boxes = torch.stack([decode(sides, anchors) for sides in outputs["bbox_regression"]])
        per_cell = self.model.anchor_generator.num_anchors_per_location()
        counts = [level[0, 0].numel() * n for level, n in zip(levels, per_cell, strict=True)]
        height = images.tensors.shape[2]
        strides = torch.cat(
            [boxes.new_full((n,), round(height / level.shape[2])) for level, n in zip(levels, counts, strict=True)]
        )
        logits, sides = outputs["cls_logits"], _sides(boxes, anchors)
        if isinstance(self.model, SSD):
            return SoftmaxOutput(logits, boxes, sides, strides, first_class=1)
        centreness = outputs["bbox_ctrness"].squeeze(-1) if isinstance(self.model, FCOS) else None
        return LevelOutput(logits, boxes, sides, strides, objectness=centreness, levels=counts)

    def _proposals(self, images: ImageList, features: dict[str, Tensor]) -> RawOutput:
        """R-CNN: every proposal's logits and boxes."""
        heads = self.model.roi_heads
        with torch.no_grad():
            proposals: list[Tensor] = self.model.rpn(images, features)[0]
        pooled = heads.box_roi_pool(features, proposals, images.image_sizes)
        logits, offsets = heads.box_predictor(heads.box_head(pooled))
        class_boxes = heads.box_coder.decode(offsets, proposals)
        level = heads.box_roi_pool.map_levels(proposals)
        strides = 1 / torch.tensor(heads.box_roi_pool.scales, device=self.device)[level]
        best = class_boxes[torch.arange(len(logits)), logits[:, 1:].argmax(1) + 1]
        background = torch.full_like(logits[0], -math.inf)
        background[0] = 0
        owner = torch.repeat_interleave(torch.tensor([len(part) for part in proposals])).to(self.device)
        own = (owner == torch.arange(len(proposals), device=self.device)[:, None])[..., None]
        regions = torch.cat(proposals)
        boxes, sides = (torch.where(own, part, 0) for part in (best, _sides(best, regions)))
        logits = torch.where(own, logits, background)
        return ProposalOutput(logits, boxes, sides, strides, first_class=1, class_boxes=class_boxes, proposals=regions)

    def select(self, raw: RawOutput, index: int, letterbox: Letterbox, settings: DecodeSettings) -> Selection:
        """What torchvision reports at these ``score_thresh``, ``nms_thresh`` and ``detections_per_img``.

        Args:
            raw: of a batch.
            index: the image's position in it.
            letterbox: where the image is in the input.
            settings: which predictions are reported.
        """
        scores = raw.probability(index, slice(None), slice(None))
        anchors, class_ids = self._candidates(raw, scores, settings.conf)
        boxes, confidences = _boxes_in_image(raw, index, letterbox, anchors, class_ids), scores[anchors, class_ids]
        keep = settings.keeps(class_ids).nonzero().view(-1)
        if isinstance(raw, ProposalOutput):
            keep = keep[remove_small_boxes(boxes[keep], MIN_PROPOSAL_SIDE_PX)]
        chosen = batched_nms(boxes[keep], confidences[keep], class_ids[keep], settings.iou)[: settings.max_det]
        keep = keep[chosen]
        return Selection(anchors[keep], class_ids[keep], confidences[keep])

    def outline(self, raw: RawOutput, index: int, letterbox: Letterbox, selection: Selection) -> list[Outline]:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`."""
        boxes = _boxes_in_image(raw, index, letterbox, selection.anchors, selection.class_ids)
        return [Outline(xyxy) for xyxy in letterbox.to_original(boxes.cpu().numpy())]

    def _candidates(self, raw: RawOutput, scores: Tensor, conf: float) -> tuple[Tensor, Tensor]:
        """Anchors and classes that enter suppression: the best of each level (RetinaNet, FCOS) or class (SSD)."""
        pairs = torch.arange(scores.numel(), device=scores.device).view_as(scores)
        if isinstance(raw, LevelOutput):
            parts: Sequence[Tensor] = torch.split(pairs, list(raw.levels))
        else:
            parts = [pairs[:, 1:]] if isinstance(raw, ProposalOutput) else pairs[:, 1:].unbind(1)
        chosen = []
        for part in parts:
            above = part[scores.flatten()[part] > conf]
            most = min(len(above), getattr(self.model, "topk_candidates", len(above)))
            chosen.append(above[scores.flatten()[above].topk(most).indices])
        flat = torch.cat(chosen)
        return flat // scores.shape[1], flat % scores.shape[1]


def _boxes_in_image(raw: RawOutput, index: int, letterbox: Letterbox, anchors: Tensor, class_ids: Tensor) -> Tensor:
    """The boxes (N, 4) of anchors as classes, xyxy in the detector's input, cut to the image."""
    own = raw.class_boxes[anchors, class_ids] if isinstance(raw, ProposalOutput) else raw.boxes[index, anchors]
    boxes: Tensor = clip_boxes_to_image(own, letterbox.resized)
    return boxes


def _class_count(model: Any) -> int:
    """How many columns of class logits a detector has, the background's among them where it has one."""
    if isinstance(model, GeneralizedRCNN):
        return int(model.roi_heads.box_predictor.cls_score.out_features)
    head = model.head.classification_head
    return int(head.num_columns if isinstance(model, SSD) else head.num_classes)


def _sides(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Distances left, top, right, bottom (..., 4) from the centres of anchors (..., 4), xyxy, to the sides of boxes."""
    centres = (anchors[..., :2] + anchors[..., 2:]) / 2
    return torch.cat([centres - boxes[..., :2], boxes[..., 2:] - centres], -1)


def _unpadded(image: Tensor) -> tuple[int, int]:
    """(height, width) of a padded image (3, h, w) without the rows and columns of zeros at its end."""
    filled = image.any(0)
    ends = [int(line.nonzero().max()) + 1 if line.any() else len(line) for line in (filled.any(1), filled.any(0))]
    return ends[0], ends[1]
