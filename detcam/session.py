"""One image, prepared once and asked many times: detections, explanations, evidence, receipts, changed images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detcam.adapters import load
from detcam.adapters.base import DetectorAdapter
from detcam.adapters.decoding import DecodeSettings
from detcam.adapters.scoring import tracked_scores
from detcam.attribution.explaining import ExplanationMaker
from detcam.attribution.options import ESCALATION, choose_map
from detcam.attribution.receipt import verify as make_receipts
from detcam.attribution.reported import find_reported, pick_detections
from detcam.attribution.unreported import Question, answer, make_question
from detcam.errors import InputError, UsageError
from detcam.io.images import ImageLike, read_image
from detcam.io.results import BoxesLike, ReportedBoxes, holds_boxes, kind_of, reported_boxes
from detcam.methods import Method
from detcam.options import (
    MAX_PIXELS,
    check_counts,
    check_detection,
    check_question,
    check_seed,
    check_thresholds,
    find_classes,
    several,
)
from detcam.probing.prepared_image import prepare_images
from detcam.probing.probe import IMAGES_PER_PASS, Probe
from detcam.targets import Target, class_logit
from detcam.tensors.calm import calm
from detcam.types import Detection, Evidence, Explanation, Receipt

if TYPE_CHECKING:
    from detcam.methods.subject import Subject

Classes = str | int | Sequence[str | int] | None
Asked = int | Detection | Sequence[int | Detection] | BoxesLike | None


class ImageSession:
    """What a detector makes of one image, kept so that it can be asked many times; :func:`open_image` makes one.

    It holds the image and the raw output of one forward pass, without a graph, and nothing of what it was asked. All
    boxes, patches and maps are in the pixels of the original image.

    Wherever detections are asked about, they are numbers, counted from 0 in :attr:`detections`, or detections of this
    image themselves, those of :meth:`detections_at` among them, or boxes that another library reports
    (``results[0].boxes[3]``, supervision's ``Detections``). A ``box`` with a ``class_name`` asks about a place
    instead, whether or not the detector reported anything there.

    Attributes:
        model: the detector.
        image: RGB uint8 (H, W, 3), read-only.
        letterbox: where the image is in the detector's input.
        prepared: the image after its forward pass, for what a session does not answer.
        detections: what the detector reports, in descending confidence.
        conf, iou, max_det, classes, seed: as in :func:`open_image`; of ``Results`` with weaker boxes, ``conf`` is
            theirs.
    """

    def __init__(
        self,
        model: DetectorAdapter,
        image: NDArray[np.uint8],
        *,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        classes: Classes = None,
        seed: int = 0,
        results: Any = None,
    ) -> None:
        self.model, self.image, self._results = model, image, results
        reported = reported_boxes(results, model.names) if kind_of(results) else None
        if reported is not None:
            conf = min(conf, reported.least_confidence)
        self.conf, self.iou, self.max_det, self.classes, self.seed = conf, iou, max_det, classes, seed
        with calm(), torch.no_grad():
            (self.prepared,) = prepare_images(model, [image])
        self.letterbox = self.prepared.letterbox
        self.detections = self.detections_at()
        if reported is not None:
            self.detections = self._find(reported)

    def detections_at(
        self, conf: float | None = None, iou: float | None = None, max_det: int | None = None, classes: Classes = None
    ) -> tuple[Detection, ...]:
        """What the detector reports at other thresholds, in descending confidence; no forward pass is made.

        What is left out is as the session was opened.

        Args:
            conf: least confidence, in [0, 1].
            iou: overlap, in [0, 1], above which the weaker of two boxes is suppressed.
            max_det: most detections.
            classes: class names or indices to keep.

        Raises:
            UsageError: a value out of range, or an unknown class.
        """
        conf, iou = self.conf if conf is None else conf, self.iou if iou is None else iou
        max_det, classes = self.max_det if max_det is None else max_det, self.classes if classes is None else classes
        settings = DecodeSettings(conf, iou, max_det)
        if classes is not None:
            settings = replace(settings, classes=find_classes(several(classes, "classes"), self.model.names))
        with calm():
            return self.model.decode(self.prepared.raw, [self.letterbox], settings)[0]

    def explain(
        self,
        detection: Asked = None,
        method: str | Method | Callable[[Subject], Tensor] = "auto",
        layers: str | Sequence[str] = "auto",
        target: str | Target = "class",
        *,
        smoothing: str | Sequence[str] = (),
        fusion: str = "sum",
        budget: int | None = None,
        verify: bool = False,
        escalation: Sequence[str] = ESCALATION,
        box: Sequence[float] | None = None,
        class_name: str | int | None = None,
    ) -> list[Explanation]:
        """One explanation for each detection asked about, as :class:`detcam.Explainer` makes it.

        A method at layers runs the detector once more: its graph is not kept.

        Args:
            detection: numbers or detections; ``None`` explains all that are reported.
            method: how maps are made; this and the next seven are as in :class:`detcam.Explainer`.
            layers: where, for methods that need layers.
            target: what is explained.
            smoothing: copies of the image to average over.
            fusion: how several layers become one map.
            budget: forward passes of methods that mask the image.
            verify: give every map its full receipt.
            escalation: methods that take over, in turn, from maps that their receipts do not support.
            box: a place to explain instead, xyxy in original pixels. Needs ``class_name``.
            class_name: the class asked about there.

        Raises:
            UsageError: an option cannot be, or does not fit the others or the model.
            InputError: there is no detection of a number, or nothing at all at ``box``.
        """
        options = choose_map(
            method, layers, target, smoothing=smoothing, fusion=fusion, budget=budget, verify=verify,
            escalation=escalation, seed=self.seed,
        )  # fmt: skip
        maker = ExplanationMaker(self.model, options, self.conf)
        wanted = self._wanted(detection, box, class_name)
        with calm():
            return list(maker.explain_image(self.prepared, wanted))

    def evidence(self, detection: int | Detection | BoxesLike) -> Evidence | None:
        """The smallest part of the image without which a detection is lost or becomes something else, or None.

        Found from its map by the default method; explanations by that method have it already.

        Args:
            detection: its number, or itself.

        Raises:
            InputError: there is no detection of that number.
        """
        return self.explain(detection if holds_boxes(detection) else [detection])[0].evidence

    def receipt(self, explanation: Explanation) -> Receipt:
        """The full causal receipt of an explanation's map, whatever made it: sixteen forward passes.

        Args:
            explanation: of this image.

        Raises:
            UsageError: it is another image's, or its map has no positive part to take away.
        """
        if explanation.heatmap.letterbox != self.letterbox or not np.array_equal(explanation.image, self.image):
            raise UsageError("this explanation is of another image; ask the session of its own")
        heat = explanation.heatmap.raw
        if not (heat > 0).any():
            raise UsageError("a map without a positive part has no hottest part that could be taken away")
        with calm():
            probe = Probe(self.prepared, [(explanation.detection, class_logit)], seed=self.seed)
            return make_receipts(probe, [torch.tensor(heat, device=self.prepared.batch.device)])[0]

    def score(
        self,
        image: ImageLike,
        detection: int | Detection | BoxesLike | None = None,
        *,
        box: Sequence[float] | None = None,
        class_name: str | int | None = None,
    ) -> float:
        """What is left of one detection in a changed image: see :meth:`scores`.

        Args:
            image: as large as the original, RGB uint8 (H, W, 3).
            detection: its number, or itself; or leave it out and give ``box`` and ``class_name``.
            box: a place to ask about instead, xyxy in original pixels.
            class_name: the class asked about there.

        Returns:
            In [0, 1].

        Raises:
            UsageError: neither a detection nor a box with its class is given, or both are.
            InputError: the image cannot be read or is of another size, or there is no detection of that number.
        """
        if detection is None and box is None and class_name is None:
            raise UsageError("a score is of something: give a detection, or a box and its class")
        one = detection if detection is None or holds_boxes(detection) else [detection]
        scores = self.scores([image], one, box=box, class_name=class_name)
        if scores.shape[1] != 1:
            raise UsageError(f"a score is of one box, and {scores.shape[1]} were given; scores() takes several")
        return float(scores[0, 0])

    def scores(
        self,
        images: Iterable[ImageLike],
        detection: Asked = None,
        *,
        box: Sequence[float] | None = None,
        class_name: str | int | None = None,
    ) -> NDArray[np.float32]:
        """What is left of some detections in changed images, 16 images to a forward pass.

        It is the score that ``effect`` and receipts follow: of all raw predictions of the changed image, before any
        threshold, the largest IoU with the box as it was predicted x probability of its class. A box asked about is
        compared as it is given.

        Args:
            images: any number of them, each as large as the original, RGB uint8 (H, W, 3); read 16 at a time.
            detection: numbers or detections; ``None`` takes all that are reported.
            box: a place to ask about instead, xyxy in original pixels. Needs ``class_name``.
            class_name: the class asked about there.

        Returns:
            float32 (image, detection) in [0, 1].

        Raises:
            UsageError: a detection and a box are given, or a box without a class.
            InputError: an image cannot be read or is of another size, or there is no detection of a number.
        """
        boxes, class_ids = self._tracked(detection, box, class_name)
        model, left = getattr(self.model, "for_scoring", self.model), iter(images)
        parts = [np.zeros((0, len(class_ids)), np.float32)]
        with calm(), torch.no_grad():
            while part := [self._changed(image) for image in islice(left, IMAGES_PER_PASS)]:
                if class_ids:
                    scores = tracked_scores(model.forward(self.model.prepare(part)[0]), boxes, class_ids)
                    parts.append(scores.float().cpu().numpy())
                else:
                    parts.append(np.zeros((len(part), 0), np.float32))
        return np.concatenate(parts)

    def _wanted(self, detection: Asked, box: Sequence[float] | None, class_name: str | int | None) -> list[Detection]:
        """The detections asked about."""
        question = self._question(detection, box, class_name)
        if question is not None:
            return [answer(question, self.prepared)]
        if detection is None:
            return list(self.detections)
        if holds_boxes(detection):
            boxes = reported_boxes(detection, self.model.names, self._results)
            return [] if boxes is None else list(self._find(boxes))
        asked = list(detection) if isinstance(detection, Sequence) else [detection]
        numbers = check_detection([one for one in asked if not isinstance(one, Detection)] or None) or []
        numbered = iter(pick_detections("this image", self.detections, numbers))
        return [one if isinstance(one, Detection) else next(numbered) for one in asked]

    def _find(self, boxes: ReportedBoxes) -> tuple[Detection, ...]:
        """The detections that boxes are which another library reports."""
        found = self.detections_at(conf=min(self.conf, boxes.least_confidence))
        with calm():
            return find_reported("this image", boxes, self.prepared, found)

    def _tracked(
        self, detection: Asked, box: Sequence[float] | None, class_name: str | int | None
    ) -> tuple[Tensor, list[int]]:
        """The boxes (K, 4) to follow, xyxy in the detector's input, and their K classes."""
        question = self._question(detection, box, class_name)
        if question is not None:
            asked = self.letterbox.to_network(np.array([question.xyxy]))
            return torch.as_tensor(asked, dtype=torch.float32, device=self.prepared.raw.boxes.device), [
                question.class_id
            ]
        wanted = self._wanted(detection, None, None)
        boxes = [self.prepared.box_of(one) for one in wanted]
        return torch.stack(boxes) if boxes else torch.zeros(0, 4), [one.class_id for one in wanted]

    def _question(self, detection: Asked, box: Sequence[float] | None, class_name: str | int | None) -> Question | None:
        """The place asked about, if it is one, and no detection besides."""
        check_question(box, class_name, detection)
        return make_question(box, class_name, self.model.names)

    def _changed(self, image: ImageLike) -> NDArray[np.uint8]:
        """A changed image, as large as the original."""
        array = read_image(image)
        if array.shape != self.image.shape:
            height, width = self.image.shape[:2]
            raise InputError(
                f"a changed image must be as large as the original, {width} x {height} pixels, got {array.shape[1]} x "
                f"{array.shape[0]}"
            )
        return array


def open_image(
    model: Any,
    image: ImageLike,
    *,
    conf: float = 0.25,
    iou: float = 0.7,
    max_det: int = 300,
    classes: Classes = None,
    seed: int = 0,
    bgr: bool = False,
    max_pixels: int = MAX_PIXELS,
    device: Any = None,
    imgsz: int | Sequence[int] | None = None,
    half: bool = False,
    nms: bool | None = None,
    trust_weights: bool = False,
    yolov5_repo: str | PathLike[str] | None = None,
) -> ImageSession:
    """Prepare one image, to be asked many times.

    Args:
        model: what :func:`detcam.load` gives or takes; nothing passed in is changed.
        image: a path, an RGB uint8 (H, W, 3) array, a PIL image, a torch tensor (3, H, W) of uint8 or of floats in
            [0, 1], or Ultralytics' ``Results``, whose boxes are then :attr:`ImageSession.detections`.
        conf: least confidence of a detection, in [0, 1]; this and the next two are as in Ultralytics' ``predict()``.
        iou: overlap, in [0, 1], above which the weaker of two boxes is suppressed.
        max_det: most detections.
        classes: class names or indices to keep; ``None`` keeps all.
        seed: of everything random.
        bgr: an array is BGR, as OpenCV reads it.
        max_pixels: a larger image is refused: by what a file says of itself, before it is decoded.
        device: this and the next five are as in :func:`detcam.load`; a loaded model stays as it is without them.
        imgsz: size to letterbox to, one side or (height, width).
        half: compute in float16 (CUDA).
        nms: which branch of an end-to-end head answers.
        trust_weights: load any pickle. Weights are code: this runs whatever is in them.
        yolov5_repo: a clone of ``ultralytics/yolov5``, for checkpoints in its original format.

    Raises:
        UsageError: a value out of range, or an unknown class.
        InputError: the image cannot be read.
        WeightsError: the weights cannot be used. Options and image are looked at first.
    """
    check_thresholds(conf, iou, max_det)
    check_seed(seed)
    check_counts(max_pixels=max_pixels)
    kept = None if classes is None else several(classes, "classes")
    array = read_image(image, bgr=bgr, max_pixels=max_pixels)
    detector = load(
        model, device=device, imgsz=imgsz, half=half, nms=nms, trust_weights=trust_weights, yolov5_repo=yolov5_repo
    )
    results = image if kind_of(image) == "Results" else None
    return ImageSession(detector, array, conf=conf, iou=iou, max_det=max_det, classes=kept, seed=seed, results=results)
