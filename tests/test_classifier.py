"""The classifier adapter against plain torch and the vendors: the same scores, gradients and places."""

import copy
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision import transforms as preprocessing
from ultralytics import YOLO

import detcam
from detcam.adapters.classifier import Classifier
from detcam.adapters.decoding import DecodeSettings
from detcam.errors import UsageError, WeightsError
from detcam.types import Heatmap
from support.comparison import paired
from support.images import photograph
from support.models import snapshot

MAKERS = {
    "resnet18": lambda: models.resnet18(weights=None, num_classes=10),
    "shufflenet": lambda: models.shufflenet_v2_x2_0(weights=None, num_classes=10),
    "mobilenet2": lambda: models.mobilenet_v2(weights=None, num_classes=10),
    "mobilenet3": lambda: models.mobilenet_v3_small(weights=None, num_classes=10),
    "yolov8n-cls": lambda: YOLO("yolov8n-cls.yaml", verbose=False).model,
}
LAST = {
    "resnet18": ("layer4", 512),
    "shufflenet": ("conv5", 2048),
    "mobilenet2": ("features", 1280),
    "mobilenet3": ("features", 576),
    "yolov8n-cls": ("model.9.conv", 1280),
}
IMAGENET = models.ResNet18_Weights.IMAGENET1K_V1.transforms()


@cache
def made(family):
    """A model with random weights and live batch normalisation, whose best class depends on the image."""
    torch.manual_seed(0)
    model = MAKERS[family]()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    batch = torch.stack([transforms_of(family)(Image.fromarray(photograph(240, 300, seed))) for seed in range(4)])
    with torch.no_grad():
        model.train()(batch)
        model.eval()
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        seen = []
        handle = last.register_forward_hook(lambda m, x, y: seen.append(y))
        model(batch)
        handle.remove()
        scale = 2 / (seen[0] - seen[0].mean(0)).std()
        last.weight *= scale
        last.bias.mul_(scale).sub_(seen[0].mean(0) * scale)
    return model


def logits_of(model, batch):
    output = model(batch)
    return output[1] if isinstance(output, tuple) else output


def transforms_of(family):
    """What each vendor does to an image; Ultralytics' is written out here."""
    if family != "yolov8n-cls":
        return IMAGENET
    steps = [preprocessing.Resize(224), preprocessing.CenterCrop(224), preprocessing.ToTensor()]
    return preprocessing.Compose(steps)


@cache
def adapted(family):
    return Classifier(made(family), imgsz=224)


def explain(adapter, images, *args, **choices):
    return detcam.Explainer(adapter, *args, **choices)(images)


@pytest.mark.parametrize("family", MAKERS)
def test_answers_are_the_models_own(family):
    adapter = adapted(family)
    images = [photograph(240, 300, 0), photograph(500, 260, 1), photograph(60, 50, 2)]
    results = explain(adapter, images, "random", batch=3, conf=0, max_det=5)
    best = set()
    for image, result in zip(images, results, strict=True):
        with torch.no_grad():
            scores = logits_of(made(family), transforms_of(family)(Image.fromarray(image))[None])[0].softmax(0)
        expected = scores.topk(5)
        whole = [d.xyxy for d in result.detections]
        paired(result.detections, expected.indices, expected.values, whole, within=1e-5)
        for d in result.detections:
            assert d.xyxy.tolist() == [0, 0, image.shape[1], image.shape[0]]
            assert (d.anchor, d.stride) == (0, 224)
        best.add(result.detections[0].class_id)
    assert len(best) > 1


def test_ultralytics_predicts_the_same():
    model = YOLO("yolov8n-cls.yaml", verbose=False)
    model.model = copy.deepcopy(made("yolov8n-cls"))
    image = photograph(200, 330, 3)
    theirs = model.predict(image[..., ::-1], imgsz=160, verbose=False, device="cpu")[0].probs
    adapter = Classifier(made("yolov8n-cls"), imgsz=160)
    batch, letterboxes = adapter.prepare([image])
    ours = adapter.decode(adapter.forward(batch), letterboxes, DecodeSettings(conf=0, max_det=5))[0]
    assert adapter.imgsz == (160, 160)
    paired(ours, theirs.top5, theirs.top5conf, [d.xyxy for d in ours], within=1e-3)
    assert ours[0].class_name == model.names[ours[0].class_id]


def test_the_best_class_is_always_reported():
    adapter = Classifier(made("resnet18"))
    batch, letterboxes = adapter.prepare([photograph(240, 300, 0)])
    raw = adapter.forward(batch)
    scores = raw.logits[0, 0].softmax(0)
    order = scores.argsort(descending=True).tolist()

    def found(**settings):
        given = DecodeSettings(**{"conf": 0.0} | settings)
        return [d.class_id for d in adapter.decode(raw, letterboxes, given)[0]]

    assert found() == order
    assert found(conf=0.999) == order[:1]
    assert found(conf=float(scores[order[2]])) == order[:2]
    assert found(max_det=3) == order[:3]
    assert found(classes=order[4:6], conf=0.9) == order[4:5]
    assert found(classes=[]) == []


@pytest.mark.parametrize("family", MAKERS)
def test_gradients_are_those_of_a_plain_backward(family):
    adapter = adapted(family)
    image = photograph(240, 300, 0)
    layers = [layer.name for layer in adapter.layers()]
    assert len(layers) >= 4
    raw = adapter.forward(adapter.prepare([image])[0], layers)
    class_id = int(raw.logits[0, 0].argmax())
    ours = torch.autograd.grad(raw.logits[0, 0, class_id], list(raw.activations.values()))
    model = copy.deepcopy(made(family)).requires_grad_(True)
    kept = {}

    def keep(name):
        def hook(module, arguments, output):
            output.retain_grad()
            kept[name] = output
            return output.clone()  # an in-place activation may follow

        return hook

    for name in layers:
        model.get_submodule(name).register_forward_hook(keep(name))
    logits_of(model, transforms_of(family)(Image.fromarray(image))[None])[0, class_id].backward()
    for name, gradient in zip(layers, ours, strict=True):
        assert (gradient - kept[name].grad).abs().max() <= 1e-5 * kept[name].grad.abs().max(), name


@pytest.mark.parametrize("family", MAKERS)
def test_the_last_feature_map_is_found(family):
    adapter = adapted(family)
    name, channels = LAST[family]
    assert adapter.resolve("auto") == (name,)
    listed = {layer.name: layer for layer in adapter.layers()}
    assert listed[name].shape == (channels, 7, 7)
    assert listed[name].stride == (32, 32)
    assert [layer.name for layer in adapter.layers() if layer.groups] == [name]


def test_a_layer_at_each_resolution_is_listed():
    listed = [layer.name for layer in Classifier(made("resnet18")).layers()]
    assert listed == ["relu", "layer1", "layer2", "layer3", "layer4"]


def test_gradcam_is_four_lines_of_torch():
    model, image = copy.deepcopy(made("resnet18")), photograph(240, 300, 4)
    explanation = explain(Classifier(model), image, "gradcam")[0][0]
    kept = []
    model.layer4.register_forward_hook(lambda m, x, y: kept.append(y))
    logit = model(IMAGENET(Image.fromarray(image))[None])[0].max()
    gradient = torch.autograd.grad(logit, kept[0])[0]
    plain = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).relu()[0].detach().numpy()
    assert plain.max() > 0
    assert np.abs(explanation.heatmap.raw - plain).max() <= 1e-5 * plain.max()


def test_a_heat_cell_lands_on_its_pixels():
    """By hand: 200 x 400 becomes 256 x 512, whose middle 224 x 224 begins at (16, 144); a cell of 7 x 7 is 32 pixels.

    Cell (2, 5) covers 64..96, 160..192 of the crop, so 80..112, 304..336 of 256 x 512: 62.5..87.5, 237.5..262.5.
    """
    letterbox = Classifier(made("resnet18")).letterbox(photograph(200, 400))
    assert (letterbox.resized, letterbox.offset, letterbox.network) == ((256, 512), (-16, -144), (224, 224))
    raw = np.zeros((7, 7), np.float32)
    raw[2, 5] = 1
    array = Heatmap(raw, letterbox).array
    hot = np.argwhere(array > 0.56)  # within 11 pixels of the cell's middle, (75, 250)
    assert hot.min(0).tolist() == [64, 239]
    assert hot.max(0).tolist() == [85, 260]
    everywhere = Heatmap(np.ones((7, 7), np.float32), letterbox).array
    seen = np.argwhere(everywhere > 0)  # 16 / 1.28 = 12.5 and 144 / 1.28 = 112.5 pixels are cropped away
    assert (seen.min(0).tolist(), seen.max(0).tolist()) == ([12, 112], [187, 287])


@pytest.mark.parametrize("shape", [(240, 300), (301, 240), (40, 40), (33, 500), (1080, 1920)])
@pytest.mark.parametrize(
    "transforms",
    [
        IMAGENET,
        preprocessing.Compose([preprocessing.Resize((90, 70)), preprocessing.ToTensor()]),
        preprocessing.Compose([preprocessing.Resize(60), preprocessing.CenterCrop((97, 70)), preprocessing.ToTensor()]),
    ],
)
def test_the_letterbox_is_where_the_transforms_put_pixels(shape, transforms):
    """A ramp along each axis: after the transforms every pixel tells where it came from."""
    letterbox = Classifier(made("resnet18"), transforms=transforms).letterbox(np.zeros((*shape, 3), np.uint8))
    ramps = np.stack(np.meshgrid(np.linspace(1, 255, shape[1]), np.linspace(1, 255, shape[0])), -1)
    image = np.concatenate([ramps, np.full((*shape, 1), 255)], -1).round().astype(np.uint8)
    seen = transforms(Image.fromarray(image)).numpy()
    assert seen.shape[1:] == letterbox.network
    if transforms is IMAGENET:
        seen = seen * np.reshape(IMAGENET.std, (3, 1, 1)) + np.reshape(IMAGENET.mean, (3, 1, 1))
    height, width = letterbox.network
    centres = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
    origin = letterbox.to_original(centres)
    inside = ((origin > 0) & (origin < [shape[1], shape[0]])).all(-1)
    assert (seen[2][inside] > 0.99).all()
    assert not (seen[2][~inside] > 0.01).any()
    expected = 1 + 254 * ((origin - 0.5) / (np.array([shape[1], shape[0]]) - 1)).clip(0, 1)
    error = np.abs(seen[:2].transpose(1, 2, 0) * 255 - expected)[inside]
    step = 255 / np.array(letterbox.resized[::-1])  # the ramp's rise from one network pixel to the next
    assert (error <= 1 + step).all()


@pytest.mark.parametrize("family", ["resnet18", "yolov8n-cls"])
def test_the_model_is_left_as_it_was(family):
    model = copy.deepcopy(made(family)).train()
    next(model.modules()).register_forward_hook(lambda *_: pytest.fail("the caller's hook ran"))
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    before = snapshot(model)
    assert explain(Classifier(model), photograph(), "layercam")[0][0].status == "ok"
    assert snapshot(model) == before


@pytest.mark.parametrize("family", MAKERS)
def test_maps_are_finite_and_ok(family):
    for layers in ("auto", adapted(family).layers()[1].name):
        for target in ("class", "score"):
            result = explain(adapted(family), photograph(240, 300), "layercam", layers=layers, target=target)[0]
            assert result[0].status == "ok"
            assert result[0].heatmap.array.max() == 1


@pytest.mark.parametrize("target", ["left", "bottom", "box", "iou", "combined"])
def test_targets_about_the_box_of_the_whole_image_are_refused(target):
    with pytest.raises(UsageError, match="finds no boxes; use target 'class'"):
        detcam.Explainer(Classifier(made("resnet18")), method="layercam", target=target)


def test_a_layer_the_classifier_does_not_use():
    model = copy.deepcopy(made("resnet18"))
    model.spare = nn.Conv2d(3, 3, 1)
    adapter = Classifier(model)
    with pytest.raises(UsageError, match="'spare' takes no part"):
        adapter.forward(adapter.prepare([photograph()])[0], ["spare"])


def test_settings():
    model = made("resnet18")
    adapter = Classifier(model, imgsz=112, names=[f"class {i}" for i in range(10)])
    assert adapter.letterbox(photograph(200, 400)).resized == (128, 256)
    assert adapter.imgsz == (112, 112)
    assert adapter.names[9] == "class 9"
    assert adapter.adjusted(imgsz=112) is adapter
    assert adapter.adjusted(imgsz=96).imgsz == (96, 96)
    assert adapter.adjusted(imgsz=96).names == adapter.names
    assert adapter.layers()[-1].shape == (512, 4, 4)


def test_what_cannot_be_is_refused():
    model = made("resnet18")
    with pytest.raises(
        WeightsError, match=r"Linear is no image classifier: it cannot take one image of shape \(1, 3, 224"
    ):
        Classifier(nn.Linear(2, 2))
    with pytest.raises(WeightsError, match=r"Conv2d gives a tensor of shape \(1, 3, 224, 224\)"):
        Classifier(nn.Conv2d(3, 3, 1))
    with pytest.raises(WeightsError, match="no layer of this classifier gives"):
        Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), imgsz=32).layers()
    with pytest.raises(UsageError, match="this model has 10 classes"):
        Classifier(model, names=["one"])
    with pytest.raises(UsageError, match="one side of a square"):
        Classifier(model, imgsz=(96, 128))
    with pytest.raises(UsageError, match=r"cannot follow where the transform RandomCrop.* puts pixels"):
        Classifier(model, transforms=preprocessing.Compose([preprocessing.RandomCrop(10)]))
    with pytest.raises(UsageError, match="transforms give"):
        Classifier(model, transforms=IMAGENET, imgsz=96)
    with pytest.raises(UsageError, match="half precision needs a CUDA device"):
        Classifier(model, half=True)


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Classifier(made("mobilenet2")).layers()


def small_network():
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 2), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 3),
    )  # fmt: skip


@pytest.mark.parametrize("how", ["prune", "weight_norm"])
@pytest.mark.filterwarnings("ignore::FutureWarning")  # weight_norm is deprecated, and models that have it are not
def test_weights_that_are_computed_before_each_pass_are_those_of_the_model(how):
    from torch.nn.utils import prune, weight_norm

    def changed():
        network = small_network()
        if how == "prune":
            prune.l1_unstructured(network[0], "weight", amount=0.5)
        else:
            weight_norm(network[0])
        return network

    trained = {name: value if "mask" in name else value * 3 for name, value in changed().state_dict().items()}
    network = changed()
    network.load_state_dict(trained)
    model = detcam.load(network.eval())
    batch, _ = model.prepare([photograph(80, 90)])
    assert torch.allclose(model.forward(batch).logits[0, 0], network(batch)[0].detach())


def test_a_module_that_keeps_its_last_outputs_in_a_list_can_be_explained():
    class Keeps(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.seen = small_network(), []

        def forward(self, batch):
            self.seen = [self.network(batch)]
            return self.seen[0]

    network = Keeps().eval()
    network(torch.zeros(1, 3, 64, 64))
    assert network.seen[0].grad_fn is not None
    assert detcam.explain(network, photograph(80, 90), method="layercam")[0].status == "ok"
    assert network.seen[0].grad_fn is not None
