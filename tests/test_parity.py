"""The same maps as other libraries make, from the same models; where theirs differ, the difference is named and shown.

pytorch-grad-cam 1.5 differs in these, each with a test of its own below:
- it stretches every layer's map to [0, 1] before it averages layers, and then the average once more;
- it adds 1e-6 to Grad-CAM++'s denominators and 1e-7 to XGrad-CAM's;
- the sign of its principal components is whatever the SVD gave;
- its FullGrad stretches every channel alone to [0, 1], leaves out what smooth activations add, and stops at a detector.
"""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from detcam.adapters.classifier import Classifier
from detcam.methods import METHODS, cam
from support.other_libraries import DETECTIONS, EIGEN, NETWORKS, case, off, oracle, own_map, their_maps


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
