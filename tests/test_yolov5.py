"""Original YOLOv5 against its own forward pass and suppression, and against numbers worked out by hand."""

import contextlib
import importlib
import importlib.util
import math
import os
import shutil
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from detcam.adapters import load
from detcam.adapters.decoding import DecodeSettings
from detcam.adapters.yolov5 import YoloV5Detector, is_original, unwrap
from detcam.adapters.yolov5_weights import read_original_checkpoint
from detcam.errors import UsageError, WeightsError
from detcam.explainer import Explainer
from detcam.geometry import Letterbox
from detcam.io.images import read_image
from detcam.targets import find_target
from detcam.types import Detection
from support.comparison import paired
from support.data import real
from support.images import photograph
from support.models import snapshot

REAL = [("yolov5n-original.pt", "coco/images"), ("yolov5-plates-original.pt", "plates/images")]


@pytest.fixture
def package():
    if importlib.util.find_spec("yolov5") is None:
        pytest.skip("the yolov5 package is missing (pip install --no-deps yolov5==7.0.14)")


@pytest.fixture(scope="module")
def vendor():
    """The package with its own suppression, letterbox and wrappers; what only draws and trains may be missing."""
    if importlib.util.find_spec("yolov5") is None:
        pytest.skip("the yolov5 package is missing (pip install --no-deps yolov5==7.0.14)")
    missing = [m for m in ("pandas", "seaborn", "tqdm", "psutil", "requests") if importlib.util.find_spec(m) is None]
    printing, threads, before = np.get_printoptions(), cv2.getNumThreads(), set(sys.modules)
    environment, path = dict(os.environ), list(sys.path)
    parser = MagicMock(parse_version=importlib.import_module("packaging.version").parse)  # gone from new setuptools
    sys.modules.update({name: MagicMock() for name in missing} | {"pkg_resources": parser})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        general, augmentations, common = (
            importlib.import_module(f"yolov5.{name}")
            for name in ("utils.general", "utils.augmentations", "models.common")
        )
    yield SimpleNamespace(general=general, letterbox=augmentations.letterbox, common=common)
    np.set_printoptions(**printing)
    torch.set_printoptions(profile="default")
    cv2.setNumThreads(threads)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name in [*missing, "pkg_resources"] or name.split(".")[0] == "yolov5":
            del sys.modules[name]


class Head(nn.Module):
    """The attributes of the vendor's head; one convolution per level."""

    def __init__(self, classes, anchors, strides, channels):
        super().__init__()
        self.nc, self.no, self.nl, self.na = classes, classes + 5, len(strides), len(anchors[0])
        self.stride = torch.tensor(strides)
        self.register_buffer("anchors", torch.tensor(anchors) / self.stride[:, None, None])
        self.m = nn.ModuleList(nn.Conv2d(channels, self.no * self.na, 1) for _ in strides)
        self.f = [0, 1]


Head.__name__ = "Detect"


class Tiny(nn.Module):
    """Two strided averages and a head, called in sequence as the vendor's model calls its layers."""

    def __init__(self):
        super().__init__()
        head = Head(2, [[[10.0, 20.0], [30.0, 40.0]], [[50.0, 60.0], [70.0, 80.0]]], [8.0, 16.0], 3)
        self.model = nn.Sequential(nn.AvgPool2d(8), nn.AvgPool2d(2), head)
        self.names = ["car", "plate"]
        self.yaml = {"backbone": [[-1, 1, "AvgPool2d", [8]], [-1, 1, "AvgPool2d", [2]]]}

    def forward(self, x):
        features = []
        for layer in self.model[:-1]:
            x = layer(x)
            features.append(x)
        return self.model[-1](features)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return Tiny()


def blank_outputs(detector, height=32, width=64):
    """Raw outputs of both levels, all zero: (1, anchors x (5 + classes), rows, columns)."""
    return [torch.zeros(1, 2 * 7, height // s, width // s) for s in detector.strides]


def test_anchors_are_counted_by_level_then_shape_then_row_then_column(tiny):
    detector = YoloV5Detector(tiny)
    outputs = blank_outputs(detector)  # 4 x 8 and 2 x 4 cells
    outputs[0][0, 7 + 4, 2, 5] = 3.0  # objectness of the second shape at row 2, column 5
    outputs[1][0, 6, 1, 3] = 4.0  # second class of the first shape at row 1, column 3
    levels = [detector._decode_level(i, output) for i, output in enumerate(outputs)]
    assert [level[0].shape for level in levels] == [(1, 64, 7), (1, 16, 7)]
    assert levels[0][0][0, :, 4].nonzero().tolist() == [[32 + 2 * 8 + 5]]
    assert levels[1][0][0, :, 6].nonzero().tolist() == [[4 + 3]]
    assert levels[0][1][0, 32 + 2 * 8 + 5].tolist() == [44 - 15, 20 - 20, 44 + 15, 20 + 20]  # x before y
    assert levels[1][3].tolist() == [16] * 16


def test_boxes_are_those_worked_out_by_hand(tiny):
    detector = YoloV5Detector(tiny)
    outputs = blank_outputs(detector)
    logit = math.log(0.75 / 0.25)  # sigmoid 0.75
    for channel in range(7, 11):
        outputs[0][0, channel, 2, 5] = logit
    _, (boxes,), (sides,), _ = detector._decode_level(0, outputs[0])
    # centre (1.5 - 0.5 + 5, 1.5 - 0.5 + 2) x 8, size 1.5^2 x (30, 40)
    assert boxes[32 + 2 * 8 + 5].tolist() == pytest.approx([48 - 33.75, 24 - 45, 48 + 33.75, 24 + 45], rel=1e-5)
    # from the middle of its cell, (44, 20), outwards
    assert sides[32 + 2 * 8 + 5].tolist() == pytest.approx([29.75, 41, 37.75, 49], rel=1e-5)
    # zeros: the cell's middle and the anchor's own size
    assert boxes[9].tolist() == pytest.approx([12 - 5, 12 - 10, 12 + 5, 12 + 10])
    assert detector._decode_level(1, outputs[1])[1][0, 8].tolist() == pytest.approx([8 - 35, 8 - 40, 8 + 35, 8 + 40])


def raw_of(detector, changes):
    """Raw output where all is far below any threshold but for {(level, channel, row, column): value}."""
    outputs = blank_outputs(detector)
    for output in outputs:
        output.view(1, 2, 7, -1)[:, :, 4:] = -20
    for (level, *place), value in changes.items():
        outputs[level][(0, *place)] = value
    detector.head = SimpleNamespace(m=[lambda x, output=output: output for output in outputs])
    detector.model = lambda batch: ([None, None],)
    return detector.forward(torch.zeros(1, 3, 32, 64))


def decode(detector, raw, conf=0.25, iou=0.45, classes=None, max_det=300):
    letterbox = Letterbox((32, 64), (32, 64), (32, 64), (0, 0))
    return detector.decode(raw, [letterbox], DecodeSettings(conf, iou, max_det, classes))[0]


def logit(p):
    return math.log(p / (1 - p))


def test_the_score_is_objectness_times_class(tiny):
    raw = raw_of(YoloV5Detector(tiny), {(0, 4, 1, 1): logit(0.8), (0, 5, 1, 1): logit(0.5), (0, 6, 1, 1): logit(0.9)})
    (found,) = decode(YoloV5Detector(tiny), raw)
    assert (found.class_name, found.anchor, found.stride) == ("plate", 9, 8)
    assert found.confidence == pytest.approx(0.72)
    assert found.xyxy.tolist() == pytest.approx([7, 2, 17, 22])
    assert not decode(YoloV5Detector(tiny), raw, conf=0.73)
    assert not decode(YoloV5Detector(tiny), raw, classes=[0])
    score = find_target("score", {0: "car", 1: "plate"})(raw, 0, found)
    assert score.item() == pytest.approx(0.72)
    assert find_target("objectness", {})(raw, 0, found).item() == pytest.approx(logit(0.8))


def test_suppression_is_by_class_and_in_descending_confidence(tiny):
    changes = {}
    for column, objectness, class_id in ((1, 0.7, 0), (2, 0.9, 0), (3, 0.8, 1)):
        changes |= {(0, 4, 1, column): logit(objectness), (0, 5 + class_id, 1, column): 20.0}
        changes |= {(0, 2, 1, column): 20.0}  # four times as wide: 40 pixels, 8 apart
    detector = YoloV5Detector(tiny)
    raw = raw_of(YoloV5Detector(tiny), changes)
    assert [d.anchor for d in decode(detector, raw)] == [10, 11]
    assert [d.anchor for d in decode(detector, raw, iou=0.9)] == [10, 11, 9]
    assert [d.anchor for d in decode(detector, raw, iou=0.9, max_det=1)] == [10]
    assert [d.confidence for d in decode(detector, raw)] == pytest.approx([0.9, 0.8])


def test_a_tiny_model_is_explained_and_left_as_it_was(tiny):
    tiny.train()
    tiny.model[0].register_forward_hook(lambda *_: pytest.fail("the caller's hook ran"))
    before = snapshot(tiny)
    detector = YoloV5Detector(SimpleNamespace(model=SimpleNamespace(model=tiny)), imgsz=64)
    assert detector.names == {0: "car", 1: "plate"}
    assert detector.resolve("neck") == detector.resolve("backbone") == ("model.0", "model.1")
    assert detector.layers()[1].shape == (3, 4, 4)
    batch, _ = detector.prepare([photograph(64, 64)])
    raw = detector.forward(batch, ["model.0", "model.1"])
    assert raw.logits.shape == (1, 2 * 64 + 2 * 16, 2)
    near, far = torch.autograd.grad(raw.objectness[0, 0], list(raw.activations.values()), allow_unused=True)
    assert torch.equal(near[0, :, 0, 0], tiny.model[-1].m[0].weight[4, :, 0, 0])
    assert near.count_nonzero() == 3
    assert not far.any()
    assert snapshot(tiny) == before


def test_a_detector_is_adjusted(tiny):
    detector = YoloV5Detector(tiny)
    assert detector.imgsz == (640, 640)
    assert detector.adjusted(imgsz=640, device="cpu") is detector
    assert detector.adjusted(imgsz=300).imgsz == (320, 320)
    assert torch.equal(detector.adjusted(imgsz=300).anchor_sizes, detector.anchor_sizes)
    with pytest.raises(UsageError, match="this model does not have"):
        detector.adjusted(nms=False)
    with pytest.raises(UsageError, match="half precision needs a CUDA device"):
        detector.adjusted(half=True)


def test_what_is_not_a_yolov5_detector_is_refused(tiny):
    assert is_original(tiny)
    assert is_original(SimpleNamespace(model=tiny))
    assert not is_original(nn.Linear(2, 2))
    with pytest.raises(WeightsError, match="Linear is not a YOLOv5 detector: it has no sequence of layers"):
        YoloV5Detector(nn.Linear(2, 2))
    tiny.model[-1].no = 39
    with pytest.raises(WeightsError, match=r"ends in Detect; .* 5 numbers more than classes"):
        YoloV5Detector(tiny)
    tiny.model.append(nn.Identity())
    with pytest.raises(WeightsError, match="ends in Identity"):
        YoloV5Detector(tiny)


@contextlib.contextmanager
def full_forward(model, batch, layers):
    """The vendor's own forward pass with gradients: its raw logits (A, 5 + classes), and the layers' outputs."""
    model.eval().requires_grad_(True)
    kept, modules = {}, dict(model.named_modules())

    def keep(name):
        def hook(module, arguments, output):
            output.retain_grad()
            kept[name] = output

        return hook

    handles = [modules[name].register_forward_hook(keep(name)) for name in layers]
    _, levels = model(batch.clone().requires_grad_())
    yield torch.cat([level.flatten(1, 3) for level in levels], 1)[0], kept
    for handle in handles:
        handle.remove()


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(("weights", "folder"), REAL)
def test_gradients_are_those_of_a_plain_backward(weights, folder):
    model = read_original_checkpoint(real(f"weights/{weights}"))
    detector = YoloV5Detector(model, imgsz=320)
    layers = [*detector.resolve("neck"), *detector.resolve("backbone")]
    image = read_image(sorted(real(folder).glob("*.jpg"))[0])
    batch, _ = detector.prepare([image])
    raw = detector.forward(batch, layers)
    compared = 0
    for stride in detector.strides:
        probability = raw.logits[0].sigmoid() * raw.objectness[0, :, None].sigmoid()
        best = (probability * (raw.strides == stride)[:, None]).flatten().argmax()
        anchor, class_id = divmod(int(best), len(detector.names))
        detection = Detection([0, 0, 1, 1], class_id, "", 0.5, anchor, stride)
        for target, channel in (("class", 5 + class_id), ("objectness", 4)):
            score = find_target(target, detector.names)(raw, 0, detection)
            ours = torch.autograd.grad(score, list(raw.activations.values()), retain_graph=True)
            with full_forward(model, batch, layers) as (logits, kept):
                assert logits[anchor, channel].item() == pytest.approx(score.item(), abs=1e-4)
                logits[anchor, channel].backward()
            for name, gradient in zip(raw.activations, ours, strict=True):
                plain = kept[name].grad
                assert (gradient - plain).abs().max() <= 1e-5 * plain.abs().max(), name
                compared += bool(plain.any())
    assert compared >= 2 * (1 + 2 + 3 + 9)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(("weights", "folder"), REAL)
def test_a_photograph_is_explained_by_the_default_method(weights, folder):
    detector = load(real(f"weights/{weights}"), imgsz=320)
    assert detector.for_scoring is not detector
    image = sorted(real(folder).glob("*.jpg"))[0]
    explained = Explainer(detector, budget=1, conf=0.1, max_det=1)(image)[0][0]
    assert explained.method == "effect"
    assert explained.receipt is not None


@pytest.mark.parametrize(("weights", "folder"), REAL)
@pytest.mark.parametrize("settings", [{"conf": 0.25, "iou": 0.45}, {"conf": 0.001, "iou": 0.6, "max_det": 50}])
def test_detections_are_the_vendors_own(vendor, weights, folder, settings):
    model = read_original_checkpoint(real(f"weights/{weights}")).eval()
    detector, compared = YoloV5Detector(model), 0
    for path in sorted(real(folder).glob("*.jpg"))[:3]:
        image = read_image(path)
        boxed = vendor.letterbox(image, 640, stride=32, auto=True)[0]
        batch = torch.from_numpy(np.ascontiguousarray(boxed.transpose(2, 0, 1)))[None] / 255
        with torch.no_grad():
            output = model(batch)[0]
        theirs = vendor.general.non_max_suppression(
            output, settings["conf"], settings["iou"], max_det=settings.get("max_det", 300)
        )[0]
        theirs[:, :4] = vendor.general.scale_boxes(boxed.shape[:2], theirs[:, :4], image.shape[:2])
        own, letterboxes = detector.prepare([image])
        assert torch.equal(own, batch)
        raw = detector.forward(own)
        ours = detector.decode(raw, letterboxes, DecodeSettings(**settings))[0]
        for n, m in paired(ours, theirs[:, 5], theirs[:, 4], theirs[:, :4], within=1e-5):
            assert np.abs(ours[n].xyxy - theirs[m, :4].numpy()).max() <= 1e-2
        for d in ours:  # an index means the same in the vendor's output
            assert float(output[0, d.anchor, 4] * output[0, d.anchor, 5 + d.class_id]) == pytest.approx(d.confidence)
        compared += len(ours)
    assert compared >= 3


@pytest.mark.parametrize("wrapped", ["AutoShape", "DetectMultiBackend"])
def test_wrapped_models_are_explained_and_left_as_they_were(vendor, wrapped):
    model = read_original_checkpoint(real("weights/yolov5n-original.pt"))
    if wrapped == "DetectMultiBackend":
        outer = vendor.common.DetectMultiBackend.__new__(vendor.common.DetectMultiBackend)
        nn.Module.__init__(outer)
        outer.model, outer.pt = model, True
    else:
        outer = vendor.common.AutoShape(model, verbose=False)
    assert is_original(outer)
    assert unwrap(outer) is model
    image = read_image(real("coco/images/000000005001.jpg"))
    before = snapshot(outer)
    detector = YoloV5Detector(outer, imgsz=320)
    for target in ("class", "objectness", "score"):
        (result,) = Explainer(detector, target=target, iou=0.45, detection=0, method="layercam")([image])
        assert len(result) == 1
        assert all(e.status == "ok" and e.heatmap.peak > 0 for e in result)
    assert snapshot(outer) == before


@pytest.mark.usefixtures("package")
def test_a_repository_gives_the_same_model_as_the_package(tmp_path):
    weights = real("weights/yolov5n-original.pt")
    spec = importlib.util.find_spec("yolov5")
    shutil.copytree(Path(spec.submodule_search_locations[0]) / "models", tmp_path / "models")
    for file in (tmp_path / "models").rglob("*.py"):
        file.write_text(file.read_text(encoding="utf-8").replace("from yolov5.", "from "), encoding="utf-8")
    ours, theirs = read_original_checkpoint(weights, repo=tmp_path), read_original_checkpoint(weights)
    assert type(ours).__module__ == "models.yolo"
    batch = torch.rand(1, 3, 64, 64)
    assert torch.equal(YoloV5Detector(ours).forward(batch).boxes, YoloV5Detector(theirs).forward(batch).boxes)
