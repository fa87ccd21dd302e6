"""From prepared images and detections to explanations, by one choice of method, target and layers."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import torch

from detcam.adapters.base import DetectorAdapter
from detcam.attribution.conclusion import conclude
from detcam.attribution.image_maps import ImageMaps
from detcam.attribution.layer_maps import LayerMaps, RawMap
from detcam.attribution.options import MapOptions
from detcam.attribution.receipt import verify
from detcam.attribution.sentence import sentence_of
from detcam.errors import UsageError
from detcam.methods import METHODS
from detcam.probing.prepared_image import PreparedImage
from detcam.probing.probe import Probe
from detcam.targets import class_logit, find_target, target_parts
from detcam.types import Detection, Explanation, Heatmap, Status


class ExplanationMaker:
    """Makes the explanations of prepared images' detections.

    Args:
        model: the detector.
        options: how maps are made.
        conf: the detector's threshold, below which a box is lost.

    Attributes:
        layers: module paths, to be captured in the raw outputs it is given.

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

    def at(self, conf: float, share: float = 1.0) -> ExplanationMaker:
        """The same for another threshold of the detector's, or for a part of an image's detections.

        Args:
            conf: below which a box is lost.
            share: of the image's detections, in (0, 1], which get as much of a budget that they share.
        """
        other = copy(self)
        other.conf = conf
        if self.options.method.shares == "budget":
            other.options = replace(self.options, budget=max(round(share * self.options.budget), 1))
        return other

    def __call__(
        self, prepared: Sequence[PreparedImage], wanted: Sequence[Sequence[Detection]]
    ) -> list[tuple[Explanation, ...]]:
        """For each image, one explanation per detection.

        Args:
            prepared: all images of one raw output, in its order, with :attr:`layers` captured for a method at layers;
                its graph is gone afterwards.
            wanted: each image's detections: reported, asked about, or raw predictions.
        """
        prepared = [replace(one) for one in prepared]  # crops are kept for as long as these detections are explained
        maps = self.raw_maps(prepared, wanted)
        explained = []
        for one, detections, own in zip(prepared, wanted, maps, strict=True):
            pairs = zip(own, detections, strict=True)
            explanations = [self._explanation(raw_map, detection, one) for raw_map, detection in pairs]
            if self.options.verify:
                explanations = self._verified(one, explanations)
            explained.append(tuple(self._concluded(one, explanations)))
        return explained

    def raw_maps(self, prepared: Sequence[PreparedImage], wanted: Sequence[Sequence[Detection]]) -> list[list[RawMap]]:
        """The maps of a call, and no more: of images of any detector that has :attr:`layers`.

        Args:
            prepared: as in a call.
            wanted: as in a call; each detection keeps its anchor and its class, whatever is reported.
        """
        if self.options.method.on != "layer":
            image_maps = ImageMaps(self.options, self.layers)
            return [image_maps(one, some) for one, some in zip(prepared, wanted, strict=True)]
        return LayerMaps(self.options, self.layers)(prepared, wanted) if any(wanted) else [[] for _ in prepared]

    def explain_image(self, prepared: PreparedImage, detections: Sequence[Detection]) -> tuple[Explanation, ...]:
        """One explanation for each of some detections of one image, whose own raw output stays as it is.

        Args:
            prepared: the image, with or without layers captured.
            detections: reported, asked about, or raw predictions.
        """
        if detections and self.options.method.on == "layer":
            prepared = prepared.seen_again(self.layers)
        return self([prepared], [detections])[0]

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
                image_maps = ImageMaps(self.options.taken_over_by(method), self.layers)
                for number, raw_map in zip(unsettled, image_maps(prepared, detections), strict=True):
                    failed = verified[number]
                    again = self._explanation(raw_map, failed.detection, prepared)
                    verified[number] = replace(again, method=method, target="class", support=())
            maps = [torch.tensor(verified[number].heatmap.raw, device=prepared.batch.device) for number in unsettled]
            probe = Probe(prepared, [(one, class_logit) for one in detections], seed=self.options.seed)
            for number, receipt in zip(unsettled, verify(probe, maps), strict=True):
                status: Status = "ok" if receipt.supported else "unsupported"
                reason = f"{method} took over from {' and '.join(tried)}, unsupported by the receipt" if tried else ""
                verified[number] = replace(verified[number], receipt=receipt, status=status, reason=reason)
            unsettled = [number for number in unsettled if verified[number].status == "unsupported"]
            tried.append(method)
        return verified

    def _concluded(self, prepared: PreparedImage, explanations: Sequence[Explanation]) -> list[Explanation]:
        """Explanations with their sentences, and, where their maps were made by trying parts, with their evidence."""
        concluded = [replace(one, sentence=sentence_of(one)) for one in explanations]
        numbers, tried, targets = [], [], []
        for number, one in enumerate(explanations):
            own = one.method == self.options.method_name
            options = self.options if own else self.options.taken_over_by(one.method)
            if one.receipt is not None or options.method.concludes:
                numbers.append(number)
                tried.append(one)
                targets.append(find_target(target_parts(options.target)[0], self.model.names))
        for number, one in zip(numbers, conclude(prepared, tried, targets, self.conf, self.options.seed), strict=True):
            concluded[number] = one
        return concluded

    def _explanation(self, raw_map: RawMap, detection: Detection, prepared: PreparedImage) -> Explanation:
        """A map with what it is of, and what became of it."""
        status, reason = self._judge(raw_map, detection)
        finite = raw_map.map if torch.isfinite(raw_map.map).all() else torch.zeros_like(raw_map.map)
        heatmap = Heatmap(finite.cpu().numpy(), prepared.letterbox)
        layers = raw_map.layers or self.layers
        support = raw_map.support or ((0.0,) * len(layers) if "gradients" in self.options.method.takes else ())
        names = self.options.method_name, self.options.target_name
        return Explanation(
            detection, heatmap, *names, layers, status, reason, prepared.image, support, raw_map.forwards
        )

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
