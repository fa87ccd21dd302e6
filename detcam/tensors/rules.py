"""How windows of gradients pass backwards through single operations of an autograd graph: the rules, by its nodes.

A rule is given a graph node and the windows at one of its outputs, and gives the windows at its inputs. Graph nodes
name what they keep ``_saved_...``. Where a rule does not apply, it raises :class:`NotApplicableError`, and the node
itself is asked, for one scalar after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from detcam.tensors.moves import (
    NotApplicableError,
    concatenate,
    input_shape,
    input_shapes,
    permute,
    reshape,
    select,
    split,
    split_sizes,
    take_slice,
    transpose,
    unchanged,
)
from detcam.tensors.windows import Windows, zeros

Rule = Callable[[Any, Windows, int], Sequence[Windows | None]]
"""(node, windows at one of its outputs, which output) -> windows at each of its inputs, None where it has none."""


def convolution(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Of two dimensions, not transposed."""
    own_weight = node.next_functions[1][0] is not None
    if node._saved_transposed or len(node._saved_stride) != 2 or own_weight or windows.sizes[0] > 1:
        raise NotApplicableError
    weight, shape = node._saved_weight, tuple(node._saved_input.shape)
    out_shape = tuple(node._input_metadata[0].shape)
    values, offsets = windows.values, windows.offsets
    if windows.sizes[1] < out_shape[1]:  # some of the channels alone: of a kernel of one cell, their rows of the weight
        values = _all_channels(windows, out_shape[1])
    values = values.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # an image an owner
    stride, padding, dilation = node._saved_stride, node._saved_padding, node._saved_dilation
    if weight.shape[2:] == (1, 1) and tuple(stride) == (1, 1) and tuple(padding) == (0, 0) and node._saved_groups == 1:
        rows = values.permute(0, 2, 3, 1) @ weight.flatten(1)
        starts = tuple((offset[0], 0, *offset[2:]) for offset in offsets)
        return [Windows(windows.owners, starts, rows.permute(0, 3, 1, 2)[:, None], own=True), None, None]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    full = [windows.full(2 + axis, out_shape) for axis in (0, 1)]
    cut = [padding[axis] if full[axis] else 0 for axis in (0, 1)]
    more = [
        shape[2 + a] - ((out_shape[2 + a] - 1) * stride[a] - 2 * padding[a] + reach[a]) if full[a] else 0
        for a in (0, 1)
    ]
    if any(extra >= max(step, spread) for extra, step, spread in zip(more, stride, dilation, strict=True)):
        raise NotApplicableError
    groups, weight = node._saved_groups, weight.contiguous(memory_format=torch.channels_last)
    values = F.conv_transpose2d(values, weight, None, tuple(stride), tuple(cut), tuple(more), groups, tuple(dilation))
    starts = tuple(
        (
            offset[0],
            0,
            *(0 if full[a] else offset[2 + a] * stride[a] - padding[a] for a in (0, 1)),
        )
        for offset in offsets
    )
    return [Windows(windows.owners, starts, values[:, None], own=True).fitted(shape), None, None]


def _all_channels(windows: Windows, channels: int) -> Tensor:
    values = zeros(windows.values, len(windows.owners), (1, channels, *windows.sizes[2:]))
    count = windows.sizes[1]
    for number, offset in enumerate(windows.offsets):
        values[number, :, offset[1] : offset[1] + count] = windows.values[number]
    return values


def batch_norm(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """With the running statistics: a factor for each channel."""
    variance = node._saved_running_var
    if node._saved_training or variance is None or any(before is not None for before, _ in node.next_functions[1:]):
        raise NotApplicableError
    scale = (variance + node._saved_eps).rsqrt()
    if node._saved_weight is not None:
        scale = scale * node._saved_weight
    scale = scale.view(1, -1, *[1] * (len(windows.sizes) - 2))
    return [_scaled(windows, windows.crops(scale.to(windows.values.dtype))), None, None]


def silu(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Cell by cell."""
    before = node._saved_self
    if windows.values.numel() > before.numel():  # the slope of every cell once, and not for each owner
        slope = windows.crops(torch.ops.aten.silu_backward(torch.ones_like(before), before))
    else:
        crops = windows.crops(before)
        slope = torch.ops.aten.silu_backward(torch.ones_like(crops), crops)
    return [_scaled(windows, slope)]


def relu(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Cell by cell."""
    return [_scaled(windows, windows.crops(node._saved_result) > 0)]


def leaky_relu(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Cell by cell."""
    crops = windows.crops(node._saved_self)
    return [_scaled(windows, torch.where(crops > 0, 1.0, node._saved_negative_slope).to(crops.dtype))]


def sigmoid(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Cell by cell."""
    crops = windows.crops(node._saved_result)
    return [_scaled(windows, crops * (1 - crops))]


def add(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Of tensors of one shape, or of a tensor and numbers."""
    shape = tuple(node._input_metadata[0].shape)
    if getattr(node, "_saved_alpha", 1) != 1 or any(one not in (None, shape) for one in input_shapes(node)):
        raise NotApplicableError
    shared = replace(windows, own=False)
    return [shared if before is not None else None for before, _ in node.next_functions]


def multiply(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """By something that no gradient goes through, of no more cells."""
    shape = tuple(node._input_metadata[0].shape)
    first, *others = input_shapes(node)
    factor = node._saved_other
    if first != shape or any(one is not None for one in others):
        raise NotApplicableError
    if not isinstance(factor, Tensor):
        return [_scaled(windows, factor), None]
    factor = factor.reshape((1,) * (len(shape) - factor.ndim) + tuple(factor.shape))
    return [_scaled(windows, windows.crops(factor)), None]


def enlarge(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Every cell repeated a whole number of times."""
    shape = input_shape(node)
    out_shape = tuple(node._input_metadata[0].shape)
    rows, columns = (out_shape[axis] // shape[axis] for axis in (2, 3))
    if (shape[2] * rows, shape[3] * columns) != out_shape[2:]:
        raise NotApplicableError
    factors = (rows, columns)
    lows = [[offset[2 + a] // factors[a] for a in (0, 1)] for offset in windows.offsets]
    highs = [[-(-(offset[2 + a] + windows.sizes[2 + a]) // factors[a]) for a in (0, 1)] for offset in windows.offsets]
    cells = [max(high[a] - low[a] for low, high in zip(lows, highs, strict=True)) for a in (0, 1)]
    count, batch, channels = len(windows.owners), *windows.sizes[:2]
    starts = [[min(low[a], shape[2 + a] - cells[a]) for a in (0, 1)] for low in lows]
    aligned = zeros(windows.values, count, (batch, channels, cells[0] * rows, cells[1] * columns))
    height, width = windows.sizes[2:]
    for number, (offset, start) in enumerate(zip(windows.offsets, starts, strict=True)):
        top, left = offset[2] - start[0] * rows, offset[3] - start[1] * columns
        aligned[number, :, :, top : top + height, left : left + width] = windows.values[number]
    values = F.avg_pool2d(aligned.flatten(0, 1), factors, divisor_override=1)
    values = values.view(count, batch, *values.shape[1:])
    offsets = tuple((*offset[:2], *start) for offset, start in zip(windows.offsets, starts, strict=True))
    return [Windows(windows.owners, offsets, values)]


def max_pool(node: Any, windows: Windows, output: int) -> list[Windows | None]:
    """Each cell to where its largest was."""
    shape = input_shape(node)
    if output:
        raise NotApplicableError
    indices = windows.crops(node._saved_result1)
    stride = node._saved_stride or node._saved_kernel_size
    starts, sizes = [], []
    for axis in (0, 1):
        reach = node._saved_dilation[axis] * (node._saved_kernel_size[axis] - 1) + 1
        sizes.append(min((windows.sizes[2 + axis] - 1) * stride[axis] + reach, shape[2 + axis]))
        starts.append(
            [
                min(max(offset[2 + axis] * stride[axis] - node._saved_padding[axis], 0), shape[2 + axis] - sizes[axis])
                for offset in windows.offsets
            ]
        )
    tops, lefts = (torch.tensor(start, device=indices.device).view(-1, 1, 1, 1, 1) for start in starts)
    local = (indices // shape[3] - tops) * sizes[1] + indices % shape[3] - lefts
    if local.shape[1:3] != windows.values.shape[1:3]:
        raise NotApplicableError
    flat = windows.values.new_zeros(*windows.values.shape[:3], sizes[0] * sizes[1])
    flat.scatter_add_(3, local.flatten(3), windows.values.flatten(3))
    offsets = tuple((*offset[:2], top, left) for offset, top, left in zip(windows.offsets, *starts, strict=True))
    return [Windows(windows.owners, offsets, flat.view(*flat.shape[:3], *sizes))]


RULES: dict[str, Rule] = {
    "ConvolutionBackward0": convolution,
    "NativeBatchNormBackward0": batch_norm,
    "CudnnBatchNormBackward0": batch_norm,
    "SiluBackward0": silu,
    "ReluBackward0": relu,
    "LeakyReluBackward0": leaky_relu,
    "LeakyReluBackward1": leaky_relu,
    "SigmoidBackward0": sigmoid,
    "CloneBackward0": unchanged,
    "AliasBackward0": unchanged,
    "AddBackward0": add,
    "MulBackward0": multiply,
    "SelectBackward0": select,
    "SliceBackward0": take_slice,
    "TransposeBackward0": transpose,
    "PermuteBackward0": permute,
    "CatBackward0": concatenate,
    "SplitBackward0": split,
    "SplitWithSizesBackward0": split_sizes,
    "ViewBackward0": reshape,
    "ReshapeAliasBackward0": reshape,
    "UnsafeViewBackward0": reshape,
    "UpsampleNearest2DBackward0": enlarge,
    "MaxPool2DWithIndicesBackward0": max_pool,
}
"""By the name that autograd gives the node."""


def _scaled(windows: Windows, factor: Any) -> Windows:
    if isinstance(factor, Tensor):
        factor = factor.to(windows.values.dtype)  # a number is kept as float64
    return Windows(windows.owners, windows.offsets, windows.values * factor, own=True)
