"""The layers of a network: measured by a forward pass, put into groups, and found by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from detcam.adapters.base import Layer
from detcam.errors import UsageError, nearest
from detcam.tensors.hooks import record_shapes

GROUPS = ("auto", "backbone", "neck")


@dataclass(frozen=True)
class LayerIndex:
    """What can be explained in a network.

    Attributes:
        modules: every module by its path; any of them can be named.
        listed: the layers worth naming, in the order they run, with their groups.
    """

    modules: Mapping[str, nn.Module]
    listed: Sequence[Layer]

    def resolve(self, layers: str | Sequence[str]) -> tuple[str, ...]:
        """Module paths for groups and paths; see :class:`~detcam.adapters.base.DetectorAdapter`.

        ``auto`` is ``backbone``: at the neck output of its own level, a head input, a box's gradient covers the 5 x 5
        cells around its anchor whatever the image shows, and in a sum of layers that blob outshines the rest. A model
        that does not say which layers are its backbone has a group ``auto`` in its place.

        Args:
            layers: one or several, as a sequence or separated by commas.

        Raises:
            UsageError: no such group or module, or none was named.
        """
        asked = layers.split(",") if isinstance(layers, str) else layers or []
        chosen: dict[str, None] = {}
        auto = "auto" if any("auto" in layer.groups for layer in self.listed) else "backbone"
        for name in (str(part).strip() for part in asked):
            if name in GROUPS:
                group = auto if name == "auto" else name
                members = [layer.name for layer in self.listed if group in layer.groups]
                if not members:
                    raise UsageError(f"this model names no {group} layers; detcam layers lists what can be named")
                chosen.update(dict.fromkeys(members))
            elif name in self.modules:
                chosen[name] = None
            else:
                known = [*GROUPS, *(layer.name for layer in self.listed)]
                raise UsageError(f"no layer {name!r} in this model{nearest(name, known)}")
        if not chosen:
            raise UsageError("no layer was named; give a group (auto, backbone, neck) or module paths such as model.15")
        return tuple(chosen)


def measure_layers(
    blocks: Mapping[str, nn.Module],
    run: Callable[[], object],
    size: tuple[int, int],
    group: Callable[[Mapping[str, tuple[int, int, int]]], Mapping[str, Collection[str]]],
) -> list[Layer]:
    """Run the network once and list those of its ``blocks`` that give one feature map.

    Args:
        blocks: modules by path.
        run: a forward pass on a blank input.
        size: (height, width) of that input.
        group: (channel, height, width) of each block that ran -> the members of each group.
    """
    with torch.no_grad(), record_shapes(blocks) as shapes:
        run()
    groups = group(shapes)
    return [
        Layer(
            name,
            type(blocks[name]).__name__,
            (size[0] / shape[1], size[1] / shape[2]),
            shape,
            tuple(key for key, members in groups.items() if name in members),
        )
        for name, shape in shapes.items()
    ]


def stage_ends(shapes: Mapping[str, tuple[int, int, int]], names: Sequence[str], levels: Collection[str]) -> set[str]:
    """The ends of a backbone's stages: its last layer at the height of each level.

    Args:
        shapes: (channel, height, width) of each layer that ran.
        names: the backbone's layers, in the order they run.
        levels: layers whose heights count.
    """
    last = {shapes[name][1]: name for name in names if name in shapes}
    heights = {shapes[level][1] for level in levels if level in shapes}
    return {last[height] for height in heights if height in last}


def first_chain(blocks: Mapping[str, nn.Module], shapes: Mapping[str, tuple[int, int, int]]) -> list[str]:
    """The blocks of a YOLO up to the first that takes more than the one before it, or enlarges its map.

    Args:
        blocks: modules by path, in order; ``f`` is where each takes its input from, -1 for the one before.
        shapes: (channel, height, width) of each block that ran.
    """
    chain: list[str] = []
    for name, block in blocks.items():
        before = shapes.get(chain[-1]) if chain else None
        larger = before is not None and name in shapes and shapes[name][1] > before[1]
        if getattr(block, "f", -1) != -1 or larger:
            break
        chain.append(name)
    return chain
