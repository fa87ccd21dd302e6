"""The methods, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from detcam.errors import UsageError, nearest
from detcam.methods import cam


@dataclass(frozen=True)
class Method:
    """A map-making function, what it needs besides activations, and what its maps can say.

    Attributes:
        function: ``(activations, gradients)``, ``(activations)`` or ``(activations, seed)``, as ``needs`` says.
        label: one honest line on what the map means, drawn where the map is.
    """

    function: Callable[..., Tensor]
    needs: Literal["gradients", "nothing", "seed"]
    label: str


METHODS: dict[str, Method] = {
    "gradcam": Method(cam.gradcam, "gradients", "pooled gradients: repaints similar objects"),
    "gradcam++": Method(cam.gradcam_plus_plus, "gradients", "pooled gradients: repaints similar objects"),
    "hirescam": Method(cam.hirescam, "gradients", "gradient x activation, cell by cell"),
    "odam": Method(cam.hirescam, "gradients", "gradient x activation, cell by cell, without ODAM's smoothing"),
    "layercam": Method(cam.layercam, "gradients", "positive gradient x activation, cell by cell"),
    "gradnorm": Method(cam.gradnorm, "gradients", "size of gradient x activation, for or against"),
    "eigencam": Method(cam.eigencam, "nothing", "not detection-specific: the same map whatever you ask"),
    "random": Method(cam.random, "seed", "a baseline: noise, explains nothing"),
}


def find_method(name: str) -> Method:
    """The method called ``name``.

    Raises:
        UsageError: no such method.
    """
    if name not in METHODS:
        raise UsageError(f"no method {name!r}{nearest(name, METHODS)}")
    return METHODS[name]
