"""Maps made of one image at a time, by methods that work on the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from detcam.adapters.base import DetectorAdapter, describe
from detcam.attribution.layer_maps import LayerMaps, RawMap
from detcam.attribution.options import MapOptions
from detcam.errors import UsageError
from detcam.methods import METHODS
from detcam.probing.prepared_image import PreparedImage
from detcam.probing.probe import Probe
from detcam.targets import find_target, target_parts
from detcam.tensors.fusion import combine_maps
from detcam.types import Detection

DETECTIONS_PER_PASS = 16
"""Detections whose gradients at the pixels are held at once."""


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """Makes the maps of one image's detections by a method that works on the image.

    Attributes:
        options: how maps are made, by a method that works on the image.
        layers: module paths, for methods that need some.
    """

    options: MapOptions
    layers: tuple[str, ...]

    def __call__(self, prepared: PreparedImage, detections: Sequence[Detection]) -> list[RawMap]:
        """One map per detection.

        Args:
            prepared: the image.
            detections: of that image.

        Raises:
            UsageError: a method or target from outside gives something else than maps or a scalar.
        """
        method, names = self.options.method, target_parts(self.options.target)
        targets = [find_target(name, prepared.model.names) for name in names]
        step = DETECTIONS_PER_PASS if method.pixelwise else max(len(detections), 1)
        used = self.layers if method.layers else ()
        layers = used or _usual_layers(prepared.model)
        options = self.options if used else replace(self.options, is_auto=True)
        raw_maps = []
        for start in range(0, len(detections), step):
            part = detections[start : start + step]
            prices: list[float] = []

            def layer_maps(by: str, part: Sequence[Detection] = part, prices: list[float] = prices) -> Tensor:
                seen = prepared.seen_again(layers)
                chosen = [replace(options, method_name=by, method=METHODS[by], target=name) for name in names]
                by_target = [LayerMaps(one, layers)([seen], [part])[0] for one in chosen]
                prices.append(1 + sum(one.forwards for maps in by_target for one in maps))
                return torch.stack([maps[i].map for i in range(len(part)) for maps in by_target])

            asked = [(detection, target) for detection in part for target in targets]
            probe = Probe(prepared, asked, used, layer_maps if layers else None, options.seed, options.budget)
            maps = _checked(method.function(probe), options.method_name, len(asked))
            shared = (probe.forwards - sum(probe.own_forwards) + sum(prices)) / len(part)
            for i in range(len(part)):
                own = slice(i * len(targets), (i + 1) * len(targets))
                forwards = shared + sum(probe.own_forwards[own])
                raw_maps.append(RawMap(combine_maps(list(maps[own])), used or ("input",), (), forwards))
        return raw_maps


def _usual_layers(model: DetectorAdapter) -> tuple[str, ...]:
    """The layers that maps are of where none were named; none of a model that has none, or can only be called."""
    try:
        return model.resolve("auto") if model.differentiable else ()
    except UsageError:
        return ()


def _checked(maps: Tensor, method: str, count: int) -> Tensor:
    """What a method gave, without its graph.

    Raises:
        UsageError: it is not one map (h, w) for each scalar asked about.
    """
    if not isinstance(maps, Tensor) or maps.ndim != 3 or len(maps) != count:
        raise UsageError(
            f"method {method!r} has to give maps ({count}, h, w), one for each scalar, and gave {describe(maps)}"
        )
    return maps.detach()
