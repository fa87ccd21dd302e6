"""Checkpoints of original YOLOv5, read with somebody's clone and without running what they hold."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from detcam.adapters import yolov5_weights
from detcam.adapters.yolov5 import YoloV5Detector
from detcam.adapters.yolov5_weights import is_original_checkpoint, read_original_checkpoint
from detcam.errors import WeightsError

COMMON = """
import pandas as pd
import torch.nn as nn
from utils.general import check_version, colorstr
from utils.plots import *

class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 2, 1), nn.SiLU()

    def forward(self, x):
        return self.act(self.conv(x))

class Own(Conv):
    pass
"""
YOLO = """
import sys
from pathlib import Path
sys.path.append(str(Path(__file__).parent))
from models.common import *
from models.experimental import *

class Detect(nn.Module):
    def __init__(self, recent=check_version("2", "1")):
        super().__init__()
        self.nc, self.no, self.na, self.nl, self.f = 1, 6, 1, 1, [0]
        self.stride, self.m = torch.tensor([1.0]), nn.ModuleList([nn.Conv2d(2, 6, 1)])
        self.register_buffer("anchors", torch.ones(1, 1, 2))

class Model(nn.Module):
    def __init__(self, cfg=None, first=Conv):
        super().__init__()
        if cfg:
            eval(cfg)
        self.model = nn.Sequential(first(), nn.Upsample(scale_factor=1), Detect())
"""


class Calls:
    """A pickle that calls something."""

    def __init__(self, function, argument):
        self.parts = function, (argument,)

    def __reduce__(self):
        return self.parts


@pytest.fixture
def clone(tmp_path):
    """A repository with the layout of YOLOv5's, and what checkpoints of it hold, made where `models` is importable."""
    folder = tmp_path / "clone"
    (folder / "models").mkdir(parents=True)
    for name, text in {"common": COMMON, "experimental": "import torch", "yolo": YOLO, "__init__": ""}.items():
        (folder / "models" / f"{name}.py").write_text(text)

    def save(make, path=tmp_path / "w.pt"):
        with yolov5_weights._borrowed(folder):
            torch.save(make(importlib.import_module("models.yolo")), path)
        return path

    return SimpleNamespace(folder=folder, save=save)


@pytest.mark.parametrize("trust", [False, True])
def test_a_checkpoint_is_read_with_a_repository(clone, trust):
    def make(yolo):
        model = yolo.Model().half()
        del model.model[1].recompute_scale_factor
        state = {"best_fitness": np.array([0.5]), "fitness": np.float64(0.5), "opt": {"save_dir": Path("runs")}}
        return {"epoch": 3, "ema": None, "model": model, **state}

    path = clone.save(make)
    paths, known = list(sys.path), set(sys.modules)
    model = read_original_checkpoint(path, repo=clone.folder, trust=trust)
    assert sys.path == paths
    assert not {name for name in set(sys.modules) - known if name.split(".")[0] in ("models", "utils", "pandas")}
    assert is_original_checkpoint(path)
    assert type(model).__module__ == "models.yolo"
    assert type(model.model[0].conv) is nn.Conv2d
    assert next(model.parameters()).dtype == torch.float32
    assert model.model[1](model.model[0](torch.ones(1, 3, 4, 4))).shape == (1, 2, 4, 4)
    assert YoloV5Detector(model).names == {0: "0"}


def test_modules_called_models_that_were_there_stay(clone, monkeypatch):
    theirs = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "models", theirs)
    read_original_checkpoint(clone.save(lambda yolo: yolo.Model()), repo=clone.folder)
    assert sys.modules["models"] is theirs


def test_a_pickle_that_runs_code_is_refused_and_does_not_run_it(clone, tmp_path):
    ran = tmp_path / "ran"
    path = clone.save(lambda yolo: {"model": yolo.Model(), "extra": Calls(os.mkdir, str(ran))})
    with pytest.raises(WeightsError, match=r"mkdir, which is not on the list .*load them with trust_weights") as caught:
        read_original_checkpoint(path, repo=clone.folder)
    assert "\n" not in str(caught.value)
    assert not ran.exists()
    read_original_checkpoint(path, repo=clone.folder, trust=True)
    assert ran.exists()


def test_a_constructor_that_evaluates_text_is_not_called(clone, tmp_path):
    ran = tmp_path / "ran"
    path = clone.save(
        lambda yolo: {"model": yolo.Model(), "x": Calls(yolo.Model, f"__import__('os').mkdir({str(ran)!r})")}
    )
    with pytest.raises(WeightsError, match=r"calls Model\(\.\.\.\) as it is read.*load them with trust_weights"):
        read_original_checkpoint(path, repo=clone.folder)
    assert not ran.exists()


def test_a_class_that_is_not_on_the_list_is_named(clone):
    path = clone.save(lambda yolo: yolo.Model(first=yolo.Own))
    with pytest.raises(WeightsError, match=r"asks for models\.common\.Own, which is not on the list"):
        read_original_checkpoint(path, repo=clone.folder)
    assert type(read_original_checkpoint(path, repo=clone.folder, trust=True).model[0]).__name__ == "Own"


def test_files_that_hold_no_model(clone, tmp_path):
    with pytest.raises(WeightsError, match="holds no model"):
        read_original_checkpoint(clone.save(lambda yolo: {"model": {}}), repo=clone.folder)
    (tmp_path / "text.pt").write_text("not weights")
    assert not is_original_checkpoint(tmp_path / "text.pt")
    with pytest.raises(WeightsError, match="another kind of file"):
        read_original_checkpoint(tmp_path / "text.pt", repo=clone.folder)


def test_without_the_classes_the_message_says_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    yolov5_weights._vendor_modules.cache_clear()
    with pytest.raises(WeightsError, match=r"pip install --no-deps yolov5==7\.0\.14, or .*\(yolov5_repo\)"):
        read_original_checkpoint(tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"has no models/yolo\.py; give a clone"):
        read_original_checkpoint(tmp_path / "w.pt", repo=tmp_path)
