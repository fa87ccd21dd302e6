"""Detectors and images the tests share. Real weights and photographs are used where ``DETCAM_DATA`` has them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import detcam
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render

DATA = Path(os.environ.get("DETCAM_DATA", Path(__file__).parents[2] / "shared" / "data"))


def real(path: str) -> Path:
    """A file or folder of the real data, or a skip that says what is missing."""
    found = DATA / path
    if not found.exists():
        pytest.skip(f"real data missing: {found} (set DETCAM_DATA)")
    return found


@pytest.fixture(scope="session")
def demo_detector():
    return detcam.load(WEIGHTS)


@pytest.fixture(scope="session")
def scene_image():
    """A scene with several detections, two of one class among them."""
    return render(make_scene(SCENE_WITH_TWO_ALIKE))


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


def spread_logits(model: nn.Module, seed: int = 0) -> None:
    """Give the head of a model with random weights logits that differ, so that detections have an order."""
    generator = torch.Generator().manual_seed(seed)
    head = model.model[-1]
    for branch in ("cv3", "one2one_cv3"):
        for level in getattr(head, branch, None) or []:
            last = [module for module in level.modules() if isinstance(module, nn.Conv2d)][-1]
            scale = 1 / last.weight[0].numel() ** 0.5
            last.weight.data = torch.randn(last.weight.shape, generator=generator) * 8 * scale
            last.bias.data.fill_(-1.0)


def photograph(height: int = 120, width: int = 200, seed: int = 0) -> np.ndarray:
    """Smooth random colours, RGB uint8."""
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
