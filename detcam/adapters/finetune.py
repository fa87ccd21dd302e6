"""Fine-tune a copy of an Ultralytics detector with Ultralytics' own trainer, which here writes into one folder only.

Nothing is downloaded or sent, no experiment tracker hears of it, and neither the model that was given nor Ultralytics'
settings are written to. What the trainer sets for the whole process is put back.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detcam.adapters.settings import check_device
from detcam.adapters.weights import quiet_ultralytics, read_checkpoint
from detcam.alone import alone
from detcam.errors import WeightsError

with alone():
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils.torch_utils import strip_optimizer

Sample: TypeAlias = tuple[NDArray[np.uint8], Sequence[tuple[int, NDArray[np.float64]]]]
"""RGB uint8 (side, side, 3), and the class and the box (4,), xyxy in its pixels, of every label."""

UNLEARNT_LOGIT = -5.0
"""A class's logit before it is learnt: hardly ever."""
TRAINING_SETTINGS: dict[str, Any] = {
    "batch": 4, "nbs": 4, "workers": 0, "optimizer": "AdamW", "lr0": 5e-4, "lrf": 0.1, "cos_lr": True,
    "warmup_epochs": 0.0, "weight_decay": 0.0, "cls": 4.0, "box": 2.0, "dfl": 0.5, "mosaic": 0.0, "close_mosaic": 0,
    "fliplr": 0.0, "scale": 0.0, "translate": 0.0, "erasing": 0.0, "hsv_h": 0.0, "hsv_s": 0.3, "hsv_v": 0.3,
    "deterministic": True, "amp": False, "plots": False, "val": False, "save": False,
}  # fmt: skip
"""Brief, and with the class loss weighted up: boxes are known already, what makes the class is to be learnt anew."""


def trainable(weights: str | Path, trust: bool = False) -> nn.Module:
    """The model of an Ultralytics detection checkpoint, which is only read.

    Raises:
        WeightsError: it cannot be read, or holds a model of another kind.

    Args:
        weights: a ``.pt`` file.
        trust: load any pickle, which runs whatever code is in it.
    """
    model = read_checkpoint(weights, trust)
    if type(model) is not DetectionModel:
        raise WeightsError(
            f"{weights} holds a {type(model).__name__}; give an Ultralytics detection model (YOLOv3u to YOLO26): "
            "no other can be fine-tuned here"
        )
    return model


def finetune(
    model: nn.Module,
    samples: Iterable[Sample],
    out: Path,
    *,
    forget: int,
    epochs: int,
    device: Any = None,
    seed: int = 0,
    advance: Callable[[int], None] = lambda epoch: None,
) -> Path:
    """Train a copy of a detector for a few epochs.

    Args:
        model: from :func:`trainable`; left as it is.
        samples: what to train on, square images of one size; classes are the model's.
        out: a new folder; all that is written goes there.
        forget: the class that is learnt anew: what its logit makes of the head's features is taken out first.
        epochs: how often each sample is seen.
        device: as in :func:`detcam.load`.
        seed: of the training.
        advance: told the number of epochs done, after each.

    Returns:
        The new checkpoint. Its own image size stays the model's.

    Raises:
        UsageError: a device that cannot be used.
    """
    place = check_device("cpu" if device is None else device)
    private: Any = copy.deepcopy(model)
    settings = dict(getattr(private, "args", None) or {})
    private.criterion = None  # a checkpoint may carry its loss along
    _forget(private.model[-1], forget)
    overrides = {
        **TRAINING_SETTINGS, "model": "a copy.pt", "save_dir": str(out / "run"), "imgsz": write_samples(samples, out),
        "epochs": epochs, "seed": seed, "device": str(place.index or 0) if place.type == "cuda" else place.type,
        "freeze": len(private.yaml.get("backbone") or ()) // 2,  # spares time, and what few photographs would spoil
    }  # fmt: skip
    with quiet_ultralytics(), _restored_process_state():
        trainer = _Finetuning(overrides, private, out / "images", settings, advance)
        trainer.train()
    return Path(trainer.last)


def write_samples(samples: Iterable[Sample], out: Path) -> int:
    """Write samples as Ultralytics reads them, into ``out/images`` and ``out/labels``.

    Args:
        samples: square images of one size with their labels.
        out: a folder without these two in it.

    Returns:
        The images' side, pixels.
    """
    side = 0
    for name in ("images", "labels"):
        (out / name).mkdir(parents=True)
    for number, (image, labels) in enumerate(samples):
        side = len(image)
        cv2.imwrite(str(out / "images" / f"{number:05d}.png"), image[..., ::-1])
        rows = []
        for class_id, (x1, y1, x2, y2) in labels:
            numbers = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
            rows.append(f"{class_id} {' '.join(f'{number / side:.6f}' for number in numbers)}\n")
        (out / "labels" / f"{number:05d}.txt").write_text("".join(rows), encoding="utf-8")
    return side


def _forget(head: Any, class_id: int) -> None:
    """Take a class out of a detection head: a logit that is the same everywhere, as low as where training begins."""
    for branch in (getattr(head, "cv3", None), getattr(head, "one2one_cv3", None)):
        for level in branch or ():
            with torch.no_grad():
                level[-1].weight[class_id] = 0
                level[-1].bias[class_id] = UNLEARNT_LOGIT


class _Finetuning(DetectionTrainer):  # type: ignore[misc]
    """The trainer with model and images at hand; integrations look for ``Trainer`` in its name."""

    def __init__(
        self,
        overrides: dict[str, Any],
        model: Any,
        images: Path,
        settings: dict[str, Any],
        advance: Callable[[int], None],
    ) -> None:
        self._images, self._names, self._settings, self._advance = images, model.names, settings, advance
        super().__init__(overrides=overrides)
        self.model = model

    def get_dataset(self) -> dict[str, Any]:
        """The images; the trainer's own function looks for fonts to draw names with, and downloads them."""
        folder = str(self._images)
        return {"train": folder, "val": folder, "names": self._names, "nc": len(self._names), "channels": 3}

    def run_callbacks(self, event: str) -> None:
        """Trackers and usage statistics are callbacks; none is called but ours."""
        if event == "on_train_epoch_end":
            self._advance(self.epoch + 1)

    def validate(self) -> tuple[dict[str, float], float]:
        """Nothing: what is asked of the new weights is not their mAP."""
        return {}, 0.0

    def final_eval(self) -> None:
        """Leave a checkpoint as small as any, with the model's own settings."""
        strip_optimizer(self.last, updates={"train_args": self._settings})


@contextlib.contextmanager
def _restored_process_state() -> Iterator[None]:
    """Put back what the trainer sets for the whole process: environment, threads, determinism and random states."""
    environment = {name: os.environ.get(name) for name in ("CUBLAS_WORKSPACE_CONFIG", "PYTHONHASHSEED")}
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
