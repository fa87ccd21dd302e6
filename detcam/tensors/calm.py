"""torch as our own code expects it, whatever state the process that calls it is in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def calm() -> Iterator[None]:
    """While a block runs, tensors can have gradients, and those that name no device are the processor's."""
    elsewhere = torch.get_default_device().type != "cpu"  # a mode costs time at each call, so only where it is needed
    with torch.inference_mode(False), torch.device("cpu") if elsewhere else nullcontext():
        yield
