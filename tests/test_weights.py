"""Weights are code: what is loaded, what is refused, and what the refusal says."""

import os
import pickle
import socket

import pytest
import torch
from conftest import real

import detcam
from detcam.adapters import yolov5_weights
from detcam.demo import WEIGHTS
from detcam.errors import WeightsError


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run_it(tmp_path):
    torch.save({"model": Malicious(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match=r"mkdir.*not on the list of classes that are safe to load.*--trust-weights"):
        detcam.load(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(WeightsError, match="holds no model"):
        detcam.load(tmp_path / "evil.pt", trust_weights=True)
    assert (tmp_path / "ran").exists()


def test_the_demo_weights_load_either_way():
    assert detcam.load(WEIGHTS).names == detcam.load(str(WEIGHTS), trust_weights=True).names


def truncated(path):
    path.write_bytes(WEIGHTS.read_bytes()[:100_000])


def text(path):
    path.write_text("these are not weights\n")


def state_dict(path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)


def bare_pickle(path):
    path.write_bytes(pickle.dumps([1, 2, 3]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, "truncated or damaged"),
        (text, "empty or another kind of file"),
        (lambda path: path.touch(), "empty or another kind of file"),
        (state_dict, r"holds no model \(its keys: weight, bias\)"),
        (bare_pickle, "not"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "no such weights file"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, make, message):
    path = tmp_path / "w.pt"
    make(path)
    with pytest.raises(WeightsError, match=message) as caught:
        detcam.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "message"), [("m.engine", "exported model"), ("m.pth", r"does not end in \.pt")])
def test_other_kinds_of_file(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(WeightsError, match=message):
        detcam.load(tmp_path / name)


def test_nothing_is_downloaded_for_a_path(tmp_path, monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(WeightsError, match="no such weights file"):
        detcam.load(tmp_path / "yolov8n.pt")
    with pytest.raises(WeightsError, match="no such weights file"):
        detcam.load("my-own-model.pt")


def test_an_original_yolov5_checkpoint_without_its_classes_says_where_to_get_them(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    yolov5_weights._vendor_modules.cache_clear()
    with pytest.raises(WeightsError, match=r"original YOLOv5 weights need the classes of YOLOv5.*--yolov5-repo DIR"):
        detcam.load(real("weights/yolov5n-original.pt"))
