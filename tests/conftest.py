"""Detectors and images the tests share. Real weights and photographs are used where ``DETCAM_DATA`` has them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from ultralytics import YOLO

import detcam
from detcam.adapters import ADAPTERS
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.methods import METHODS
from detcam.targets import TARGETS
from detcam.types import Detection

hypothesis.settings.register_profile("detcam", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("detcam")

DATA = Path(os.environ.get("DETCAM_DATA", Path(__file__).parents[2] / "shared" / "data"))


def real(path: str) -> Path:
    """A file or folder of the real data, or a skip that says what is missing."""
    found = DATA / path
    if not found.exists():
        pytest.skip(f"real data missing: {found} (set DETCAM_DATA)")
    return found


@pytest.fixture
def doors(monkeypatch):
    """What a test registers is gone after it."""
    for registry in (METHODS, TARGETS, ADAPTERS):
        for kept in ("_known", "_complete"):
            monkeypatch.setattr(registry, kept, copy(getattr(registry, kept)))


@pytest.fixture(scope="session")
def demo_detector():
    return detcam.load(WEIGHTS)


@pytest.fixture(scope="session")
def scene_image():
    """A scene with several detections, two of one class among them."""
    return render(make_scene(SCENE_WITH_TWO_ALIKE))


@pytest.fixture(scope="session")
def all_levels():
    """Explanations' ingredients with boxes of every stride: a detector with random weights, an image and settings."""
    torch.manual_seed(0)
    model = YOLO(WEIGHTS.with_name("detector.yaml"), task="detect", verbose=False)
    image = photograph(seed=5)
    spread_logits(model.model, image)
    return detcam.load(model, imgsz=256), image, {"conf": 0.01, "iou": 0.9, "max_det": 120}


def _two_alike() -> int:
    for seed in range(200_000, 200_500):
        classes = [thing.class_id for thing in make_scene(seed).things]
        if len(classes) == 4 and len(set(classes)) == 3:
            return seed
    raise AssertionError("no scene has four things of three classes")


SCENE_WITH_TWO_ALIKE = _two_alike()


def snapshot(model: nn.Module) -> dict[str, object]:
    """Everything about a model that explaining it must leave as it was."""
    state: dict[str, object] = {}
    for name, module in model.named_modules():
        hooks = [len(getattr(module, kind)) for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
        state[f"module {name}"] = (id(module), type(module).__name__, module.training, hooks, "forward" in vars(module))
        for cache in ("anchors", "strides", "shape"):
            if cache in vars(module):
                state[f"cache {name}.{cache}"] = id(vars(module)[cache])
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        grad = None if tensor.grad is None else tensor.grad.clone().numpy().tobytes()
        state[f"tensor {name}"] = (
            id(tensor), tensor.requires_grad, str(tensor.dtype), tensor.detach().clone().numpy().tobytes(), grad,
        )  # fmt: skip
    return state


def calibrate(model: nn.Module, seed: int = 0) -> torch.Tensor:
    """Set batch normalisation from a few images, which are returned (3, 3, 256, 256).

    Untrained, it lets the signal of a network with random weights die out on the way to the head.
    """
    images = np.stack([photograph(256, 256, seed + n) for n in range(3)])
    batch = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
    return batch


def spread_logits(model: nn.Module, image: np.ndarray, seed: int = 0) -> None:
    """Make a model with random weights answer with class scores and boxes that differ from anchor to anchor.

    At 256 pixels, the likeliest class in this image has a logit of 2 at the finest level and of 1/2 less at each other.
    Without that, the few largest logits, which are all that is reported, are probabilities that single precision
    cannot tell from 1, in an order that rounding decides.
    """
    generator = torch.Generator().manual_seed(seed)
    calibrate(model, seed)
    head = model.model[-1]
    last = {
        (branch, level): [module for module in convs.modules() if isinstance(module, nn.Conv2d)][-1]
        for branch in ("cv2", "cv3", "one2one_cv2", "one2one_cv3")
        for level, convs in enumerate(getattr(head, branch, None) or [])
    }
    for conv in last.values():
        conv.weight.data = torch.randn(conv.weight.shape, generator=generator)
        conv.bias.data.zero_()
    seen: dict[nn.Module, torch.Tensor] = {}
    handles = [conv.register_forward_hook(lambda m, _, y: seen.update({m: y})) for conv in last.values()]
    with torch.no_grad():
        model(detcam.load(model, imgsz=256).prepare([image])[0])
    for handle in handles:
        handle.remove()
    for (branch, level), conv in last.items():
        classes = branch.endswith("cv3")
        conv.weight.data /= float(seen[conv].max()) / (5 - level / 2) if classes else float(seen[conv].std())
        conv.bias.data.fill_(-3.0 if classes else 4.0 if head.reg_max == 1 else 0.0)


def photograph(height: int = 120, width: int = 200, seed: int = 0) -> np.ndarray:
    """Smooth random colours, RGB uint8: cubic interpolation in whole numbers, so of the same bytes on every processor.

    OpenCV's gives other pixels where it dispatches to other instructions, and a network's answers follow.
    """
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3))
    rows, columns = _cubic_weights(height, 8), _cubic_weights(width, 12)
    total = columns @ (rows @ coarse.reshape(8, 36)).reshape(height, 12, 3)
    return ((total + 2**21) >> 22).clip(0, 255).astype(np.uint8)


def _cubic_weights(size: int, cells: int) -> np.ndarray:
    """(size, cells): what each pixel takes of each cell, in whole 2048ths."""
    place = (np.arange(size) + 0.5) * cells / size - 0.5
    first = np.floor(place).astype(int)
    near = place - first
    far = 1 - near
    inner = [1.25 * t * t * t - 2.25 * t * t + 1 for t in (near, far)]
    outer = [-0.75 * t * t * t + 3.75 * t * t - 6 * t + 3 for t in (near + 1, far + 1)]
    weights = np.zeros((size, cells), int)
    for step, share in zip((-1, 0, 1, 2), (outer[0], *inner, outer[1]), strict=True):
        np.add.at(weights, (np.arange(size), (first + step).clip(0, cells - 1)), np.rint(2048 * share).astype(int))
    return weights


def paired(ours: Sequence[Detection], classes, confidences, boxes, within: float) -> list[tuple[int, int]]:
    """(ours, theirs): which of another library's detections each of ours is; fails if one is missing or out of order.

    Confidences are the same within so much. Detections no further apart than twice that may change places, and the
    last, where a limit cuts the list off, may be another as likely: rounding decides that, and differs by processor.
    """
    told, given = np.array([d.confidence for d in ours]), np.asarray(confidences, np.float64)
    assert len(told) == len(given)
    assert (np.diff(told) <= 0).all()
    left, pairs = set(range(len(given))), []
    for n, detection in enumerate(ours):
        alike = [m for m in left if int(classes[m]) == detection.class_id and abs(given[m] - told[n]) <= within]
        if alike:
            pairs.append((n, min(alike, key=lambda m: np.abs(np.asarray(boxes[m]) - detection.xyxy).max())))
            left.remove(pairs[-1][1])
        else:
            assert told[n] - told[-1] <= 2 * within, f"{detection} is none of theirs"
    for m in left:
        assert given[m] - given.min() <= 2 * within, f"class {classes[m]} at {given[m]} is none of ours"
    assert pairs or not len(given)
    return pairs


def write_images(folder: Path, count: int) -> Path:
    """A new folder with so many scenes."""
    folder.mkdir()
    for seed in range(count):
        Image.fromarray(render(make_scene(seed))).save(folder / f"{seed:05d}.png", compress_level=1)
    return folder


def contents(run: Path) -> dict[str, bytes]:
    """The bytes of everything that a run leaves behind, but for ``run.json``, which tells times."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name not in ("run.json", ".lock"))
    return {str(path.relative_to(run)): path.read_bytes() for path in files}
