"""torchvision's detectors with random weights whose scores and boxes differ, and their own answers."""

import copy
from functools import cache

import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import (
    FCOS,
    FasterRCNN,
    MaskRCNN,
    RetinaNet,
    ssd300_vgg16,
    ssdlite320_mobilenet_v3_large,
)
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import detcam
from detcam.adapters.decoding import DecodeSettings
from detcam.adapters.torchvision import TorchvisionDetector
from support.images import photograph

CLASSES = 5
SCALE = {"min_size": 160, "max_size": 256}
SETTINGS = {"conf": 0.5, "iou": 0.5, "max_det": 40}
FAMILIES = ["faster", "mask", "retina", "fcos", "ssd", "ssdlite"]
RPN = {"rpn_pre_nms_top_n_test": 300, "rpn_post_nms_top_n_test": 100}


def pyramid(first, extra=None):
    """The last stages of a ResNet-18 under a narrow feature pyramid."""
    stages = range(first, 5)
    channels = [32 * 2**stage for stage in stages]
    body = resnet18(weights=None)
    return BackboneWithFPN(body, {f"layer{i}": str(i - first) for i in stages}, channels, 32, extra)


MAKERS = {
    "faster": lambda: FasterRCNN(pyramid(1), CLASSES, **SCALE, **RPN),
    "mask": lambda: MaskRCNN(pyramid(1), CLASSES, **SCALE, **RPN, box_detections_per_img=5),
    "retina": lambda: RetinaNet(pyramid(2, LastLevelP6P7(32, 32)), CLASSES, **SCALE),
    "fcos": lambda: FCOS(pyramid(2, LastLevelP6P7(32, 32)), CLASSES, **SCALE),
    "ssd": lambda: ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES),
    "ssdlite": lambda: ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES),
}


@cache
def made(family):
    """A model with random weights whose scores and boxes differ from anchor to anchor."""
    torch.manual_seed(0)
    model = MAKERS[family]()
    images = [tensor(photograph(200, 220, seed)) for seed in range(2)]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
        features = model.backbone.train()(model.transform.eval()(images)[0].tensors)
        if norms and hasattr(model, "head"):
            model.head.train()(list(features.values()))
        model.eval()
        last = {
            name: module
            for name, module in model.named_modules()
            if spread_of(name)
            and getattr(module, "bias", None) is not None
            and isinstance(module, nn.Conv2d | nn.Linear)
        }
        seen = {name: [] for name in last}
        for name, module in last.items():
            nn.init.normal_(module.weight)
            nn.init.zeros_(module.bias)
            module.register_forward_hook(lambda m, x, y, name=name: seen[name].append(y.transpose(0, 1).flatten(1)))
        model(images) if hasattr(model, "roi_heads") else model.head(list(features.values()))
        for name, module in last.items():
            outputs = torch.cat(seen[name], 1)
            mean = outputs.mean(1)
            scale = spread_of(name) / (outputs - mean[:, None]).std()
            module.weight *= scale
            module.bias -= mean * scale - 2 * (family == "fcos" and "bbox_reg" in name)
            module._forward_hooks.clear()
    return model


@cache
def adapted(family):
    return TorchvisionDetector(made(family))


def spread_of(name):
    """How far the outputs of a head's last layer shall lie apart; 0 for other layers."""
    if name.startswith("backbone") or "mask" in name or ".conv." in name:
        return 0
    if "cls_logits" in name or "cls_score" in name or "bbox_ctrness" in name or "classification_head.module" in name:
        return 2
    return 0.5 if "bbox" in name or "regression_head.module" in name else 0


def tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1) / 255


def vendor(family, image, conf=0.5, iou=0.5, max_det=40):
    """torchvision's own detections at these thresholds."""
    model = copy.deepcopy(made(family))
    holder = model.roi_heads if hasattr(model, "roi_heads") else model
    holder.score_thresh, holder.nms_thresh, holder.detections_per_img = conf, iou, max_det
    with torch.no_grad():
        return {name: value.numpy() for name, value in model([tensor(image)])[0].items()}


def explain(adapter, images, *args, **choices):
    return detcam.Explainer(adapter, *args, **choices)(images)


def decoded(adapter, images, **settings):
    batch, letterboxes = adapter.prepare(images)
    raw = adapter.forward(batch)
    return raw, adapter.decode(raw, letterboxes, DecodeSettings(**SETTINGS | settings))
