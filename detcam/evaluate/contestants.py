"""What is compared: methods with their layers and budgets, each written as one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detcam.adapters.base import DetectorAdapter
from detcam.errors import UsageError
from detcam.explainer import Explainer
from detcam.methods import find_method
from detcam.options import split_contestant


@dataclass(frozen=True)
class Contestant:
    """A method with its layers and budget, written ``NAME[@LAYERS][:BUDGET]``: ``layercam@neck``, ``guided:256``.

    Attributes:
        text: what it was read from; its name in every row and table.
        method: the method's name.
        layers: groups or module paths, separated by commas; ``auto`` where none were named.
        budget: forward passes, or None for the method's own number.
    """

    text: str
    method: str
    layers: str
    budget: int | None

    @classmethod
    def parse(cls, text: str) -> Contestant:
        """Read one from its text; several layers are joined by ``+``.

        Raises:
            UsageError: the budget is no whole number.
        """
        return cls(text, *split_contestant(text))


def default_methods(model: DetectorAdapter) -> list[str]:
    """The methods that are compared where none are named, as texts of contestants.

    The baselines; what other tools draw (EigenCAM and Grad-CAM at the head's inputs, as the EigenCAM-for-YOLO scripts
    and
    pytorch-grad-cam's recipe do; LayerCAM there, as Ultralytics' own heatmaps do); gradient maps at their best layers;
    and methods that mask the image. Methods that the model cannot answer are left out.

    Args:
        model: the detector.
    """
    if not model.differentiable:
        return ["random", "edges", "box", "occlusion", "drise", "guided", "effect"]
    neck = "@neck" if any("neck" in layer.groups for layer in model.layers()) else ""
    peers = [f"{name}{neck}" for name in ("eigencam", "gradcam", "layercam")]
    own = ["gradcam++", "hirescam", f"odam{neck}", "occlusion", "guided", "effect"]
    return ["random", "edges", "box", *peers, *(["layercam"] if neck else []), *own]


def combine(methods: Sequence[str], layers: Sequence[str]) -> list[str]:
    """Every method with each of the layers, as texts of contestants; methods that need no layers once.

    Args:
        methods: ``NAME`` or ``NAME:BUDGET``.
        layers: each a group or a module path, or several joined by ``+``.

    Raises:
        UsageError: no such method.
    """
    texts = []
    for text in methods:
        name, colon, budget = text.partition(":")
        method = find_method(name)
        takes_layers = method.on == "layer" or method.layers
        texts += [f"{name}@{one}{colon}{budget}" for one in layers] if takes_layers else [text]
    return texts


def make_explainers(model: DetectorAdapter, methods: Sequence[str], conf: float, seed: int) -> dict[str, Explainer]:
    """An explainer for each contestant, by its text.

    Args:
        model: the detector; all explainers share it.
        methods: texts of contestants.
        conf: least confidence of a detection, in [0, 1].
        seed: of the methods.

    Raises:
        UsageError: no such method or layer, a budget that is no whole number, or a method twice.
    """
    if twice := {text for text in methods if list(methods).count(text) > 1}:
        raise UsageError(f"{min(twice)!r} is named twice")
    contestants = [Contestant.parse(text) for text in methods]
    return {
        one.text: Explainer(model, one.method, one.layers.split(","), budget=one.budget, conf=conf, seed=seed)
        for one in contestants
    }
