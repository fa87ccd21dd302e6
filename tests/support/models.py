"""Models with random weights that answer as trained ones do, and what explaining a model must leave as it was."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import detcam
from detcam.attribution.layer_maps import LayerMaps
from detcam.targets import find_target
from support.images import photograph


def snapshot(model: nn.Module) -> dict[str, object]:
    """Everything about a model that explaining it must leave as it was."""
    state: dict[str, object] = {}
    for name, module in model.named_modules():
        hooks = [len(getattr(module, kind)) for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
        state[f"module {name}"] = (id(module), type(module).__name__, module.training, hooks, "forward" in vars(module))
        for cache in ("anchors", "strides", "shape"):
            if cache in vars(module):
                state[f"cache {name}.{cache}"] = id(vars(module)[cache])
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        grad = None if tensor.grad is None else tensor.grad.clone().numpy().tobytes()
        state[f"tensor {name}"] = (
            id(tensor), tensor.requires_grad, str(tensor.dtype), tensor.detach().clone().numpy().tobytes(), grad,
        )  # fmt: skip
    return state


def calibrate(model: nn.Module, seed: int = 0) -> torch.Tensor:
    """Set batch normalisation from a few images, which are returned (3, 3, 256, 256).

    Untrained, it lets the signal of a network with random weights die out on the way to the head.
    """
    images = np.stack([photograph(256, 256, seed + n) for n in range(3)])
    batch = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
    return batch


def spread_logits(model: nn.Module, image: np.ndarray, seed: int = 0) -> None:
    """Make a model with random weights answer with class scores and boxes that differ from anchor to anchor.

    At 256 pixels, the likeliest class in this image has a logit of 2 at the finest level and of 1/2 less at each other.
    Without that, the few largest logits, which are all that is reported, are probabilities that single precision
    cannot tell from 1, in an order that rounding decides.
    """
    generator = torch.Generator().manual_seed(seed)
    calibrate(model, seed)
    head = model.model[-1]
    last = {
        (branch, level): [module for module in convs.modules() if isinstance(module, nn.Conv2d)][-1]
        for branch in ("cv2", "cv3", "one2one_cv2", "one2one_cv3")
        for level, convs in enumerate(getattr(head, branch, None) or [])
    }
    for conv in last.values():
        conv.weight.data = torch.randn(conv.weight.shape, generator=generator)
        conv.bias.data.zero_()
    seen: dict[nn.Module, torch.Tensor] = {}
    handles = [conv.register_forward_hook(lambda m, _, y: seen.update({m: y})) for conv in last.values()]
    with torch.no_grad():
        model(detcam.load(model, imgsz=256).prepare([image])[0])
    for handle in handles:
        handle.remove()
    for (branch, level), conv in last.items():
        classes = branch.endswith("cv3")
        conv.weight.data /= float(seen[conv].max()) / (5 - level / 2) if classes else float(seen[conv].std())
        conv.bias.data.fill_(-3.0 if classes else 4.0 if head.reg_max == 1 else 0.0)


def gradients_at_layers(explainer, raw, detection):
    """Of a detection's target, by layer, whole: what the explainer itself takes."""
    target = find_target(explainer.target_name, explainer.model.names)
    maps = LayerMaps(explainer._maker.options, explainer.layers)
    ((_, windows),) = maps._gradients(raw, {(0, 0): detection}, [target])
    nothing = {name: torch.zeros_like(layer) for name, layer in raw.activations.items()}
    return nothing | {name: one.dense(0, raw.activations[name].shape) for name, one in windows.items()}
