"""Weights are code: what is loaded, what is refused, and what the refusal says."""

import contextlib
import os
import pickle
import socket
import types

import pytest
import torch
from ultralytics import YOLO
from ultralytics.utils import IterableSimpleNamespace

import detcam
from detcam.adapters import yolov5_weights
from detcam.adapters.weights import read_checkpoint
from detcam.demo import WEIGHTS
from detcam.errors import WeightsError
from support.data import real


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run_it(tmp_path):
    torch.save({"model": Malicious(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(
        WeightsError, match=r"mkdir.*not on the list of classes that are safe.*load them with trust_weights"
    ):
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
    with pytest.raises(WeightsError, match=r"original YOLOv5 weights need the classes of YOLOv5.*\(yolov5_repo\)"):
        detcam.load(real("weights/yolov5n-original.pt"))


class Calls:
    """Unpickled, it calls a class with arguments."""

    def __init__(self, kind, *arguments):
        self.called = (kind, arguments)

    def __reduce__(self):
        return self.called


def test_no_class_on_the_list_can_be_called(tmp_path):
    from ultralytics.nn.tasks import DetectionModel

    second, proof = tmp_path / "second.pt", tmp_path / "proof"
    torch.save({"model": Calls(os.system, f"touch {proof}")}, second)
    student = torch.nn.Identity()
    student.yaml = {}
    calls = [Calls(DetectionModel, str(tmp_path / "some.yaml")), Calls(torch.nn.Linear, 4, 5)]
    with contextlib.suppress(ImportError):
        from ultralytics.nn.distill_model import DistillationModel  # its constructor loads another file, unsafely

        calls.append(Calls(DistillationModel, str(second), student))
    for number, call in enumerate(calls):
        first = tmp_path / f"first{number}.pt"
        torch.save({"model": call}, first)
        with pytest.raises(WeightsError, match=r"calls \w+\(...\) as it is read|not on the list"):
            detcam.load(first)
        assert not proof.exists()


def test_what_others_registered_with_torch_is_neither_used_nor_lost(tmp_path):
    path = tmp_path / "namespace.pt"
    torch.save({"model": Calls(types.SimpleNamespace)}, path)
    torch.serialization.add_safe_globals([types.SimpleNamespace])
    try:
        with pytest.raises(WeightsError, match=r"types\.SimpleNamespace, which is not on the list"):
            detcam.load(path)
        assert types.SimpleNamespace in torch.serialization.get_safe_globals()
    finally:
        others = [entry for entry in torch.serialization.get_safe_globals() if entry is not types.SimpleNamespace]
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


@pytest.mark.parametrize(
    "name", ["yolov8n.yaml", "yolo11n-seg.yaml", "yolov8n-pose.yaml", "yolov8n-obb.yaml", "yolov8n-cls.yaml"]
)
def test_checkpoints_of_every_task_load_with_their_own_classes(name, tmp_path):
    model = YOLO(name, verbose=False)
    if name != "yolov8n-cls.yaml":
        model.model.args = IterableSimpleNamespace(box=7.5, cls=0.5, dfl=1.5, overlap_mask=True, pose=1.0, kobj=1.0)
        model.model.criterion = model.model.init_criterion()  # what a training leaves in its checkpoints
    path = tmp_path / "best.pt"
    torch.save({"model": model.model, "ema": None, "train_args": {"imgsz": 64}}, path)
    loaded = read_checkpoint(path)
    kinds = {type(module) for module in model.model.modules()}
    assert {type(module) for module in loaded.modules()} == kinds
    assert type(getattr(loaded, "criterion", None)) is type(getattr(model.model, "criterion", None))
    for (key, ours), (_, theirs) in zip(loaded.state_dict().items(), model.model.state_dict().items(), strict=True):
        assert torch.equal(ours, theirs), key
