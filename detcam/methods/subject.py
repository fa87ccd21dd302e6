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
        """How much of each detection is left in other images: the tracked score.

        The largest IoU x probability of the class over all raw predictions, so no threshold makes a cliff.

        Args:
            images: (n, 3, h, w), of the input's size.
            of: numbers of detections; ``None`` takes all K.

        Returns:
            (n, K) in [0, 1], or (n, len(of)).
        """

    def frame(self, number: int) -> Frame:
        """One scalar asked of changed copies of the image, or of a crop of it.

        Args:
            number: of the scalar, from 0 on.
        """

    def similarities(self, images: Tensor) -> Tensor:
        """D-RISE's similarity to each detection: the largest IoU x cosine of class vectors x confidence.

        Args:
            images: (n, 3, h, w), of the input's size.

        Returns:
            (n, K) in [0, 1].
        """

    def values(self, images: Tensor) -> Tensor:
        """The targets themselves, each at its own anchor, in other images.

        Args:
            images: (n, 3, h, w), of the input's size.

        Returns:
            (n, K), each in its target's own unit.
        """

    def gradients(self, image: Tensor) -> Tensor:
        """Gradient of each target with respect to an image.

        Args:
            image: (3, h, w), the input or a changed copy.

        Returns:
            (K, 3, h, w).
        """

    def guided_gradients(self, image: Tensor) -> Tensor:
        """:meth:`gradients` by guided backpropagation: a rectifier lets through what is positive where its input is.

        Args:
            image: (3, h, w), the input or a changed copy.

        Returns:
            (K, 3, h, w).
        """

    def full_gradients(self, image: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """:meth:`gradients`, and what FullGrad adds to them.

        Args:
            image: (3, h, w), the input or a changed copy.

        Returns:
            Gradients (K, 3, h, w), and for each target bias x gradient (channel, h', w') of every layer.
        """

    def score_gradients(self, images: Tensor, of: int) -> tuple[Tensor, Tensor]:
        """One detection's :meth:`scores` in other images, and their gradients.

        Args:
            images: (n, 3, h, w), of the input's size.
            of: number of the detection.

        Returns:
            Scores (n,) in [0, 1], and their gradients (n, 3, h, w), each with respect to its own image.
        """

    def layer_maps(self, method: str) -> Tensor:
        """Each target's map by a method that works at layers.

        Args:
            method: its name.

        Returns:
            (K, h', w').
        """

    def activations(self) -> dict[str, Tensor]:
        """The chosen layers' activations (channel, h', w'), by name."""

    def values_with(self, layer: str, activations: Tensor) -> Tensor:
        """The targets where a layer gives other activations than its own.

        Args:
            layer: module path.
            activations: (n, channel, h', w').

        Returns:
            (n, K), each in its target's own unit.
        """
