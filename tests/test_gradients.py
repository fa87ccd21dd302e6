"""The gradient is the score's: against finite differences in double precision and against a plain full backward."""

import numpy as np
import pytest
import torch
from ultralytics import YOLO

import detcam
from detcam.adapters.answers import enclosing_boxes
from detcam.adapters.base import RawOutput
from detcam.adapters.heads import HeadOutput
from detcam.demo import WEIGHTS
from detcam.explainer import Explainer
from detcam.io.images import read_image
from detcam.targets import find_target
from detcam.tensors.fusion import fuse_maps
from detcam.types import Detection
from support.data import real
from support.models import gradients_at_layers


def gradients_of(explainer, raw, detection):
    return gradients_at_layers(explainer, raw, detection)


@pytest.mark.parametrize("target", ["class", "probability", "left", "bottom", "box", "contrast:gem"])
@pytest.mark.parametrize("layer", ["model.4", "model.9", "model.15", "model.18"])
def test_gradients_are_finite_differences(scene_image, layer, target):
    adapter = detcam.load(WEIGHTS)
    adapter.model.double()
    adapter.dtype = torch.float64
    explainer = Explainer(adapter, layers=layer, target=target, method="layercam")
    batch, _ = adapter.prepare([scene_image])
    raw = adapter.forward(batch, [layer])
    anchor = 32 * 32 + 16 * 9 + 7  # one of stride 16, so that every layer but the coarsest neck output has a part in it
    detection = Detection([0, 0, 1, 1], 3, "kite", 0.5, anchor, int(raw.strides[anchor]))
    assert detection.stride == 16
    gradient = gradients_of(explainer, raw, detection)[layer][0]
    score = find_target(target, adapter.names)
    generator = np.random.default_rng(0)
    strongest = gradient.abs().flatten().argsort(descending=True)[:6].tolist()
    cells = [*strongest, *generator.integers(0, gradient.numel(), 4).tolist()]
    step = 1e-4
    for flat in cells:
        cell = np.unravel_index(flat, gradient.shape)
        values = []
        for sign in (1, -1):

            def nudge(module, arguments, output, sign=sign, cell=cell):
                output = output.clone()
                output[(0, *cell)] += sign * step
                return output

            handle = adapter._modules[layer].register_forward_hook(nudge)
            values.append(score(adapter.forward(batch), 0, detection).item())
            handle.remove()
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(gradient[cell]), abs=1e-6)
    assert gradient.any()


def plain_gradients(model, batch, layers, anchor, class_id):
    """A forward and backward of the vendor's own model, parameters and all; leaves gradients on it, as people do."""
    model = model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    kept = {}
    modules = dict(model.named_modules())

    def keep(name):
        def hook(module, arguments, output):
            output.retain_grad()
            kept[name] = output

        return hook

    handles = [modules[name].register_forward_hook(keep(name)) for name in layers]
    _, raw = model(batch.clone().requires_grad_())
    raw = raw.get("one2many", raw)
    raw["scores"][0, class_id, anchor].backward()
    for handle in handles:
        handle.remove()
    return {name: output.grad[0] for name, output in kept.items()}


def check_against_plain_backward(weights, image):
    explainer = Explainer(detcam.load(weights), method="layercam")
    adapter = explainer.model
    batch, letterboxes = adapter.prepare([read_image(image)])
    raw = adapter.forward(batch, explainer.layers)
    detections = adapter.decode(raw, letterboxes, explainer.decode_settings)[0]
    assert detections
    model = YOLO(weights).model
    for turn in range(min(3, len(detections))):
        detection = detections[turn]
        ours = gradients_at_layers(explainer, raw, detection)
        plain = plain_gradients(model, batch, explainer.layers, detection.anchor, detection.class_id)
        for name in explainer.layers:
            difference = (ours[name][0] - plain[name]).abs().max()
            assert difference <= 1e-5 * plain[name].abs().max(), name


def test_gradients_are_those_of_a_plain_backward(scene_image):
    check_against_plain_backward(WEIGHTS, scene_image)


@pytest.mark.parametrize("weights", ["yolov8n.pt", "yolo26n.pt"])
def test_gradients_on_real_weights_are_those_of_a_plain_backward(weights):
    image = real("coco/images/000000005001.jpg")
    check_against_plain_backward(real(f"weights/{weights}"), image)


def test_no_gradient_of_the_model_is_ever_made(scene_image, demo_detector):
    Explainer(demo_detector, method="layercam")(scene_image)
    assert all(p.grad is None and not p.requires_grad for p in demo_detector.model.parameters())


def test_nothing_before_the_first_captured_layer_has_a_graph(scene_image, demo_detector):
    batch, _ = demo_detector.prepare([scene_image])
    raw = demo_detector.forward(batch, ["model.15", "model.18"])
    assert raw.activations["model.15"].is_leaf
    assert not raw.activations["model.18"].is_leaf


def test_the_iou_target_falls_as_a_side_moves_inwards(scene_image, demo_detector):
    """Its gradient is that of (area inside the kept box) / (kept area), the one-sided derivative, and not zero."""
    explainer = Explainer(demo_detector, layers="neck", target="iou", method="layercam")
    batch, letterboxes = demo_detector.prepare([scene_image])
    raw = demo_detector.forward(batch, explainer.layers)
    detection = demo_detector.decode(raw, letterboxes, explainer.decode_settings)[0][0]
    score = find_target("iou", demo_detector.names)(raw, 0, detection)
    assert score.item() == pytest.approx(1)
    by_side = torch.autograd.grad(score, raw.boxes, retain_graph=True)[0][0, detection.anchor]
    width, height = (raw.boxes[0, detection.anchor, 2:] - raw.boxes[0, detection.anchor, :2]).tolist()
    assert by_side.tolist() == pytest.approx([-1 / width, -1 / height, 1 / width, 1 / height], rel=1e-4)


@pytest.mark.parametrize(
    ("target", "value", "direction"),
    [("left", 30, (-1, 0, 0, 0)), ("top", 20, (0, -1, 0, 0)), ("right", 50, (0, 0, 1, 0)), ("bottom", 10, (0, 0, 0, 1)),
     ("box", 110, (-1, -1, 1, 1))],
)  # fmt: skip
def test_side_targets_are_outward_distances_in_pixels(target, value, direction):
    sides = torch.tensor([[[30.0, 20.0, 50.0, 10.0]]], requires_grad=True)
    boxes, _ = enclosing_boxes(HeadOutput(torch.zeros(1, 1, 2), sides, torch.tensor([[100.0, 60.0]]), torch.ones(1)))
    assert boxes[0, 0].tolist() == [70, 40, 150, 70]
    raw = RawOutput(torch.zeros(1, 1, 2), boxes, sides, torch.tensor([8.0]))
    score = find_target(target, {0: "a", 1: "b"})(raw, 0, Detection((0, 0, 1, 1), 0, "a", 0.5, 0, 8))
    assert score.item() == value
    by_box = torch.autograd.grad(boxes[0, 0] @ torch.tensor(direction, dtype=torch.float), sides, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(score, sides)[0], by_box)


def test_probability_and_score_are_what_is_thresholded():
    logits = torch.tensor([[[1.0, -2.0]]], requires_grad=True)
    objectness = torch.tensor([[0.5]], requires_grad=True)
    raw = RawOutput(logits, torch.zeros(1, 1, 4), torch.zeros(1, 1, 4), torch.ones(1), objectness=objectness)
    detection = Detection((0, 0, 1, 1), 1, "b", 0.5, 0, 8)
    p, o = 1 / (1 + np.exp(2.0)), 1 / (1 + np.exp(-0.5))
    score = find_target("probability", {})(raw, 0, detection)
    assert score.item() == pytest.approx(p)
    assert torch.autograd.grad(score, logits)[0][0, 0].tolist() == pytest.approx([0, p * (1 - p)])
    assert find_target("score", {})(raw, 0, detection).item() == pytest.approx(p * o)
    assert find_target("objectness", {})(raw, 0, detection).item() == pytest.approx(0.5)


def test_the_map_of_several_layers_is_the_sum_of_their_maps(scene_image, demo_detector):
    layers = ["model.4", "model.6", "model.9"]
    together = Explainer(demo_detector, layers=layers, detection=0, method="layercam")(scene_image)[0][0]
    alone = [
        Explainer(demo_detector, layers=layer, detection=0, method="layercam")(scene_image)[0][0] for layer in layers
    ]
    expected = fuse_maps([torch.from_numpy(e.heatmap.raw.copy()) for e in alone]).numpy()
    assert np.allclose(together.heatmap.raw, expected, atol=1e-5 * expected.max())
    assert all(e.heatmap.raw.any() for e in alone)


def test_a_forward_pass_can_be_differentiated_wherever_it_is_called_from(scene_image, demo_detector):
    with torch.inference_mode():
        raw = demo_detector.forward(demo_detector.prepare([scene_image])[0], ["model.15"])
    assert raw.logits.requires_grad
