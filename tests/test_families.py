"""Every detection YAML that Ultralytics ships, with random weights: detections, layers, maps, nothing left behind."""

import gc

import numpy as np
import pytest
import torch
from ultralytics import YOLO

import detcam
from support.comparison import paired
from support.images import photograph
from support.models import snapshot, spread_logits

SMALLEST = [
    "yolov3-tiny", "yolov5n", "yolov5n-p6", "yolov6n", "yolov8n", "yolov8n-p2", "yolov8n-p6", "yolov8n-ghost",
    "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n", "yolo26n-p2", "yolo26n-p6",
]  # fmt: skip
LARGER = [
    "yolov3", "yolov3-spp", "yolov8n-ghost-p2", "yolov8n-ghost-p6", "yolov9s", "yolov9m", "yolov9c", "yolov9e",
    "yolov10s", "yolov10m", "yolov10b", "yolov10l", "yolov10x",
]  # fmt: skip
HEAD_INPUTS = {"yolov5n": (17, 20, 23), "yolov8n": (15, 18, 21), "yolov9t": (15, 18, 21), "yolov10n": (16, 19, 22),
               "yolo11n": (16, 19, 22), "yolo12n": (14, 17, 20), "yolo26n": (16, 19, 22)}  # fmt: skip


def graphs():
    """Every tensor that holds a graph. Other tests leave some."""
    return [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor) and t.grad_fn is not None]


@pytest.mark.parametrize("name", [*SMALLEST, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGER)])
def test_family(name):
    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml", task="detect", verbose=False)
    image = photograph(150, 260, seed=1)
    spread_logits(model.model, image)
    settings = {"conf": 1e-3, "max_det": 3}
    before, others = snapshot(model.model), graphs()
    detector = detcam.load(model, imgsz=256)
    result = detcam.explain(detector, image, **settings, method="layercam")
    assert snapshot(model.model) == before

    theirs = model.predict(image[..., ::-1], imgsz=256, verbose=False, **settings)[0].boxes
    assert len(result) == len(theirs) == 3
    for n, m in paired(result.detections, theirs.cls, theirs.conf, theirs.xyxy, within=1e-3):
        assert np.abs(result[n].detection.xyxy - theirs.xyxy[m].numpy()).max() <= 1

    head = model.model.model[-1]
    layers = {layer.name: layer for layer in detector.layers()}
    assert set(detector.resolve("neck")) == {f"model.{i}" for i in head.f}
    if name in HEAD_INPUTS:
        assert tuple(head.f) == HEAD_INPUTS[name]
    strides = [layers[layer].stride[0] for layer in detector.resolve("backbone")]
    assert strides == sorted(int(s) for s in head.stride)
    for e in result:
        assert e.status == "ok", e.reason
        assert e.heatmap.array.shape == image.shape[:2]
        assert np.isfinite(e.heatmap.array).all()
        assert e.heatmap.array.max() == 1
    assert sum(len(module._forward_hooks) for module in detector.model.modules()) == 0
    assert {id(t) for t in graphs()} <= {id(t) for t in others}
