"""Maps made at layers: gradients of every detection's target there, one map per layer, the layers fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detcam.adapters.base import RawOutput, describe
from detcam.attribution.augmentation import mirror, views
from detcam.attribution.options import MapOptions
from detcam.errors import UsageError
from detcam.methods.cam import positive_component
from detcam.probing.prepared_image import PreparedImage
from detcam.targets import Target, find_target, mirror_target, target_parts
from detcam.tensors.fusion import box_reach, combine_maps, fuse_maps, gradient_support
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

    def __call__(
        self, prepared: Sequence[PreparedImage], wanted: Sequence[Sequence[Detection]], keep: bool = False
    ) -> list[list[RawMap]]:
        """For each image, one map per detection; the j-th detections of all images share each backward pass.

        Args:
            prepared: all images of one raw output, in its order, with the layers captured.
            wanted: each image's detections.
            keep: the raw output's graph, for another call.
        """
        model, raw = prepared[0].model, prepared[0].raw
        batch = torch.cat([one.batch for one in prepared])
        chosen: dict[tuple[int, int], dict[str, float]] = {}
        totals: dict[tuple[int, int], list[Tensor]] = {}
        count = 0
        for view in views(batch, self.options.smoothing, self.options.seed):
            out = raw if count == 0 else model.forward(view.batch, self.layers)
            count += 1
            names = [mirror_target(part) if view.flipped else part for part in target_parts(self.options.target)]
            targets = [find_target(name, model.names) for name in names]
            rounds = max(map(len, wanted))
            for turn in range(rounds):
                asked = {i: found[turn] for i, found in enumerate(wanted) if turn < len(found)}
                if view.flipped:
                    asked = {i: mirror(detection, i, raw, out) for i, detection in asked.items()}
                parts: dict[int, list[Tensor]] = {i: [] for i in asked}
                for number, target in enumerate(targets):
                    last = not keep and turn == rounds - 1 and number == len(targets) - 1
                    gradients = self._gradients(out, asked, target, last)
                    for i, detection in asked.items():
                        if (i, turn) not in chosen:
                            chosen[i, turn] = self._choose_layers(out, gradients, i, detection)
                        one = self._fused(out, gradients, i, turn, detection, list(chosen[i, turn]))
                        parts[i].append(one.flip(-1) if view.flipped else one)
                for i, maps in parts.items():
                    before = totals.get((i, turn), [torch.zeros_like(part) for part in maps])
                    totals[i, turn] = [total + part for total, part in zip(before, maps, strict=True)]
        return [
            [
                RawMap(
                    combine_maps([part / count for part in totals[i, turn]]),
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
        self, raw: RawOutput, detections: dict[int, Detection], target: Target, last: bool
    ) -> dict[str, Tensor]:
        """Gradients of each detection's target at every layer; images of a batch do not touch each other's."""
        if not self._takes("gradients"):
            return {}
        with torch.enable_grad():
            score = sum((target(raw, i, detection) for i, detection in detections.items()), torch.zeros(()))
        tensors = list(raw.activations.values())
        gradients: Sequence[Tensor | None] = [None] * len(tensors)
        if score.requires_grad:  # else no captured layer has a part in it
            gradients = torch.autograd.grad(score, tensors, retain_graph=not last, allow_unused=True)
        return {
            name: torch.zeros_like(tensor) if gradient is None else gradient
            for (name, tensor), gradient in zip(raw.activations.items(), gradients, strict=True)
        }

    def _choose_layers(
        self, raw: RawOutput, gradients: dict[str, Tensor], index: int, detection: Detection
    ) -> dict[str, float]:
        """The layers of one detection's map, and the support of its gradient at each."""
        if not gradients:
            return dict.fromkeys(list(raw.activations) or ["input"], 1.0)
        support = {name: gradient_support(gradient[index]) for name, gradient in gradients.items()}
        connected = {name: share for name, share in support.items() if share > 0}
        if not self.options.is_auto:
            return connected
        box = raw.box_of(index, detection.anchor, detection.class_id).detach()
        seeing = [name for name in connected if box_reach(gradients[name][index], box, raw.size) >= MIN_BOX_REACH]
        return {name: connected[name] for name in seeing or connected}

    def _fused(
        self,
        raw: RawOutput,
        gradients: dict[str, Tensor],
        index: int,
        turn: int,
        detection: Detection,
        layers: Sequence[str],
    ) -> Tensor:
        """One detection's map of one target at the layers chosen for it."""
        activations = raw.activations or {"input": raw.boxes.new_zeros(len(raw.boxes), 1, GRID_CELLS, GRID_CELLS)}
        if not layers:
            return torch.zeros(next(iter(activations.values())).shape[-2:], device=raw.boxes.device)
        box = raw.box_of(index, detection.anchor, detection.class_id).detach().float()
        place = raw.places(index)[detection.anchor].float() if self._takes("anchor") else box[:2]
        maps = []
        for name in layers:
            layer = activations[name][index].detach().float()
            rows, columns = layer.shape[-2:]
            cells = torch.tensor([columns, rows], device=box.device) / torch.tensor(raw.size[::-1], device=box.device)
            available: dict[str, Any] = {
                "activations": layer,
                "gradients": gradients[name][index].float() if gradients else None,
                "box": box * cells.repeat(2),
                "anchor": place * cells,
                "stride": float(1 / cells[1]),
                "seed": self.options.seed + turn,
            }
            if "eigen" in self.options.smoothing:
                available["reduce"] = positive_component
            with torch.no_grad():
                made = self.options.method.layer_map(available)
            if not isinstance(made, Tensor) or made.ndim != 2:
                raise UsageError(
                    f"method {self.options.method_name!r} has to give one map (h, w) of a layer's activations "
                    f"{tuple(layer.shape)}, and gave {describe(made)}"
                )
            maps.append(made)
        return fuse_maps(maps, self.options.fusion)
