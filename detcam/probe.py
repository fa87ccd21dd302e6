"""One image's targets with respect to its pixels: what the methods at the pixels may ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from detcam.adapters.base import DetectorAdapter
from detcam.intercept import BiasGradients, GuidedGradients
from detcam.targets import Target
from detcam.types import Detection


class Probe:
    """A :class:`~detcam.methods.pixel.Pixels` of one image and several targets.

    Args:
        model: the detector.
        image: (3, h, w), its input.
        asked: the scalars to explain: detections and targets.
        gradcam: makes their Grad-CAM maps, (scalar, h', w'), when asked.
        seed: of a method's noise.
    """

    def __init__(
        self,
        model: DetectorAdapter,
        image: Tensor,
        asked: Sequence[tuple[Detection, Target]],
        gradcam: Callable[[], Tensor],
        seed: int,
    ) -> None:
        self.image, self.gradcam, self.seed = image, gradcam, seed
        self._model, self._asked = model, asked

    def gradients(self, image: Tensor) -> Tensor:
        """See :class:`~detcam.methods.pixel.Pixels`."""
        return self._backward(image, nullcontext(), lambda: None)

    def guided_gradients(self, image: Tensor) -> Tensor:
        """See :class:`~detcam.methods.pixel.Pixels`."""
        return self._backward(image, GuidedGradients(), lambda: None)

    def full_gradients(self, image: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """See :class:`~detcam.methods.pixel.Pixels`."""
        biases: list[list[Tensor]] = [[]]
        gradients = self._backward(
            image, BiasGradients(lambda part: biases[-1].append(part)), lambda: biases.append([])
        )
        return gradients, biases[:-1]

    def _backward(self, image: Tensor, watch: AbstractContextManager[object], done: Callable[[], None]) -> Tensor:
        """One forward pass, and one backward pass for each scalar: (scalar, 3, h, w)."""
        leaf = image.detach()[None].clone().requires_grad_()
        with watch:
            raw = self._model.forward(leaf)
        found = []
        for number, (detection, target) in enumerate(self._asked):
            with torch.enable_grad():
                value = target(raw, 0, detection)
            gradient: Tensor | None = None
            if value.requires_grad:
                keep = number < len(self._asked) - 1
                (gradient,) = torch.autograd.grad(value, leaf, retain_graph=keep, allow_unused=True)
            found.append(torch.zeros_like(leaf[0]) if gradient is None else gradient[0])
            done()
        return torch.stack(found)
