"""Maps made of one image at a time: by methods that work on the image, and the receipts of any method's maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from detcam.adapters.base import DetectorAdapter, describe
from detcam.attribution.layer_maps import LayerMaps, RawMap
from detcam.attribution.prepared_image import PreparedImage
from detcam.attribution.receipt import make_quick_receipts, verify
from detcam.errors import UsageError
from detcam.methods import METHODS, Method
from detcam.probing.probe import Probe
from detcam.registry import name_of
from detcam.targets import Target, class_logit, find_target, target_parts
from detcam.tensors.fusion import combine_maps
from detcam.types import Detection, Receipt

DETECTIONS_PER_PASS = 16
"""Detections whose gradients at the pixels are held at once."""


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """Makes the maps of one image's detections by a method that works on the image.

    Attributes:
        model, method: the detector and the method.
        layers: makes layers' maps, for methods that need some.
        target: its name, or itself.
        seed, budget: of the method.
    """

    model: DetectorAdapter
    method: Method
    layers: LayerMaps
    target: str | Target
    seed: int
    budget: int

    def __call__(self, prepared: PreparedImage, detections: Sequence[Detection]) -> list[RawMap]:
        """One map per detection.

        Args:
            prepared: the image.
            detections: of that image.

        Raises:
            UsageError: a method or target from outside gives something else than maps or a scalar.
        """
        targets = [find_target(part, self.model.names) for part in target_parts(self.target)]
        step = DETECTIONS_PER_PASS if self.method.pixelwise else max(len(detections), 1)
        used = self.layers.layers if self.method.layers else ()
        layers = self.layers if used else replace(self.layers, layers=_usual_layers(self.model), drops_far_layers=True)
        raw_maps = []
        for start in range(0, len(detections), step):
            part = detections[start : start + step]
            prices: list[float] = []

            def layer_maps(method: str, part: Sequence[Detection] = part, prices: list[float] = prices) -> Tensor:
                raw = self.model.forward(prepared.batch, layers.layers)
                names = target_parts(self.target)
                by_target = [
                    replace(layers, method=METHODS[method], target=name)(prepared.batch, raw, [part], keep=True)[0]
                    for name in names
                ]
                prices.append(1 + sum(one.forwards for maps in by_target for one in maps))
                return torch.stack([maps[i].map for i in range(len(part)) for maps in by_target])

            asked = [(detection, target) for detection in part for target in targets]
            probe = Probe(
                self.model, prepared.batch, prepared.raw, prepared.index, prepared.letterbox, asked, used,
                layer_maps if layers.layers else None, self.seed, self.budget,
            )  # fmt: skip
            maps = _checked(self.method.function(probe), self.method, len(asked))
            shared = (probe.forwards - sum(probe.own_forwards) + sum(prices)) / len(part)
            for i in range(len(part)):
                own = slice(i * len(targets), (i + 1) * len(targets))
                forwards = shared + sum(probe.own_forwards[own])
                raw_maps.append(RawMap(combine_maps(list(maps[own])), used or ("input",), (), forwards))
        return raw_maps

    def receipts(
        self, prepared: PreparedImage, detections: Sequence[Detection], maps: Sequence[Tensor], quick: bool = False
    ) -> list[Receipt]:
        """The receipt of each detection's map.

        Args:
            prepared: the image.
            detections: of that image.
            maps: one (h', w') for each, over the detector's input, not all zero.
            quick: the quick check of the default explanation instead of the full one.
        """
        asked = [(detection, class_logit) for detection in detections]
        probe = Probe(
            self.model, prepared.batch, prepared.raw, prepared.index, prepared.letterbox, asked, seed=self.seed
        )
        return make_quick_receipts(probe, dict(enumerate(maps))) if quick else verify(probe, maps)


def _usual_layers(model: DetectorAdapter) -> tuple[str, ...]:
    """The layers that maps are of where none were named; none of a model that has none, or can only be called."""
    try:
        return model.resolve("auto") if model.differentiable else ()
    except UsageError:
        return ()


def _checked(maps: Tensor, method: Method, count: int) -> Tensor:
    """What a method gave, without its graph.

    Raises:
        UsageError: it is not one map (h, w) for each scalar asked about.
    """
    if not isinstance(maps, Tensor) or maps.ndim != 3 or len(maps) != count:
        name = method.name or name_of(method.function)
        raise UsageError(
            f"method {name!r} has to give maps ({count}, h, w), one for each scalar, and gave {describe(maps)}"
        )
    return maps.detach()
