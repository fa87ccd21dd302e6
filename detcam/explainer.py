"""One forward pass, then one map per detection, and where asked its receipt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, TypedDict, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detcam.adapters import load
from detcam.adapters.base import DetectorAdapter
from detcam.adapters.decoding import DecodeSettings
from detcam.attribution.explaining import ExplanationMaker
from detcam.attribution.layer_maps import RawMap
from detcam.attribution.options import ESCALATION, choose_map
from detcam.attribution.reported import find_reported, pick_detections
from detcam.attribution.trial import try_options
from detcam.attribution.unreported import answer, make_question
from detcam.errors import UsageError
from detcam.io.images import ImageLike, name_image, read_image
from detcam.io.results import BoxesLike, ReportedBoxes, holds_boxes, kind_of, reported_boxes
from detcam.methods import Method
from detcam.options import MAX_PIXELS, check_counts, check_detection, check_question, find_classes, several
from detcam.probing.prepared_image import PreparedImage, prepare_images
from detcam.targets import Target
from detcam.tensors.calm import calm
from detcam.types import Detection, ImageResult

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from detcam.methods.subject import Subject


WHOLE_IMAGE_DETECTIONS, PIECE_DETECTIONS = 64, 16
"""Most detections of an image that a run explains together; of an image with more, so many at a time."""


@dataclass(frozen=True, eq=False)
class _NamedImage:
    """An image to explain: RGB uint8 (H, W, 3).

    Attributes:
        reported: the boxes that it came with, which count as its detections.
        asked: the boxes asked about.
    """

    name: str
    array: NDArray[np.uint8]
    reported: ReportedBoxes | None = None
    asked: ReportedBoxes | None = None

    @property
    def least_confidence(self) -> float:
        """No threshold that its boxes passed was higher."""
        return min((one.least_confidence for one in (self.reported, self.asked) if one is not None), default=1.0)


class ExplainerOptions(TypedDict, total=False):
    """The options of :class:`Explainer`, which says what each means; all can be left out."""

    method: str | Method | Callable[[Subject], Tensor]
    layers: str | Sequence[str]
    target: str | Target
    smoothing: str | Sequence[str]
    fusion: str
    budget: int | None
    verify: bool
    escalation: Sequence[str]
    seed: int
    conf: float
    iou: float
    max_det: int
    classes: str | int | Sequence[str | int] | None
    detection: int | Sequence[int] | BoxesLike | None
    box: Sequence[float] | None
    class_name: str | int | None
    batch: int
    max_pixels: int
    device: Any
    imgsz: int | Sequence[int] | None
    half: bool
    nms: bool | None
    trust_weights: bool
    yolov5_repo: str | PathLike[str] | None


class Explainer:
    """Explains many images with one set of options.

    Options are checked before weights are read, but for what only the model knows: its layers and classes, what it can
    be asked, the device and the size it runs at.

    Args:
        model: what :func:`detcam.load` gives or takes.

        How maps are made:

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
        verify: give every map its causal receipt (:func:`detcam.attribution.receipt.verify`); one that fails is made
            again by the methods of ``escalation``, in turn, and says so.
        escalation: names of methods that work on the image; without any, a map that fails stays as it is.
        seed: of everything random.

        What counts as a detection:

        conf, iou, max_det: thresholds, in [0, 1], and cap of the detector, as in Ultralytics' ``predict()``.
        classes: class names or indices to keep; ``None`` keeps all.

        Which are explained, and how many images at once:

        detection: only this one or these, counted from 0 in descending confidence; ``None`` explains all.
        box: explain this box, xyxy in original pixels, although the detector need not have reported it: the anchor that
            speaks most for it (IoU x class probability) is explained. Needs ``class_name``.
        class_name: the class asked about with ``box``.
        batch: how many images of one letterboxed shape share a forward pass. Maps do not depend on it.
        max_pixels: larger images are refused: by what a file says of itself, before it is decoded.

        The model:

        device, imgsz, half, nms, trust_weights, yolov5_repo: as in :func:`detcam.load`; a loaded model stays as it is
            where these are left out.

    Attributes:
        model: the detector, a private copy of what was given unless that was loaded before.
        method_name, target_name: what rows call the method and the target; ``auto`` is resolved.
        layers: module paths.
        batch, max_pixels: as given.

    Raises:
        UsageError: an unknown method, layer, target or class, or a value out of range; an own method or target that
            is called like another; later, when an image is explained, one that gives no maps or no scalar.
        WeightsError: the weights cannot be used.
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
        verify: bool = False,
        escalation: Sequence[str] = ESCALATION,
        seed: int = 0,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        classes: str | int | Sequence[str | int] | None = None,
        detection: int | Sequence[int] | BoxesLike | None = None,
        box: Sequence[float] | None = None,
        class_name: str | int | None = None,
        batch: int = 1,
        max_pixels: int = MAX_PIXELS,
        device: Any = None,
        imgsz: int | Sequence[int] | None = None,
        half: bool = False,
        nms: bool | None = None,
        trust_weights: bool = False,
        yolov5_repo: str | PathLike[str] | None = None,
    ) -> None:
        settings = DecodeSettings(conf, iou, max_det)
        check_counts(batch=batch, max_pixels=max_pixels)
        if holds_boxes(detection):
            raise UsageError("boxes belong to an image, not to an explainer: explainer(image, detection=boxes)")
        self._numbers = check_detection(detection)
        check_question(box, class_name, detection)
        kept = None if classes is None else several(classes, "classes")
        options = choose_map(
            method, layers, target, smoothing=smoothing, fusion=fusion, budget=budget, verify=verify,
            escalation=escalation, seed=seed,
        )  # fmt: skip
        self.model: DetectorAdapter = load(
            model, device=device, imgsz=imgsz, half=half, nms=nms, trust_weights=trust_weights, yolov5_repo=yolov5_repo
        )
        self._maker = ExplanationMaker(self.model, options, conf)
        try_options(self.model, options.target, self._maker.layers)
        self.method_name, self.target_name, self.layers = options.method_name, options.target_name, self._maker.layers
        class_ids = None if kept is None else find_classes(kept, self.model.names)
        self.decode_settings = replace(settings, classes=class_ids)
        self._question = make_question(box, class_name, self.model.names)
        self.batch, self.max_pixels = batch, max_pixels

    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        detection: int | Sequence[int] | BoxesLike | None = None,
        bgr: bool = False,
    ) -> list[ImageResult]:
        """One result per image, in order.

        Args:
            images: one or several of: a path, an RGB uint8 (H, W, 3) array, a PIL image, a torch tensor (3, H, W) of
                uint8 or of floats in [0, 1], or Ultralytics' ``Results``, of which the boxes are explained that they
                report.
            detection: of each of these images, explain only this one or these; of one image, boxes that another library
                reports (``results[0].boxes[3]``, supervision's ``Detections``); ``None`` explains what the explainer
                was made for.
            bgr: arrays are BGR, as OpenCV reads them.

        Raises:
            InputError: an image cannot be read, or has no detection of the number asked for.
            UsageError: a layer cannot be explained; boxes are of another model's classes, or of several images.
        """
        given: Sequence[Any] = images if isinstance(images, list | tuple) else [images]
        asked = None
        if holds_boxes(detection):
            if len(given) != 1:
                raise UsageError(f"boxes belong to one image, and {len(given)} are given: ask for each with its own")
            asked, detection = reported_boxes(detection, self.model.names, given[0]), None
        named = []
        for number, image in enumerate(given):
            own = reported_boxes(image, self.model.names) if kind_of(image) == "Results" else None
            array = read_image(image, bgr=bgr, max_pixels=self.max_pixels)
            named.append(_NamedImage(name_image(image, number), array, own, asked))
        return self._explain_images(named, detection)

    def explain_named(
        self,
        images: Mapping[str, NDArray[np.uint8]],
        detection: int | Sequence[int] | None = None,
        in_pieces: bool = False,
    ) -> list[ImageResult]:
        """One result per image, in order, of images that have names.

        Args:
            images: RGB uint8 (H, W, 3) arrays by their names.
            detection: as in a call.
            in_pieces: leave those for :meth:`explain_piece` that :meth:`is_crowded` is true of: they come back without
                explanations.

        Raises:
            InputError: an image has no detection of the number asked for.
            UsageError: a layer cannot be explained.
        """
        return self._explain_images([_NamedImage(name, array) for name, array in images.items()], detection, in_pieces)

    def is_crowded(self, detections: Sequence[Detection]) -> bool:
        """Whether an image has so many detections to explain, each by itself, that it is explained in pieces."""
        some = self._numbers is not None or self._question is not None
        return len(detections) > WHOLE_IMAGE_DETECTIONS and not some and self._maker.options.method.shares != "passes"

    def explain_piece(self, name: str, image: NDArray[np.uint8], start: int) -> ImageResult:
        """The explanations of some detections of an image that has many, which are made independently of the others.

        Args:
            name: the image's.
            image: RGB uint8 (H, W, 3).
            start: the first detection; so many of :data:`PIECE_DETECTIONS` as there are from it on are explained.
        """
        with calm():
            prepared = prepare_images(self.model, [image], self.layers)
            (found,) = self.model.decode(prepared[0].raw, [prepared[0].letterbox], self.decode_settings)
            part = found[start : start + PIECE_DETECTIONS]
            maker = self._maker.at(self.decode_settings.conf, len(part) / len(found))
            return ImageResult(name, image, found, maker(prepared, [part])[0])

    def _explain_images(
        self,
        images: Sequence[_NamedImage],
        detection: int | Sequence[int] | BoxesLike | None,
        in_pieces: bool = False,
    ) -> list[ImageResult]:
        """Images of one letterboxed shape and one threshold share a batch."""
        numbers = self._numbers if detection is None else check_detection(detection)
        if self._question is not None and (detection is not None or any(image.asked for image in images)):
            raise UsageError("this explainer was made for a box asked about; one without box can be given detections")
        confs = [min(self.decode_settings.conf, image.least_confidence) for image in images]
        kinds = [(self.model.letterbox(image.array).network, conf) for image, conf in zip(images, confs, strict=True)]
        results: dict[int, ImageResult] = {}
        for kind in dict.fromkeys(kinds):
            alike = [i for i, other in enumerate(kinds) if other == kind]
            for start in range(0, len(alike), self.batch):
                part = alike[start : start + self.batch]
                with calm():  # the caller may be in it, and nothing has a gradient there
                    batch_results = self._explain_batch([images[i] for i in part], numbers, kind[1], in_pieces)
                results.update(zip(part, batch_results, strict=True))
        return [results[i] for i in range(len(images))]

    def _explain_batch(
        self, images: Sequence[_NamedImage], numbers: Sequence[int] | None, conf: float, in_pieces: bool
    ) -> list[ImageResult]:
        """Images of one letterboxed shape; ``numbers`` are the detections to explain, ``None`` explains all."""
        names, arrays = [image.name for image in images], [image.array for image in images]
        prepared = prepare_images(self.model, arrays, self.layers)
        settings = replace(self.decode_settings, conf=conf)
        found = self.model.decode(prepared[0].raw, [one.letterbox for one in prepared], settings)
        found = [
            detections if image.reported is None else self._find(image.name, image.reported, one, detections)
            for image, one, detections in zip(images, prepared, found, strict=True)
        ]
        wanted = [
            [] if in_pieces and self.is_crowded(detections) else self._select(image, one, detections, numbers)
            for image, one, detections in zip(images, prepared, found, strict=True)
        ]
        explained = self._maker.at(conf)(prepared, wanted)
        return [ImageResult(*one) for one in zip(names, arrays, found, explained, strict=True)]

    def _find(
        self, name: str, boxes: ReportedBoxes, prepared: PreparedImage, found: Sequence[Detection]
    ) -> tuple[Detection, ...]:
        """The detections that boxes are which another library reports, of the classes that are kept."""
        detections = find_reported(name, boxes, prepared, found)
        kept = self.decode_settings.classes
        return tuple(one for one in detections if kept is None or one.class_id in kept)

    def raw_maps(self, prepared: PreparedImage, detections: Sequence[Detection]) -> list[RawMap]:
        """The maps of known detections, without receipts and conclusions.

        Args:
            prepared: their image, with :attr:`layers` captured for a method at layers; or another input, or as another
                detector with these layers sees it: each detection keeps its anchor and its class, whatever is reported.
            detections: of that image.
        """
        return self._maker.raw_maps([prepared], [detections])[0]

    def _select(
        self, image: _NamedImage, prepared: PreparedImage, found: Sequence[Detection], numbers: Sequence[int] | None
    ) -> list[Detection]:
        """The detections of one image to explain."""
        if image.asked is not None:
            return list(self._find(image.name, image.asked, prepared, found))
        if self._question is not None:
            return [answer(self._question, prepared)]
        return list(found) if numbers is None else pick_detections(image.name, found, numbers)


@overload
def explain(
    model: Any,
    images: list[ImageLike] | tuple[ImageLike, ...],
    *,
    bgr: bool = False,
    **options: Unpack[ExplainerOptions],
) -> list[ImageResult]: ...
@overload
def explain(
    model: Any, images: ImageLike, *, bgr: bool = False, **options: Unpack[ExplainerOptions]
) -> ImageResult: ...
def explain(
    model: Any, images: Any, *, bgr: bool = False, **options: Unpack[ExplainerOptions]
) -> ImageResult | list[ImageResult]:
    """Explain one image, or a list of them.

    Args:
        model: what :func:`detcam.load` gives or takes.
        images: one, or a list or tuple of several; see :meth:`Explainer.__call__`.
        bgr: arrays are BGR, as OpenCV reads them.
        **options: those of :class:`Explainer`, which is quicker where used twice.

    Raises:
        UsageError, WeightsError, InputError: as :class:`Explainer` does.
    """
    boxes = options.pop("detection") if holds_boxes(options.get("detection")) else None
    results = Explainer(model, **options)(images, detection=boxes, bgr=bgr)
    return results if isinstance(images, list | tuple) else results[0]
