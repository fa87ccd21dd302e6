"""One image's detections behind the questions that methods ask: gradients, activations, scores of changed images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from detcam.adapters.base import DetectorAdapter, RawOutput
from detcam.adapters.scoring import similarities, tracked_score_parts, tracked_scores
from detcam.probing.frames import Frame
from detcam.probing.prepared_image import PreparedImage
from detcam.targets import Target, hold_target
from detcam.tensors.intercept import BiasGradients, GuidedGradients
from detcam.types import Detection

IMAGES_PER_PASS = 16
"""Images of one forward pass."""


class Probe:
    """A :class:`~detcam.methods.subject.Subject` of one image.

    Args:
        prepared: the image.
        asked: the scalars to explain: detections and targets.
        layers: the layers chosen, for methods that need some.
        layer_maps: makes the scalars' maps (scalar, h', w') by a method that works at layers.
        seed, budget: of the method.

    Attributes:
        forwards: images passed through the detector so far; a backward pass counts as two, a crop by its area.
        own_forwards: of these what each scalar's own frame took.
    """

    def __init__(
        self,
        prepared: PreparedImage,
        asked: Sequence[tuple[Detection, Target]],
        layers: Sequence[str] = (),
        layer_maps: Callable[[str], Tensor] | None = None,
        seed: int = 0,
        budget: int = 0,
    ) -> None:
        self._prepared, self._asked, self._layers, self._layer_maps = prepared, asked, tuple(layers), layer_maps
        self._model, self._dtype = prepared.model, prepared.batch.dtype
        self._scoring: DetectorAdapter = getattr(self._model, "for_scoring", self._model)
        self.image, self.inside = prepared.pixels, prepared.inside
        self.seed, self.budget = seed, budget
        self.differentiable, self.has_layers = self._model.differentiable, layer_maps is not None
        self._ids = [detection.class_id for detection, _ in asked]
        self.boxes = torch.stack([prepared.box_of(detection) for detection, _ in asked])
        self.before = tracked_scores(prepared.raw, self.boxes, self._ids)[prepared.index].detach()
        self.forwards: float = 0
        self.own_forwards = [0.0] * len(asked)

    def frame(self, number: int) -> Frame:
        """The whole image as one scalar's :class:`~detcam.probing.frames.Frame`; its passes are counted here.

        Args:
            number: of the scalar, from 0 on.
        """

        def count(price: float) -> None:
            self.forwards += price
            self.own_forwards[number] += price

        height, width = self.inside.shape
        return Frame(
            self._scoring, self.image.float(), self.inside, self._prepared.fills, self.boxes[number],
            *self._asked[number], (0, 0, width, height), 1.0, self._dtype, count, self._prepared.crop_outputs,
        )  # fmt: skip

    @torch.no_grad()
    def scores(self, images: Tensor, of: Sequence[int] | None = None) -> Tensor:
        """See :class:`~detcam.methods.subject.Subject`."""
        which = list(range(len(self._ids)) if of is None else of)
        ids = [self._ids[i] for i in which]
        parts = []
        for part in torch.split(images, IMAGES_PER_PASS):
            self.forwards += len(part)
            parts.append(tracked_scores(self._scoring.forward(part.to(self._dtype)), self.boxes[which], ids))
        return torch.cat(parts)

    @torch.no_grad()
    def scores_apart(self, images: Tensor, of: int) -> Tensor:
        """What is left of one detection in other images, and what that is made of.

        Args:
            images: (n, 3, h, w), of the input's size.
            of: number of the detection.

        Returns:
            (n, 4) in [0, 1]: the tracked score, its IoU, its class probability, and the score at the detection's own
                anchor. The last is NaN where predictions lie on no grid, because another image has other proposals.
        """
        detection = self._asked[of][0]
        parts = []
        for part in torch.split(images, IMAGES_PER_PASS):
            raw = self._forward(part)
            apart = tracked_score_parts(raw, self.boxes[[of]], [detection.class_id])[:, 0]
            own = torch.full_like(apart[:, :1], torch.nan)
            if raw.on_grid and raw.strides[detection.anchor] > 0:
                own = torch.stack(
                    [raw.probability(i, detection.anchor, detection.class_id).view(1) for i in range(len(part))]
                ).to(apart)
            parts.append(torch.cat([apart, own], 1))
        return torch.cat(parts)

    @torch.no_grad()
    def similarities(self, images: Tensor) -> Tensor:
        """See :class:`~detcam.methods.subject.Subject`."""
        own = [
            self._prepared.raw.probability(self._prepared.index, detection.anchor, slice(None)).detach()
            for detection, _ in self._asked
        ]
        classes = torch.stack(own)
        raws = (self._forward(part) for part in torch.split(images, IMAGES_PER_PASS))
        return torch.cat([similarities(raw, self.boxes, classes, self._ids) for raw in raws])

    @torch.no_grad()
    def values(self, images: Tensor) -> Tensor:
        """See :class:`~detcam.methods.subject.Subject`."""
        return torch.cat(
            [self._values(self._forward(part), len(part)) for part in torch.split(images, IMAGES_PER_PASS)]
        )

    def layer_maps(self, method: str) -> Tensor:
        """See :class:`~detcam.methods.subject.Subject`.

        Raises:
            ValueError: this probe was made without layers.
        """
        if self._layer_maps is None:
            raise ValueError(f"this probe was made without layers, which {method!r} needs")
        return self._layer_maps(method)

    def gradients(self, image: Tensor) -> Tensor:
        """See :class:`~detcam.methods.subject.Subject`."""
        return self._backward(image, nullcontext(), lambda: None)

    def guided_gradients(self, image: Tensor) -> Tensor:
        """See :class:`~detcam.methods.subject.Subject`."""
        return self._backward(image, GuidedGradients(), lambda: None)

    def full_gradients(self, image: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """See :class:`~detcam.methods.subject.Subject`."""
        biases: list[list[Tensor]] = [[]]
        watch = BiasGradients(lambda part: biases[-1].append(part))
        gradients = self._backward(image, watch, lambda: biases.append([]))
        return gradients, biases[:-1]

    def score_gradients(self, images: Tensor, of: int) -> tuple[Tensor, Tensor]:
        """See :class:`~detcam.methods.subject.Subject`."""
        leaf = images.detach().clone().requires_grad_()
        with torch.enable_grad():
            scores = tracked_scores(self._forward(leaf), self.boxes[[of]], [self._ids[of]])[:, 0]
            (gradients,) = torch.autograd.grad(scores.sum(), leaf)
        self.forwards += 2 * len(images)
        return scores.detach(), gradients

    @torch.no_grad()
    def activations(self) -> dict[str, Tensor]:
        """See :class:`~detcam.methods.subject.Subject`."""
        raw = self._model.forward(self.image[None].to(self._dtype), self._layers)
        self.forwards += 1
        return {name: layer[0].detach().float() for name, layer in raw.activations.items()}

    @torch.no_grad()
    def values_with(self, layer: str, activations: Tensor) -> Tensor:
        """See :class:`~detcam.methods.subject.Subject`."""
        values = []
        for part in torch.split(activations, IMAGES_PER_PASS):
            images = self.image.to(self._dtype).expand(len(part), -1, -1, -1)
            self.forwards += len(part)
            values.append(self._values(self._model.forward(images, (layer,), {layer: part}), len(part)))
        return torch.cat(values)

    def _values(self, raw: RawOutput, images: int) -> Tensor:
        raw_before, index = self._prepared.raw, self._prepared.index
        asked = [(one, hold_target(target, raw_before, index, one)) for one, target in self._asked]
        values = [target(raw, i, detection) for i in range(images) for detection, target in asked]
        return torch.stack(values).view(images, -1).detach()

    def _forward(self, images: Tensor) -> RawOutput:
        self.forwards += len(images)
        return self._model.forward(images.to(self._dtype))

    def _backward(self, image: Tensor, watch: AbstractContextManager[object], done: Callable[[], None]) -> Tensor:
        """One forward pass, and one backward pass for each scalar: (scalar, 3, h, w)."""
        leaf = image.detach()[None].clone().requires_grad_()
        with watch:
            raw = self._forward(leaf)
        gradients = []
        for number, (detection, target) in enumerate(self._asked):
            with torch.enable_grad():
                value = target(raw, 0, detection)
            gradient: Tensor | None = None
            if value.requires_grad:
                keep = number < len(self._asked) - 1
                (gradient,) = torch.autograd.grad(value, leaf, retain_graph=keep, allow_unused=True)
            self.forwards += 2
            gradients.append(torch.zeros_like(leaf[0]) if gradient is None else gradient[0])
            done()
        return torch.stack(gradients)
