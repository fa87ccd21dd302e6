"""From prepared images and detections to explanations, by one choice of method, target and layers."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detcam.adapters.base import DetectorAdapter
from detcam.attribution.conclusion import conclude
from detcam.attribution.image_maps import ImageMaps
from detcam.attribution.layer_maps import LayerMaps, RawMap
from detcam.attribution.options import MapOptions
from detcam.attribution.prepared_image import PreparedImage
from detcam.attribution.sentence import sentence_of
from detcam.errors import UsageError
from detcam.geometry import Letterbox
from detcam.methods import METHODS
from detcam.targets import find_target, target_parts
from detcam.types import Detection, Explanation, Heatmap, Status


class ExplanationMaker:
    """Makes the explanations of prepared images' detections.

    Args:
        model: the detector.
        options: how maps are made.
        conf: the detector's threshold, below which a box is lost.

    Attributes:
        layers: module paths, to be captured in the raw outputs it is given.
        image_maps: makes the maps of a method that works on the image, and the receipts of any.

    Raises:
        UsageError: the model does not have the layers or the class, or can only be called.
    """

    def __init__(self, model: DetectorAdapter, options: MapOptions, conf: float) -> None:
        if options.method.models != "any" and not model.differentiable:
            working = ", ".join(one for one, other in METHODS.items() if other.models == "any")
            raise UsageError(
                f"{options.method_name!r} looks inside the model, which can only be called; methods that work: "
                f"{working}"
            )
        for part in target_parts(options.target):
            find_target(part, model.names)
        self.model, self.options, self.conf = model, options, conf
        self.layers = model.resolve(options.layers) if options.works_at_layers else ()
        self._layer_maps = LayerMaps(
            model, options.method, self.layers, options.is_auto, options.target, options.smoothing, options.fusion,
            options.seed,
        )  # fmt: skip
        self.image_maps = ImageMaps(
            model, options.method, self._layer_maps, options.target, options.seed, options.budget
        )

    def at(self, conf: float, share: float = 1.0) -> ExplanationMaker:
        """The same for another threshold of the detector's, or for a part of an image's detections.

        Args:
            conf: below which a box is lost.
            share: of the image's detections, in (0, 1], which get as much of a budget that they share.
        """
        other = copy(self)
        other.conf = conf
        if self.options.method.shares == "budget":
            other.image_maps = replace(self.image_maps, budget=max(round(share * self.image_maps.budget), 1))
        return other

    def __call__(
        self,
        prepared: Sequence[PreparedImage],
        images: Sequence[NDArray[np.uint8]],
        wanted: Sequence[Sequence[Detection]],
    ) -> list[tuple[Explanation, ...]]:
        """For each image, one explanation per detection.

        Args:
            prepared: images of one raw output, in its order, with :attr:`layers` captured for a method at layers;
                its graph is gone afterwards.
            images: the same, RGB uint8 (H, W, 3).
            wanted: each image's detections: reported, asked about, or raw predictions.
        """
        if self.options.method.on != "layer":
            maps = [self.image_maps(one, some) for one, some in zip(prepared, wanted, strict=True)]
        elif any(wanted):
            maps = self._layer_maps(torch.cat([one.batch for one in prepared]), prepared[0].raw, wanted)
        else:
            maps = [[] for _ in prepared]
        explained = []
        for one, image, detections, own in zip(prepared, images, wanted, maps, strict=True):
            explanations = [
                self._explanation(raw_map, detection, one.letterbox, image)
                for raw_map, detection in zip(own, detections, strict=True)
            ]
            if self.options.verify:
                explanations = self._verified(one, explanations)
            explained.append(tuple(self._concluded(one, explanations)))
        return explained

    def remade(
        self, model: DetectorAdapter, batch: Tensor, letterbox: Letterbox, detections: Sequence[Detection]
    ) -> list[RawMap]:
        """The maps of known detections, by the same method, on another detector or another input.

        Each detection keeps its anchor and its class, whatever the other detector reports.

        Args:
            model: with the layers of the own one.
            batch: (1, 3, h, w), its input.
            letterbox: where the original image is in it.
            detections: of that image.
        """
        raw = model.forward(batch, self.layers)
        layers = replace(self._layer_maps, model=model)
        if self.options.method.on == "layer":
            return layers(batch, raw, [detections])[0]
        maps = replace(self.image_maps, model=model, layers=layers)
        return maps(PreparedImage(batch, raw, 0, letterbox), detections)

    def _verified(self, prepared: PreparedImage, explanations: Sequence[Explanation]) -> list[Explanation]:
        """Explanations with their receipts; those that fail are made again by stronger methods, and say so."""
        verified = list(explanations)
        tried: list[str] = []
        unsettled = [number for number, one in enumerate(verified) if one.status == "ok"]
        first = self.options.method_name
        for method in (first, *(name for name in self.options.escalation if name != first)):
            if not unsettled:
                break
            detections = [verified[number].detection for number in unsettled]
            if tried:
                maker = replace(self.image_maps, method=METHODS[method], target="class", budget=METHODS[method].budget)
                for number, raw_map in zip(unsettled, maker(prepared, detections), strict=True):
                    failed = verified[number]
                    again = self._explanation(raw_map, failed.detection, prepared.letterbox, failed.image)
                    verified[number] = replace(again, method=method, target="class", support=())
            maps = [torch.tensor(verified[number].heatmap.raw, device=prepared.batch.device) for number in unsettled]
            receipts = self.image_maps.receipts(prepared, detections, maps)
            for number, receipt in zip(unsettled, receipts, strict=True):
                status: Status = "ok" if receipt.supported else "unsupported"
                reason = f"{method} took over from {' and '.join(tried)}, unsupported by the receipt" if tried else ""
                verified[number] = replace(verified[number], receipt=receipt, status=status, reason=reason)
            unsettled = [number for number in unsettled if verified[number].status == "unsupported"]
            tried.append(method)
        return verified

    def _concluded(self, prepared: PreparedImage, explanations: Sequence[Explanation]) -> list[Explanation]:
        """Explanations with their sentences, and, where their maps were made by trying parts, with their evidence."""
        options = self.options
        tried = [
            i
            for i, one in enumerate(explanations)
            if one.receipt is not None
            or (options.method if one.method == options.method_name else METHODS[one.method]).concludes
        ]
        asked = [
            options.target if explanations[i].target == options.target_name else explanations[i].target for i in tried
        ]
        targets = [find_target(target_parts(one)[0], self.model.names) for one in asked]
        ended = conclude(self.model, prepared, [explanations[i] for i in tried], targets, self.conf, options.seed)
        concluded = [replace(one, sentence=sentence_of(one)) for one in explanations]
        for i, one in zip(tried, ended, strict=True):
            concluded[i] = one
        return concluded

    def _explanation(
        self, raw_map: RawMap, detection: Detection, letterbox: Letterbox, image: NDArray[np.uint8]
    ) -> Explanation:
        """A map with what it is of, and what became of it."""
        status, reason = self._judge(raw_map, detection)
        finite = raw_map.map if torch.isfinite(raw_map.map).all() else torch.zeros_like(raw_map.map)
        heatmap = Heatmap(finite.cpu().numpy(), letterbox)
        layers = raw_map.layers or self.layers
        support = raw_map.support or ((0.0,) * len(layers) if "gradients" in self.options.method.takes else ())
        names = self.options.method_name, self.options.target_name
        return Explanation(detection, heatmap, *names, layers, status, reason, image, support, raw_map.forwards)

    def _judge(self, raw_map: RawMap, detection: Detection) -> tuple[Status, str]:
        """``ok``, or ``no_signal`` and why."""
        options, layers = self.options, ", ".join(raw_map.layers)
        what = f"target {options.target_name!r} of {detection.class_name!r} at anchor {detection.anchor}"
        where = f"(stride {detection.stride})"
        if not raw_map.layers:
            return "no_signal", f"{what} {where} has no gradient at {', '.join(self.layers)}: not connected to it"
        if not torch.isfinite(raw_map.map).all():
            return "no_signal", f"the map of {what} {where} at {layers} is not finite"
        if not raw_map.map.any() and not options.method.concludes:
            return "no_signal", f"{what} {where}: {options.method_name} is zero everywhere at {layers}"
        return "ok", ""
