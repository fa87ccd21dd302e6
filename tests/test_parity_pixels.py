"""Maps at the pixels against pytorch-grad-cam and captum: FullGrad, guided backpropagation, integrated gradients."""

import copy
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import detcam
from detcam.methods import pixel
from support.images import photograph
from support.models import snapshot
from support.other_libraries import DETECTIONS, NETWORKS, case, off, oracle, own_map, probe_of, their_maps

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
