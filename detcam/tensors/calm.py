"""torch as our own code expects it, whatever state the process that calls it is in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def calm() -> Iterator[None]:
    """While a block runs, tensors can have gradients and are of the type and on the device that they are made for.

    What the caller has set is there again afterwards: inference mode, automatic casts, a default device or type. Of
    these torch keeps the type for all threads at once; nothing is changed where nothing is set.
    """
    usual = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.empty(0).device.type != "cpu":  # a mode costs time at each call
            stack.enter_context(torch.device("cpu"))
        if usual != torch.float32:
            stack.callback(torch.set_default_dtype, usual)
            torch.set_default_dtype(torch.float32)
        yield
