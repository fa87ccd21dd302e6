"""Any detector that can be called, and no more: a function of images, or an exported model in ONNX Runtime.

Nothing inside it can be seen, so it has no layers and no gradients; methods that only change its input explain it.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import nms as keep_best

from detcam.adapters.base import Layer, RawOutput
from detcam.adapters.decoding import DecodeSettings
from detcam.adapters.settings import check_one_shape, names_by_index
from detcam.errors import InputError, UsageError, WeightsError
from detcam.geometry import PADDING_GREY, Letterbox
from detcam.types import Detection

Names = Mapping[int, str] | Sequence[str]
Predict = Callable[[list[NDArray[np.uint8]]], Sequence[tuple[Any, Any]]]
"""RGB uint8 (H, W, 3) images, all of one shape -> for each its boxes (N, 4), xyxy in the image's own pixels, and their
class scores (N, class) in [0, 1]; arrays or CPU tensors."""

SCORE_MARGIN = 1e-7
"""Scores are kept this far from 0 and 1, where a logit is not finite. A score of 0 is never reported."""


class BlackBox:
    """A :class:`~detcam.adapters.base.DetectorAdapter` around a function. Its anchors are the rows the function gives.

    Args:
        predict: see :data:`Predict`. Raw predictions say more than those that suppression left.
        names: class names by index, as many as there are columns of scores.
        suppressed: the rows need no suppression: ``iou`` then has no effect. Otherwise rows that overlap a better one
            of their class by more than ``iou`` are left out, those of a detector that suppresses by itself too.
        imgsz: (height, width) the detector scales images to, for the record; (0, 0) where that is not known.

    Raises:
        UsageError: ``predict`` cannot be called, or ``names`` are not numbered from 0.
    """

    differentiable = False

    def __init__(
        self, predict: Predict, names: Names, *, suppressed: bool = False, imgsz: tuple[int, int] = (0, 0)
    ) -> None:
        if not callable(predict):
            raise UsageError(f"predict must be a function of a list of images, got a {type(predict).__name__}")
        self.names: Mapping[int, str] = names_by_index(names)
        if not self.names or set(self.names) != set(range(len(self.names))):
            raise UsageError(f"names must be numbered from 0 without a gap, got {list(self.names)}")
        self.predict, self.suppressed, self.imgsz, self.device = predict, suppressed, imgsz, torch.device("cpu")

    def adjusted(
        self, device: Any = None, imgsz: int | Sequence[int] | None = None, half: bool = False, nms: bool | None = None
    ) -> BlackBox:
        """This detector; its settings belong to the function and cannot be changed here.

        Args:
            device: ``cpu`` or None.
            imgsz: as it is, or None.
            half: False.
            nms: None.

        Raises:
            UsageError: anything is asked to differ.
        """
        sides = self.imgsz if imgsz is None else tuple(imgsz) if isinstance(imgsz, list | tuple) else (imgsz, imgsz)
        same = [str(device or "cpu") == "cpu", sides == self.imgsz, not half, nms is None]
        if not all(same):
            name = ("device", "imgsz", "half", "nms")[same.index(False)]
            raise UsageError(f"{name} cannot be set for a black box: set it where the detector is made")
        return self

    def layers(self) -> Sequence[Layer]:
        """An empty sequence: nothing inside can be seen."""
        return ()

    def resolve(self, layers: str | Sequence[str]) -> tuple[str, ...]:
        """No layers, for the default ``auto``.

        Args:
            layers: ``auto``, or none.

        Raises:
            UsageError: any other layer is named.
        """
        if layers == "auto" or list(layers) in ([], ["auto"]):
            return ()
        raise UsageError(f"a black box has no layers, got {layers!r}; leave layers out")

    def letterbox(self, image: NDArray[np.uint8]) -> Letterbox:
        """The identity: the function is given the image as it is.

        Args:
            image: uint8 (H, W, 3), of which only the shape counts.
        """
        return Letterbox(image.shape[:2], image.shape[:2], image.shape[:2], (0, 0))

    def prepare(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, list[Letterbox]]:
        """See :class:`~detcam.adapters.base.DetectorAdapter`; the batch is (B, 3, H, W) in [0, 1], original pixels.

        Args:
            images: RGB uint8 (H, W, 3), all of one shape.

        Raises:
            ValueError: the images are not all of one shape.
        """
        letterboxes = [self.letterbox(image) for image in images]
        check_one_shape(letterboxes)
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(255), letterboxes

    def forward(
        self, batch: Tensor, layers: Sequence[str] = (), instead: Mapping[str, Tensor] | None = None
    ) -> RawOutput:
        """Call the function. Values are rounded to whole ones of 255; images with fewer rows get rows of score 0.

        Args:
            batch: (B, 3, H, W) in [0, 1].
            layers: none.
            instead: None.

        Raises:
            UsageError: a layer is named.
            InputError: the function's answer is not a pair of boxes and scores for each image.
        """
        self.resolve(layers)
        pixels = batch.detach().mul(255).round_().clamp_(0, 255).to("cpu", torch.uint8).permute(0, 2, 3, 1)
        outputs = self.predict([np.ascontiguousarray(image) for image in pixels.numpy()])
        if not isinstance(outputs, Sequence) or len(outputs) != len(batch):
            given = f"{len(outputs)} answers" if isinstance(outputs, Sequence) else f"a {type(outputs).__name__}"
            raise InputError(f"predict gave {given} for {len(batch)} images; expected a list of (boxes, scores)")
        pairs = [check_answer(output, i, len(self.names)) for i, output in enumerate(outputs)]
        pairs.append((torch.zeros(1, 4), torch.zeros(1, len(self.names), dtype=torch.float64)))  # at least one row
        boxes, scores = (pad_sequence(list(part), batch_first=True)[:-1] for part in zip(*pairs, strict=True))
        sides = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2) / 2  # from the box's centre: there is no other
        size = (batch.shape[2], batch.shape[3])
        return RawOutput(scores.logit(SCORE_MARGIN).float(), boxes, sides, torch.zeros(boxes.shape[1]), size=size)

    def decode(
        self, raw: RawOutput, letterboxes: Sequence[Letterbox], settings: DecodeSettings
    ) -> list[tuple[Detection, ...]]:
        """The best class of every row, then suppression within each class, unless that is done already.

        Args:
            raw: from :meth:`forward`.
            letterboxes: one for each image.
            settings: which rows are reported.
        """
        detections = []
        for index, letterbox in enumerate(letterboxes):
            confidences, class_ids = raw.logits[index].sigmoid().max(1)
            keep = (confidences > max(settings.conf, 2 * SCORE_MARGIN)) & settings.keeps(class_ids)
            rows = keep.nonzero().view(-1)
            if not self.suppressed:
                alike = [rows[class_ids[rows] == class_id] for class_id in range(len(self.names))]
                best = [part[keep_best(raw.boxes[index, part], confidences[part], settings.iou)] for part in alike]
                rows = torch.cat([rows[:0], *best])
            rows = rows[confidences[rows].argsort(descending=True, stable=True)][: settings.max_det]
            kept = zip(rows.tolist(), class_ids[rows].tolist(), confidences[rows].tolist(), strict=True)
            boxes = letterbox.clip(letterbox.to_original(raw.boxes[index].numpy()))
            detections.append(tuple(Detection(boxes[row], c, self.names[c], p, row, 0) for row, c, p in kept))
        return detections


def check_answer(output: Any, image: int, classes: int) -> tuple[Tensor, Tensor]:
    """The boxes and scores a function gave for one image of a batch, checked.

    Args:
        output: what it gave.
        image: the image's position in the batch, for the message.
        classes: how many there are.

    Returns:
        Boxes float32 (N, 4), and scores float64 (N, class).

    Raises:
        InputError: they are not finite numbers of these shapes, or a score lies outside [0, 1].
    """
    expected = f"for image {image}; expected boxes (N, 4) and class scores (N, {classes}) in [0, 1]"
    if not isinstance(output, tuple | list) or len(output) != 2:
        raise InputError(f"predict gave a {type(output).__name__} {expected}")
    try:
        with np.errstate(over="ignore"):  # found below
            boxes, scores = np.asarray(output[0]).astype(np.float32), np.asarray(output[1]).astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"predict gave no arrays of numbers ({error}) {expected}") from error
    if boxes.shape[1:] != (4,) or scores.shape != (len(boxes), classes):
        raise InputError(f"predict gave boxes {boxes.shape} and scores {scores.shape} {expected}")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise InputError(f"predict gave values that are not finite {expected}")
    if ((scores < 0) | (scores > 1)).any():
        raise InputError(f"predict gave scores from {scores.min():.4g} to {scores.max():.4g} {expected}")
    return torch.from_numpy(boxes), torch.from_numpy(scores)


def onnx_detector(path_or_session: Any, names: Names | None = None, conf: float = 0.0) -> BlackBox:
    """A black box around a detector that Ultralytics exported to ONNX, with or without suppression in the graph.

    Args:
        path_or_session: an ``.onnx`` file, which runs on the CPU, or an ``onnxruntime.InferenceSession`` of one.
        names: class names; ``None`` takes those in the model's metadata.
        conf: leave rows whose best score is below this out of the raw output. At 0, anchors are the checkpoint's.

    Raises:
        UsageError: onnxruntime is not installed, or the model does not name its classes.
        WeightsError: the file cannot be used, or is no detector with boxes.
    """
    session = path_or_session
    if isinstance(path_or_session, str | PathLike):
        if not Path(path_or_session).is_file():
            raise WeightsError(f"no such weights file: {path_or_session}; give the path of an .onnx file")
        try:
            runtime: Any = importlib.import_module("onnxruntime")
            session = runtime.InferenceSession(str(path_or_session), providers=["CPUExecutionProvider"])
        except ImportError as error:
            raise UsageError("ONNX models need onnxruntime: pip install onnxruntime") from error
        except Exception as error:
            raise WeightsError(f"{path_or_session} cannot be run by onnxruntime: {str(error)[:200]}") from error
    model = _OnnxModel(session, names, conf)
    return BlackBox(model.predict, model.names, suppressed=model.suppressed, imgsz=model.imgsz)


class _OnnxModel:
    """A session and what its metadata says: how images go in, and what comes out."""

    def __init__(self, session: Any, names: Names | None, conf: float) -> None:
        self.session, self.conf = session, conf
        about: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
        task, head = about.get("task", "detect"), about.get("head", "Detect")
        if task != "detect" or head.startswith("RTDETR") or about.get("channels", "3") != "3":
            raise WeightsError(f"no exported YOLO that gives boxes of RGB images: {head} for {task}; make a BlackBox")
        if names is None and "names" not in about:
            raise UsageError("this ONNX model does not name its classes (no metadata of Ultralytics'): give names")
        self.names: Any = names if names is not None else ast.literal_eval(about["names"])
        entry = session.get_inputs()[0]
        self.input, self.dtype = entry.name, np.float16 if "float16" in entry.type else np.float32
        fixed = [side if isinstance(side, int) else 0 for side in entry.shape]
        self.batch, self.minimal = fixed[0], not all(fixed[2:])
        trained = ast.literal_eval(about.get("imgsz", "[640, 640]"))
        self.imgsz: tuple[int, int] = (fixed[2] or trained[0], fixed[3] or trained[-1])
        self.stride = int(about.get("stride", 32))
        shape = self._run(np.zeros((1, 3, *self.imgsz), np.float32)).shape
        rows, columns = shape[1:] if len(shape) == 3 else (0, 0)
        whole = rows == 4 + len(self.names)
        marked = about.get("end2end") == "True" or "'nms': True" in about.get("args", "")
        self.suppressed = columns == 6 and (marked or not whole)
        if not whole and not self.suppressed:
            raise WeightsError(f"the model gives {shape}; expected (1, {4 + len(self.names)}, anchors) or (1, N, 6)")
        self.batch = self.batch or (int(about.get("batch", 1)) if self.suppressed else 0)  # suppression is unrolled

    def predict(self, images: list[NDArray[np.uint8]]) -> list[tuple[Any, Any]]:
        """See :data:`Predict`."""
        letterbox = Letterbox.fit(images[0].shape[:2], self.imgsz, self.stride, self.minimal)
        (height, width), (top, left) = letterbox.resized, letterbox.offset
        batch = np.full((len(images), *letterbox.network, 3), PADDING_GREY, np.uint8)
        inside = batch[:, top : top + height, left : left + width]
        inside[:] = [cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR) for image in images]
        output = self._run(batch.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        return [self._answer(rows, letterbox) for rows in output.astype(np.float32)]

    def _run(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        """The first output for a batch (B, 3, h, w) in [0, 1], in as many turns as the model's batch size asks for."""
        turn = self.batch or len(batch)
        filled = np.concatenate([batch, np.zeros((-len(batch) % turn, *batch.shape[1:]), np.float32)])
        parts = np.split(np.ascontiguousarray(filled, self.dtype), len(filled) // turn)
        output: NDArray[Any] = np.concatenate([self.session.run(None, {self.input: part})[0] for part in parts])
        return output[: len(batch)]

    def _answer(self, output: NDArray[np.float32], letterbox: Letterbox) -> tuple[Any, Any]:
        """Boxes, original pixels, and scores of one image's (4 + class, anchor) or (N, 6)."""
        if self.suppressed:
            output = output[(output[:, 4] > 0) & (output[:, 4] >= self.conf)]  # rows of zeros fill up
            own = output[:, 5:] == np.arange(len(self.names))
            if not own.any(1).all():
                raise InputError(f"the model gives classes {set(output[:, 5].tolist())}, but names {len(self.names)}")
            return letterbox.to_original(output[:, :4]), output[:, 4:5] * own
        output = output.T[output[4:].max(0) >= self.conf]
        centres, half = output[:, :2], output[:, 2:4] / 2
        return letterbox.to_original(np.concatenate([centres - half, centres + half], 1)), output[:, 4:]
