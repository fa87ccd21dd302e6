"""Maps judged under fills that no method uses, in steps of the image's area.

Cells are hidden and shown, 48 along the image's longer side, and not pixels: inpainting restores single missing pixels
from their neighbours, so that hiding scattered pixels would hide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from detcam.adapters.base import DetectorAdapter
from detcam.methods.regions import box_gaussian
from detcam.metrics.correlation import cell_numbers, in_cells, pearson, spearman
from detcam.metrics.faithfulness import SUFFICIENT_SHARE, area_under, ranking
from detcam.metrics.unseen import UNSEEN, Fill
from detcam.probing.prepared_image import prepare_images
from detcam.probing.probe import Probe
from detcam.targets import class_logit
from detcam.types import Detection

STEP_SHARES = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
"""Shares of the image without padding that are hidden or shown at each step; boxes of half the image need the last. The
area under a curve counts every step alike, so that each doubling has the same weight, for small causes and large."""

Figures = dict[str, float | list[float]]


class Judge:
    """Judges maps of one image's detections.

    Args:
        probe: the detections, in the image they are of.
        seed: of ties, and of fills.

    Attributes:
        forwards: images it has passed through the detector so far.
    """

    def __init__(self, probe: Probe, seed: int = 0) -> None:
        self._probe, self._seed = probe, seed
        self._fills = {name: make(probe.image, probe.inside, seed) for name, make in UNSEEN.items()}
        nothing = torch.cat([fill(probe.inside[None]) for fill in self._fills.values()])
        start = probe.forwards
        self._blank = dict(zip(self._fills, probe.scores(nothing), strict=True))
        self.forwards = probe.forwards - start

    def figures(self, heat: Tensor, number: int) -> Figures:
        """What a map of the probe's detection ``number`` is worth.

        Args:
            heat: (h', w') over the detector's input, as :attr:`detcam.types.Heatmap.raw`; a map that is the same
                everywhere is judged as one at random.
            number: counted from 0.

        Returns:
            By fill ``unseen_inpaint``, insertion minus deletion (about -1 to 1, higher is better),
            ``unseen_insertion_inpaint``, ``unseen_deletion_inpaint``, ``unseen_sufficient_inpaint`` (share of the
            image) and both curves; ``unseen``, the mean over the fills.
        """

        def score(images: Tensor) -> Tensor:
            return self._probe.scores(images, [number])[:, 0]

        start, before = self._probe.forwards, float(self._probe.before[number])
        figures: Figures = {}
        differences = []
        for name, fill in self._fills.items():
            blank = float(self._blank[name][number])
            deletion, insertion = judged_curves(heat, self._probe.inside, fill, score, (before, blank), self._seed)
            shares = {"insertion": insertion / before, "deletion": deletion / before}
            areas = {kind: area_under(curve) for kind, curve in shares.items()}
            differences.append(areas["insertion"] - areas["deletion"])
            figures[f"unseen_{name}"] = differences[-1]
            figures[f"unseen_sufficient_{name}"] = sufficient_share(shares["insertion"])
            for kind, curve in shares.items():
                figures[f"unseen_{kind}_{name}"] = areas[kind]
                figures[f"curve_unseen_{kind}_{name}"] = curve.tolist()
        figures["unseen"] = float(np.mean(differences))
        self.forwards += self._probe.forwards - start
        return figures


def judged_curves(
    heat: Tensor,
    inside: Tensor,
    fill: Fill,
    score: Callable[[Tensor], Tensor],
    ends: tuple[float, float],
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Deletion and insertion curves over the :data:`STEP_SHARES`, unscaled.

    Args:
        heat: (h', w') over the detector's input.
        inside: bool (h, w), False in the padding.
        fill: of :mod:`detcam.metrics.unseen`, made for the image.
        score: images (n, 3, h, w) -> how much is left in each, (n,).
        ends: the scores of the whole image and of the fill alone.
        seed: breaks ties.
    """
    cells = in_cells(heat, inside)
    place = ranking(cells, torch.ones_like(cells, dtype=torch.bool), seed).flatten()
    place = place[cell_numbers(inside)[0].clamp(min=0)]
    counts = [max(round(share * cells.numel()), 1) for share in STEP_SHARES[1:]]
    hot = (place < torch.tensor(counts, device=place.device)[:, None, None]) & inside
    left = score(torch.cat([fill(hot), fill(inside & ~hot)])).double().cpu().numpy()
    deletion, insertion = np.split(left, 2)
    return np.array([ends[0], *deletion]), np.array([ends[1], *insertion])


def sufficient_share(insertion: Sequence[float] | NDArray[np.floating]) -> float:
    """The least share of the image, hottest first, that brings 90 % of the score back; 1, all of it, if none does.

    Args:
        insertion: the curve over the :data:`STEP_SHARES`, over the unperturbed score.
    """
    reached = np.flatnonzero(np.asarray(insertion) >= SUFFICIENT_SHARE)
    return STEP_SHARES[reached[0]] if len(reached) else 1.0


def likeness_to_box(heat: Tensor, box: Tensor, inside: Tensor) -> dict[str, float]:
    """How much a map is the Gaussian in the box again: ``box_spearman``, ``box_pearson``, over the image's cells.

    NaN for a map that is the same everywhere.

    Args:
        heat: (h', w') over the detector's input.
        box: (4,) xyxy in its pixels.
        inside: bool (h, w), False in the padding.
    """
    gaussian = box_gaussian(box, (inside.shape[0], inside.shape[1]))
    maps = [in_cells(part, inside).cpu().numpy() for part in (heat, gaussian)]
    return {"box_spearman": spearman(*maps), "box_pearson": pearson(*maps)}


def judge_maps(
    model: DetectorAdapter, maps: Sequence[tuple[ArrayLike, Detection, NDArray[np.uint8]]], seed: int = 0
) -> list[dict[str, Any]]:
    """What maps from anywhere are worth, one line of figures for each, in order.

    Args:
        model: the detector.
        maps: each a heat (h', w') over the detector's input (:attr:`detcam.types.Heatmap.raw`), the detection it is of
            and the image, RGB uint8 (H, W, 3); images that are one array share what can be shared.
        seed: of ties, and of fills.
    """
    lines: dict[int, dict[str, Any]] = {}
    for image in {id(image): image for _, _, image in maps}.values():
        places = [place for place, one in enumerate(maps) if one[2] is image]
        (prepared,) = prepare_images(model, [image])
        probe = Probe(prepared, [(maps[place][1], class_logit) for place in places])
        judge = Judge(probe, seed)
        for number, place in enumerate(places):
            heat = torch.tensor(np.asarray(maps[place][0], np.float32), device=prepared.batch.device)
            lines[place] = {
                **judge.figures(heat, number),
                **likeness_to_box(heat, probe.boxes[number], probe.inside),
            }
    return [lines[place] for place in range(len(maps))]
