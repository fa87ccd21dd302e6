"""Ground truth by construction: detections whose cause is known, of every kind, and maps of them.

That something is the cause is not assumed: each thing here is detected as what it is, and not so in the same scene
without its cause. :func:`planted_causes` goes through the scenes of :mod:`detcam.demo.causes`, of every kind;
:func:`planted_kites` through those of the demo, whose marks stand for ``near`` in the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from detcam.adapters import load
from detcam.adapters.base import DetectorAdapter
from detcam.attribution.prepared_image import PreparedImage, prepare_images
from detcam.demo import CAUSES_WEIGHTS, WEIGHTS, causes
from detcam.demo.causes import EXPERIMENTS, KINDS
from detcam.demo.scenes import KITE, Thing, make_scene, render
from detcam.errors import UsageError, is_count, nearest
from detcam.evaluate.run import Contestant
from detcam.explainer import Explainer
from detcam.geometry import iou_matrix
from detcam.methods import find_method
from detcam.metrics.faithfulness import interval
from detcam.metrics.localization import box_mask
from detcam.metrics.recovery import FIGURES, holds, hottest_inside, recovery
from detcam.types import Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Mask = NDArray[np.bool_]

FIRST_SEED = 700_000
"""Its scenes, and those after it, are used for nothing else."""
CONF = 0.25
MAIN, THEN = "precision", "peak"
"""The figure that methods are ordered by, and what breaks ties."""
REFERENCES = ("cause", "elsewhere")
"""Maps no method made: the cause itself, and for a kite as large a part as its mark at the same height on the box's
other side."""

BASELINES = ("box", "edges", "random")

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Planted:
    """A detection whose cause is known.

    Attributes:
        kind: of cause, one of :data:`detcam.demo.causes.KINDS`.
        seed: of its scene.
        image: RGB uint8 (H, W, 3), the scene.
        number: of the detection, counted from 0 in descending confidence.
        marks: bool (H, W), each mark that is there; for ``texture`` one, the background outside all objects' boxes.
        box: bool (H, W), the object's true box.
        judged: bool (H, W), the pixels of which it is known whether they are the cause: those outside the box; for a
            ``part``, those in it; for a ``texture``, all but the background that shows in boxes.
        elsewhere: bool (H, W), a part as large as the mark that is no cause; None for all but the demo's kites.
    """

    kind: str
    seed: int
    image: NDArray[np.uint8]
    number: int
    marks: tuple[Mask, ...]
    box: Mask
    judged: Mask
    elsewhere: Mask | None = None

    @property
    def cause(self) -> Mask:
        """All that the class hangs on, bool (H, W)."""
        together: Mask = np.logical_or.reduce(self.marks)
        return together

    def recovery(self, heat: Floats) -> dict[str, float]:
        """How much of the cause a map (H, W) shows, as :func:`~detcam.metrics.recovery.recovery` tells it.

        Precision is of as many hottest pixels as the cause has; for a ``texture``, which has most of the image, of as
        many as the object has. Chance alone finds nine tenths of it: what counts there is the lead over a random map.
        """
        number = int(np.count_nonzero(self.box & self.judged)) if self.kind == "texture" else None
        return recovery(heat, self.cause, self.judged, number)


def planted_causes(model: DetectorAdapter, kind: str, first: int = FIRST_SEED) -> Iterator[Planted]:
    """Every thing of a kind, scene by scene without end, of which all experiments come out as its cause would have it.

    All of its cause is there: both marks, where a thing has two. Every other seed is left out, because its things are
    those of the seed before it.

    Args:
        model: the detector of :data:`detcam.demo.CAUSES_WEIGHTS`, or another with its classes.
        kind: one of :data:`detcam.demo.causes.KINDS`.
        first: the first scene's seed, even.
    """
    own = 2 * KINDS.index(kind)
    for seed in count(first, 2):
        scene = causes.make_scene(seed).with_cause(kind, True)
        for thing in (thing for thing in scene.things if thing.kind == kind):
            image = causes.render(scene)
            found = detections_of(model, image)
            number = _over(found, thing)
            if number is None or found[number].class_id != own:
                continue
            if all(
                _is_called(model, causes.render(scene.with_cause(kind, *present)), thing, own) == stays
                for present, stays in EXPERIMENTS[kind]
            ):
                marks, box = scene.causes(thing), box_mask(thing.xyxy, image.shape[:2])
                judged = box if kind == "part" else ~box
                if kind == "texture":
                    (shown,) = marks
                    marks, judged = (shown & ~scene.boxes,), ~(shown & scene.boxes)
                yield Planted(kind, seed, image, number, marks, box, judged)


def planted_kites(model: DetectorAdapter, first: int = FIRST_SEED) -> Iterator[Planted]:
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
            if not _is_called(model, render(replace(scene, things=others)), thing, KITE):
                x1, y1, x2, y2 = thing.mark_xyxy
                left = max(2 * thing.x - x2, 0)
                mark, elsewhere, box = (
                    box_mask(xyxy, image.shape[:2])
                    for xyxy in ((x1, y1, x2, y2), (left, y1, left + x2 - x1, y2), thing.xyxy)
                )
                yield Planted("near", seed, image, number, (mark,), box, ~box, elsewhere)


def planted(
    methods: Sequence[str], limit: int, seed: int = 0, receipts: bool = False, kinds: Sequence[str] = KINDS
) -> list[Row]:
    """One row for each kind, method and each of the kind's first ``limit`` detections: how much of the cause it shows.

    Args:
        methods: written as :class:`~detcam.evaluate.run.Contestant` reads them.
        limit: how many detections of each kind.
        seed: of the methods and the receipts.
        receipts: also whether the receipts of kites' maps are right, the full and the quick ones; see
            :func:`receipt_of`.
        kinds: of cause.

    Returns:
        Rows with ``kind``, ``image``, ``detection``, ``method``, ``status``, ``forwards``, the
        :data:`~detcam.metrics.recovery.FIGURES`, ``evidence``: whether there is any, ``holds``: whether it holds the
        cause, and what :func:`receipt_of` tells where receipts were asked; :data:`REFERENCES` are among the methods.

    Raises:
        UsageError: no such kind, method or layer, a method twice, or a limit below 1.
    """
    if not is_count(limit):
        raise UsageError(f"limit must be a whole number, at least 1, got {limit!r}")
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"no kind of cause {kind!r}{nearest(kind, KINDS)}")
    rows: list[Row] = []
    if "near" in kinds:
        model = load(WEIGHTS)
        rows += _measure(model, planted_kites(model), methods, limit, seed, receipts)
    model = load(CAUSES_WEIGHTS)
    for kind in (kind for kind in kinds if kind != "near"):
        rows += _measure(model, planted_causes(model, kind), methods, limit, seed, False)
    return rows


def _measure(
    model: DetectorAdapter, found: Iterator[Planted], methods: Sequence[str], limit: int, seed: int, receipts: bool
) -> list[Row]:
    """The rows of the first ``limit`` detections of one kind."""
    explainers = make_explainers(model, methods, seed)
    rows: list[Row] = []
    for one in islice(found, limit):
        base = {"kind": one.kind, "image": f"scene {one.seed}", "detection": one.number}
        own: list[tuple[Row, Floats]] = []
        for name, region in zip(REFERENCES, (one.cause, one.elsewhere), strict=True):
            if region is not None:
                told = {"method": name, "status": "ok", "forwards": 0.0, "evidence": False, "holds": False}
                own.append((told, region.astype(np.float32)))
        for name, explainer in explainers.items():
            e = explainer(one.image, detection=one.number)[0][0]
            held = e.evidence is not None and holds(one.kind, e.evidence.patches, one.marks, one.box)
            told = {"method": name, "status": e.status, "forwards": float(e.forwards),
                    "evidence": e.evidence is not None, "holds": held}  # fmt: skip
            own.append((told, e.heatmap.array))
        checked = _receipts(model, one, [heat for _, heat in own], seed) if receipts else [{}] * len(own)
        rows += [
            {**base, **told, **one.recovery(heat), **more} for (told, heat), more in zip(own, checked, strict=True)
        ]
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


def _receipts(model: DetectorAdapter, one: Planted, heats: Sequence[Floats], seed: int) -> list[Row]:
    """What :func:`receipt_of` tells of each map of a detection; nothing of a map without heat."""
    (prepared,) = prepare_images(model, [one.image])
    detection, anyone = detections_of(model, one.image)[one.number], Explainer(model, "box", seed=seed)
    return [receipt_of(anyone, prepared, detection, heat, one) if heat.any() else {} for heat in heats]


def receipt_of(explainer: Explainer, prepared: PreparedImage, detection: Detection, heat: Floats, kite: Planted) -> Row:
    """Whether a map's receipt supports it and whether that is right: ``supported`` and ``right`` of the full receipt,
    ``quick`` and ``quick_right`` of the one that comes with the default explanation.

    Right is a receipt that supports a map whose hottest part holds at least half of the mark, and one that rejects a
    map whose hottest part lies beside the mark and the box. In between the truth is not known, for a part of the kite
    itself is a cause as well: None.
    """
    maps = [torch.from_numpy(np.array(heat, np.float32))]
    judged = [explainer.image_maps.receipts(prepared, [detection], maps, quick=one) for one in (False, True)]
    receipt, quick = (receipts[0] for receipts in judged)
    hot = max(round(receipt.hot_share * heat.size), 1)
    held, touched = (hottest_inside(heat, region, hot) for region in (kite.cause, kite.cause | kite.box))
    true = True if held >= np.count_nonzero(kite.cause) / 2 else False if touched == 0 else None
    right, quick_right = (None if true is None else one.supported == true for one in (receipt, quick))
    return {"supported": receipt.supported, "right": right, "quick": quick.supported, "quick_right": quick_right}


def summarise(rows: Sequence[Row]) -> list[Row]:
    """One line for each kind and method, kind by kind, the best first: by :data:`MAIN`, then by :data:`THEN`.

    Returns:
        Lines with ``kind``, ``method``, ``detections``, for each of the :data:`~detcam.metrics.recovery.FIGURES` its
        mean, bootstrap 95 % interval and median (``peak``, ``peak_low``, ``peak_high``, ``peak_median``),
        ``evidence``: how many have any, ``holds``: the share of all whose evidence holds the cause, NaN for a method
        that gave none at all, ``no_signal``, ``forwards``, and where receipts were asked ``judged``, ``right`` and
        ``quick_right``: how many of them could be judged, and how many of those were right, full and quick ones.
    """
    speaking = {row["method"] for row in rows if row["evidence"]}
    lines = []
    for kind, name in dict.fromkeys((row["kind"], row["method"]) for row in rows):
        own = [row for row in rows if (row["kind"], row["method"]) == (kind, name)]
        line: Row = {"kind": kind, "method": name, "detections": len(own)}
        for figure in FIGURES:
            values = np.array([row[figure] for row in own])
            line[figure], line[f"{figure}_low"], line[f"{figure}_high"] = interval(values)
            known = values[np.isfinite(values)]
            line[f"{figure}_median"] = float(np.median(known)) if len(known) else float("nan")
        line["evidence"] = sum(row["evidence"] for row in own)
        line["holds"] = float(np.mean([row["holds"] for row in own])) if name in speaking else float("nan")
        line["forwards"] = float(np.mean([row["forwards"] for row in own]))
        line["no_signal"] = sum(row["status"] == "no_signal" for row in own)
        if any("right" in row for row in own):
            judged = [row["right"] for row in own if row.get("right") is not None]
            line["judged"], line["right"] = len(judged), sum(judged)
            line["quick_right"] = sum(bool(row.get("quick_right")) for row in own)
        lines.append(line)
    order = list(dict.fromkeys(line["kind"] for line in lines))
    return sorted(lines, key=lambda line: (order.index(line["kind"]), -line[MAIN], -line[THEN]))


def judge(rows: Sequence[Row]) -> tuple[str, str]:
    """The best contestant that is neither a baseline nor a reference, and one sentence on how far ahead it is.

    Args:
        rows: a row for each map; each contestant's are of the same detections in the same order. Those of a texture,
            most of which chance finds, count only where there are no others.
    """
    rows = [row for row in rows if row["kind"] != "texture"] or rows
    values = {
        name: np.array([row[MAIN] for row in rows if row["method"] == name])
        for name in dict.fromkeys(row["method"] for row in rows)
        if name not in REFERENCES
    }
    told = {name: interval(own) for name, own in values.items()}
    ranked = sorted(values, key=lambda name: -told[name][0])
    baselines = [name for name in ranked if name.partition("@")[0] in BASELINES]
    methods = [name for name in ranked if name not in baselines]
    (best, *others), rivals = (methods, baselines[:1]) if methods else (baselines, [])
    mean, low, high = told[best]
    verdict = (
        f"{best} finds causes best: of as many of its hottest pixels as the cause has, {mean:.0%} "
        f"[{low:.0%}, {high:.0%}] lie on it on average, and {np.nanmedian(values[best]):.0%} in the middle case"
    )
    for rival in (*others[:1], *rivals):
        lead, low, high = interval(values[best] - values[rival])
        note = "" if low > 0 else ", within noise" if high >= 0 else ", which finds them better"
        verdict += f"; lead over {rival} {lead:+.1%} [{low:+.1%}, {high:+.1%}]{note}"
    return best, verdict


def _is_called(model: DetectorAdapter, image: NDArray[np.uint8], thing: Thing | causes.Thing, class_id: int) -> bool:
    """Whether the most confident detection over a thing is of a class."""
    found = detections_of(model, image)
    number = _over(found, thing)
    return number is not None and found[number].class_id == class_id


def _over(found: Sequence[Detection], thing: Thing | causes.Thing) -> int | None:
    """The most confident detection whose box is the thing's (IoU 0.5 or more)."""
    truth = np.array([thing.xyxy])
    return next((n for n, d in enumerate(found) if iou_matrix(d.xyxy[None], truth)[0, 0] >= 0.5), None)
