"""What detectors share that are one sequence of layers with a head at its end: Ultralytics' and the original YOLOv5."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detcam.adapters.base import Layer, RawOutput
from detcam.adapters.folding import fold_normalisation
from detcam.adapters.layers import first_chain, measure_layers, stage_ends
from detcam.adapters.own_forward import HeadInputs, Inputs, OwnForward, OwnPredictions, detach_head
from detcam.adapters.settings import names_by_index
from detcam.adapters.torch_base import TorchDetector
from detcam.errors import WeightsError
from detcam.geometry import PADDING_GREY, Letterbox
from detcam.runtime import check_sides

if TYPE_CHECKING:
    from typing_extensions import Self

COARSEST_STRIDE = 32
"""Images are padded to multiples of this, or of the model's own stride where that is larger, pixels."""
LARGEST_STRIDE = 1024
"""Of a model's own, pixels."""
MOST_CLASSES = 100_000
PREDICTION_TOLERANCE = 0.01
"""Logits and pixels by which a quicker copy's predictions may differ."""


class YoloDetector(TorchDetector):
    """Base of adapters for models whose ``model`` is a sequence of layers that ends in a detection head.

    The private copy's forward pass ends with the inputs of the vendor's head, and the family runs that itself. What a
    subclass of the vendor's head does to them before is part of the model. Whether both give the same predictions is
    tried as a model is loaded (:mod:`detcam.adapters.own_forward`).

    Args:
        model: the model.
        device, half: as :class:`~detcam.adapters.torch_base.TorchDetector`'s.
        imgsz: what to letterbox to, one side or (height, width).
        stride: the largest of the model's levels, pixels.

    Attributes:
        head: the private copy's last layer.
        stride: sides of the detector's input are multiples of it, pixels.

    Raises:
        UsageError: ``half`` without CUDA, or a bad ``imgsz`` or ``device``.
        WeightsError: the model's own forward pass fails, or gives other predictions.
    """

    def __init__(
        self, model: Any, device: str | torch.device | None, imgsz: int | Sequence[int], half: bool, stride: int
    ) -> None:
        self.stride = max(stride, COARSEST_STRIDE)
        self.imgsz = self.check_imgsz(imgsz)
        super().__init__(model, device, half)
        whole = None if isinstance(self.model.model[-1], HeadInputs) else OwnForward(self, self.model)
        self.head = detach_head(self.model, self.is_vendor_head)
        self.names: Mapping[int, str] = _class_names(getattr(model, "names", None), self.head.nc)
        if whole is not None:
            whole.compare(self)

    @abstractmethod
    def is_vendor_head(self, kind: type) -> bool:
        """Whether a class is a head that the family runs by itself.

        Args:
            kind: a class among those of the head and its bases.
        """

    @abstractmethod
    def own_predictions(self, answer: Any, raw: RawOutput) -> OwnPredictions:
        """What the model's own forward pass gave, beside the same of a raw output.

        Args:
            answer: of the whole model, for one image.
            raw: what :meth:`forward` gives for that image.
        """

    def run_whole(self, model: Any, batch: Tensor, one_to_one: bool) -> Any:
        """The answer of a model whose head is not detached yet.

        Args:
            model: the private copy.
            batch: (1, 3, h, w) in [0, 1].
            one_to_one: whether the NMS-free branch answers.
        """
        return model(batch)

    def branches(self, head: Any) -> list[bool]:
        """Which branches can answer, as values of ``one_to_one``; the first is that which does.

        Args:
            head: the model's last layer.
        """
        return [self.one_to_one]

    def head_inputs(self, batch: Tensor) -> tuple[Any, ...]:
        """What the head is given for a batch.

        Raises:
            WeightsError: something is done to the head's answer, which is not there yet.

        Args:
            batch: (B, 3, h, w) in [0, 1].
        """
        inputs: tuple[Any, ...] = self.model(batch)
        if isinstance(self.head, HeadInputs) and not isinstance(inputs, Inputs):
            raise WeightsError(
                f"the answer of {type(self.head).__name__} is changed after it, which cannot be followed"
            )
        return inputs

    def check_imgsz(self, imgsz: int | Sequence[int]) -> tuple[int, int]:
        """(height, width), each rounded up to a multiple of the stride, as ``predict()`` does.

        Args:
            imgsz: one side, or (height, width), pixels.

        Raises:
            UsageError: not one or two whole numbers.
        """
        height, width = (math.ceil(side / self.stride) * self.stride for side in check_sides(imgsz))
        return height, width

    def letterbox(self, image: NDArray[np.uint8]) -> Letterbox:
        """The minimal stride-multiple letterbox of ``predict()``.

        Args:
            image: uint8 (H, W, 3), of which only the shape counts.
        """
        return Letterbox.fit(image.shape[:2], self.imgsz, self.stride)

    def make_batch(self, images: Sequence[NDArray[np.uint8]], letterboxes: Sequence[Letterbox]) -> Tensor:
        """Images scaled bilinearly and padded with grey, on the detector's device.

        Args:
            images: RGB uint8 (H, W, 3), all of one letterboxed shape.
            letterboxes: where each of them goes.

        Returns:
            (B, 3, h, w) in [0, 1].
        """
        arrays = []
        for image, letterbox in zip(images, letterboxes, strict=True):
            height, width = letterbox.resized
            if image.shape[:2] != (height, width):
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
            top, left = letterbox.offset
            canvas = np.full((*letterbox.network, 3), PADDING_GREY, np.uint8)
            canvas[top : top + height, left : left + width] = image
            arrays.append(canvas)
        batch = torch.from_numpy(np.stack(arrays)).to(self.device).permute(0, 3, 1, 2).contiguous()
        return batch.to(self.dtype).div_(255)

    def list_layers(self) -> Sequence[Layer]:
        """The top-level layers that give one feature map: the backbone's stages, the head's inputs, and the others.

        A model whose description names no backbone has no such group, and the log says what ``auto`` takes instead.
        """
        blocks = {f"model.{i}": module for i, module in enumerate(self.model.model[:-1])}
        neck = {f"model.{i % len(self.model.model)}" for i in self.head.f}
        stages = description_of(self.model).get("backbone")
        backbone = list(blocks)[: len(stages) if isinstance(stages, list | tuple) else 0]

        def group(shapes: Mapping[str, tuple[int, int, int]]) -> dict[str, set[str]]:
            if backbone:
                return {"backbone": stage_ends(shapes, backbone, neck), "neck": neck}
            return {"auto": stage_ends(shapes, first_chain(blocks, shapes), neck), "neck": neck}

        layers = measure_layers(blocks, lambda: self.model(self.blank_batch(self.imgsz)), self.imgsz, group)
        if not backbone:
            taken = ", ".join(layer.name for layer in layers if "auto" in layer.groups)
            logging.getLogger(__name__).warning(
                "the model's YAML names no backbone: auto takes the layers before the first that joins others or "
                "enlarges (%s)", taken or "none"
            )  # fmt: skip
        return layers

    @cached_property
    def for_scoring(self) -> Self:
        """The same detector, quicker where no gradient or layer is asked for: normalisation folded into convolutions,
        channels last. Itself where that would not give the same predictions.
        """
        twin = copy(self)
        vars(twin).pop("_modules", None)
        twin.model = fold_normalisation(self.model)
        twin.head = twin.model.model[-1]
        sides = (2 * self.stride, 2 * self.stride)
        sample = torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(0)).to(self.device, self.dtype)
        with torch.no_grad():
            own, quick = (model.forward(sample) for model in (self, twin))
        alike = all(
            torch.allclose(one, other, rtol=1e-3, atol=PREDICTION_TOLERANCE)
            for one, other in ((own.logits, quick.logits), (own.boxes, quick.boxes))
        )
        return twin if alike else self

    def quick_at(self, layers: Sequence[str]) -> Self:
        """:attr:`for_scoring`, where each layer is one of the sequence: inside those, folded blocks differ.

        Args:
            layers: module paths.
        """
        whole = all(name.removeprefix("model.").isdigit() for name in layers)
        return self.for_scoring if whole else self

    @property
    def takes_crops(self) -> bool:
        """Whether parts of an image, at sizes of their own, can be given in its place: yes, in any stride multiple."""
        return True


def description_of(model: Any) -> dict[str, Any]:
    """What a model's YAML says of it; empty where it has none.

    Args:
        model: the model.

    Raises:
        WeightsError: it is no description.
    """
    described = getattr(model, "yaml", None) or {}
    if not isinstance(described, dict):
        raise WeightsError(f"the description (yaml) of this model is a {type(described).__name__}, not named values")
    return described


def check_stride(strides: Any) -> int:
    """The largest of a model's strides, pixels.

    Args:
        strides: a tensor, or numbers.

    Raises:
        WeightsError: one of them is no stride.
    """
    try:
        numbers = [float(number) for number in torch.as_tensor(strides).flatten()[:100]]
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"the strides of this model are no numbers: {str(strides)[:80]}") from error
    if not numbers or not all(1 <= number <= LARGEST_STRIDE and number == int(number) for number in numbers):
        raise WeightsError(f"the strides of this model are {str(numbers)[:80]}; those of detectors are 1 to 1,024")
    return int(max(numbers))


def _class_names(names: Any, count: Any) -> dict[int, str]:
    """A name for each class: the model's, and the index where it has none.

    Raises:
        WeightsError: the model's names are none.
    """
    if type(count) is not int or not 1 <= count <= MOST_CLASSES:
        raise WeightsError(f"this model has {str(count)[:40]} classes; those of detectors are 1 to {MOST_CLASSES:,}")
    if names is not None and not isinstance(names, Mapping | list | tuple | range):
        raise WeightsError(f"the class names of this model are a {type(names).__name__}, not names by index")
    named = names_by_index(names or {})
    if not all(isinstance(key, int) and isinstance(name, str | int) for key, name in named.items()):
        raise WeightsError("the class names of this model are not texts by index")
    return {**{number: str(number) for number in range(count)}, **{key: str(name) for key, name in named.items()}}
