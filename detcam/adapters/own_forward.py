"""Whether the predictions an adapter makes are those of the model's own forward pass: both are asked once, at load.

An adapter runs its family's heads by itself, so a class that does more than the vendor's would be judged by predictions
that are not its own. One small image tells, in the time of two forward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from detcam.adapters.bounded import Bounded, BoundsError
from detcam.errors import WeightsError

TOLERANCES = {"boxes": (0.05, 1e-3), "scores": (1e-6, 1e-2), "extras": (0.05, 1e-2), "prototypes": (0.01, 1e-2)}
"""By how much predictions may differ: absolutely (pixels, probabilities, ...), and relatively."""
HALF_TOLERANCES = {"boxes": (2.0, 0.02), "scores": (0.01, 0.1), "extras": (2.0, 0.05), "prototypes": (0.1, 0.05)}
"""The same in float16, in which models place their own boxes on a grid of up to half a pixel."""


class Inputs(tuple[Any, ...]):
    """What a head was given."""

    __slots__ = ()


class HeadInputs:
    """A base of detached heads: hands back what the vendor's own ``forward`` would be given."""

    def forward(self, *inputs: Any, **keywords: Any) -> Inputs:
        """See the class."""
        return Inputs((*inputs, *keywords.values()))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Copied and pickled as an object of the class that it is made from, which can be found by its name."""
        kind, known = type(self).made_from
        return _empty_head, (kind, known), vars(self)

    made_from: ClassVar[tuple[type, type]]


@cache
def _detached(kind: Any, known: Any) -> Any:
    """A head's class that hands back its inputs where it would call the vendor's ``forward``."""
    detached = type(known.__name__, (HeadInputs, known), {})
    made: Any = detached if kind is known else type(kind.__name__, (kind, detached), {})
    made.made_from = (kind, known)
    return made


def _empty_head(kind: type, known: type) -> Any:
    """A detached head before its state is filled in."""
    made = _detached(kind, known)
    return made.__new__(made)


def detach_head(model: Any, is_vendor_head: Callable[[type], bool]) -> Any:
    """Let a private copy's forward pass end with the inputs of the vendor's head, which is returned.

    A class of the vendor's hands them back at once. A subclass runs as it is, up to where it calls the
    vendor's ``forward``.

    Args:
        model: the private copy; its head is given another class.
        is_vendor_head: whether a class is one that the adapter runs by itself.
    """
    head = model.model[-1]
    kind: Any = type(head)
    if not isinstance(head, HeadInputs):
        known = next((one for one in kind.__mro__ if is_vendor_head(one)), kind)
        head.__class__ = _detached(kind, known)
    return head


@dataclass(frozen=True, eq=False)
class OwnPredictions:
    """One image's predictions, as the model made them and as the adapter did, in the same order of columns.

    Attributes:
        own, ours: by name, as in :data:`TOLERANCES`: ``boxes`` (N, 4) pixels, ``scores`` (N, class) in [0, 1],
            ``extras`` (N, any), ``prototypes``.
        class_ids: int64 (N,), where the model's are a ranked list of (box, class) pairs: ``own["scores"]`` is then
            (N, 1), and ``ours`` are all from which it was chosen.
    """

    own: Mapping[str, Tensor]
    ours: Mapping[str, Tensor]
    class_ids: Tensor | None = None

    def differences(self, dtype: torch.dtype) -> dict[str, float]:
        """By how much each part differs at most, where that is more than is tolerated.

        Args:
            dtype: in which the model computes.
        """
        tolerances = HALF_TOLERANCES if dtype == torch.float16 else TOLERANCES
        own, ours = ({name: part.float() for name, part in parts.items()} for parts in (self.own, self.ours))
        if self.class_ids is not None:
            best, ours = ours["scores"].max(), _chosen(own, ours, self.class_ids, tolerances)
            own["scores"] = torch.cat([own["scores"], own["scores"].max().view(1, 1)])
            ours["scores"] = torch.cat([ours["scores"], best.view(1, 1)])
        found = {}
        for name, part in own.items():
            if part.shape != ours[name].shape:
                found[name] = torch.inf
            elif _excess(part, ours[name], tolerances[name]).gt(0).any():
                found[name] = float((part - ours[name]).abs().nan_to_num(torch.inf).max())
        return found


def _excess(own: Tensor, ours: Tensor, tolerance: tuple[float, float]) -> Tensor:
    """By how much a difference exceeds what is tolerated; values that are not finite have to be the same."""
    same = (own == ours) | (own.isnan() & ours.isnan())
    return torch.where(same, 0, ((own - ours).abs() - tolerance[0] - tolerance[1] * own.abs()).nan_to_num(torch.inf))


def _chosen(
    own: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    class_ids: Tensor,
    tolerances: Mapping[str, tuple[float, float]],
) -> dict[str, Tensor]:
    """Of all predictions the ones nearest to the rows of a ranked list, in its order."""
    candidates = {**ours, "scores": ours["scores"][:, class_ids].T[..., None]}
    far = torch.zeros(len(class_ids), len(ours["scores"]), device=class_ids.device)
    for name in own.keys() - {"prototypes"}:
        each = candidates[name] if name == "scores" else candidates[name][None]
        far = far + _excess(own[name][:, None], each, tolerances[name]).clamp(min=0).sum(-1)
    nearest = far.argmin(1)
    chosen = {name: part if name == "prototypes" else part[nearest] for name, part in ours.items()}
    return {**chosen, "scores": ours["scores"][nearest, class_ids][:, None]}


@dataclass(eq=False)
class OwnForward:
    """What a model answers by itself, before its head is detached.

    Args:
        detector: the adapter, whose model, settings and place are known.
        model: its private copy.

    Raises:
        WeightsError: the model's forward pass fails on every size of image.
    """

    detector: Any
    model: Any
    unknown: list[str] = field(init=False)
    answers: list[tuple[Tensor, bool, Any]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.unknown = unknown_parts(self.model, self.detector.is_vendor_head)
        if nn.Module.forward in (type(self.model).forward, type(self.model.model[-1]).forward):
            return  # layers without a forward pass of their own: there is nothing to compare with
        stride, errors = self.detector.stride, []
        with _plain_passes():
            for size in ((2 * stride, 3 * stride), (5 * stride, 5 * stride), self.detector.imgsz):
                try:
                    self.answers = list(self._ask(size))
                    return
                except BoundsError as error:
                    raise WeightsError(f"this {type(self.model).__name__} is no detector: {error}") from error
                except Exception as error:  # a size that is too small for it, or a model that cannot be run at all
                    errors.append(error)
        last = f"{type(errors[-1]).__name__}: {str(errors[-1]).splitlines()[0] if str(errors[-1]) else ''}"
        raise WeightsError(f"the forward pass of this {type(self.model).__name__} fails: {last}") from errors[-1]

    def _ask(self, size: tuple[int, int]) -> Iterator[tuple[Tensor, bool, Any]]:
        """Noise on a smooth image, through every branch: the sample, the branch, and its answer."""
        noise = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        batch = ((noise + torch.linspace(0, 1, size[1])) / 2).to(self.detector.device, self.detector.dtype)
        for branch in self.detector.branches(self.model.model[-1]):
            with Bounded(batch.shape[2] * batch.shape[3]):
                answer = self.detector.run_whole(self.model, batch, branch)
            yield batch, branch, answer

    def compare(self, detector: Any) -> None:
        """Refuse a detector that predicts otherwise than its model.

        Args:
            detector: the adapter, its model's head detached.

        Raises:
            WeightsError: naming what is not known of the model.
        """
        found: dict[str, float] = {}
        chosen = detector.one_to_one
        try:
            with _plain_passes():
                for batch, branch, answer in self.answers:
                    detector.one_to_one = branch
                    found |= detector.own_predictions(answer, detector.forward(batch)).differences(detector.dtype)
        except Exception as error:
            raise WeightsError(self._sentence("does more than run its layers and then its head")) from error
        finally:
            detector.one_to_one = chosen
            self.answers = []
        if found:
            by = ", ".join(f"{name} by {most:.3g}" for name, most in found.items())
            raise WeightsError(self._sentence(f"gives other predictions than the parts of its head ({by})"))

    def _sentence(self, what: str) -> str:
        return (
            f"this model's own forward pass {what}, so its boxes would be explained wrongly; what detcam does not know "
            f"of it: {', '.join(self.unknown) or 'its ' + type(self.model.model[-1]).__name__}; "
            "detcam.BlackBox explains a function that calls it"
        )


@contextmanager
def _plain_passes() -> Iterator[None]:
    """Without gradients, at the model's own precision."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cuda", enabled=False):
        yield


def unknown_parts(model: Any, is_vendor_head: Callable[[type], bool]) -> list[str]:
    """What of a model may run otherwise than the vendor's: classes by their full names, and replaced forward passes.

    Args:
        model: a model whose head is its last layer.
        is_vendor_head: whether a class is one that the adapter runs by itself.
    """
    head = model.model[-1]
    kinds = [] if is_vendor_head(type(head)) else [type(head)]
    kinds += [] if type(model).__module__.startswith(("ultralytics.", "models.", "yolov5.")) else [type(model)]
    replaced = [
        f"the replaced forward of {name or 'the model'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if _is_replaced(module)
    ]
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds] + replaced


def _is_replaced(module: nn.Module) -> bool:
    """Whether a module's forward is an attribute of it, and none of its class's own methods."""
    own = vars(module).get("forward")
    methods = [getattr(type(module), name, None) for name in ("forward", "forward_fuse", "forward_split")]
    return own is not None and getattr(own, "__func__", own) not in methods
