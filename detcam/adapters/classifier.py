"""Image classifiers: any module that turns (B, 3, h, w) images into (B, class) logits.

The whole image is the box, and the anchor of every answer is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms as preprocessing
from torchvision.models import ResNet18_Weights

from detcam.adapters.base import DetectorAdapter, Layer, RawOutput, SoftmaxOutput
from detcam.adapters.decoding import DecodeSettings
from detcam.adapters.layers import measure_layers
from detcam.adapters.settings import check_names
from detcam.adapters.torch_base import Outline, Selection, TorchDetector
from detcam.errors import InputError, UsageError, WeightsError
from detcam.geometry import Letterbox
from detcam.runtime import check_sides

IMAGENET_SIDE, IMAGENET_RESIZE = 224, 256
"""What is cropped, and the shorter edge that is resized to before, in torchvision's transforms for ImageNet, pixels."""
PIXELWISE_TRANSFORMS = {"ToTensor", "PILToTensor", "ToImage", "ConvertImageDtype", "ToDtype", "Normalize"}
"""Transforms that leave every pixel where it is."""


class ClassifierOutput(SoftmaxOutput):
    """Raw predictions of a classifier: one anchor, whose box is the input."""

    finds_boxes: ClassVar[bool] = False


def require_boxes(model: DetectorAdapter) -> None:
    """Refuse a classifier, which says what is in an image and not where, where boxes are judged.

    Args:
        model: any detector.

    Raises:
        UsageError: it is a classifier.
    """
    if isinstance(model, Classifier):
        raise UsageError(
            "this model is an image classifier: it says what is in an image and not where, so labelled boxes cannot "
            "judge it; name the weights of a detector, or images without labels"
        )


class Classifier(TorchDetector):
    """A :class:`~detcam.adapters.base.DetectorAdapter` for image classifiers of torchvision, Ultralytics and others.

    Args:
        model: gives (B, class) logits; or, as Ultralytics' ``-cls`` models do, probabilities and then logits; or an
            object with ``logits``. Copied, never changed. Forward hooks of the caller's do not come along.
        device: as torch names it; ``None`` takes the model's own.
        imgsz: side of the square that is cropped from the middle; ``None`` takes the transforms', an Ultralytics
            checkpoint's training size, or 224.
        half: compute in float16; CUDA only.
        names: class names by index, or in order. ``None``: the model's own ``names``, or the indices.
        transforms: image -> tensor: a torchvision weights entry's ``transforms()``, or a ``Compose`` of ``Resize``,
            ``CenterCrop`` and what leaves pixels in place. ``None``: for an Ultralytics model its own; else
            torchvision's for ImageNet: resize to 256, crop 224, ImageNet's mean and standard deviation.

    Raises:
        WeightsError: the model gives no class logits, or has no layer that gives a feature map.
        UsageError: ``half`` without CUDA, a bad ``imgsz`` or ``device``, ``names`` that do not fit, or transforms
            that move pixels in a way that cannot be followed.
    """

    def __init__(
        self,
        model: nn.Module,
        device: str | torch.device | None = None,
        imgsz: int | Sequence[int] | None = None,
        half: bool = False,
        names: Mapping[int, str] | Sequence[str] | None = None,
        transforms: Any = None,
    ) -> None:
        super().__init__(model, device, half)
        self.transforms = transforms if transforms is not None else _own_transforms(model, imgsz)
        self._resize, self._crop = _geometry(self.transforms)
        sides = self._resize or (IMAGENET_SIDE,)
        self.imgsz = self._crop or (sides[0], sides[-1])
        if imgsz is not None and check_sides(imgsz) != self.imgsz:
            raise UsageError(f"the transforms give {self.imgsz} pixels, but imgsz is {imgsz!r}; give one of the two")
        try:
            logits = self._classify(self.blank_batch(self.imgsz))
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(
                f"{type(model).__name__} is no image classifier: it cannot take one image of shape "
                f"(1, 3, {self.imgsz[0]}, {self.imgsz[1]}): {error}; for a detector see detcam.BlackBox"
            ) from error
        self.names = check_names(names if names is not None else getattr(model, "names", None), logits.shape[1])

    def rebuild(self, device: torch.device, imgsz: tuple[int, int], half: bool, one_to_one: bool) -> Classifier:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`; a new ``imgsz`` brings new transforms."""
        transforms = self.transforms if imgsz == self.imgsz else None
        return Classifier(self.model, device, imgsz, half, self.names, transforms)

    def list_layers(self) -> Sequence[Layer]:
        """The last module at each resolution; ``backbone`` is the last of all to give a map of more than one cell."""
        modules = {name: module for name, module in self.model.named_modules() if name}
        blank = self.blank_batch(self.imgsz)
        measured = measure_layers(modules, lambda: self.model(blank), self.imgsz, _last_map)
        ends = {layer.shape[1:]: layer.name for layer in measured if min(layer.shape[1:]) > 1}
        return [layer for layer in measured if layer.name in ends.values() or layer.groups]

    def letterbox(self, image: NDArray[np.uint8]) -> Letterbox:
        """Where the transforms put an image: what they crop away lies at negative offsets."""
        height, width = image.shape[:2]
        resized = (height, width)
        if len(self._resize) == 1:
            short, side = min(height, width), self._resize[0]
            resized = (side, int(side * width / short)) if height == short else (int(side * height / short), side)
        elif self._resize:
            resized = (self._resize[0], self._resize[1])
        network = self._crop or resized
        top, left = (
            (frame - side) // 2 if side < frame else -round((side - frame) / 2)
            for side, frame in zip(resized, network, strict=True)
        )
        return Letterbox((height, width), network, resized, (top, left))

    def make_batch(self, images: Sequence[NDArray[np.uint8]], letterboxes: Sequence[Letterbox]) -> Tensor:
        """Images as the transforms make them, on the detector's device.

        Args:
            images: RGB uint8 (H, W, 3).
            letterboxes: not used.

        Returns:
            (B, 3, h, w).
        """
        batch = torch.stack([self.transforms(Image.fromarray(image)) for image in images])
        return batch.to(self.device, self.dtype)

    def run_model(self, batch: Tensor) -> RawOutput:
        """See :class:`~detcam.adapters.torch_base.TorchDetector`.

        There is one anchor, whose box is the input and whose stride is the input's height. The box does not depend on
        the image, so targets about it are refused.
        """
        logits = self._classify(batch).to(torch.promote_types(self.dtype, torch.float32))
        height, width = batch.shape[2:]
        boxes = logits.new_tensor([0, 0, width, height]).expand(len(batch), 1, 4)
        sides = boxes.new_tensor([width, height, width, height]).expand_as(boxes) / 2
        return ClassifierOutput(logits[:, None], boxes, sides, boxes.new_tensor([height]))

    def _classify(self, batch: Tensor) -> Tensor:
        """(B, class) logits."""
        output = self.model(batch)
        output = getattr(output, "logits", output)
        if isinstance(output, tuple):
            output = output[-1]
        if not isinstance(output, Tensor) or output.ndim != 2:
            given = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise WeightsError(
                f"{type(self.model).__name__} gives {given}; a classifier has to give (image, class) logits; "
                "for a detector see detcam.BlackBox"
            )
        return output

    def select(self, raw: RawOutput, index: int, letterbox: Letterbox, settings: DecodeSettings) -> Selection:
        """The best classes, at most ``max_det``, whose softmax probability exceeds ``conf``.

        The best class is always among them, however improbable. Nothing overlaps, so ``iou`` has no part in it.

        Args:
            raw: of a batch.
            index: the image's position in it.
            letterbox: where the image is in the input; not used.
            settings: which classes are reported.

        Raises:
            InputError: a class score is not finite.
        """
        wanted = sorted(self.names) if settings.classes is None else sorted(set(settings.classes))
        scores = raw.probability(index, 0, slice(None))[wanted]
        if not scores.isfinite().all():
            raise InputError("the class scores are not finite: damaged weights, or half precision overflowed")
        best, places = scores.topk(min(settings.max_det, len(wanted)))
        keep = best > settings.conf
        keep[:1] = True
        class_ids = torch.tensor(wanted, device=places.device)[places][keep]
        return Selection(torch.zeros_like(class_ids), class_ids, best[keep])

    def outline(self, raw: RawOutput, index: int, letterbox: Letterbox, selection: Selection) -> list[Outline]:
        """The whole image, for every class, in original pixels.

        Args:
            raw: of a batch; not used.
            index: the image's position in it; not used.
            letterbox: of the image.
            selection: from :meth:`select`.
        """
        height, width = letterbox.original
        return [Outline(np.array([0, 0, width, height], np.float32))] * len(selection.anchors)


def _last_map(shapes: Mapping[str, tuple[int, int, int]]) -> dict[str, set[str]]:
    """The group ``backbone``: the last module to give a map of more than one cell.

    Raises:
        WeightsError: no module does.
    """
    if not (maps := [name for name, shape in shapes.items() if min(shape[1:]) > 1]):
        raise WeightsError("no layer of this classifier gives a (batch, channel, height, width) feature map")
    return {"backbone": {maps[-1]}}


def _own_transforms(model: nn.Module, imgsz: int | Sequence[int] | None) -> Any:
    """What a model was made for, at another size where one is asked for."""
    settings = getattr(model, "args", None)
    trained = settings.get("imgsz") if isinstance(settings, Mapping) else getattr(settings, "imgsz", None)
    height, width = check_sides(imgsz if imgsz is not None else trained or IMAGENET_SIDE)
    if height != width:
        raise UsageError(f"a classifier's imgsz must be one side of a square, got {imgsz!r}")
    if type(model).__name__ != "ClassificationModel":
        resized = round(height * IMAGENET_RESIZE / IMAGENET_SIDE)
        return ResNet18_Weights.IMAGENET1K_V1.transforms(crop_size=height, resize_size=resized)
    kept = getattr(model, "transforms", None)
    if kept is not None and _geometry(kept)[1] == (height, width):
        return kept
    steps = [preprocessing.Resize(height), preprocessing.CenterCrop(height), preprocessing.ToTensor()]
    return preprocessing.Compose(steps)


def _geometry(transforms: Any) -> tuple[tuple[int, ...], tuple[int, int] | None]:
    """What image transforms do to places: resized to (shorter edge,) or (height, width) or not, (); cropped to.

    Raises:
        UsageError: they do something else.
    """
    if hasattr(transforms, "resize_size") and hasattr(transforms, "crop_size"):
        return tuple(transforms.resize_size), check_sides(transforms.crop_size)
    resize: tuple[int, ...] = ()
    crop = None
    for step in getattr(transforms, "transforms", [transforms]):
        kind = type(step).__name__
        if kind == "Resize" and not resize and crop is None and getattr(step, "max_size", None) is None:
            resize = (step.size,) if isinstance(step.size, int) else tuple(step.size)
        elif kind == "CenterCrop" and crop is None:
            crop = check_sides(step.size)
        elif kind not in PIXELWISE_TRANSFORMS:
            raise UsageError(
                f"cannot follow where the transform {step!r} puts pixels; give one Resize, then one CenterCrop, and "
                f"any of {', '.join(sorted(PIXELWISE_TRANSFORMS))}"
            )
    return resize, crop
