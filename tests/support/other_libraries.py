"""One model and image for detcam and for the libraries it is compared with."""

import functools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from ultralytics import YOLO

import detcam
from detcam.adapters.decoding import DecodeSettings
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.explainer import Explainer
from detcam.methods import METHODS
from support.images import SCENE_WITH_TWO_ALIKE, photograph
from support.models import calibrate

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
    found = adapter.decode(adapter.forward(batch), letterboxes, DecodeSettings(max_det=9))[0]
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
    found = []
    keep = replace(METHODS["saliency"], function=lambda probe: found.append(probe) or probe.image[:1], name="kept")
    Explainer(one.adapter, keep, detection=one.number, seed=seed)(one.image)
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
