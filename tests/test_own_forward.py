"""What a model does by itself is what is explained, or nothing is: heads and models that detcam has never seen."""

import numpy as np
import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules import head as vendor

import detcam
from detcam.demo import WEIGHTS
from detcam.errors import WeightsError
from support.comparison import paired
from support.models import snapshot
from test_tasks import IMAGE, SETTINGS, build


def with_convolutions(base):
    """A subclass of a head with one convolution per level before the vendor's own forward pass."""

    class Sharpened(base):
        def forward(self, x, *more):
            return super().forward([conv(level) for conv, level in zip(self.before, x, strict=False)] + x[3:], *more)

    return Sharpened


def sharpened(name):
    """A model of a family whose head is of such a subclass."""
    model = build(name)
    head = model.model.model[-1]
    head.__class__ = with_convolutions(type(head))
    inputs = []
    handle = head.register_forward_pre_hook(lambda module, arguments: inputs.extend(arguments[0][:3]))
    head.before = nn.ModuleList(nn.Identity() for _ in head.f)
    model.model.eval()(torch.zeros(1, 3, 256, 256))
    handle.remove()
    torch.manual_seed(1)
    head.before = nn.ModuleList(nn.Conv2d(x.shape[1], x.shape[1], 3, padding=1) for x in inputs)
    return model


@pytest.mark.parametrize(
    "name",
    ["yolov8n", "yolo26n", "yolo11n-seg", "yolov8n-pose", "yolov8n-obb", "yolov8s-worldv2", "yoloe-26n", "rtdetr-l"],
)
def test_a_subclass_of_a_head_answers_as_in_predict(name):
    model = sharpened(name)
    before = snapshot(model.model)
    result = detcam.explain(model, IMAGE, imgsz=256, **SETTINGS, method="layercam")
    assert snapshot(model.model) == before
    theirs = model.predict(IMAGE[..., ::-1], imgsz=256, verbose=False, **SETTINGS)[0]
    boxes = theirs.obb if theirs.obb is not None else theirs.boxes
    assert len(result) == len(boxes) > 0
    paired(result.detections, boxes.cls, boxes.conf, boxes.xyxy, within=1e-3)
    assert all(e.status == "ok" for e in result)


def test_the_gradient_passes_through_what_a_subclass_does_first():
    model = sharpened("yolov8n")
    head = model.model.model[-1]
    detector = detcam.load(model, imgsz=256)
    explainer = detcam.Explainer(detector, layers="neck", method="gradcam", **SETTINGS)
    ours = explainer([IMAGE])[0][0]
    with torch.no_grad():
        for conv in head.before:
            nn.init.dirac_(conv.weight)
            conv.bias.zero_()
    plain = detcam.explain(model, IMAGE, imgsz=256, layers="neck", method="gradcam", **SETTINGS)[0]
    assert not np.allclose(ours.heatmap.array, plain.heatmap.array)
    head.__class__ = vendor.Detect
    same = detcam.explain(model, IMAGE, imgsz=256, layers="neck", method="gradcam", **SETTINGS)[0]
    assert np.allclose(same.heatmap.array, plain.heatmap.array, atol=1e-5)


class OwnBoxes(vendor.Detect):
    def decode_bboxes(self, bboxes, anchors, *more):
        return super().decode_bboxes(bboxes * 1.1, anchors, *more)


class OwnScores(vendor.Detect):
    def _inference(self, x):
        return super()._inference({**x, "scores": x["scores"] / 2})


class OwnAnswer(vendor.Detect):
    def forward(self, x):
        y, raw = super().forward(x)
        return y * torch.tensor([1.0] * 4 + [0.5] * self.nc)[:, None], raw


class Apart(vendor.Detect):
    def forward(self, x):
        return vendor.Detect.forward(self, [level.flip(-1) for level in x])


class OwnMasks(vendor.Segment):
    def _inference(self, x):
        return super()._inference({**x, "mask_coefficient": -x["mask_coefficient"]})


class OwnKeypoints(vendor.Pose):
    def kpts_decode(self, kpts):
        return super().kpts_decode(kpts) + 5


class OwnAngle(vendor.OBB):
    def _inference(self, x):
        return super()._inference({**x, "angle": x["angle"] + 0.3})


class OwnQueries(vendor.RTDETRDecoder):
    def postprocess(self, boxes, scores):
        return super().postprocess(boxes, scores.sqrt())


@pytest.mark.parametrize(
    ("name", "head"),
    [("yolov8n", OwnBoxes), ("yolov8n", OwnScores), ("yolov8n", OwnAnswer), ("yolov8n", Apart), ("yolo26n", OwnScores),
     ("yolov8n-seg", OwnMasks), ("yolov8n-pose", OwnKeypoints), ("yolov8n-obb", OwnAngle), ("rtdetr-l", OwnQueries)],
)  # fmt: skip
def test_a_head_that_answers_otherwise_than_its_parts_is_refused_by_name(name, head):
    model = build(name)
    model.model.model[-1].__class__ = head
    before = snapshot(model.model)
    with pytest.raises(WeightsError, match=rf"test_own_forward\.{head.__name__}.*detcam\.BlackBox") as caught:
        detcam.load(model)
    assert "\n" not in str(caught.value)
    assert snapshot(model.model) == before


class Normalised(tasks.DetectionModel):
    def forward(self, x, *arguments, **keywords):
        return super().forward((x - 0.45) / 0.22, *arguments, **keywords)


class Brightened(tasks.DetectionModel):
    def predict(self, x, *arguments, **keywords):
        return super().predict(x.sqrt() if x.mean() < 0.5 else x, *arguments, **keywords)


class Shifted(tasks.DetectionModel):
    def forward(self, x, *arguments, **keywords):
        y, raw = super().forward(x, *arguments, **keywords)
        return torch.cat([y[:, :4] + 3, y[:, 4:]], 1), raw


@pytest.mark.parametrize("kind", [Normalised, Brightened])
def test_a_model_that_changes_its_input_answers_as_in_predict(kind, scene_image):
    model = YOLO(WEIGHTS)
    model.model.__class__ = kind
    ours = detcam.load(model)
    settings = detcam.DecodeSettings()
    batch, letterboxes = ours.prepare([scene_image])
    (found,) = ours.decode(ours.forward(batch), letterboxes, settings)
    theirs = model.predict(scene_image[..., ::-1], imgsz=ours.imgsz, verbose=False)[0].boxes
    assert len(found) == len(theirs) > 0
    paired(found, theirs.cls, theirs.conf, theirs.xyxy, within=1e-3)


def test_a_model_that_changes_its_answer_is_refused_by_name():
    model = build("yolov8n")
    model.model.__class__ = Shifted
    with pytest.raises(WeightsError, match=r"test_own_forward\.Shifted"):
        detcam.load(model)


@pytest.mark.parametrize("at", ["", "model.22"])
def test_a_forward_pass_that_was_replaced_is_not_passed_over(at):
    model = build("yolov8n")
    module = model.model.get_submodule(at)
    plain = module.forward

    def halved(*arguments, **keywords):
        y, raw = plain(*arguments, **keywords)
        return y / 2, raw

    module.forward = halved
    with pytest.raises(WeightsError, match=f"the replaced forward of {at or 'the model'}"):
        detcam.load(model)


def test_a_layer_whose_forward_pass_was_replaced_runs_so():
    model = build("yolov8n")
    plain, layer = detcam.load(model, imgsz=256), model.model.model[4]
    forward = layer.forward
    layer.forward = lambda x: forward(x).relu()
    ours = detcam.load(model, imgsz=256)
    batch, _ = ours.prepare([IMAGE])
    with torch.no_grad():
        y = model.model.eval()(batch)[0][0]
    logits = ours.forward(batch).logits[0]
    assert torch.allclose(logits.sigmoid().T, y[4:], rtol=1e-3, atol=1e-6)
    assert not torch.allclose(plain.forward(batch).logits[0], logits, atol=0.1)


def test_a_model_that_cannot_run_is_refused():
    model = build("yolov8n")
    model.model.model[3] = nn.Conv2d(7, 7, 1)
    model.model.model[3].f, model.model.model[3].i, model.model.model[3].type = -1, 3, "Conv2d"
    with pytest.raises(WeightsError, match=r"the forward pass of this DetectionModel fails: RuntimeError"):
        detcam.load(model)


def test_hooks_that_are_left_out_are_named(caplog):
    model = build("yolov8n")
    model.model.model[2].register_forward_hook(lambda module, arguments, output: output * 0)
    detcam.load(model)
    assert "hooks on model.2 are left out" in caplog.text
    caplog.clear()
    model.model.model[2]._forward_hooks.clear()
    torch.nn.utils.prune.random_unstructured(model.model.model[2].cv1.conv, "weight", 0.5)
    detcam.load(model)
    assert caplog.text == ""
