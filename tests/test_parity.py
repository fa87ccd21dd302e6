"""The same maps as other libraries make, from the same models; where theirs differ, the difference is named and shown.

pytorch-grad-cam 1.5 differs in these, each with a test of its own below:
- it stretches every layer's map to [0, 1] before it averages layers, and then the average once more;
- it adds 1e-6 to Grad-CAM++'s denominators and 1e-7 to XGrad-CAM's;
- the sign of its principal components is whatever the SVD gave;
- its FullGrad stretches every channel alone to [0, 1], leaves out what smooth activations add, and stops at a detector.
"""

import copy
import functools
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from ultralytics import YOLO

import detcam
from detcam.adapters.classifier import Classifier
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.explainer import Explainer
from detcam.methods import METHODS, cam, pixel
from support.images import SCENE_WITH_TWO_ALIKE, photograph
from support.models import calibrate, snapshot

NETWORKS = {
    "resnet18": ("layer2", "layer3", "layer4"),
    "shufflenet_v2_x0_5": ("stage2", "stage3", "conv5"),
    "mobilenet_v2": ("features.6", "features.13", "features.18"),
}
DETECTIONS = {"demo detector 0": ("model.6", "model.15"), "demo detector 1": ("model.6", "model.15")}
THEIRS = {
    "gradcam": "GradCAM", "gradcam++": "GradCAMPlusPlus", "xgradcam": "XGradCAM", "hirescam": "HiResCAM",
    "layercam": "LayerCAM", "eigencam": "EigenCAM", "eigengradcam": "EigenGradCAM",
}  # fmt: skip
EIGEN = [(name, False) for name in THEIRS] + [(name, True) for name in THEIRS if "reduce" in METHODS[name].takes]


def oracle(name):
    """Another library's package, or a skip."""
    what = {"pytorch_grad_cam": "grad-cam ttach scikit-learn", "captum": "captum"}[name.partition(".")[0]]
    return pytest.importorskip(name, reason=f"nothing to compare with: pip install {what}")


class OneAnchor(nn.Module):
    """What pytorch-grad-cam needs: Ultralytics' own model, answering with the class logits of one anchor."""

    def __init__(self, anchor):
        super().__init__()
        self.detector, self.anchor = YOLO(WEIGHTS).model.requires_grad_(True).eval(), anchor

    def forward(self, batch):
        raw = self.detector(batch)[1]
        return raw.get("one2many", raw)["scores"][:, :, self.anchor]


@functools.cache
def case(name, double=False, imgsz=None):
    """A detcam adapter and the vendor's own model it was made from, with one image and its first or second answer."""
    if name in NETWORKS:
        torch.manual_seed(0)
        network = torchvision.models.get_model(name, weights=None)
        calibrate(network)
        adapter, image, number = detcam.load(network, imgsz=128), photograph(150, 180, seed=3), 0
    else:
        adapter = detcam.load(WEIGHTS, imgsz=imgsz)
        image, number = render(make_scene(SCENE_WITH_TWO_ALIKE)), int(name[-1])
    batch, letterboxes = adapter.prepare([image])
    found = adapter.decode(adapter.forward(batch), letterboxes, conf=0.25, iou=0.7, classes=None, max_det=9)[0]
    vendor = network if name in NETWORKS else OneAnchor(found[number].anchor)
    inner = network if name in NETWORKS else vendor.detector
    if double:  # rounding tips over rectifiers' kinks, and shows where components or denominators nearly cancel
        adapter.model.double()
        vendor.double()
        adapter.dtype = torch.float64
        batch = adapter.prepare([image])[0].double()
    layers = {layer: inner.get_submodule(layer) for layer in {**NETWORKS, **DETECTIONS}[name]}
    return SimpleNamespace(
        adapter=adapter, image=image, number=number, batch=batch, vendor=vendor, layers=layers,
        class_id=found[number].class_id, size=tuple(batch.shape[:1:-1]),
    )  # fmt: skip


def own_map(one, method, layers="auto", eigen=False):
    """detcam's raw map, which it makes in single precision and here in that of the case."""
    choices: dict[str, object] = {"smoothing": "eigen"} if eigen else {}
    choices.update(method=method, layers=layers, detection=one.number)
    with pytest.MonkeyPatch.context() as patch:
        if one.batch.dtype == torch.float64:
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        return detcam.explain(one.adapter, one.image, **choices)[0].heatmap.raw


def probe_of(one, seed=0):
    """What an explainer gives its methods to ask, at the precision of the case."""
    explainer, found = Explainer(one.adapter, "saliency", detection=one.number, seed=seed), []
    keep = replace(METHODS["saliency"], function=lambda probe: found.append(probe) or probe.image[:1])
    explainer.image_maps = replace(explainer.image_maps, method=keep)
    explainer(one.image)
    found[0].image = one.batch[0]
    return found[0]


def their_maps(one, method, eigen=False):
    """What pytorch-grad-cam makes: (map, activations, gradients) of each layer before it scales any, and its answer."""
    made = []
    with getattr(oracle("pytorch_grad_cam"), THEIRS[method])(one.vendor, list(one.layers.values())) as maker:
        raw = maker.get_cam_image

        def recording(batch, layer, targets, activations, gradients, smooth):
            made.append((raw(batch, layer, targets, activations, gradients, smooth)[0], activations, gradients))
            return made[-1][0][None]

        maker.get_cam_image = recording
        answer = maker(one.batch, [lambda logits: logits[one.class_id]], eigen_smooth=eigen)[0]
    return made, answer


def off(ours, theirs):
    """The largest difference, as a share of the largest value: there has to be one."""
    ours, theirs = (part.detach().numpy() if torch.is_tensor(part) else part for part in (ours, theirs))
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def plus_plus_weights(activations, gradients, epsilon):
    """Grad-CAM++'s channel weights by its paper, in double precision."""
    a, g = activations.astype(np.float64), gradients.astype(np.float64)
    denominator = 2 * g**2 + a.sum((2, 3), keepdims=True) * g**3 + epsilon
    return (np.divide(g**2, denominator, out=np.zeros_like(g), where=g != 0) * np.maximum(g, 0)).sum((2, 3))


@pytest.fixture
def corrected(monkeypatch):
    """pytorch-grad-cam with two of its differences put right: the sign of its components, and its epsilons."""
    plain = oracle("pytorch_grad_cam.utils.svd_on_activations").get_2d_projection

    def agrees_with_the_sum(channels):
        made = plain(channels)
        return made * np.sign((made * channels.sum(1)).sum((1, 2), keepdims=True))

    def largest_is_positive(channels):
        made = plain(channels)
        return made if made.max() > -made.min() else -made

    for name in ("base_cam", "hirescam", "layer_cam", "eigen_grad_cam"):
        monkeypatch.setattr(f"pytorch_grad_cam.{name}.get_2d_projection", agrees_with_the_sum)
    monkeypatch.setattr("pytorch_grad_cam.eigen_cam.get_2d_projection", largest_is_positive)
    monkeypatch.setattr(
        "pytorch_grad_cam.GradCAMPlusPlus.get_cam_weights",
        lambda self, batch, layer, targets, activations, gradients: plus_plus_weights(activations, gradients, 0),
    )

    def shares(self, batch, layer, targets, activations, gradients):
        total = activations.sum((2, 3))
        return np.divide((gradients * activations).sum((2, 3)), total, out=np.zeros_like(total), where=total != 0)

    monkeypatch.setattr("pytorch_grad_cam.XGradCAM.get_cam_weights", shares)


@pytest.mark.parametrize(("method", "eigen"), EIGEN)
@pytest.mark.parametrize("name", [*NETWORKS, *DETECTIONS])
def test_maps_are_pytorch_grad_cams_before_it_scales_them(name, method, eigen, corrected):
    one = case(name, double=True)
    made, answer = their_maps(one, method, eigen)
    own = [own_map(one, method, layer, eigen) for layer in one.layers]
    theirs = [np.float32(part if METHODS[method].signed else np.maximum(part, 0)) for part, *_ in made]
    most = 2e-6  # all in double, but single precision rounds components, answers and their scaling by 6e-8 each
    for ours, theirs_here in zip(own, theirs, strict=True):
        assert off(ours, theirs_here) < most
    finest = max(part.shape for part in own)[::-1]
    together = own_map(one, method, list(one.layers), eigen)
    assert off(together, sum(cv2.resize(part, finest) for part in theirs)) < most
    # Its answer is our maps, each stretched to [0, 1], then averaged, then stretched again: nothing else differs.
    scale = oracle("pytorch_grad_cam.utils.image").scale_cam_image
    stretched = [scale(np.maximum(part, 0)[None], one.size)[0] for part in own]
    assert off(scale(np.mean(stretched, 0)[None])[0], answer) < most


class Quiet(nn.Module):
    """Looks at an image's left through one layer, and at its right, a million times weaker, through another."""

    def __init__(self):
        super().__init__()
        self.loud, self.quiet = (nn.Conv2d(3, 1, 1, bias=False) for _ in range(2))
        nn.init.ones_(self.loud.weight)
        nn.init.ones_(self.quiet.weight)

    def forward(self, batch):
        left, right = self.loud(batch)[..., :8], self.quiet(batch)[..., 24:]
        return (left.sum((1, 2, 3)) + 1e-6 * right.sum((1, 2, 3)))[:, None]


def test_scaled_layer_by_layer_a_layer_a_million_times_quieter_counts_as_much():
    one = SimpleNamespace(vendor=Quiet(), class_id=0, number=0, image=np.full((32, 32, 3), 255, np.uint8))
    one.layers = {name: one.vendor.get_submodule(name) for name in ("loud", "quiet")}
    one.adapter = Classifier(one.vendor, imgsz=32)
    one.batch, _ = one.adapter.prepare([one.image])
    own = own_map(one, "hirescam", list(one.layers))
    assert own[:, 24:].max() == pytest.approx(1e-6 * own[:, :8].max())
    _, answer = their_maps(one, "hirescam")
    assert answer[:, 24:].max() == pytest.approx(answer[:, :8].max(), rel=0.02)


@pytest.mark.parametrize("name", [*NETWORKS, *DETECTIONS])
def test_grad_cam_plus_plus_differs_by_the_epsilon_alone(name):
    one = case(name, double=True)
    kind = oracle("pytorch_grad_cam").GradCAMPlusPlus
    for part, activations, gradients in their_maps(one, "gradcam++")[0]:
        theirs = kind.get_cam_weights(None, None, None, None, activations, gradients)
        assert off(theirs, plus_plus_weights(activations, gradients, 1e-6)) < 1e-9
        assert off((theirs[:, :, None, None] * activations).sum(1)[0], part) < 1e-9
        a, g = (torch.from_numpy(part) for part in (activations, gradients))
        expected = (plus_plus_weights(activations, gradients, 0)[:, :, None, None] * a.numpy()).sum(1)
        assert off(cam.gradcam_plus_plus(a, g), np.maximum(expected, 0)) < 1e-9


def test_their_epsilon_drowns_the_small_gradients_of_grad_cam_plus_plus():
    activations, gradients = np.zeros((1, 2, 2, 2), np.float32), np.zeros((1, 2, 2, 2), np.float32)
    activations[0, [0, 1], [0, 1], [0, 1]] = 1  # two channels, one lit cell each
    gradients[0, 0], gradients[0, 1] = 1e-4, 1e-5
    kind = oracle("pytorch_grad_cam").GradCAMPlusPlus
    theirs = kind.get_cam_weights(None, None, None, None, activations, gradients)[0]
    own = cam.gradcam_plus_plus(torch.from_numpy(activations), torch.from_numpy(gradients))[0]
    assert own[[0, 1], [0, 1]].tolist() == pytest.approx([2e-4, 2e-5], rel=1e-3)  # half a gradient for each cell
    assert theirs[0] < 0.05 * 2e-4
    assert theirs[0] / theirs[1] > 900  # of gradients that are one to ten


def test_scaling_the_score_or_the_activations_does_not_change_the_shape_of_an_xgradcam_map():
    one = case("resnet18")
    _, activations, gradients = their_maps(one, "xgradcam")[0][-1]
    maker = oracle("pytorch_grad_cam").XGradCAM(one.vendor, [])

    def theirs(a, g):
        made = maker.get_cam_image(None, None, None, np.float32(a * activations), np.float32(g * gradients))[0]
        return np.maximum(made, 0) / a / g

    def ours(a, g):
        made = cam.xgradcam(torch.from_numpy(a * activations), torch.from_numpy(g * gradients))[0]
        return made.numpy() / a / g

    plain = ours(1, 1)
    for a, g in ((1, 1e-3), (1e-3, 1), (1e-11, 1)):
        assert off(ours(a, g), plain) < 1e-5
    assert off(theirs(1, 1e-3), plain) < 1e-5  # the epsilon is beside the activations, not the gradients
    assert off(theirs(1e-11, 1), plain) > 0.5


def test_the_sign_of_their_components_is_chance_and_ours_agrees_with_the_plain_sum():
    project = oracle("pytorch_grad_cam.utils.svd_on_activations").get_2d_projection
    agree = []
    for row, column in np.ndindex(5, 5):  # where in a map of 6 x 6 cells an object speaks for and against, mostly for
        generator = np.random.default_rng(5 * row + column)
        place = np.s_[row : row + 2, column : column + 2]
        evidence = generator.random((1, 5, 6, 6), np.float32)
        evidence[(..., *place)] += 5 * generator.permutation(np.float32([1, 1, 1, -1, -1]))[:, None, None]
        theirs = project(evidence)[0]
        agree.append((theirs[place] > 0).all())
        made = cam.positive_component(torch.from_numpy(evidence))[0].numpy()
        assert off(made, np.maximum(theirs if agree[-1] else -theirs, 0)) < 1e-5
        assert made[place].min() > made.max() / 2
    assert len(set(agree)) == 2


LINEAR = (nn.Conv2d, nn.BatchNorm2d)


def full_gradient_parts(one):
    """detcam's input x gradient, and bias x gradient of each convolution and normalisation, in order."""
    kinds = []
    handles = [
        module.register_forward_hook(lambda module, *_: kinds.append(type(module)))
        for module in one.vendor.modules()
        if (isinstance(module, LINEAR) and module.bias is not None)
        or isinstance(module, nn.ReLU6)  # has a part, too, where it saturates
    ]
    one.vendor(one.batch)
    for handle in handles:
        handle.remove()
    gradient, (parts,) = probe_of(one).full_gradients(one.batch[0])
    found = zip(kinds, reversed(parts), strict=True)  # a backward pass meets the last layer first
    return gradient[0] * one.batch[0], [part for kind, part in found if issubclass(kind, LINEAR)]


@pytest.mark.parametrize("name", NETWORKS)
def test_fullgrads_parts_are_pytorch_grad_cams_and_the_scaling_is_all_that_differs(name):
    one = case(name, double=True)
    own_input, own_parts = full_gradient_parts(one)
    made = {}
    with oracle("pytorch_grad_cam").FullGrad(one.vendor, []) as maker:
        layerwise = maker.compute_cam_per_layer

        def recording(batch, targets, smooth):
            made.update(input=batch.grad[0] * batch[0], map=layerwise(batch, targets, smooth))
            return made["map"]

        maker.compute_cam_per_layer = recording
        maker(one.batch, [lambda logits: logits[one.class_id]])
        gradients = maker.activations_and_grads.gradients
        theirs = [b[:, None, None] * g[0].numpy() for b, g in zip(maker.bias_data, gradients, strict=True)]
    assert off(own_input, made["input"]) < 1e-9
    for ours, part in zip(own_parts, theirs, strict=True):
        assert off(ours, part) < 1e-9
    scale = oracle("pytorch_grad_cam.utils.image").scale_accross_batch_and_channels
    stretched = [scale(part.abs()[None].numpy(), one.size)[0].sum(0) for part in (own_input, *own_parts)]
    assert off(np.sum(stretched, 0), made["map"][0, 0]) < 1e-5


def test_scaled_channel_by_channel_a_silent_channel_counts_as_much_as_a_loud_one():
    loud, silent = torch.zeros(2, 8, 8)
    loud[2, 2], silent[5, 5] = 1, 1e-3
    part, blank = torch.stack([loud, silent]), torch.zeros(3, 8, 8)
    own = pixel.fullgrad(SimpleNamespace(image=blank, full_gradients=lambda image: (blank[None], [[part]])))[0]
    assert (own[2, 2], own[5, 5]) == (1, pytest.approx(1e-3))
    theirs = oracle("pytorch_grad_cam.utils.image").scale_accross_batch_and_channels(part[None].numpy(), (8, 8))[0]
    assert theirs.sum(0)[5, 5] == pytest.approx(theirs.sum(0)[2, 2], rel=1e-3)


@pytest.mark.parametrize("name", [*NETWORKS, *DETECTIONS])
def test_fullgrads_parts_add_up_to_the_logit(name):
    one = case(name, double=True, imgsz=128)
    gradient, (parts,) = probe_of(one).full_gradients(one.batch[0])
    last = [module for module in one.vendor.modules() if isinstance(module, nn.Linear)]
    rest = sum(float(layer.bias[one.class_id].detach()) for layer in last)  # no feature map, so no part of a picture
    total = float((gradient[0] * one.batch[0]).sum()) + sum(float(part.sum()) for part in parts) + rest
    logit = float(one.vendor(one.batch)[0, one.class_id].detach())
    assert abs(total - logit) / abs(logit) < 1e-9
    assert abs(sum(float(part.sum()) for part in parts)) > 1e-2 * abs(logit)


def test_pytorch_grad_cams_fullgrad_cannot_explain_one_prediction_of_a_detector():
    one = case("demo detector 0")  # convolutions that have no part in it have a bias and no gradient
    with oracle("pytorch_grad_cam").FullGrad(one.vendor, []) as maker, pytest.raises(AssertionError):
        maker(one.batch, [lambda logits: logits[one.class_id]])
    assert (own_map(one, "fullgrad") > 0).any()


def without_in_place(model):
    """A copy whose rectifiers captum can hook."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


def their_guided_gradient(one):
    """pytorch-grad-cam's guided backpropagation, (3, h, w), of a copy: it swaps the model's rectifiers for others."""
    maker = oracle("pytorch_grad_cam").GuidedBackpropReLUModel(copy.deepcopy(one.vendor))
    return maker(one.batch.clone(), one.class_id).transpose(2, 0, 1)


HOOKS = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")


@HOOKS
def test_guided_backpropagation_is_that_of_both_libraries():
    one = case("resnet18", double=True)
    own = probe_of(one).guided_gradients(one.batch[0])
    assert off(own[0], their_guided_gradient(one)) < 1e-9
    leaf = one.batch.clone().requires_grad_()
    captums = oracle("captum.attr").GuidedBackprop(without_in_place(one.vendor)).attribute(leaf, one.class_id)
    assert off(own, captums) < 1e-9
    assert off(own_map(one, "guidedbackprop"), np.abs(their_guided_gradient(one)).max(0)) < 1e-6


@HOOKS
def test_guided_grad_cam_is_that_of_both_libraries():
    one, layer = case("resnet18", double=True), "layer4"
    own = own_map(one, "guidedgradcam", layer)
    leaf, model = one.batch.clone().requires_grad_(), without_in_place(one.vendor)
    maker = oracle("captum.attr").GuidedGradCam(model, model.get_submodule(layer))
    captums = maker.attribute(leaf, one.class_id, interpolate_mode="bilinear")[0]
    assert off(own, captums.abs().amax(0)) < 1e-6
    # pytorch-grad-cam's recipe, mask x gradient, has for a mask its map stretched to [0, 1]; before that it is ours.
    [(raw, *_)], mask = their_maps(SimpleNamespace(**{**vars(one), "layers": {layer: one.layers[layer]}}), "gradcam")
    enlarged = cv2.resize(np.maximum(raw, 0), one.size)
    assert off(own, np.abs(enlarged * their_guided_gradient(one)).max(0)) < 1e-6
    assert off((enlarged - enlarged.min()) / np.ptp(enlarged), mask) < 1e-6


def test_a_guided_pass_leaves_the_model_as_it_was():
    one = case("resnet18", double=True)
    probe, before = probe_of(one), snapshot(one.adapter.model)
    ordinary = probe.gradients(one.batch[0])
    assert off(probe.guided_gradients(one.batch[0]), ordinary) > 0.1
    assert torch.equal(probe.gradients(one.batch[0]), ordinary)
    assert snapshot(one.adapter.model) == before


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "demo detector 0"])
def test_integrated_gradients_are_captums(name):
    one = case(name, double=True, imgsz=128)
    maker = oracle("captum.attr").IntegratedGradients(one.vendor)
    captums = maker.attribute(one.batch, 0 * one.batch, one.class_id, n_steps=50, method="gausslegendre")[0]
    probe, channels = probe_of(one), torch.eye(3)[..., None, None]  # three questions, of one channel's gradient each
    split = SimpleNamespace(image=probe.image, gradients=lambda image: probe.gradients(image) * channels)
    assert off(pixel.integrated_gradients(split), captums) < 1e-6
    own = pixel.integrated_gradients(probe)[0]
    assert off(own, captums.sum(0)) < 1e-6


class Squares(nn.Module):
    """Its logits are polynomials of the image, of degree 8."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(channels, 4, 3, 2) for channels in (3, 4, 4))
        self.last = nn.Linear(4, 3)

    def forward(self, batch):
        for layer in self.layers:
            batch = layer(batch).square()
        return self.last(batch.mean((2, 3)))


def test_integrated_gradients_are_complete():
    """50 points of Gauss-Legendre are exact for polynomials, up to degree 99; across kinks they are off by chance."""
    torch.manual_seed(0)
    adapter = detcam.load(Squares(), imgsz=64)
    adapter.model.double()
    adapter.dtype = torch.float64
    one = SimpleNamespace(adapter=adapter, image=photograph(seed=3), number=0)
    one.batch = adapter.prepare([one.image])[0].double()
    own, logits = pixel.integrated_gradients(probe_of(one))[0], adapter.forward(one.batch).logits[0, 0]
    change = (logits - adapter.forward(0 * one.batch).logits[0, 0])[logits.argmax()].detach()
    assert abs(change) > 0.01
    assert abs(float(own.sum() / change - 1)) < 1e-9


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "demo detector 0"])
def test_saliency_and_smoothgrad_are_captums(name, monkeypatch):
    one = case(name, double=True, imgsz=128)
    saliency = oracle("captum.attr").Saliency(one.vendor)
    leaf = one.batch.clone().requires_grad_()
    assert off(pixel.saliency(probe_of(one)), saliency.attribute(leaf, one.class_id).amax(1)) < 1e-9
    generator = torch.Generator().manual_seed(7)
    noise = torch.stack([torch.randn(one.batch.shape[1:], generator=generator) for _ in range(50)]).double()
    monkeypatch.setattr(torch, "normal", lambda mean, _: mean + spread * noise)  # detcam's, for captum
    spread = 0.15 * float(one.batch.max() - one.batch.min())  # captum rounds what it is given to single precision
    tunnel = oracle("captum.attr").NoiseTunnel(saliency)
    captums = tunnel.attribute(leaf, "smoothgrad", 50, stdevs=spread, target=one.class_id, abs=False)
    assert off(pixel.smoothgrad(probe_of(one, seed=7)), captums.abs().amax(1)) < 1e-9
