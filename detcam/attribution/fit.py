"""Whether a method, its target and its options fit together: said before weights are read, and without torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from detcam.errors import UsageError
from detcam.methods import Method
from detcam.options import check_counts, check_layers


def is_left_open(layers: str | Sequence[str]) -> bool:
    """Whether the choice of layers is left to detcam."""
    return layers in ("auto", ["auto"], ("auto",))


def check_fit(
    name: str,
    method: Method,
    target: str,
    *,
    layers: str | Sequence[str] = "auto",
    smoothing: Collection[str] = (),
    fusion: str = "sum",
    budget: int | None = None,
) -> None:
    """Refuse options that exclude each other.

    Args:
        name: the method's.
        method: as :func:`detcam.methods.find_method` gives it.
        target: the target's name.
        layers: groups or module paths.
        smoothing: any of ``aug``, ``eigen`` and ``noise``.
        fusion: ``sum``, ``mean`` or ``max``.
        budget: forward passes, or None.

    Raises:
        UsageError: two of them do.
    """
    if smoothing and method.on != "layer":
        raise UsageError(f"smoothing is for methods at layers; {name!r} works on the image")
    if "aug" in smoothing and target.startswith("keypoint"):
        raise UsageError(f"target {target!r} cannot be averaged over flipped images: leave 'aug' out of the smoothing")
    if "eigen" in smoothing and "reduce" not in method.takes:
        raise UsageError(f"{name!r} does not sum weighted channels, so eigen smoothing cannot apply")
    if {"aug", "noise"} & set(smoothing) and "gradients" not in method.takes:
        raise UsageError(f"{name!r} takes no gradient to be smoothed; leave smoothing out")
    if method.explains == "detection" and target != "class":
        raise UsageError(
            f"{name!r} scores whole detections (overlap x class probability), not target {target!r}; leave target out"
        )
    if budget is not None:
        check_counts(budget=budget)
        if not method.budget:
            raise UsageError(f"{name!r} takes a fixed number of forward passes; leave budget out")
    works_at_layers = method.on == "layer" or method.layers
    if not works_at_layers and (not is_left_open(layers) or fusion != "sum"):
        raise UsageError(f"{name!r} works on the image, without layers; leave layers and fusion out")
    if not isinstance(layers, str):
        check_layers(layers)
