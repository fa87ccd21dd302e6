"""One forward pass, then one gradient and one map per detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detcam.adapters import load
from detcam.adapters.base import DetectorAdapter, RawOutput
from detcam.errors import InputError, UsageError, is_count
from detcam.geometry import Letterbox
from detcam.images import ImageLike, read_image
from detcam.maps import box_reach, gradient_support, layer_map, sum_maps
from detcam.methods import METHODS, find_method
from detcam.question import answer, make_question
from detcam.targets import find_classes, find_target
from detcam.types import Detection, Explanation, Heatmap, ImageResult, Status

MOST = 0.5
"""Of a box a layer's gradient has to reach this share, or ``auto`` leaves the layer out."""
GRID = 16
"""Cells along each side of a map that needs no layer, for a model that can only be called."""


class Explainer:
    """Explains many images with one set of choices.

    Args:
        model: what :func:`detcam.load` gives or takes.
        method: a name in :data:`detcam.methods.METHODS`.
        layers: ``backbone`` (the last layer of each stage), ``neck`` (the head's inputs), ``auto`` (the backbone), a
            module path such as ``model.15``, or several of these. The unscaled maps of several layers are summed;
            those that a detection has no gradient at drop out, and of ``auto`` those whose gradient reaches less
            than half of the box, unless all do; its explanation names the rest.
        target: a name in :data:`detcam.targets.TARGETS`, or ``contrast:CLASS``.
        conf, iou, max_det: thresholds and cap of the detector, as in Ultralytics' ``predict()``.
        classes: class names or indices to keep; ``None`` keeps all.
        detection: explain only this one or these, counted from 0 in descending confidence; ``None`` explains all.
        box: explain this box, xyxy in original pixels, although the detector need not have reported it: the anchor that
            speaks most for it (IoU x class probability) is explained. Needs ``class_name``.
        class_name: the class asked about with ``box``.
        device, imgsz, half, nms, trust_weights, yolov5_repo: as in :func:`detcam.load`; a loaded model stays as it is
            where these are left out.
        batch: how many images of one letterboxed shape share a forward pass. Maps do not depend on it.
        seed: of the ``random`` baseline.

    Raises:
        UsageError: an unknown method, layer, target or class, or a value out of range.
    """

    def __init__(
        self,
        model: Any,
        method: str = "layercam",
        layers: str | Sequence[str] = "auto",
        target: str = "class",
        *,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        classes: str | int | Sequence[str | int] | None = None,
        detection: int | Sequence[int] | None = None,
        box: Sequence[float] | None = None,
        class_name: str | int | None = None,
        device: Any = None,
        imgsz: int | Sequence[int] | None = None,
        half: bool = False,
        nms: bool | None = None,
        trust_weights: bool = False,
        yolov5_repo: str | PathLike[str] | None = None,
        batch: int = 1,
        seed: int = 0,
    ) -> None:
        for name, value in (("conf", conf), ("iou", iou)):
            if not 0 <= value <= 1:
                raise UsageError(f"{name} must lie in [0, 1], got {value!r}")
        for name, count in (("max_det", max_det), ("batch", batch)):
            if not is_count(count):
                raise UsageError(f"{name} must be a whole number, at least 1, got {count!r}")
        if detection is not None and box is not None:
            raise UsageError("detection picks reported boxes and box asks about one that was not; give one of the two")
        self.numbers = None if detection is None else _several(detection, "detection")
        if any(isinstance(n, bool) or not is_count(n + 1) for n in self.numbers or []):
            raise UsageError(f"detections are whole numbers counted from 0, got {self.numbers}")
        self.method_name, self._method = method, find_method(method)
        self.model: DetectorAdapter = load(
            model, device=device, imgsz=imgsz, half=half, nms=nms, trust_weights=trust_weights, yolov5_repo=yolov5_repo
        )
        model = self.model
        if self._method.needs != "seed" and not model.differentiable:
            working = ", ".join(name for name, other in METHODS.items() if other.needs == "seed")
            raise UsageError(
                f"{method!r} looks inside the model, which can only be called; methods that work: {working}"
            )
        self.target_name, self._target = target, find_target(target, model.names)
        self.layers = model.resolve(layers)
        self._chooses = layers == "auto" or list(layers) == ["auto"]
        self._decode: dict[str, Any] = {
            "conf": conf,
            "iou": iou,
            "max_det": max_det,
            "classes": None if classes is None else find_classes(_several(classes, "classes"), model.names),
        }
        self.question = make_question(box, class_name, model.names)
        self.batch = batch
        self.seed = seed

    def __call__(self, images: ImageLike | Sequence[ImageLike], *, bgr: bool = False) -> list[ImageResult]:
        """One result per image, in order.

        Args:
            images: one or several of: a path, an RGB uint8 (H, W, 3) array, a PIL image, a torch tensor (3, H, W) of
                uint8 or of floats in [0, 1].
            bgr: arrays are BGR, as OpenCV reads them.

        Raises:
            InputError: an image cannot be read, or has no detection of the number asked for.
            UsageError: a layer cannot be explained.
        """
        several: Sequence[Any] = images if isinstance(images, list | tuple) else [images]
        names = [str(image) if isinstance(image, str | PathLike) else f"image {i}" for i, image in enumerate(several)]
        return self._explain_arrays(names, [read_image(image, bgr=bgr) for image in several])

    def explain_named(self, images: Mapping[str, NDArray[np.uint8]]) -> list[ImageResult]:
        """One result per image, in order, of RGB uint8 (H, W, 3) arrays by their names."""
        return self._explain_arrays(list(images), list(images.values()))

    def _explain_arrays(self, names: list[str], arrays: list[NDArray[np.uint8]]) -> list[ImageResult]:
        """Images of one letterboxed shape share a batch."""
        shapes = [self.model.letterbox(array).network for array in arrays]
        results: dict[int, ImageResult] = {}
        for shape in dict.fromkeys(shapes):
            alike = [i for i, other in enumerate(shapes) if other == shape]
            for start in range(0, len(alike), self.batch):
                part = alike[start : start + self.batch]
                with torch.inference_mode(False):  # the caller may be in it, and nothing has a gradient there
                    made = self._explain_batch([names[i] for i in part], [arrays[i] for i in part])
                results.update(zip(part, made, strict=True))
        return [results[i] for i in range(len(arrays))]

    def _explain_batch(self, names: list[str], images: list[NDArray[np.uint8]]) -> list[ImageResult]:
        """Images of one letterboxed shape: the j-th detection of each shares one backward pass."""
        batch, letterboxes = self.model.prepare(images)
        raw = self.model.forward(batch, self.layers)
        found = self.model.decode(raw, letterboxes, **self._decode)
        wanted = [self._select(names[i], raw, i, found[i], letterboxes[i]) for i in range(len(images))]
        maps: list[list[Explanation]] = [[] for _ in images]
        rounds = max((len(detections) for detections in wanted), default=0)
        for turn in range(rounds):
            present = [i for i, detections in enumerate(wanted) if turn < len(detections)]
            gradients = self._gradients(raw, {i: wanted[i][turn] for i in present}, last=turn == rounds - 1)
            for i in present:
                maps[i].append(self._explanation(raw, gradients, i, turn, wanted[i][turn], letterboxes[i], images[i]))
        return [ImageResult(names[i], images[i], found[i], tuple(maps[i])) for i in range(len(images))]

    def _select(
        self, name: str, raw: RawOutput, index: int, found: tuple[Detection, ...], letterbox: Letterbox
    ) -> list[Detection]:
        """The detections of one image to explain."""
        if self.question is not None:
            return [answer(self.question, self.model.names, raw, index, letterbox)]
        if self.numbers is None:
            return list(found)
        if missing := [number for number in self.numbers if number >= len(found)]:
            have = f"has {len(found)}, counted from 0" if found else "has none"
            raise InputError(f"{name}: no detection {missing[0]}; at these thresholds this image {have}")
        return [found[number] for number in self.numbers]

    def _gradients(self, raw: RawOutput, detections: dict[int, Detection], last: bool) -> dict[str, Tensor]:
        """Gradients of each detection's target at every layer; images of a batch do not touch each other's."""
        if self._method.needs != "gradients":
            return {}
        with torch.enable_grad():
            score = sum((self._target(raw, i, detection) for i, detection in detections.items()), torch.zeros(()))
        tensors = list(raw.activations.values())
        gradients: Sequence[Tensor | None] = [None] * len(tensors)
        if score.requires_grad:  # else no captured layer has a part in it
            gradients = torch.autograd.grad(score, tensors, retain_graph=not last, allow_unused=True)
        return {
            name: torch.zeros_like(tensor) if gradient is None else gradient
            for (name, tensor), gradient in zip(raw.activations.items(), gradients, strict=True)
        }

    def _explanation(
        self,
        raw: RawOutput,
        gradients: dict[str, Tensor],
        index: int,
        turn: int,
        detection: Detection,
        letterbox: Letterbox,
        image: NDArray[np.uint8],
    ) -> Explanation:
        """Make one map from one detection's gradients, and say what became of it."""
        activations = raw.activations or {"input": raw.boxes.new_zeros(len(raw.boxes), 1, GRID, GRID)}
        support = {name: gradient_support(gradient[index]) for name, gradient in gradients.items()}
        connected = [name for name in activations if not gradients or support[name] > 0]
        if self._chooses and gradients:
            box = raw.box_of(index, detection.anchor, detection.class_id).detach()
            seeing = [name for name in connected if box_reach(gradients[name][index], box, raw.size) >= MOST]
            connected = seeing or connected
        with torch.no_grad():
            parts = [
                layer_map(
                    self._method,
                    activations[name][index].float(),
                    gradients[name][index].float() if gradients else None,
                    seed=self.seed + turn,
                )
                for name in connected
            ]
            summed = sum_maps(parts) if parts else torch.zeros(next(iter(activations.values())).shape[-2:])
        status, reason = self._judge(summed, detection, connected)
        if not torch.isfinite(summed).all():
            summed = torch.zeros_like(summed)
        heatmap = Heatmap(summed.cpu().numpy(), letterbox)
        layers = tuple(connected) or self.layers
        seen = tuple(support[name] for name in layers) if support else ()
        return Explanation(detection, heatmap, self.method_name, self.target_name, layers, status, reason, image, seen)

    def _judge(self, summed: Tensor, detection: Detection, connected: list[str]) -> tuple[Status, str]:
        """``ok``, or ``no_signal`` and why."""
        what = f"target {self.target_name!r} of {detection.class_name!r} at anchor {detection.anchor}"
        where = f"(stride {detection.stride})"
        if not connected:
            return "no_signal", f"{what} {where} has no gradient at {', '.join(self.layers)}: not connected to it"
        if not torch.isfinite(summed).all():
            return "no_signal", f"the map of {what} {where} at {', '.join(connected)} is not finite"
        if not summed.any():
            return "no_signal", f"{what} {where}: {self.method_name} is zero everywhere at {', '.join(connected)}"
        return "ok", ""


@overload
def explain(
    model: Any, images: list[ImageLike] | tuple[ImageLike, ...], *, bgr: bool = False, **choices: Any
) -> list[ImageResult]: ...
@overload
def explain(model: Any, images: ImageLike, *, bgr: bool = False, **choices: Any) -> ImageResult: ...
def explain(model: Any, images: Any, *, bgr: bool = False, **choices: Any) -> ImageResult | list[ImageResult]:
    """Explain one image, or a list of them; ``choices`` are :class:`Explainer`'s, which is quicker where used twice."""
    results = Explainer(model, **choices)(images, bgr=bgr)
    return results if isinstance(images, list | tuple) else results[0]


def _several(value: Any, name: str) -> list[Any]:
    """One value or several as a list that is not empty."""
    values = [value] if isinstance(value, str | int) else list(value)
    if not values:
        raise UsageError(f"{name} is empty: leave it out, or name at least one")
    return values
