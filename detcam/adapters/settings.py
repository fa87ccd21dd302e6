"""What every adapter checks of its settings, and the private copy each one works on."""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from detcam.errors import UsageError
from detcam.geometry import Letterbox
from detcam.options import is_index
from detcam.runtime import check_half

logger = logging.getLogger("detcam")


def private_copy(model: nn.Module) -> Any:
    """A frozen copy in evaluation mode, without the caller's hooks; those that compute weights (pruning) stay.

    A hook may change what the model answers, so a line of the log says where some were left out.

    Args:
        model: left as it is.
    """
    hooked = [
        name or "the model itself"
        for name, module in model.named_modules()
        if not all(map(_makes_weights, [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]))
    ]
    if hooked:
        logger.warning("hooks on %s are left out: the model is explained without them", ", ".join(hooked))
    memo: dict[int, Any] = {}  # what deepcopy takes for copied already: hooks, with all they hold on to, and graphs
    for module in model.modules():
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            known = getattr(module, hooks)
            memo[id(known)] = OrderedDict((key, hook) for key, hook in known.items() if _makes_weights(hook))
        values = list(vars(module).values())
        for held in [one for one in values if isinstance(one, list | tuple | dict)]:
            values += held.values() if isinstance(held, dict) else held
        kept = [value for value in values if isinstance(value, Tensor) and value.grad_fn is not None]
        memo |= {id(value): value.detach() for value in kept}
    return copy.deepcopy(model, memo).eval().requires_grad_(False)


def _makes_weights(hook: Any) -> bool:
    """Whether a hook is torch's own and derives a module's weight before each forward pass."""
    return isinstance(hook, BasePruningMethod) or type(hook).__module__.startswith("torch.nn.utils.")


def names_by_index(names: Mapping[int, str] | Sequence[Any]) -> dict[int, str]:
    """Class names by index, of a mapping or in order.

    Args:
        names: of any kind that text can be made of, where they are in order.

    >>> names_by_index(["cat", "dog"])
    {0: 'cat', 1: 'dog'}
    """
    return dict(names if isinstance(names, Mapping) else enumerate(map(str, names)))


def check_names(names: Mapping[int, str] | Sequence[str] | None, count: int) -> dict[int, str]:
    """A name for each of ``count`` classes; the index where ``names`` is None.

    Raises:
        UsageError: there are not as many names as classes, or one is missing.

    Args:
        names: by index, or in order.
        count: of the model's classes, the background included where it has one.
    """
    named = names_by_index(names if names is not None else range(count))
    if set(named) != set(range(count)):
        raise UsageError(
            f"this model has {count} classes, the background included where it has one, so names must be {count}, "
            f"numbered from 0; got {len(named)}"
        )
    return named


def check_one_shape(letterboxes: Sequence[Letterbox]) -> None:
    """Refuse images that cannot be one batch.

    Raises:
        ValueError: their letterboxes have inputs of different shapes.

    Args:
        letterboxes: of the images.
    """
    if len({letterbox.network for letterbox in letterboxes}) != 1:
        shapes = [letterbox.network for letterbox in letterboxes]
        raise ValueError(f"images of one batch must share a letterboxed shape, got {shapes}")


def check_device(device: str | torch.device | int) -> torch.device:
    """The device of a name, or of a number among the GPUs.

    Raises:
        UsageError: it cannot be used here.

    Args:
        device: as torch names it, or the number of a GPU.
    """
    name = f"cuda:{device}" if is_index(device) else str(device)
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen).cpu()  # which `meta` has not
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"device {str(device)!r} cannot be used here; use cpu, or cuda:0 where there is a GPU"
        ) from error
    return chosen


def check_place(device: str | torch.device | int, half: bool) -> tuple[torch.device, torch.dtype]:
    """The device, and the precision to compute in there.

    Raises:
        UsageError: the device cannot be used here, or has no half precision.

    Args:
        device: as torch names it, or the number of a GPU.
        half: compute in float16.
    """
    found = check_device(device)
    check_half(half, found)
    return found, torch.float16 if half else torch.float32
