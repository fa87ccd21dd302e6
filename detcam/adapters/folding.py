"""A quicker copy of a network for passes that need no gradient: normalisation folded into convolutions."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from detcam.alone import alone

with alone():
    from ultralytics.nn.modules import Conv
    from ultralytics.utils.torch_utils import fuse_conv_and_bn


def fold_normalisation(model: nn.Module) -> Any:
    """A copy of an Ultralytics network in which every plain convolution block is one convolution, channels last.

    Blocks of other kinds stay as they are. The copy is for inference; what was given is left alone.

    Args:
        model: in evaluation mode.
    """
    private: Any = deepcopy(model)
    for block in private.modules():
        plain = isinstance(block, Conv) and type(block).forward is Conv.forward and "forward" not in vars(block)
        if plain and isinstance(block.bn, nn.BatchNorm2d):
            block.conv = fuse_conv_and_bn(block.conv, block.bn)
            block.bn = nn.Identity()
    for weight in private.parameters():  # and nothing else: a model may hold tensors that are no images
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return private
