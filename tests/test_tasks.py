"""Ultralytics beyond plain boxes: masks, poses, rotated boxes, RT-DETR, YOLO-World and YOLOE, with random weights."""

import numpy as np
import pytest
import torch
from ultralytics import RTDETR, YOLO, YOLOE, YOLOWorld
from ultralytics.nn.modules.block import BNContrastiveHead, ContrastiveHead
from ultralytics.utils import DEFAULT_CFG_DICT

import detcam
from detcam.adapters import heads
from detcam.adapters.answers import RotatedOutput, corners_of
from detcam.errors import UsageError
from detcam.targets import mask_area
from support.comparison import paired
from support.images import photograph
from support.models import calibrate, gradients_at_layers, snapshot, spread_logits

IMAGE = photograph(150, 260, seed=1)
SETTINGS = {"conf": 1e-3, "max_det": 6}
TASKS = [
    "yolov8n-seg", "yolo11n-seg", "yolo26n-seg", "yolov9c-seg", "yolov8n-pose", "yolo11n-pose", "yolo26n-pose",
    "yolov8n-pose-p6", "yolov8n-obb", "yolo11n-obb", "yolo26n-obb", "yolov8s-world", "yolov8s-worldv2", "yoloe-11s",
    "yoloe-v8s-seg", "yoloe-26n", "yoloe-26n-seg", "rtdetr-l", "rtdetr-resnet50",
]  # fmt: skip
HEAVY = {
    "yolov9c-seg",
    "rtdetr-resnet50",
    "yolov8n-pose-p6",
    "yolo11n-seg",
    "yolo11n-obb",
    "yolov8s-world",
    "yoloe-11s",
}


NAMES = ["pig", "cow", "hen"]


def build(name, names=NAMES):
    """A model of the family with random weights, class prompts, and scores that differ."""
    torch.manual_seed(0)
    if name.startswith("rtdetr"):
        model = RTDETR(f"{name}.yaml")
        for score in model.model.model[-1].dec_score_head:
            torch.nn.init.normal_(score.weight, std=0.05)
            torch.nn.init.constant_(score.bias, -2.0)
        for box in [*model.model.model[-1].dec_bbox_head, model.model.model[-1].enc_bbox_head]:
            torch.nn.init.normal_(box.layers[-1].weight, std=0.02)
        return model
    kind = YOLOWorld if "world" in name else YOLOE if "yoloe" in name else YOLO
    model = kind(f"{name}.yaml", verbose=False)
    if kind is YOLO:
        spread_logits(model.model, IMAGE)
        return model
    embeddings = torch.nn.functional.normalize(torch.randn(1, len(names), 512), dim=-1)
    if kind is YOLOE:
        model.set_classes(names, embeddings)
    else:
        model.model.txt_feats, model.model.names = embeddings, names
        model.model.model[-1].nc = len(names)
    for module in model.model.modules():
        if isinstance(module, ContrastiveHead | BNContrastiveHead):
            module.bias.data.fill_(-3.0)
            module.logit_scale.data.fill_(1.0 if isinstance(module, ContrastiveHead) else -1.0)
    calibrate(model.model)
    return model


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.slow) if n in HEAVY else n for n in TASKS])
def name(request):
    return request.param


def same_shapes(ours, theirs):
    """Polygons, masks and keypoints against the vendor's, in original pixels."""
    if theirs.obb is not None:
        for detection, corners in zip(ours, theirs.obb.xyxyxyxy.numpy(), strict=True):
            distances = np.linalg.norm(detection.polygons[0][:, None] - corners[None], axis=-1)
            assert distances.min(1).max() <= 1
        return
    assert np.abs(np.array([d.xyxy for d in ours]) - theirs.boxes.xyxy.numpy()).max() <= 1
    if theirs.keypoints is not None:
        assert np.abs(np.array([d.keypoints for d in ours]) - theirs.keypoints.data.numpy()).max() <= 1
    if theirs.masks is not None:
        for detection, largest in zip(ours, theirs.masks.xy, strict=True):
            points = np.concatenate(detection.polygons)
            assert np.abs(points.min(0) - largest.min(0)).max() <= 2
            assert np.abs(points.max(0) - largest.max(0)).max() <= 2


def test_detections_are_those_of_predict_and_each_has_a_map(name):
    model = build(name)
    before = snapshot(model.model)
    result = detcam.explain(model, IMAGE, imgsz=256, **SETTINGS, method="layercam")
    assert snapshot(model.model) == before
    theirs = model.predict(IMAGE[..., ::-1], imgsz=256, verbose=False, **SETTINGS)[0]
    boxes = theirs.obb if theirs.obb is not None else theirs.boxes
    assert len(result) == len(boxes) > 0
    pairs = paired(result.detections, boxes.cls, boxes.conf, boxes.xyxy, within=1e-3)
    same_shapes([result.detections[n] for n, _ in pairs], theirs[[m for _, m in pairs]])
    if "world" in name or "yoloe" in name:
        assert {e.detection.class_name for e in result} <= set(NAMES)
    for e in result:
        assert e.status == "ok", e.reason
        assert np.isfinite(e.heatmap.array).all()
        assert e.heatmap.array.shape == IMAGE.shape[:2]
    assert result.plot().ndim == 3


def keep(kept, layer, module, arguments, output):
    output.retain_grad()
    kept[layer] = output


def vendor_logits(head, output, branch):
    """(anchor, class) raw logits in what the vendor's own head gave."""
    raw = output[1]
    if heads.is_rtdetr(head):
        return raw[1][0, 0]
    return raw.get(branch, raw)["scores"][0].T


@pytest.mark.parametrize("family", ["yolov10n", "yolo26n", "yolo26n-seg"])
def test_gradients_of_the_nms_free_branch_are_those_of_a_plain_backward(family):
    """Releases up to about 8.4.110 feed that branch detached features: no oracle there, and ours flows all the same."""
    if "end2end" in DEFAULT_CFG_DICT:
        (e,) = detcam.explain(build(family), IMAGE, imgsz=256, nms=False, conf=1e-3, max_det=1, method="layercam")
        assert e.status == "ok"
        assert e.layers == detcam.load(build(family)).resolve("backbone")
    else:
        check_against_plain_backward(family, nms=False)


def test_gradients_are_those_of_a_plain_backward(name):
    check_against_plain_backward(name, nms=True)


def check_against_plain_backward(name, nms):
    model = build(name)
    explainer = detcam.Explainer(model, imgsz=256, nms=None if nms else False, **SETTINGS, method="layercam")
    adapter = explainer.model
    batch, letterboxes = adapter.prepare([IMAGE])
    raw = adapter.forward(batch, explainer.layers)
    detection = adapter.decode(raw, letterboxes, explainer.decode_settings)[0][0]
    ours = gradients_at_layers(explainer, raw, detection)
    network = model.model.eval()
    kept = {}
    for layer in explainer.layers:
        network.get_submodule(layer).register_forward_hook(
            lambda m, _, y, layer=layer: (y.retain_grad(), kept.update({layer: y}))[1]
        )
    output = network(batch.clone().requires_grad_())
    logits = vendor_logits(network.model[-1], output, "one2many" if nms else "one2one")
    logits[detection.anchor, detection.class_id].backward()
    for layer in explainer.layers:
        plain = kept[layer].grad[0]
        assert (ours[layer][0] - plain).abs().max() <= 1e-5 * plain.abs().max(), layer


@pytest.mark.parametrize(
    ("family", "targets"),
    [("yolov8n-seg", ["mask", "box"]), ("yolo26n-seg", ["mask"]), ("yolov8n-obb", ["box", "left", "iou"]),
     ("yolov8n-pose", ["keypoint:0", "keypoint:5:x", "keypoint:5:y"]), ("rtdetr-l", ["left", "iou", "probability"])],
)  # fmt: skip
def test_targets_of_each_task(family, targets):
    model = build(family)
    detector = detcam.load(model, imgsz=256)
    for target in targets:
        result = detcam.explain(
            detector, IMAGE, target=target, detection=0, method="gradnorm", layers="neck", **SETTINGS
        )
        assert result[0].status == "ok", (target, result[0].reason)


def test_the_mask_target_is_the_mean_logit_of_its_own_mask():
    model = build("yolov8n-seg")
    detector = detcam.load(model, imgsz=256)
    explainer = detcam.Explainer(detector, target="mask", **SETTINGS, method="layercam")
    batch, letterboxes = detector.prepare([IMAGE])
    raw = detector.forward(batch, ["model.15"])
    detection = detector.decode(raw, letterboxes, explainer.decode_settings)[0][0]
    coefficients, prototypes = raw.extras["mask"][0, detection.anchor], raw.extras["prototypes"][0]
    logits = sum(c * p for c, p in zip(coefficients, prototypes, strict=True)).detach().numpy()
    x1, y1, x2, y2 = (raw.boxes[0, detection.anchor] / 4).tolist()  # prototypes are at a quarter of the input
    own = [
        logits[y, x]
        for y in range(logits.shape[0])
        for x in range(logits.shape[1])
        if x1 <= x + 0.5 <= x2 and y1 <= y + 0.5 <= y2 and logits[y, x] > 0
    ]
    assert mask_area(raw, 0, detection).item() == pytest.approx(np.mean(own), rel=1e-4)


@pytest.mark.parametrize(
    ("family", "target", "message"),
    [("yolov8n-pose", "keypoint:99", "no keypoint 99: this model's run from 0 to 16"),
     ("yolov8n-pose", "keypoint:1:z", "a keypoint is named keypoint:5"),
     ("yolov8n-pose", "mask", "this model gives no masks"),
     ("yolov8n-seg", "keypoint:1", "this model gives no keypoints")],
)  # fmt: skip
def test_targets_a_task_does_not_have(family, target, message):
    with pytest.raises(UsageError, match=message):
        detcam.explain(build(family), IMAGE, target=target, imgsz=128, **SETTINGS, method="layercam")


def test_a_prompt_free_yoloe():
    """Its proposal filter decides which anchors are looked at; those it rejects are never reported."""
    whole, model = build("yoloe-11s", NAMES), build("yoloe-11s", ["object"])
    for network in (whole.model, model.model):
        network.model[-1].fuse(network.pe)
    model.model.args = {**model.model.args, "imgsz": 256}
    for convs in model.model.model[-1].cv3:
        convs[-1].bias.data.fill_(-7.0)  # about the filter's threshold of 0.001
    model.model.set_vocab(torch.nn.ModuleList(convs[-1] for convs in whole.model.model[-1].cv3), names=NAMES)
    result = detcam.explain(model, IMAGE, imgsz=256, **SETTINGS, method="layercam")
    theirs = model.predict(IMAGE[..., ::-1], imgsz=256, verbose=False, **SETTINGS)[0].boxes
    assert len(result) == len(theirs) > 0
    paired(result.detections, theirs.cls, theirs.conf, theirs.xyxy, within=1e-3)
    assert {(d.class_id, d.class_name) for d in result.detections} <= set(enumerate(NAMES))
    assert all(e.status == "ok" for e in result)
    detector = detcam.load(model, imgsz=256)
    rejected = detector.forward(detector.prepare([IMAGE])[0]).logits.isinf().all(-1)
    assert 0 < rejected.sum() < rejected.numel()


def test_rotated_boxes_overlap_as_polygons():
    angle = np.pi / 4
    reach = 2**0.5
    boxes = torch.tensor([[[10 - reach, 10 - reach, 10 + reach, 10 + reach]]])
    extras = {"rotated": torch.tensor([[[10.0, 10, 2, 2, angle]]])}
    square = RotatedOutput(torch.zeros(1, 1, 1), boxes, torch.zeros(1, 1, 4), torch.ones(1), extras=extras)
    # a square of side 2 turned by 45 degrees in an upright one of side 2: they share a regular octagon
    octagon = 8 * (2**0.5 - 1)
    assert square.overlap(0, np.array([9.0, 9, 11, 11]))[0] == pytest.approx(octagon / (8 - octagon), rel=1e-5)
    assert square.overlap(0, np.array([11.2, 11.2, 12, 12]))[0] == 0  # inside what encloses it, outside the square
    assert np.allclose(corners_of(np.array([0, 0, 4, 2, np.pi / 2])), [[-1, 2], [1, 2], [1, -2], [-1, -2]])
