"""What adapters of PyTorch models share: a private copy, its settings, its layers, and the steps around its own.

A family says what differs and nothing else; :class:`TorchDetector` lists what it has to say.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detcam.adapters.base import Layer, RawOutput, describe
from detcam.adapters.decoding import DecodeSettings
from detcam.adapters.layers import LayerIndex
from detcam.adapters.settings import check_device, check_one_shape, check_place, private_copy
from detcam.errors import InputError, UsageError
from detcam.geometry import Letterbox
from detcam.runtime import check_sides
from detcam.tensors.hooks import capture
from detcam.types import Detection

if TYPE_CHECKING:
    from typing_extensions import Self


class Selection(NamedTuple):
    """The N predictions of one image that are reported, in descending confidence, all on the detector's device."""

    anchors: Tensor
    """int64 (N,)."""
    class_ids: Tensor
    """int64 (N,)."""
    confidences: Tensor
    """floating point (N,), in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Outline:
    """Where one detection is, original pixels.

    Attributes:
        xyxy: floating point (4,); what encloses it where it is rotated.
        polygons: the corners of a rotated box, or the outlines of a mask, each float32 (n, 2); ``()`` for a mask
            without a pixel, which is not reported; None for a plain box.
        keypoints: float32 (n, 2), or (n, 3) with the visibility probability in [0, 1]; None without.
    """

    xyxy: NDArray[np.floating]
    polygons: tuple[NDArray[np.float32], ...] | None = None
    keypoints: NDArray[np.float32] | None = None


class TorchDetector(ABC):
    """Base of every :class:`~detcam.adapters.base.DetectorAdapter` whose model is a PyTorch module.

    A family's constructor calls this one and sets ``names`` and ``imgsz``. It has to say how images become a batch
    (:meth:`letterbox`, :meth:`make_batch`), what its layers are (:meth:`list_layers`), what it predicts
    (:meth:`run_model`), which predictions it reports (:meth:`select`) and where those are (:meth:`outline`), and how
    another of its kind is made (:meth:`rebuild`). The other methods are for families that differ from most.

    Args:
        model: copied, never changed. Hooks of the caller's do not come along.
        device: as torch names it; ``None`` takes the model's own.
        half: compute in float16; CUDA only.

    Attributes:
        model: the private copy, frozen, in evaluation mode.
        device, dtype: where and in what precision it computes.
        names: class names by index.
        imgsz: the size that images are fitted to, pixels, in the order the family documents.
        one_to_one: whether an NMS-free branch answers.

    Raises:
        UsageError: ``half`` without CUDA, or a device that cannot be used.
    """

    differentiable = True
    names: Mapping[int, str]
    imgsz: tuple[int, int]
    one_to_one: bool = False

    def __init__(self, model: nn.Module, device: str | torch.device | None, half: bool) -> None:
        own = next(model.parameters(), torch.empty(0)).device
        self.device, self.dtype = check_place(device if device is not None else own, half)
        self.model: Any = self.cast(private_copy(model).to(self.device))
        self._one_at_a_time = RLock()
        _DETECTORS.add(self)

    # What a family says.

    @abstractmethod
    def letterbox(self, image: NDArray[np.uint8]) -> Letterbox:
        """Where an image goes in the detector's input.

        Args:
            image: uint8 (H, W, 3), of which only the shape counts.
        """

    @abstractmethod
    def make_batch(self, images: Sequence[NDArray[np.uint8]], letterboxes: Sequence[Letterbox]) -> Tensor:
        """Images as the detector's input, on its device.

        Args:
            images: RGB uint8 (H, W, 3), all of one letterboxed shape.
            letterboxes: where each of them goes.

        Returns:
            (B, 3, h, w).
        """

    @abstractmethod
    def list_layers(self) -> Sequence[Layer]:
        """The layers worth naming, in the order they run; asked once."""

    @abstractmethod
    def run_model(self, batch: Tensor) -> RawOutput:
        """Every raw prediction of a batch, attached to the graph; ``activations`` and ``size`` are set afterwards.

        Args:
            batch: (B, 3, h, w), from :meth:`make_batch`.
        """

    @abstractmethod
    def select(self, raw: RawOutput, index: int, letterbox: Letterbox, settings: DecodeSettings) -> Selection:
        """The predictions of one image that are reported, in descending confidence.

        Args:
            raw: of a batch.
            index: the image's position in it.
            letterbox: where the image is in the input.
            settings: which predictions are reported.
        """

    @abstractmethod
    def outline(self, raw: RawOutput, index: int, letterbox: Letterbox, selection: Selection) -> Sequence[Outline]:
        """Where each of the selected predictions is, in original pixels.

        Args:
            raw: of a batch.
            index: the image's position in it.
            letterbox: where the image is in the input.
            selection: from :meth:`select`.
        """

    @abstractmethod
    def rebuild(self, device: torch.device, imgsz: tuple[int, int], half: bool, one_to_one: bool) -> Self:
        """A detector like this one with other settings.

        Args:
            device: where it computes.
            imgsz: as in the constructor, two sides.
            half: compute in float16.
            one_to_one: whether an NMS-free branch answers.
        """

    # What a family may say.

    def cast(self, model: Any) -> Any:
        """The private copy in the precision to compute in.

        Args:
            model: the copy, on the device; changed in place.
        """
        return model.to(self.dtype)

    def check_imgsz(self, imgsz: int | Sequence[int]) -> tuple[int, int]:
        """The two sides in pixels that an ``imgsz`` stands for.

        Args:
            imgsz: one side, or two.

        Raises:
            UsageError: it stands for none.
        """
        return check_sides(imgsz)

    def check_branch(self, nms: bool | None) -> bool:
        """Whether the NMS-free branch answers.

        Args:
            nms: whether the branch that needs suppression is asked for; ``None`` leaves it as it is.

        Raises:
            UsageError: there is no such branch.
        """
        if nms is False:
            raise UsageError("nms=False asks for an NMS-free branch, which this model does not have; leave nms out")
        return self.one_to_one

    @property
    def for_scoring(self) -> Self:
        """The same detector, quicker where no gradient or layer is asked for; itself where a family knows none."""
        return self

    def quick_at(self, layers: Sequence[str]) -> Self:
        """The same detector, quicker where these layers are captured; itself where a family knows none that has them.

        Args:
            layers: module paths.
        """
        return self

    @property
    def takes_crops(self) -> bool:
        """Whether parts of an image, at sizes of their own, can be given in its place."""
        return False

    # What all families share.

    def __getstate__(self) -> dict[str, Any]:
        """All but what is made from the weights, which a copy may change, and the lock, which a copy has of its own."""
        return {name: value for name, value in vars(self).items() if name not in ("for_scoring", "_one_at_a_time")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _one_at_a_time=RLock())
        _DETECTORS.add(self)

    def adjusted(
        self,
        *,
        device: str | torch.device | None = None,
        imgsz: int | Sequence[int] | None = None,
        half: bool = False,
        nms: bool | None = None,
    ) -> Self:
        """This detector where nothing is asked to differ, else one like it with other settings.

        Args:
            device: as torch names it; ``None`` leaves it where it is.
            imgsz: as in the constructor; ``None`` leaves it as it is.
            half: compute in float16; a detector that does so already goes on where its new device can.
            nms: whether the branch that needs suppression answers; ``None`` leaves it as it is.

        Raises:
            UsageError: a setting it cannot have.
        """
        one_to_one = self.check_branch(nms)
        sides = self.imgsz if imgsz is None else self.check_imgsz(imgsz)
        place = self.device if device is None else check_device(device)
        half = half or (self.dtype == torch.float16 and place.type == "cuda")
        own = (self.device, self.imgsz, self.dtype == torch.float16, self.one_to_one)
        return self if (place, sides, half, one_to_one) == own else self.rebuild(place, sides, half, one_to_one)

    def blank_batch(self, size: tuple[int, int]) -> Tensor:
        """An input of zeros, to measure layers with.

        Args:
            size: (height, width), pixels.

        Returns:
            (1, 3, height, width).
        """
        return torch.zeros(1, 3, *size, device=self.device, dtype=self.dtype)

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return {name: module for name, module in self.model.named_modules() if name}

    @cached_property
    def _layer_index(self) -> LayerIndex:
        with self._one_at_a_time:
            return LayerIndex(self._modules, self.list_layers())

    def layers(self) -> Sequence[Layer]:
        """The layers worth naming, in the order they run, measured by a forward pass on a blank image."""
        return self._layer_index.listed

    def resolve(self, layers: str | Sequence[str]) -> tuple[str, ...]:
        """See :class:`~detcam.adapters.base.DetectorAdapter`."""
        return self._layer_index.resolve(layers)

    def prepare(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, list[Letterbox]]:
        """See :class:`~detcam.adapters.base.DetectorAdapter`.

        Raises:
            ValueError: the images do not share a letterboxed shape.
        """
        letterboxes = [self.letterbox(image) for image in images]
        check_one_shape(letterboxes)
        return self.make_batch(images, letterboxes), letterboxes

    def forward(
        self, batch: Tensor, layers: Sequence[str] = (), instead: Mapping[str, Tensor] | None = None
    ) -> RawOutput:
        """See :class:`~detcam.adapters.base.DetectorAdapter`. Layers inside the head may be named too.

        Several threads may ask; they wait for each other.
        """
        with (
            self._one_at_a_time,  # hooks are the model's, whichever thread set them
            torch.inference_mode(False),  # the caller may be in it, and its tensors can have no gradient
            torch.set_grad_enabled((bool(layers) and not instead) or batch.requires_grad),
            torch.autocast(batch.device.type, enabled=False),
            capture({name: self._modules[name] for name in layers}, instead) as activations,
        ):
            raw = self.run_model(batch)
        _check_raw(raw, len(batch))
        if unused := [name for name in layers if name not in activations]:
            raise UsageError(f"layer {unused[0]!r} takes no part in the forward pass that made the detections")
        return replace(raw, activations=activations, size=(batch.shape[2], batch.shape[3]))

    @torch.no_grad()
    def decode(
        self, raw: RawOutput, letterboxes: Sequence[Letterbox], settings: DecodeSettings
    ) -> list[tuple[Detection, ...]]:
        """See :class:`~detcam.adapters.base.DetectorAdapter`.

        Raises:
            InputError: boxes or scores are not finite.
        """
        return [self._decode_image(raw, index, letterbox, settings) for index, letterbox in enumerate(letterboxes)]

    def _decode_image(
        self, raw: RawOutput, index: int, letterbox: Letterbox, settings: DecodeSettings
    ) -> tuple[Detection, ...]:
        """The detections of one image, in original pixels."""
        selection = self.select(raw, index, letterbox, settings)
        outlines = self.outline(raw, index, letterbox, selection)
        if not all(np.isfinite(outline.xyxy).all() for outline in outlines):
            raise InputError("the detector's boxes are not finite: damaged weights, or half precision overflowed")
        return tuple(
            Detection(
                outline.xyxy.astype(np.float32),
                class_id,
                self.names.get(class_id, str(class_id)),
                confidence,
                anchor,
                int(raw.strides[anchor]),
                polygons=outline.polygons,
                keypoints=outline.keypoints,
            )
            for outline, anchor, class_id, confidence in zip(
                outlines, *(part.tolist() for part in selection), strict=True
            )
            if outline.polygons != ()
        )


_DETECTORS: WeakSet[TorchDetector] = WeakSet()


def _begin_again() -> None:
    """In a forked process torch's threads and the holders of locks are missing: nobody has to wait for them."""
    torch.set_num_threads(1)
    for detector in list(_DETECTORS):
        detector._one_at_a_time = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_again)


def _check_raw(raw: RawOutput, count: int) -> None:
    """Refuse a family's raw output whose parts do not fit together: it would be read as other predictions.

    Raises:
        UsageError: it is none, or a part has another shape than :class:`~detcam.adapters.base.RawOutput` says.
    """
    if not isinstance(raw, RawOutput):
        raise UsageError(f"run_model has to give a detcam.RawOutput, and gave {describe(raw)}")
    if not isinstance(raw.logits, Tensor) or raw.logits.ndim != 3 or len(raw.logits) != count:
        raise UsageError(f"run_model has to give logits ({count}, anchor, class), and gave {describe(raw.logits)}")
    anchors = raw.logits.shape[1]
    for name, shape in {"boxes": (count, anchors, 4), "sides": (count, anchors, 4), "strides": (anchors,)}.items():
        part = getattr(raw, name)
        if not isinstance(part, Tensor) or part.shape != shape:
            raise UsageError(
                f"run_model gave logits {tuple(raw.logits.shape)}, read as (batch, anchor, class), so its {name} have "
                f"to be a tensor {shape}, and are {describe(part)}"
            )
