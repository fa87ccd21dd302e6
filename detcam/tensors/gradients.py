"""Gradients of many scalars with respect to a few tensors, in one walk through the autograd graph.

Autograd goes through the graph once for each scalar, over whole tensors. A prediction of a detector depends on few
cells of the layers near it, and those that depend on many lie deep, where tensors are small. Here all scalars go
through the graph together, each with the box of cells that its gradient reaches and no more
(:mod:`detcam.tensors.windows`); the results are autograd's but for the order of additions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from detcam.tensors.moves import NotApplicableError
from detcam.tensors.rules import RULES
from detcam.tensors.windows import Windows, added, from_dense

LEAF = "torch::autograd::AccumulateGrad"
TOGETHER = 8
"""Scalars that go through the graph at a time, so that memory does not grow with their number."""
MOST_WITHOUT_RULE = 0.1
"""Share of a graph's nodes, above which autograd goes through the graph itself, once for each scalar."""
Place = tuple[Any, int]
"""A node of the graph, and which of its outputs."""


def gradients_of(
    scalars: Sequence[Tensor], tensors: Sequence[Tensor], groups: Sequence[int]
) -> Iterator[tuple[int, list[Windows | None]]]:
    """The gradients of scalars with respect to tensors that they were computed from.

    Args:
        scalars: tensors (), with their graph, which stays as it is; those without one have no gradient.
        tensors: leaves and others of that graph.
        groups: a number for each scalar; those of one number reach about as many cells, and go together.

    Yields:
        Each scalar's position, group by group, with a window for each tensor, or None where it does not depend on it.
    """
    for group in sorted(set(groups)):
        numbers = [number for number, own in enumerate(groups) if own == group]
        for start in range(0, len(numbers), TOGETHER):
            some = numbers[start : start + TOGETHER]
            found = _walk({n: scalars[n] for n in some if scalars[n].grad_fn is not None}, tensors)
            for number in some:
                yield number, [windows.of(number) if windows is not None else None for windows in found]


@torch.no_grad()
def _walk(scalars: Mapping[int, Tensor], tensors: Sequence[Tensor]) -> list[Windows | None]:
    """For each tensor the windows of the scalars, each of whose numbers owns one."""
    arrived: dict[Place, list[Windows]] = defaultdict(list)
    for number, scalar in scalars.items():
        arrived[scalar.grad_fn, scalar.output_nr].append(Windows((number,), ((),), torch.ones_like(scalar)[None]))
    order = _sorted_nodes([node for node, _ in arrived])
    if sum(node.name() not in (*RULES, LEAF) for node in order) > MOST_WITHOUT_RULE * len(order):
        return _by_autograd(scalars, tensors)
    leaves = [node for node in order if node.name() == LEAF]
    wanted = {_place_of(tensor, leaves): number for number, tensor in enumerate(tensors)}
    leading = _leading_to(order, {node for node, _ in wanted})
    found: list[Windows | None] = [None] * len(tensors)
    for node in order:
        if node not in leading:
            continue
        for output, metadata in enumerate(node._input_metadata):
            parts = arrived.pop((node, output), None)
            if parts is None:
                continue
            windows = added(parts, tuple(metadata.shape))
            if (node, output) in wanted:
                found[wanted[node, output]] = windows
            if node.name() == LEAF:
                continue
            for (before, number), passed in zip(node.next_functions, _passed(node, windows, output), strict=True):
                if before in leading and passed is not None:
                    arrived[before, number].append(passed)
    return found


def _by_autograd(scalars: Mapping[int, Tensor], tensors: Sequence[Tensor]) -> list[Windows | None]:
    """What :func:`_walk` gives, where few nodes have a rule."""
    found: dict[int, list[tuple[int, Tensor]]] = {n: [] for n, tensor in enumerate(tensors) if tensor.requires_grad}
    for number, scalar in scalars.items() if found else ():
        asked = torch.autograd.grad(scalar, [tensors[n] for n in found], retain_graph=True, allow_unused=True)
        for gradients, gradient in zip(found.values(), asked, strict=True):
            if gradient is not None:
                gradients.append((number, gradient))
    return [from_dense(found.get(n, [])) for n in range(len(tensors))]


def _passed(node: Any, windows: Windows, output: int) -> Sequence[Windows | None]:
    """The gradients at a node's inputs: by a rule, or by the node itself for each scalar."""
    rule = RULES.get(node.name())
    if rule is not None:
        try:
            return rule(node, windows, output)
        except NotApplicableError:
            pass
    return _by_node(node, windows, output)


def _by_node(node: Any, windows: Windows, output: int) -> Sequence[Windows | None]:
    """What a node itself gives for each scalar, over whole tensors."""
    shapes = [tuple(metadata.shape) for metadata in node._input_metadata]
    inputs: list[list[tuple[int, Tensor]]] = [[] for _ in node.next_functions]
    for number, owner in enumerate(windows.owners):
        whole: list[Tensor | None] = [None] * len(shapes)
        whole[output] = windows.dense(number, shapes[output])
        answer = node(*whole)
        for place, gradient in enumerate(answer if isinstance(answer, tuple) else (answer,)):
            if gradient is not None and node.next_functions[place][0] is not None:
                inputs[place].append((owner, gradient))
    return [from_dense(gradients) if gradients else None for gradients in inputs]


def _sorted_nodes(roots: Sequence[Any]) -> list[Any]:
    """All nodes of a graph, each before those that it was computed from."""
    order: list[Any] = []
    seen: set[Any] = set()
    stack = [(root, False) for root in roots]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(before, False) for before, _ in node.next_functions if before is not None and before not in seen]
    order.reverse()
    return order


def _place_of(tensor: Tensor, leaves: Sequence[Any]) -> Place:
    """Where in the graph a tensor's gradient arrives."""
    if tensor.grad_fn is not None:
        return tensor.grad_fn, tensor.output_nr
    return next((leaf for leaf in leaves if leaf.variable is tensor), tensor), 0


def _leading_to(order: Sequence[Any], wanted: set[Any]) -> set[Any]:
    """The nodes from which a gradient goes on to those that are wanted, and these themselves."""
    leading: set[Any] = set()
    for node in reversed(order):
        if node in wanted or any(before in leading for before, _ in node.next_functions):
            leading.add(node)
    return leading
