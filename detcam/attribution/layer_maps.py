"""Maps made at layers: gradients of every detection's target there, one map per layer, the layers fused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detcam.adapters.base import RawOutput, describe
from detcam.attribution.augmentation import mirror, views
from detcam.attribution.options import MapOptions
from detcam.errors import UsageError
from detcam.methods.cam import positive_component
from detcam.probing.prepared_image import PreparedImage, forward
from detcam.targets import Target, find_target, mirror_target, target_parts
from detcam.tensors.fusion import box_reach, combine_maps, fuse_maps, gradient_support
from detcam.tensors.gradients import gradients_of
from detcam.tensors.windows import Windows
from detcam.types import Detection

MIN_BOX_REACH = 0.5
"""``auto`` leaves out layers whose gradient reaches less than this share of the box."""
GRID_CELLS = 16
"""Cells along each side of a map that needs no layer, for a model that can only be called."""


@dataclass(frozen=True, eq=False)
class RawMap:
    """A raw map, and how it was made.

    Attributes:
        map: (h, w), over the detector's input, unscaled.
        layers: module paths; none where no gradient reached any.
        support: for each layer the share of its cells that the target has any gradient at, in [0, 1].
        forwards: its price in forward passes; a backward pass counts as two.
    """

    map: Tensor
    layers: tuple[str, ...]
    support: tuple[float, ...]
    forwards: float


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """Makes the maps of a batch's detections at one choice of layers.

    Attributes:
        options: how maps are made, by a method that works at layers.
        layers: module paths.
    """

    options: MapOptions
    layers: tuple[str, ...]

    def __call__(self, prepared: Sequence[PreparedImage], wanted: Sequence[Sequence[Detection]]) -> list[list[RawMap]]:
        """For each image, one map per detection; the detections of all images go through the graph together.

        Args:
            prepared: all images of one raw output, in its order, with the layers captured.
            wanted: each image's detections.
        """
        model, raw = prepared[0].model, prepared[0].raw
        batch = torch.cat([one.batch for one in prepared])
        chosen: dict[tuple[int, int], dict[str, float]] = {}
        totals: dict[tuple[int, int, int], Tensor] = {}
        count = 0
        for view in views(batch, self.options.smoothing, self.options.seed):
            out = raw if count == 0 else forward(model, view.batch, self.layers)
            count += 1
            names = [mirror_target(part) if view.flipped else part for part in target_parts(self.options.target)]
            targets = [find_target(name, model.names) for name in names]
            asked = {
                (i, turn): mirror(detection, i, raw, out) if view.flipped else detection
                for i, found in enumerate(wanted)
                for turn, detection in enumerate(found)
            }
            for (i, turn, part), gradients in self._gradients(out, asked, targets):
                detection = asked[i, turn]
                if (i, turn) not in chosen:
                    chosen[i, turn] = self._choose_layers(out, gradients, i, detection)
                one = self._fused(out, gradients, i, turn, detection, list(chosen[i, turn]))
                one = one.flip(-1) if view.flipped else one
                before = totals.get((i, turn, part))
                totals[i, turn, part] = one if before is None else before + one
        parts = range(len(target_parts(self.options.target)))
        return [
            [
                RawMap(
                    combine_maps([totals[i, turn, part] / count for part in parts]),
                    tuple(chosen[i, turn]),
                    tuple(chosen[i, turn].values()) if self._takes("gradients") else (),
                    self._price(count, len(found)),
                )
                for turn in range(len(found))
            ]
            for i, found in enumerate(wanted)
        ]

    def _takes(self, name: str) -> bool:
        """Whether the method asks for something by this name."""
        return name in self.options.method.takes

    def _price(self, views: int, detections: int) -> float:
        """Forward passes for each of an image's detections: a backward pass counts as two."""
        backward = 2 * len(target_parts(self.options.target)) if self._takes("gradients") else 0
        return backward * views + (views - 1) / detections

    def _gradients(
        self, raw: RawOutput, asked: Mapping[tuple[int, int], Detection], targets: Sequence[Target]
    ) -> Iterator[tuple[tuple[int, int, int], dict[str, Windows]]]:
        """Of each detection and target the gradients at the layers that have any."""
        questions = [(i, turn, part) for i, turn in asked for part in range(len(targets))]
        if not self._takes("gradients"):
            yield from ((question, {}) for question in questions)
            return
        with torch.enable_grad():
            scores = [targets[part](raw, i, asked[i, turn]) for i, turn, part in questions]
        names, tensors = list(raw.activations), list(raw.activations.values())
        strides = [asked[i, turn].stride for i, turn, _ in questions]
        for number, windows in gradients_of(scores, tensors, strides):
            yield questions[number], {name: one for name, one in zip(names, windows, strict=True) if one is not None}

    def _choose_layers(
        self, raw: RawOutput, gradients: Mapping[str, Windows], index: int, detection: Detection
    ) -> dict[str, float]:
        """The layers of one detection's map, and the support of its gradient at each."""
        if not self._takes("gradients"):
            return dict.fromkeys(list(raw.activations) or ["input"], 1.0)
        reached = {name: one.cells(raw.activations[name].shape)[None] for name, one in gradients.items()}
        support = {name: gradient_support(cells) for name, cells in reached.items()}
        connected = {name: share for name, share in support.items() if share > 0}
        if not self.options.is_auto:
            return connected
        box = raw.box_of(index, detection.anchor, detection.class_id).detach()
        seeing = [name for name in connected if box_reach(reached[name], box, raw.size) >= MIN_BOX_REACH]
        return {name: connected[name] for name in seeing or connected}

    def _fused(
        self,
        raw: RawOutput,
        gradients: Mapping[str, Windows],
        index: int,
        turn: int,
        detection: Detection,
        layers: Sequence[str],
    ) -> Tensor:
        """One detection's map of one target at the layers chosen for it."""
        activations = raw.activations or {"input": raw.boxes.new_zeros(len(raw.boxes), 1, GRID_CELLS, GRID_CELLS)}
        if not layers:
            return torch.zeros(next(iter(activations.values())).shape[-2:], device=raw.boxes.device)
        if self.options.method.cellwise and "eigen" not in self.options.smoothing:
            return fuse_maps(
                [self._cellwise(activations[name], gradients.get(name)) for name in layers], self.options.fusion
            )
        box = raw.box_of(index, detection.anchor, detection.class_id).detach().float()
        place = raw.places(index)[detection.anchor].float() if self._takes("anchor") else box[:2]
        maps = []
        for name in layers:
            layer = activations[name][index].detach().float()
            rows, columns = layer.shape[-2:]
            cells = torch.tensor([columns, rows], device=box.device) / torch.tensor(raw.size[::-1], device=box.device)
            available: dict[str, Any] = {
                "activations": layer,
                "gradients": _whole(activations[name], gradients.get(name), index),
                "box": box * cells.repeat(2),
                "anchor": place * cells,
                "stride": float(1 / cells[1]),
                "seed": self.options.seed + turn,
            }
            if "eigen" in self.options.smoothing:
                available["reduce"] = positive_component
            maps.append(self._layer_map(available))
        return fuse_maps(maps, self.options.fusion)

    def _cellwise(self, activations: Tensor, gradient: Windows | None) -> Tensor:
        """One layer's map, made where the gradient reaches; it is zero elsewhere."""
        whole = torch.zeros(activations.shape[-2:], device=activations.device)
        if gradient is not None:
            available = {
                "activations": gradient.crops(activations.detach())[0, 0].float(),
                "gradients": gradient.values[0, 0].float(),
            }
            top, left = gradient.offsets[0][2:]
            height, width = gradient.sizes[2:]
            whole[top : top + height, left : left + width] = self._layer_map(available)
        return whole

    @torch.no_grad()
    def _layer_map(self, available: dict[str, Any]) -> Tensor:
        """What the method makes of one layer."""
        made = self.options.method.layer_map(available)
        if not isinstance(made, Tensor) or made.ndim != 2:
            raise UsageError(
                f"method {self.options.method_name!r} has to give one map (h, w) of a layer's activations "
                f"{tuple(available['activations'].shape)}, and gave {describe(made)}"
            )
        return made


def _whole(activations: Tensor, gradient: Windows | None, index: int) -> Tensor:
    """A gradient at all cells of one image's layer, float32 (channel, h, w)."""
    if gradient is None:
        return torch.zeros_like(activations[index], dtype=torch.float32)
    return gradient.dense(0, activations.shape)[index].float()
