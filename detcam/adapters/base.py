"""What every detector looks like to the rest of detcam: the adapter protocol and the raw output it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from detcam.adapters.decoding import DecodeSettings
from detcam.geometry import Letterbox, iou_matrix
from detcam.types import Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray


def describe(value: object) -> str:
    """What something from outside is, for a message: ``a tensor (3, 4)``, ``a float``."""
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


@dataclass(frozen=True, eq=False)
class RawOutput:
    """Every raw prediction of a batch, before any threshold or suppression, still attached to the autograd graph.

    Attributes:
        logits: (batch, anchor, class) class logits.
        boxes: (batch, anchor, 4) xyxy, pixels of the detector's input; what encloses the box where it is rotated.
        sides: (batch, anchor, 4) distances left, top, right, bottom from the anchor's centre outwards, pixels; in the
            box's own frame where it is rotated.
        strides: (anchor,) stride of each anchor's level, pixels; 0 where predictions lie on no grid.
        activations: captured layers by name, each (batch, channel, height, width).
        objectness: (batch, anchor) objectness logits, where the detector has them; its score is then
            sigmoid(objectness) x sigmoid(class logit).
        extras: what predictions carry besides, by name: ``rotated`` (batch, anchor, 5) xywhr; ``mask`` (batch, anchor,
            k) coefficients of ``prototypes`` (batch, k, h, w); ``keypoints`` (batch, anchor, n, 2 or 3).
        size: (height, width) of the detector's input.
    """

    logits: Tensor
    boxes: Tensor
    sides: Tensor
    strides: Tensor
    activations: Mapping[str, Tensor] = field(default_factory=dict)
    objectness: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    first_class: int = 0
    """The first of ``logits``' columns that is a class; 1 where column 0 is the background."""
    on_grid: ClassVar[bool] = True
    """Whether anchors with a stride are cells of a grid, the same in every image."""
    boxes_by_class: ClassVar[bool] = False
    """Whether every class has boxes of its own."""
    finds_boxes: ClassVar[bool] = True
    """Whether boxes depend on the image; those of a classifier do not."""

    def class_probability(self, index: int, anchor: int | slice, class_id: int | slice) -> Tensor:
        """The probability of a class alone, without objectness.

        Args:
            index: position of the image in the batch.
            anchor: a prediction, or a slice of them.
            class_id: a class, or a slice of them, which gives one column for each.

        Returns:
            In [0, 1]; () for one of each, (anchor, class) for two slices.
        """
        return self.logits[index, anchor].sigmoid()[..., class_id]

    def probability(self, index: int, anchor: int | slice, class_id: int | slice) -> Tensor:
        """The score the detector thresholds: the class probability, times objectness where there is one.

        Args:
            index: position of the image in the batch.
            anchor: a prediction, or a slice of them.
            class_id: a class, or a slice of them, which gives one column for each.

        Returns:
            In [0, 1]; () for one of each, (anchor, class) for two slices.
        """
        score = self.class_probability(index, anchor, class_id)
        if self.objectness is None:
            return score
        present = self.objectness[index, anchor].sigmoid()
        return score * (present[..., None] if isinstance(class_id, slice) else present)

    def box_of(self, index: int, anchor: int, class_id: int) -> Tensor:
        """The box of a class at an anchor; one for all classes in most detectors.

        Args:
            index: position of the image in the batch.
            anchor: the prediction.
            class_id: the class.

        Returns:
            (4,) xyxy, pixels of the detector's input.
        """
        return self.boxes[index, anchor]

    def boxes_for(self, class_id: int) -> Tensor:
        """Every anchor's box of a class.

        Args:
            class_id: the class.

        Returns:
            (batch, anchor, 4) xyxy, pixels of the detector's input.
        """
        return self.boxes

    def sides_of(self, index: int, anchor: int, class_id: int) -> Tensor:
        """The distances from the anchor's centre to the sides of :meth:`box_of`, outwards.

        Args:
            index: position of the image in the batch.
            anchor: the prediction.
            class_id: the class.

        Returns:
            (4,) left, top, right, bottom, pixels of the detector's input.
        """
        return self.sides[index, anchor]

    def places(self, index: int) -> Tensor:
        """Where each anchor is: its cell's centre, or its box's where it has none.

        Args:
            index: position of the image in the batch.

        Returns:
            (anchor, 2) x, y, pixels of the detector's input.
        """
        boxes = self.boxes[index].detach()
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        for stride in sorted(set(self.strides[self.strides > 0].tolist())):
            level = (self.strides == stride).nonzero().view(-1)
            rows, columns = (int(side // stride) for side in self.size)
            if len(level) == rows * columns:  # one anchor to a cell, row by row
                numbers = torch.arange(len(level), device=boxes.device)
                cells = torch.stack([numbers % columns, numbers // columns], 1)
                centres[level] = (cells.to(boxes) + 0.5) * stride
            else:
                centres[level] = boxes[level, :2] + self.sides[index, level, :2].detach()
        return centres

    def overlap(self, index: int, box: NDArray[np.floating]) -> NDArray[np.floating]:
        """IoU of a box with every anchor's.

        Args:
            index: position of the image in the batch.
            box: (4,) xyxy, pixels of the detector's input.

        Returns:
            (anchor,) in [0, 1].
        """
        overlap: NDArray[np.floating] = iou_matrix(box[None], self.boxes[index].detach().float().cpu().numpy())[0]
        return overlap

    def tracked_anchor(
        self, index: int, box: NDArray[np.floating], class_id: int, least_overlap: float = 0.0
    ) -> tuple[int, float]:
        """The anchor that speaks most for a box: arg max over anchors of IoU x class probability.

        Args:
            index: position of the image in the batch.
            box: (4,) xyxy, pixels of the detector's input.
            class_id: the class asked about.
            least_overlap: IoU below which an anchor is passed over, where another reaches it.

        Returns:
            The anchor's index, and that product.
        """
        with torch.no_grad():
            overlap = self.overlap(index, box)
            product = overlap * self.probability(index, slice(None), class_id).float().cpu().numpy()
            product = np.where(overlap >= min(least_overlap, float(overlap.max())), product, -1)
        best = int(product.argmax())
        return best, float(product[best])


@dataclass(frozen=True, eq=False)
class SoftmaxOutput(RawOutput):
    """Raw predictions whose classes, a background included where there is one, share one softmax."""

    def class_probability(self, index: int, anchor: int | slice, class_id: int | slice) -> Tensor:
        """See :class:`RawOutput`."""
        return self.logits[index, anchor].softmax(-1)[..., class_id]


@dataclass(frozen=True)
class Layer:
    """A layer that can be explained.

    Attributes:
        name: module path, such as ``model.15``.
        type: name of the module's class.
        stride: (height, width) of a cell, pixels of the detector's input.
        shape: (channel, height, width) of its output.
        groups: those it is in: ``backbone``, ``neck``, both or none; ``auto`` where the model names no backbone.
    """

    name: str
    type: str
    stride: tuple[float, float]
    shape: tuple[int, int, int]
    groups: tuple[str, ...]


class DetectorAdapter(Protocol):
    """A detector that can be explained. It owns a private copy of the model it was made from, which stays as it is."""

    names: Mapping[int, str]
    device: torch.device
    differentiable: bool
    """Whether gradients and activations can be had; False for a model that can only be called."""

    def adjusted(self, *, device: Any = None, imgsz: Any = None, half: bool = False, nms: bool | None = None) -> Any:
        """This detector where nothing is asked to differ, else one like it; what is left out stays as it is.

        Args:
            device: as torch names it.
            imgsz: one side or (height, width), pixels.
            half: compute in float16.
            nms: whether the branch that needs suppression answers.

        Raises:
            UsageError: a setting it cannot have.
        """

    def layers(self) -> Sequence[Layer]:
        """The layers worth naming, in the order they run."""

    def resolve(self, layers: str | Sequence[str]) -> tuple[str, ...]:
        """Module paths for a group (``auto``, ``backbone``, ``neck``), a path, or several of either.

        Args:
            layers: one or several, as a sequence or separated by commas.

        Raises:
            UsageError: no such group or module.
        """

    def prepare(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, list[Letterbox]]:
        """Images as the detector's input.

        Args:
            images: RGB uint8 (H, W, 3), all of one letterboxed shape.

        Returns:
            The input (batch, 3, h, w), and where each image is in it.
        """

    def letterbox(self, image: NDArray[np.uint8]) -> Letterbox:
        """Where an image goes in the detector's input.

        Args:
            image: uint8 (H, W, 3), of which only the shape counts.
        """

    def forward(
        self, batch: Tensor, layers: Sequence[str] = (), instead: Mapping[str, Tensor] | None = None
    ) -> RawOutput:
        """One forward pass, differentiable from the first of ``layers`` on, or from the batch where it asks for it.

        Args:
            batch: (batch, 3, h, w), the detector's input.
            layers: to capture.
            instead: for some of ``layers``, activations in the place of their own; nothing is differentiable then.

        Raises:
            UsageError: a layer does not give one four-dimensional tensor, once.
        """

    def decode(
        self, raw: RawOutput, letterboxes: Sequence[Letterbox], settings: DecodeSettings
    ) -> list[tuple[Detection, ...]]:
        """The detections of each image, in descending confidence, each with the anchor that made it.

        Args:
            raw: from :meth:`forward`; left as it is.
            letterboxes: where each image of the batch is in the input; boxes come back in original pixels.
            settings: which predictions are reported.

        Raises:
            InputError: boxes or scores are not finite.
        """
