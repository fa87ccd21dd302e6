"""Ground truth by construction: kites that the demo's detector calls kites only for their mark, and maps of them.

That a mark is the cause is not assumed: each kite here is called a kite in its scene, and no longer in the same scene
without its mark. What is drawn in the box is a cause as well, so figures without the box and with it are told too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from detcam.adapters import load
from detcam.adapters.base import DetectorAdapter
from detcam.demo import WEIGHTS
from detcam.demo.scenes import KITE, Thing, make_scene, render
from detcam.errors import UsageError, is_count
from detcam.evaluate.faithfulness import interval
from detcam.evaluate.localization import box_mask, energy_inside, pointing_game
from detcam.evaluate.run import Contestant
from detcam.explainer import Explainer
from detcam.geometry import iou_matrix
from detcam.imagewise import Seen
from detcam.methods import find_method
from detcam.types import Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Mask = NDArray[np.bool_]

FIRST_SEED = 700_000
"""Its scenes, and those after it, are used for nothing else."""
CONF = 0.25
HOTTEST = 0.1
FIGURES = (
    "mass", "rank", "mass_outside", "rank_outside", "in_hottest", "pointing", "mass_with_box", "pointing_with_box",
)  # fmt: skip
"""What is told of a map.

``mass``: the share of its mass on the mark. ``rank``: of as many of its hottest pixels as the mark has, the share on
the mark (both: Arras et al. 2022, CLEVR-XAI, arXiv:2003.07258). ``mass_outside``, ``rank_outside``: the same over the
pixels outside the box, where the mark is the only known cause; ``rank`` cannot tell a map that shows the object first
and the mark next from one that shows the object alone. ``in_hottest``: 1 if at least half of the mark is in the hottest
tenth of the map, else 0. ``pointing``: whether the hottest pixel is on the mark. ``mass_with_box``,
``pointing_with_box``: on the mark or in the box.
"""
MAIN, THEN = "mass_outside", "rank_outside"
"""The figure that methods are ordered by, and what breaks ties. By either rank, edges alone come out on top."""
REFERENCES = ("mark", "elsewhere")
"""Maps no method made: the mark itself, and as large a part at the same height on the box's other side."""

BASELINES = ("box", "edges", "random")

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class PlantedKite:
    """A detection whose cause is its mark.

    Attributes:
        seed: of its scene.
        image: RGB uint8 (H, W, 3), the scene.
        number: of the detection, counted from 0 in descending confidence.
        mark, elsewhere, box: bool (H, W): the mark, the same to the left of the box, and the kite's true box.
    """

    seed: int
    image: NDArray[np.uint8]
    number: int
    mark: Mask
    elsewhere: Mask
    box: Mask


def planted_kites(model: DetectorAdapter, first: int = FIRST_SEED) -> Iterator[PlantedKite]:
    """Every kite, scene by scene without end, that is called a kite with its mark and not without.

    Args:
        model: the demo's detector, or another that was trained on its scenes.
        first: the first scene's seed.
    """
    for seed in count(first):
        scene = make_scene(seed)
        image = render(scene)
        found = detections_of(model, image) if any(thing.marked for thing in scene.things) else ()
        for thing in (thing for thing in scene.things if thing.class_id == KITE and thing.marked):
            number = _over(found, thing)
            if number is None or found[number].class_id != KITE:
                continue
            others = tuple(replace(one, marked=False) if one is thing else one for one in scene.things)
            without = detections_of(model, render(replace(scene, things=others)))
            still = _over(without, thing)
            if still is None or without[still].class_id != KITE:
                x1, y1, x2, y2 = thing.mark_xyxy
                left = max(2 * thing.x - x2, 0)
                mark, elsewhere, box = (
                    box_mask(xyxy, image.shape[:2])
                    for xyxy in ((x1, y1, x2, y2), (left, y1, left + x2 - x1, y2), thing.xyxy)
                )
                yield PlantedKite(seed, image, number, mark, elsewhere, box)


def planted(methods: Sequence[str], limit: int, seed: int = 0, receipts: bool = False) -> list[Row]:
    """One row for each method and each of the first ``limit`` planted kites: how much of the cause its map shows.

    Args:
        methods: written as :class:`~detcam.evaluate.run.Contestant` reads them.
        limit: how many kites.
        seed: of the methods and the receipts.
        receipts: also whether each map's receipt is right, 16 forward passes each; see :func:`receipt_of`.

    Returns:
        Rows with ``image``, ``detection``, ``method``, ``status``, ``forwards``, the :data:`FIGURES`, and
        ``supported`` and ``right`` where receipts were asked; :data:`REFERENCES` are among the methods.

    Raises:
        UsageError: no such method or layer, a method twice, or a limit below 1.
    """
    if not is_count(limit):
        raise UsageError(f"limit must be a whole number, at least 1, got {limit!r}")
    model = load(WEIGHTS)
    explainers = make_explainers(model, methods, seed)
    anyone = Explainer(model, "box", seed=seed)
    rows: list[Row] = []
    for kite in islice(planted_kites(model), limit):
        batch, letterboxes = model.prepare([kite.image])
        seen = Seen(batch, model.forward(batch), 0, letterboxes[0])
        detection = detections_of(model, kite.image)[kite.number]
        maps: dict[str, tuple[Floats, str, float]] = {
            name: (region.astype(np.float32), "ok", 0.0)
            for name, region in zip(REFERENCES, (kite.mark, kite.elsewhere), strict=True)
        }
        for name, explainer in explainers.items():
            explainer.numbers = [kite.number]
            told = explainer(kite.image)[0][0]
            maps[name] = told.heatmap.array, told.status, float(told.forwards)
        for name, (heat, status, forwards) in maps.items():
            row = {"image": f"scene {kite.seed}", "detection": kite.number, "method": name, "status": status,
                   "forwards": forwards, **recovery(heat, kite.mark, kite.box)}  # fmt: skip
            if receipts and heat.any():
                row |= receipt_of(anyone, seen, detection, heat, kite)
            rows.append(row)
    return rows


def detections_of(model: DetectorAdapter, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
    """The detections of an image, RGB uint8 (H, W, 3), as its explainers number them."""
    batch, letterboxes = model.prepare([image])
    return model.decode(model.forward(batch), letterboxes, conf=CONF, iou=0.7, classes=None, max_det=300)[0]


def make_explainers(model: DetectorAdapter, methods: Sequence[str], seed: int) -> dict[str, Explainer]:
    """An explainer for each contestant, by its text.

    Raises:
        UsageError: no such method or layer, or a method twice.
    """
    if twice := {text for text in methods if list(methods).count(text) > 1}:
        raise UsageError(f"{min(twice)!r} is named twice")
    contestants = [Contestant.parse(text) for text in methods]
    return {
        one.text: Explainer(model, one.method, one.layers.split(","), budget=one.budget, conf=CONF, seed=seed)
        for one in contestants
    }


def combine(methods: Sequence[str], layers: Sequence[str]) -> list[str]:
    """Every method with each of the layers, as contestants; those that need no layers once."""
    texts = []
    for text in methods:
        name, colon, budget = text.partition(":")
        method = find_method(name)
        takes = method.on == "layer" or method.layers
        texts += [f"{name}@{one}{colon}{budget}" for one in layers] if takes else [text]
    return texts


def hottest_inside(heat: Floats, region: Mask, number: int) -> float:
    """How many of a map's ``number`` hottest pixels lie in a region.

    Where pixels are equally hot and not all are among them, the number to expect if chance picks.

    Args:
        heat: of any shape.
        region: bool, of that shape.
        number: from 1 to the number of pixels.
    """
    least = np.partition(heat, -number, axis=None)[-number]
    above, level = heat > least, heat == least
    chance = (number - np.count_nonzero(above)) / np.count_nonzero(level)
    return float(np.count_nonzero(above & region) + chance * np.count_nonzero(level & region))


def recovery(heat: Floats, mark: Mask, box: Mask) -> dict[str, float]:
    """How much of a known cause a map shows.

    Args:
        heat: (H, W), finite and nowhere negative.
        mark: bool (H, W), the cause, at least one pixel.
        box: bool (H, W), the object, which is a cause of its own detection as well.

    Returns:
        The :data:`FIGURES`, in [0, 1]; 0 for a map without any heat, which shows nothing; NaN for the two ``_outside``
        where no pixel of the mark is outside the box.
    """
    mass, rank = _shares(heat, mark)
    mass_outside, rank_outside = _shares(heat[~box], mark[~box])
    told = {"mass": mass, "rank": rank, "mass_outside": mass_outside, "rank_outside": rank_outside}
    if not heat.any():
        return {**dict.fromkeys(FIGURES, 0.0), **told}
    hottest = hottest_inside(heat, mark, max(round(HOTTEST * heat.size), 1))
    return {
        **told,
        "in_hottest": float(hottest >= np.count_nonzero(mark) / 2),
        "pointing": pointing_game(heat, mark),
        "mass_with_box": energy_inside(heat, mark | box),
        "pointing_with_box": pointing_game(heat, mark | box),
    }


def _shares(heat: Floats, mark: Mask) -> tuple[float, float]:
    """Mass and rank of a mark in pixels of any shape; NaN where none is the mark's, 0 where there is no heat."""
    size = int(np.count_nonzero(mark))
    if not size:
        return math.nan, math.nan
    if not heat.any():
        return 0.0, 0.0
    mass = heat.sum(dtype=np.float64, where=mark) / heat.sum(dtype=np.float64)
    return float(mass), hottest_inside(heat, mark, size) / size


def receipt_of(explainer: Explainer, seen: Seen, detection: Detection, heat: Floats, kite: PlantedKite) -> Row:
    """A map's receipt, and whether it is right.

    Right is a receipt that supports a map whose hottest part holds at least half of the mark, and one that rejects a
    map whose hottest part lies beside the mark and the box. In between the truth is not known, for a part of the kite
    itself is a cause as well: None.
    """
    receipt = explainer.image_maps.receipts(seen, [detection], [torch.from_numpy(np.array(heat, np.float32))])[0]
    hot = max(round(receipt.hot_share * heat.size), 1)
    held, touched = (hottest_inside(heat, region, hot) for region in (kite.mark, kite.mark | kite.box))
    true = True if held >= np.count_nonzero(kite.mark) / 2 else False if touched == 0 else None
    return {"supported": receipt.supported, "right": None if true is None else receipt.supported == true}


def summarise(rows: Sequence[Row]) -> list[Row]:
    """One line for each method, the best first: by :data:`MAIN`, then by :data:`THEN`.

    Returns:
        Lines with ``method``, ``detections``, the means of the :data:`FIGURES` with their bootstrap 95 % intervals
        (``rank``, ``rank_low``, ``rank_high``), ``no_signal``, ``forwards``, and where receipts were asked ``judged``
        and ``right``: how many of them could be judged, and how many of those were right.
    """
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        line: Row = {"method": name, "detections": len(own)}
        for figure in FIGURES:
            values = np.array([row[figure] for row in own])
            line[figure], line[f"{figure}_low"], line[f"{figure}_high"] = interval(values)
        line["forwards"] = float(np.mean([row["forwards"] for row in own]))
        line["no_signal"] = sum(row["status"] == "no_signal" for row in own)
        if any("right" in row for row in rows):
            judged = [row["right"] for row in own if row.get("right") is not None]
            line["judged"], line["right"] = len(judged), sum(judged)
        lines.append(line)
    return sorted(lines, key=lambda line: (-line[MAIN], -line[THEN]))


def judge(rows: Sequence[Row], lines: Sequence[Row]) -> tuple[str, str]:
    """The best contestant that is neither a baseline nor a reference, and one sentence on how far ahead it is.

    Args:
        rows: a row for each map; each contestant's are of the same detections in the same order.
        lines: their summary, best first.
    """
    values = {line["method"]: np.array([r[MAIN] for r in rows if r["method"] == line["method"]]) for line in lines}
    baselines = [name for name in values if name.partition("@")[0] in BASELINES]
    ranked = [name for name in values if name not in (*baselines, *REFERENCES)]
    ranked, rivals = (ranked, baselines[:1]) if ranked else (baselines, [])
    best = next(line for line in lines if line["method"] == ranked[0])
    verdict = (
        f"{ranked[0]} finds the mark best: {best[MAIN]:.0%} [{best[f'{MAIN}_low']:.0%}, {best[f'{MAIN}_high']:.0%}] "
        f"of its heat outside the box lies on it, and at least half of it is in the hottest tenth of "
        f"{best['in_hottest']:.0%} of the maps"
    )
    for rival in (*ranked[1:2], *rivals):
        lead, low, high = interval(values[ranked[0]] - values[rival])
        note = "" if low > 0 else ", within noise" if high >= 0 else ", which finds it better"
        verdict += f"; lead over {rival} {lead:+.1%} [{low:+.1%}, {high:+.1%}]{note}"
    return ranked[0], verdict


def _over(found: Sequence[Detection], thing: Thing) -> int | None:
    """The most confident detection whose box is the thing's (IoU 0.5 or more)."""
    truth = np.array([thing.xyxy])
    return next((n for n, d in enumerate(found) if iou_matrix(d.xyxy[None], truth)[0, 0] >= 0.5), None)
