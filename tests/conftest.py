"""Fixtures of all tests, and how they run: on one core each where several processes share the machine."""

from __future__ import annotations

import os
from copy import copy

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported; processes that tests start inherit it
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch
from ultralytics import YOLO

import detcam
from detcam.adapters import ADAPTERS
from detcam.data import DATA_FORMATS
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.methods import METHODS
from detcam.targets import TARGETS
from support.images import SCENE_WITH_TWO_ALIKE, photograph
from support.models import spread_logits

pytest_plugins = ["support.browser", "support.skips", "hostile.summary"]

hypothesis.settings.register_profile("detcam", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("detcam")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test prints of names that are no text: as escapes, for a worker cannot send it otherwise and is lost."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture
def doors(monkeypatch):
    """What a test registers is gone after it."""
    for registry in (METHODS, TARGETS, ADAPTERS, DATA_FORMATS):
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
