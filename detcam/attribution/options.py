"""How maps are made: the options that belong together, checked without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from detcam.attribution.fit import check_fit, is_left_open
from detcam.errors import UsageError
from detcam.methods import Method, choose_method, find_method, resolve_method
from detcam.options import check_fusion, check_seed, check_smoothing, check_target_name
from detcam.targets import Target, mirror_target, resolve_target

if TYPE_CHECKING:
    from torch import Tensor

    from detcam.methods.subject import Subject

ESCALATION = ("effect", "vps")
"""The methods that take over, in turn, where a map is unsupported."""


@dataclass(frozen=True, eq=False)
class MapOptions:
    """One choice of method, target and layers; :func:`choose_map` makes it of what a caller gives.

    Attributes:
        method_name, method: the method, ``auto`` resolved.
        target_name, target: what is explained; a name, or a function.
        layers: as given: groups or module paths; none for a method that needs none.
        is_auto: layers were left to detcam, which leaves out, per detection, those whose gradient reaches too little.
        smoothing: any of ``aug``, ``eigen`` and ``noise``.
        fusion: how several layers become one map.
        budget: forward passes; 0 where their number is fixed.
        verify: whether maps get full receipts.
        escalation: methods that take over, in turn, from maps that their receipts do not support.
        seed: of everything random.
    """

    method_name: str
    method: Method
    target_name: str
    target: str | Target
    layers: str | Sequence[str]
    is_auto: bool
    smoothing: frozenset[str]
    fusion: str
    budget: int
    verify: bool
    escalation: tuple[str, ...]
    seed: int

    @property
    def works_at_layers(self) -> bool:
        """Whether the method needs layers."""
        return self.method.on == "layer" or self.method.layers

    def taken_over_by(self, method: str) -> MapOptions:
        """These options where another method explains the class.

        Args:
            method: its name.
        """
        other = find_method(method)
        return replace(self, method_name=method, method=other, target_name="class", target="class", budget=other.budget)


def choose_map(
    method: str | Method | Callable[[Subject], Tensor] = "auto",
    layers: str | Sequence[str] = "auto",
    target: str | Target = "class",
    *,
    smoothing: str | Sequence[str] = (),
    fusion: str = "sum",
    budget: int | None = None,
    verify: bool = False,
    escalation: Sequence[str] = ESCALATION,
    seed: int = 0,
) -> MapOptions:
    """The options of a map, checked: each by itself, and against the others.

    Args:
        method: a name, a method, or a function of a subject; this and the others are as in :class:`detcam.Explainer`.
        layers: groups or module paths.
        target: a name, or a function.
        smoothing: any of ``aug``, ``eigen`` and ``noise``.
        fusion: ``sum``, ``mean`` or ``max``.
        budget: forward passes, from 1 on; ``None`` takes the method's own.
        verify: whether maps get full receipts.
        escalation: names of methods that work on the image.
        seed: of everything random.

    Raises:
        UsageError: an option is out of its range, or two of them exclude each other.
    """
    is_auto = is_left_open(layers)
    if isinstance(target, str):
        check_target_name(target)
    target_name, target = resolve_target(target)
    smooth = check_smoothing(smoothing)
    check_fusion(fusion)
    check_seed(seed)
    if isinstance(method, str) and method == "auto":
        method = choose_method(target_name, not is_auto or bool(smooth) or fusion != "sum")
    name, method = resolve_method(method)
    check_fit(name, method, target_name, layers=layers, smoothing=smooth, fusion=fusion, budget=budget)
    if "aug" in smooth:
        mirror_target(target)
    if isinstance(escalation, str) or not isinstance(escalation, Iterable):
        raise UsageError(f"escalation must be names of methods, got {escalation!r}")
    for other in escalation:
        if not isinstance(other, str):
            raise UsageError(f"escalation must be names of methods, got {other!r} among them")
        if find_method(other).on != "image":
            raise UsageError(f"{other!r} works at layers and cannot take over from another method")
    return MapOptions(
        name, method, target_name, target, layers, is_auto, smooth, fusion, budget or method.budget, verify,
        tuple(escalation), seed,
    )  # fmt: skip
