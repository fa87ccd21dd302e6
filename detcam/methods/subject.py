"""What methods that work on a whole image may ask: one image, its detections, and the detector behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from detcam.probing.frames import Frame


class Subject(Protocol):
    """One image and K scalars to explain (one for each detection, where the target is one scalar).

    Black boxes answer what needs calls alone: everything but gradients and activations.
    """

    image: Tensor
    """(3, h, w), the detector's input."""
    inside: Tensor
    """Bool (h, w): the image, without the letterbox's padding. Only it is ever perturbed."""
    boxes: Tensor
    """(K, 4) xyxy of the detections, pixels of that input."""
    before: Tensor
    """(K,) :meth:`scores` of the image as it is."""
    seed: int
    budget: int
    """Forward passes: of the image for methods that share them among its detections, of each detection for others."""
    differentiable: bool
    has_layers: bool
    """Whether :meth:`layer_maps` can be asked."""

    def scores(self, images: Tensor, of: Sequence[int] | None = None) -> Tensor:
        """How much of each detection is left in other images (n, 3, h, w): (n, K), or of some of them (n, len(of)).

        The largest IoU x probability of the class over all raw predictions, so no threshold makes a cliff.
        """

    def frame(self, number: int) -> Frame:
        """One scalar asked of changed copies of the image, or of a crop of it."""

    def similarities(self, images: Tensor) -> Tensor:
        """D-RISE's similarity to each detection, (n, K): the largest IoU x cosine of class vectors x confidence."""

    def values(self, images: Tensor) -> Tensor:
        """The targets themselves, each at its own anchor, in other images (n, 3, h, w): (n, K)."""

    def gradients(self, image: Tensor) -> Tensor:
        """Gradient of each target at an image like it: (K, 3, h, w)."""

    def guided_gradients(self, image: Tensor) -> Tensor:
        """The same with every rectifier gated: (K, 3, h, w)."""

    def full_gradients(self, image: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """Gradients (K, 3, h, w), and for each target bias x gradient (channel, h', w') of every layer."""

    def score_gradients(self, images: Tensor, of: int) -> tuple[Tensor, Tensor]:
        """One detection's :meth:`scores` in other images, (n,), and their gradients, (n, 3, h, w)."""

    def layer_maps(self, method: str) -> Tensor:
        """Each target's map by a method that works at layers: (K, h', w')."""

    def activations(self) -> dict[str, Tensor]:
        """The chosen layers' activations (channel, h', w'), by name."""

    def values_with(self, layer: str, activations: Tensor) -> Tensor:
        """The targets where a layer gives these activations (n, channel, h', w') instead of its own: (n, K)."""
