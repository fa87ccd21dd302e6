"""The torchvision adapter against torchvision: the same detections and gradients, and a model left as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection import (
    FasterRCNN,
)
from torchvision.ops import MultiScaleRoIAlign

from detcam.adapters.decoding import DecodeSettings
from detcam.adapters.scoring import tracked_scores, tracked_scores_by_class
from detcam.adapters.torchvision import TorchvisionDetector
from detcam.errors import InputError, UsageError, WeightsError
from detcam.geometry import iou_matrix
from detcam.types import Heatmap
from support.comparison import paired
from support.images import photograph
from support.models import snapshot
from support.torchvision_detectors import FAMILIES, SCALE, SETTINGS, adapted, decoded, explain, made, tensor, vendor


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("shape", "settings"),
    [((200, 220), {}), ((97, 301), {"conf": 0.3, "iou": 0.3}), ((260, 120), {"conf": 0.4, "iou": 0.7, "max_det": 7})],
)
def test_detections_are_torchvisions(family, shape, settings):
    image = photograph(*shape, seed=7)
    raw, (ours,) = decoded(adapted(family), [image], **settings)
    theirs = vendor(family, image, **settings)
    assert len(ours) == len(theirs["labels"]) > 4
    for n, m in paired(ours, theirs["labels"], theirs["scores"], theirs["boxes"], within=1e-5):
        assert np.abs(ours[n].xyxy - theirs["boxes"][m]).max() <= 1e-2
    for d in ours:
        assert raw.probability(0, d.anchor, d.class_id).item() == pytest.approx(d.confidence, abs=1e-6)
        assert raw.strides[d.anchor] == d.stride


@pytest.mark.parametrize("family", ["faster", "retina", "ssdlite"])
def test_only_the_classes_asked_for_come_back(family):
    image = photograph(200, 220, seed=7)
    adapter = adapted(family)
    batch, letterboxes = adapter.prepare([image])
    raw = adapter.forward(batch)  # one pass for both: scores that nearly tie may change places from one to the next
    every, some = (
        adapter.decode(raw, letterboxes, DecodeSettings(0.8, 0.5, 1000, classes))[0] for classes in (None, [2, 3])
    )
    kept = {(d.anchor, d.class_id) for d in every if d.class_id in (2, 3)}
    # No order: suppression leaves boxes of one score in any. No more than inclusion: the cap counts what was asked for.
    assert kept <= {(d.anchor, d.class_id) for d in some}
    assert {d.class_id for d in some} == {2, 3} < {d.class_id for d in every}


def plain_gradients(family, image, layers, anchor, class_id):
    """A forward and backward of torchvision's own model, parameters and all."""
    model = copy.deepcopy(made(family)).requires_grad_(True)
    kept, logits = {}, []

    def keep(name):
        def hook(module, arguments, output):
            output.retain_grad()
            kept[name] = output

        return hook

    modules = dict(model.named_modules())
    for name in layers:
        modules[name].register_forward_hook(keep(name))
    head = model.roi_heads.box_predictor if hasattr(model, "roi_heads") else model.head
    head.register_forward_hook(
        lambda m, x, y: logits.append(y["cls_logits"][0] if isinstance(y, dict) else y[0]), prepend=True
    )
    model([tensor(image)])
    logits[0][anchor, class_id].backward()
    return {name: 0 * output[0] if output.grad is None else output.grad[0] for name, output in kept.items()}


@pytest.mark.parametrize("family", ["faster", "retina", "fcos", "ssd", "ssdlite"])
def test_gradients_are_those_of_a_plain_backward(family):
    image = photograph(200, 220, seed=7)
    adapter = adapted(family)
    layers = adapter.resolve("backbone,neck")
    batch, letterboxes = adapter.prepare([image])
    raw = adapter.forward(batch, layers)
    found = adapter.decode(raw, letterboxes, DecodeSettings(**SETTINGS))[0]
    for detection in found[:: max(len(found) // 2, 1)][:2]:
        logit = raw.logits[0, detection.anchor, detection.class_id]
        ours = torch.autograd.grad(logit, list(raw.activations.values()), retain_graph=True, allow_unused=True)
        plain = plain_gradients(family, image, layers, detection.anchor, detection.class_id)
        assert any(gradient is not None and gradient.any() for gradient in ours)
        for name, gradient in zip(raw.activations, ours, strict=True):
            mine = torch.zeros_like(plain[name]) if gradient is None else gradient[0]
            assert (mine - plain[name]).abs().max() <= 1e-5 * plain[name].abs().max(), name


def test_nothing_flows_through_a_proposals_coordinates():
    adapter = adapted("faster")
    raw = adapter.forward(adapter.prepare([photograph(200, 220)])[0], ["backbone.fpn.layer_blocks.0.0"])
    centres = raw.boxes[0, :, :2] + raw.sides[0, :, :2]
    proposal = centres.sum()
    assert raw.boxes.requires_grad
    assert not torch.autograd.grad(proposal, list(raw.activations.values()))[0].abs().max() > 1e-3


@pytest.mark.parametrize("family", ["faster", "mask", "retina", "fcos", "ssdlite"])
@pytest.mark.parametrize("target", ["class", "score", "box"])
def test_maps_are_finite_and_ok(family, target):
    result = explain(
        adapted(family), photograph(200, 220, seed=7), "layercam", target=target, **SETTINGS | {"max_det": 5}
    )[0]
    assert len(result) > 4
    assert all(e.status == "ok" and e.heatmap.raw.any() for e in result)


def test_a_batch_changes_no_map():
    """R-CNN images of one padded shape but different sizes: each with proposals of its own."""
    adapter = adapted("faster")
    images = [photograph(200, 220, 7), photograph(200, 230, 8)]
    assert len({adapter.letterbox(image).network for image in images}) == 1
    assert len({adapter.letterbox(image).resized for image in images}) == 2
    together = explain(adapter, images, "layercam", batch=2, **SETTINGS | {"max_det": 6})
    for image, both in zip(images, together, strict=True):
        alone = explain(adapter, image, "layercam", **SETTINGS | {"max_det": 6})[0]
        parts = zip(*((d.class_id, d.confidence, d.xyxy) for d in both.detections), strict=True)
        for n, m in paired(alone.detections, *parts, within=1e-5):
            a, b = alone[n], both[m]
            assert np.allclose(a.detection.xyxy, b.detection.xyxy, atol=1e-2)
            assert np.allclose(a.heatmap.raw, b.heatmap.raw, rtol=1e-3, atol=1e-4 * a.heatmap.peak)


@pytest.mark.parametrize("family", ["faster", "retina", "ssdlite"])
def test_the_model_is_left_as_it_was(family):
    model = copy.deepcopy(made(family)).train()
    model.backbone.eval()
    fired = []
    model.backbone.register_forward_hook(lambda *_: fired.append(1))
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    before = snapshot(model)
    pool = getattr(getattr(model, "roi_heads", None), "box_roi_pool", None)
    scales = getattr(pool, "scales", None)
    explain(TorchvisionDetector(model, imgsz=(128, 160)), photograph(), "layercam", conf=0.9, max_det=2)
    assert snapshot(model) == before
    assert not fired
    assert getattr(pool, "scales", None) is scales
    assert model.transform.min_size == made(family).transform.min_size


@pytest.mark.parametrize("family", ["faster", "ssdlite"])
@pytest.mark.parametrize("shape", [(200, 220), (97, 301), (31, 500), (500, 31), (1, 1), (160, 160), (1080, 1920)])
def test_letterbox_is_the_models_own_transform(family, shape):
    adapter = adapted(family)
    image = photograph(*shape)
    theirs = made(family).transform.eval()([tensor(image)])[0]
    batch, (letterbox,) = adapter.prepare([image])
    assert letterbox.network == tuple(theirs.tensors.shape[2:]) == tuple(batch.shape[2:])
    assert letterbox.resized == tuple(theirs.image_sizes[0])
    assert torch.equal(batch, theirs.tensors)


@pytest.mark.parametrize("family", ["faster", "retina"])
def test_tracked_scores_by_class_take_each_class_its_own_boxes(family):
    adapter = adapted(family)
    raw = adapter.forward(adapter.prepare([photograph(200, 220), photograph(200, 220, seed=1)])[0])
    ids = [1, 2]
    box = torch.stack([raw.box_of(0, 5, class_id) for class_id in ids]).mean(0)
    one_by_one = torch.cat([tracked_scores(raw, box[None], [class_id]) for class_id in ids], 1)
    together = tracked_scores_by_class(raw, box, ids)
    assert together.shape == (2, 2)
    assert (together > 0).all()
    assert torch.equal(together, one_by_one)


def test_a_heat_cell_lands_on_its_pixels():
    """By hand: 100 x 150 scaled by 1.6, then padded; cell (3, 6) of 10 x 16 is pixels 30..40, 60..70."""
    letterbox = adapted("retina").letterbox(photograph(100, 150))
    assert (letterbox.resized, letterbox.network) == ((160, 240), (160, 256))
    raw = np.zeros((10, 16), np.float32)
    raw[3, 6] = 1
    hot = np.argwhere(Heatmap(raw, letterbox).array > 0.6)
    assert hot.min(0).tolist() == [31, 61]
    assert hot.max(0).tolist() == [38, 68]


def test_an_elongated_image_is_refused():
    with pytest.raises(
        InputError, match="3000 x 1 pixels is too elongated for this model: it would be scaled to 256 x 0"
    ):
        adapted("retina").letterbox(np.zeros((1, 3000, 3), np.uint8))


def test_layer_groups():
    faster = adapted("faster")
    assert faster.resolve("auto") == tuple(f"backbone.body.layer{i}" for i in (1, 2, 3, 4))
    assert sorted(faster.resolve("neck")) == [f"backbone.fpn.layer_blocks.{i}" for i in range(4)]
    layer = next(layer for layer in faster.layers() if layer.name == "backbone.body.layer3")
    assert (layer.type, layer.stride, layer.shape, layer.groups) == (
        "Sequential",
        (16, 16),
        (256, 10, 10),
        ("backbone",),
    )
    retina = adapted("retina")
    assert retina.resolve("backbone") == tuple(f"backbone.body.layer{i}" for i in (2, 3, 4))
    assert len(retina.resolve("neck")) == 5
    assert "backbone.fpn.extra_blocks.p7" in retina.resolve("neck")
    assert adapted("ssd").resolve("auto") == (
        "backbone.features",
        "backbone.extra.0",
        "backbone.extra.1",
    )
    assert adapted("ssdlite").resolve("auto") == ("backbone.features.0", "backbone.features.1")
    with pytest.raises(UsageError, match=r"did you mean 'backbone.body.layer4'"):
        faster.resolve("backbone.body.layer5")


def test_a_module_the_levels_share_is_refused():
    adapter = adapted("retina")
    batch, _ = adapter.prepare([photograph()])
    with pytest.raises(UsageError, match="runs more than once"):
        adapter.forward(batch, ["head.classification_head.cls_logits"])


def test_a_proposals_stride_is_that_of_its_level():
    """Pooled from level floor(4 + log2(sqrt(area) / 224)), within 2 .. 5, whose stride is 2 to its power."""
    adapter = TorchvisionDetector(made("faster"), imgsz=320)
    adapter.model.rpn._post_nms_top_n["testing"] = 1000
    proposals = []
    pool = adapter.model.roi_heads.box_roi_pool
    handle = pool.register_forward_pre_hook(lambda m, x: proposals.extend(x[1]))
    raw = adapter.forward(adapter.prepare([photograph(200, 220)])[0])
    handle.remove()
    sides = proposals[0][:, 2:] - proposals[0][:, :2]
    level = (4 + (sides.prod(1).sqrt() / 224).log2() + 1e-6).floor().clamp(2, 5)
    assert torch.equal(raw.strides, 2**level)
    centres = (proposals[0][:, :2] + proposals[0][:, 2:]) / 2
    assert torch.allclose(raw.boxes[0, :, :2] + raw.sides[0, :, :2], centres, atol=1e-3)
    assert torch.allclose(raw.boxes[0, :, 2:] - raw.sides[0, :, 2:], centres, atol=1e-3)
    assert len(set(raw.strides.tolist())) > 1


def test_single_stage_strides_are_those_of_the_levels():
    for family, strides in [("retina", [8, 16, 32, 53, 80]), ("ssd", [8, 16, 30, 60, 100, 300])]:
        adapter = adapted(family)
        raw = adapter.forward(adapter.prepare([photograph(160, 160)])[0])
        assert raw.strides.unique(sorted=True).tolist() == strides


def test_the_anchor_of_a_box_is_found_by_the_box_of_the_class_asked_about():
    adapter = adapted("faster")
    raw, _ = decoded(adapter, [photograph(200, 220, 7)])
    proposal = int(raw.logits[0, :, 1:].softmax(-1).topk(2).values[:, 1].argmax())  # undecided between two classes
    second = int(raw.logits[0, proposal, 1:].argsort()[-2]) + 1
    wanted = raw.class_boxes[proposal, second].numpy()
    overlap = iou_matrix(wanted[None], raw.class_boxes[:, second].numpy())[0]
    product = overlap * raw.logits[0].softmax(-1)[:, second].numpy()
    anchor, value = raw.tracked_anchor(0, wanted, second)
    assert (anchor, value) == (product.argmax(), pytest.approx(product.max()))


def test_names():
    model = made("faster")
    assert TorchvisionDetector(model).names[3] == "3"
    given = ["__background__", "kite", "ball", "cup", "hat"]
    adapter = TorchvisionDetector(model, names=given)
    assert adapter.names == dict(enumerate(given))
    assert decoded(adapter, [photograph(200, 220)])[1][0][0].class_name in given[1:]
    with pytest.raises(UsageError, match="this model has 5 classes, the background included"):
        TorchvisionDetector(model, names=given[1:])


def test_a_size_asked_for():
    model = made("retina")
    adapter = TorchvisionDetector(model, imgsz=(128, 192))
    assert adapter.imgsz == (128, 192)
    assert adapter.letterbox(photograph(100, 200)).resized == (96, 192)
    assert adapter.adjusted(imgsz=(128, 192)) is adapter
    assert adapter.adjusted(imgsz=96).imgsz == (96, 96)
    with pytest.raises(UsageError, match="NMS-free branch, which this model does not have"):
        adapter.adjusted(nms=False)
    assert TorchvisionDetector(model).imgsz == (160, 256)
    lite = TorchvisionDetector(made("ssdlite"), imgsz=(256, 320))
    assert lite.letterbox(photograph(50, 70)).resized == (256, 320)


def test_what_cannot_be_is_refused():
    with pytest.raises(WeightsError, match="Linear is no torchvision detector"):
        TorchvisionDetector(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="half precision needs a CUDA device"):
        TorchvisionDetector(made("retina"), half=True)
    with pytest.raises(UsageError, match="imgsz must be one or two whole numbers"):
        TorchvisionDetector(made("retina"), imgsz=0)
    with pytest.raises(ValueError, match="must share a letterboxed shape"):
        adapted("retina").prepare([photograph(100, 100), photograph(100, 200)])


def test_a_backbone_of_one_level():
    """torchvision's own example: a feature extractor without a pyramid, and one level of anchors."""
    from torchvision.models import mobilenet_v2
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    torch.manual_seed(0)
    backbone = mobilenet_v2(weights=None).features
    backbone.out_channels = 1280
    anchors = AnchorGenerator(sizes=((32, 64),), aspect_ratios=((0.5, 1.0),))
    pool = MultiScaleRoIAlign(featmap_names=["0"], output_size=7, sampling_ratio=2)
    model = FasterRCNN(backbone, 3, rpn_anchor_generator=anchors, box_roi_pool=pool, **SCALE).eval()
    adapter = TorchvisionDetector(model)
    assert adapter.resolve("auto") == ("backbone.18",)
    raw, (ours,) = decoded(adapter, [photograph(100, 120)], conf=0.05)
    with torch.no_grad():
        theirs = model([tensor(photograph(100, 120))])[0]
    assert len(ours) == min(len(theirs["labels"]), SETTINGS["max_det"]) > 0
    assert set(raw.strides.tolist()) == {32}
