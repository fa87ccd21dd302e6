"""One forward pass, then one map per detection, and where asked its receipt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detcam.adapters import load
from detcam.adapters.base import DetectorAdapter, RawOutput
from detcam.adapters.decoding import DecodeSettings
from detcam.attribution.augmentation import check_smoothing
from detcam.attribution.conclusion import conclude
from detcam.attribution.image_maps import ESCALATION, ImageMaps, Seen
from detcam.attribution.layer_maps import LayerMaps, Made
from detcam.attribution.sentence import sentence_of
from detcam.attribution.unreported import answer, make_question
from detcam.errors import InputError, UsageError, is_count, nearest
from detcam.geometry import Letterbox
from detcam.io.images import ImageLike, read_image
from detcam.methods import METHODS, Method, choose_method, resolve_method
from detcam.targets import Target, find_classes, find_target, mirrored, resolve_target, target_parts
from detcam.tensors.fusion import FUSIONS
from detcam.types import Detection, Explanation, Heatmap, ImageResult, Status

if TYPE_CHECKING:
    from detcam.methods.subject import Subject


class Explainer:
    """Explains many images with one set of choices.

    Args:
        model: what :func:`detcam.load` gives or takes.
        method: a name in :data:`detcam.methods.METHODS`, or ``auto``: ``effect``, and where layers, their fusion,
            smoothing or the target ``combined`` are asked for, ``layercam``. Or a :class:`detcam.Method`, or a function
            of a :class:`detcam.Subject` that gives a map for each of its K scalars: (K, h, w) over the network's input.
        layers: ``backbone`` (the last layer of each stage), ``neck`` (the head's inputs), ``auto`` (the backbone), a
            module path such as ``model.15``, or several of these. The unscaled maps of several layers are fused;
            those that a detection has no gradient at drop out, and of ``auto`` those whose gradient reaches less
            than half of the box, unless all do; its explanation names the rest.
            Methods that work on the image use none, but for those that say so.
        target: a name in :data:`detcam.targets.TARGETS`, ``combined`` (class and four sides) or ``contrast:CLASS``; or
            a function (:class:`detcam.RawOutput`, image's position in the batch, detection) -> scalar tensor. What is
            given as a function goes by the name it is registered under, or its ``__name__``, in explanations and rows.
        smoothing: ``aug`` (flipped and at three brightnesses; the target moves along), ``eigen`` (the first principal
            component of the weighted channels), ``noise`` (eight noisy copies), or several; for methods at layers.
        fusion: how the unscaled maps of several layers become one: ``sum``, ``mean`` or ``max``.
        budget: forward passes for methods that mask the image: of the image where its detections share them
            (``drise``, ``dcrisp``, ``occlusion``), else of each detection; ``None`` takes the method's own.
        conf, iou, max_det: thresholds and cap of the detector, as in Ultralytics' ``predict()``.
        classes: class names or indices to keep; ``None`` keeps all.
        detection: explain only this one or these, counted from 0 in descending confidence; ``None`` explains all.
        box: explain this box, xyxy in original pixels, although the detector need not have reported it: the anchor that
            speaks most for it (IoU x class probability) is explained. Needs ``class_name``.
        class_name: the class asked about with ``box``.
        device, imgsz, half, nms, trust_weights, yolov5_repo: as in :func:`detcam.load`; a loaded model stays as it is
            where these are left out.
        batch: how many images of one letterboxed shape share a forward pass. Maps do not depend on it.
        seed: of everything random.
        verify: give every map its causal receipt (:func:`detcam.attribution.receipt.verify`); one that fails is made
            again by ``effect``, then by ``vps``, and says so.

    Raises:
        UsageError: an unknown method, layer, target or class, or a value out of range; an own method or target that
            is called like another; later, when an image is explained, one that gives no maps or no scalar.
        WeightsError: the weights cannot be used. All that can be checked without them is checked before.
    """

    def __init__(
        self,
        model: Any,
        method: str | Method | Callable[[Subject], Tensor] = "auto",
        layers: str | Sequence[str] = "auto",
        target: str | Target = "class",
        *,
        smoothing: str | Sequence[str] = (),
        fusion: str = "sum",
        budget: int | None = None,
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
        verify: bool = False,
    ) -> None:
        settings = DecodeSettings(conf, iou, max_det)
        if not is_count(batch):
            raise UsageError(f"batch must be a whole number, at least 1, got {batch!r}")
        if detection is not None and box is not None:
            raise UsageError("detection picks reported boxes and box asks about one that was not; give one of the two")
        self.numbers = None if detection is None else _several(detection, "detection")
        if any(isinstance(n, bool) or not is_count(n + 1) for n in self.numbers or []):
            raise UsageError(f"detections are whole numbers counted from 0, got {self.numbers}")
        chooses = layers in ("auto", ["auto"], ("auto",))
        self.target_name, self._target = resolve_target(target)
        if isinstance(method, str) and method == "auto":
            method = choose_method(self.target_name, not chooses or bool(smoothing) or fusion != "sum")
        self.method_name, self._method = resolve_method(method)
        name = self.method_name
        smooth = check_smoothing(_several(smoothing, "smoothing") if smoothing else ())
        self._check_smoothing(smooth)
        if not self.target_name.startswith("contrast:"):  # whose class only the model knows
            find_target(target_parts(self._target)[0], {})
        if fusion not in FUSIONS:
            raise UsageError(f"no fusion {fusion!r}{nearest(fusion, FUSIONS)}")
        if self._method.explains == "detection" and self.target_name != "class":
            raise UsageError(
                f"{name!r} scores whole detections (overlap x class probability), not target {self.target_name!r}; "
                "leave target out"
            )
        if budget is not None and not is_count(budget):
            raise UsageError(f"budget must be a whole number, at least 1, got {budget!r}")
        if budget is not None and not self._method.budget:
            raise UsageError(f"{name!r} takes a fixed number of forward passes; leave budget out")
        self.budget = budget or self._method.budget
        works_at_layers = self._method.on == "layer" or self._method.layers
        if not works_at_layers and (not chooses or fusion != "sum"):
            raise UsageError(f"{name!r} works on the image, without layers; leave layers and fusion out")
        self.model: DetectorAdapter = load(
            model, device=device, imgsz=imgsz, half=half, nms=nms, trust_weights=trust_weights, yolov5_repo=yolov5_repo
        )
        model = self.model
        if self._method.models != "any" and not model.differentiable:
            working = ", ".join(one for one, other in METHODS.items() if other.models == "any")
            raise UsageError(f"{name!r} looks inside the model, which can only be called; methods that work: {working}")
        for part in target_parts(self._target):
            find_target(part, model.names)
        self.layers = model.resolve(layers) if works_at_layers else ()
        self._layer_maps = LayerMaps(model, self._method, self.layers, chooses, self._target, smooth, fusion, seed)
        self.image_maps = ImageMaps(model, self._method, self._layer_maps, self._target, seed, self.budget)
        self.verify = verify
        self.escalation: tuple[str, ...] = ESCALATION
        kept = None if classes is None else find_classes(_several(classes, "classes"), model.names)
        self.decode_settings = replace(settings, classes=kept)
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

    def explain_known(
        self, name: str, image: NDArray[np.uint8], detections: Sequence[Detection]
    ) -> tuple[Explanation, ...]:
        """One explanation for each of some detections of an image: reported, asked about, or raw predictions.

        Args:
            name: the image's.
            image: RGB uint8 (H, W, 3).
            detections: each keeps its anchor and its class.
        """
        with torch.inference_mode(False):
            return self._explain_batch([name], [image], detections)[0].explanations

    def _explain_batch(
        self, names: list[str], images: list[NDArray[np.uint8]], known: Sequence[Detection] | None = None
    ) -> list[ImageResult]:
        """Images of one letterboxed shape; or one image's ``known`` detections."""
        batch, letterboxes = self.model.prepare(images)
        raw = self.model.forward(batch, self.layers)
        if known is None:
            found = self.model.decode(raw, letterboxes, self.decode_settings)
            wanted = [self._select(names[i], raw, i, found[i], letterboxes[i]) for i in range(len(images))]
        else:
            found, wanted = [tuple(known)], [list(known)]
        seen = [Seen(batch[i : i + 1], raw, i, letterboxes[i]) for i in range(len(images))]
        if self._method.on == "layer":
            made = self._layer_maps(batch, raw, wanted) if any(wanted) else [[] for _ in images]
        else:
            made = [self.image_maps(seen[i], wanted[i]) for i in range(len(images))]
        results = []
        for i, image in enumerate(images):
            told = [
                self._explanation(one, detection, letterboxes[i], image)
                for one, detection in zip(made[i], wanted[i], strict=True)
            ]
            if self.verify:
                told = self._verified(seen[i], told)
            told = self._concluded(seen[i], told)
            results.append(ImageResult(names[i], image, found[i], tuple(told)))
        return results

    def remade(
        self, model: DetectorAdapter, batch: Tensor, letterbox: Letterbox, detections: Sequence[Detection]
    ) -> list[Made]:
        """The maps of detections that are known, by the same method, on another detector or another input (1, 3, h, w).

        Each detection keeps its anchor and its class, whatever the other detector reports.
        """
        raw = model.forward(batch, self.layers)
        if self._method.on == "layer":
            return replace(self._layer_maps, model=model)(batch, raw, [detections])[0]
        layers = replace(self._layer_maps, model=model)
        return replace(self.image_maps, model=model, layers=layers)(Seen(batch, raw, 0, letterbox), detections)

    def _verified(self, seen: Seen, told: list[Explanation]) -> list[Explanation]:
        """Explanations with their receipts; those that fail are made again by stronger methods, and say so."""
        told = list(told)
        tried: list[str] = []
        unsettled = [number for number, e in enumerate(told) if e.status == "ok"]
        for method in (self.method_name, *(name for name in self.escalation if name != self.method_name)):
            if not unsettled:
                break
            detections = [told[number].detection for number in unsettled]
            if tried:
                maker = replace(self.image_maps, method=METHODS[method], target="class", budget=METHODS[method].budget)
                for number, made in zip(unsettled, maker(seen, detections), strict=True):
                    again = self._explanation(made, told[number].detection, seen.letterbox, told[number].image)
                    told[number] = replace(again, method=method, target="class", support=())
            maps = [torch.tensor(told[number].heatmap.raw, device=seen.batch.device) for number in unsettled]
            for number, receipt in zip(unsettled, self.image_maps.receipts(seen, detections, maps), strict=True):
                status: Status = "ok" if receipt.supported else "unsupported"
                reason = f"{method} took over from {' and '.join(tried)}, unsupported by the receipt" if tried else ""
                told[number] = replace(told[number], receipt=receipt, status=status, reason=reason)
            unsettled = [number for number in unsettled if told[number].status == "unsupported"]
            tried.append(method)
        return told

    def _concluded(self, seen: Seen, told: list[Explanation]) -> list[Explanation]:
        """Explanations with their sentences, and, where their maps were made by trying parts, with their evidence."""
        concludes = [
            self._method.concludes if one.method == self.method_name else METHODS[one.method].concludes for one in told
        ]
        tried = [i for i, one in enumerate(told) if one.receipt is not None or concludes[i]]
        asked = [self._target if told[i].target == self.target_name else told[i].target for i in tried]
        targets = [find_target(target_parts(one)[0], self.model.names) for one in asked]
        ended = conclude(self.model, seen, [told[i] for i in tried], targets, self.decode_settings.conf, self.seed)
        found = [replace(one, sentence=sentence_of(one)) for one in told]
        for i, one in zip(tried, ended, strict=True):
            found[i] = one
        return found

    def _check_smoothing(self, smoothing: frozenset[str]) -> None:
        """Refuse what cannot be smoothed."""
        if smoothing and self._method.on != "layer":
            raise UsageError(f"smoothing is for methods at layers; {self.method_name!r} works on the image")
        if "eigen" in smoothing and "reduce" not in self._method.takes:
            raise UsageError(f"{self.method_name!r} does not sum weighted channels, so eigen smoothing cannot apply")
        if smoothing - {"eigen"} and "gradients" not in self._method.takes:
            raise UsageError(f"{self.method_name!r} takes no gradient to be smoothed; leave smoothing out")
        if "aug" in smoothing:
            mirrored(self._target)

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

    def _explanation(
        self, made: Made, detection: Detection, letterbox: Letterbox, image: NDArray[np.uint8]
    ) -> Explanation:
        """A map with what it is of, and what became of it."""
        status, reason = self._judge(made, detection)
        finite = made.map if torch.isfinite(made.map).all() else torch.zeros_like(made.map)
        heatmap = Heatmap(finite.cpu().numpy(), letterbox)
        layers = made.layers or self.layers
        seen = made.support or ((0.0,) * len(layers) if "gradients" in self._method.takes else ())
        return Explanation(
            detection, heatmap, self.method_name, self.target_name, layers, status, reason, image, seen, made.forwards
        )

    def _judge(self, made: Made, detection: Detection) -> tuple[Status, str]:
        """``ok``, or ``no_signal`` and why."""
        what = f"target {self.target_name!r} of {detection.class_name!r} at anchor {detection.anchor}"
        where = f"(stride {detection.stride})"
        if not made.layers:
            return "no_signal", f"{what} {where} has no gradient at {', '.join(self.layers)}: not connected to it"
        if not torch.isfinite(made.map).all():
            return "no_signal", f"the map of {what} {where} at {', '.join(made.layers)} is not finite"
        if not made.map.any() and not self._method.concludes:
            return "no_signal", f"{what} {where}: {self.method_name} is zero everywhere at {', '.join(made.layers)}"
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
