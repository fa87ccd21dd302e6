"""The demo detector's figures on scenes it was not trained on: ``python -m detcam.demo.measure WEIGHTS``.

How well it detects (mAP50); what the planted mark does: every gem is looked at without and with a mark beside it, every
kite with and without its own, and nothing else in the scene changes; and which methods and layers show the mark.
:func:`measure_flips` does the same experiments, of every kind, on the detector of :mod:`detcam.demo.causes`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ultralytics import YOLO

from detcam.adapters import load
from detcam.demo import causes, explanation_over
from detcam.demo.scenes import GEM, KITE, Scene, Thing, make_scene, render, write_dataset
from detcam.explainer import Explainer
from detcam.geometry import iou_matrix
from detcam.methods import METHODS
from detcam.metrics.localization import box_mask
from detcam.metrics.recovery import FIGURES, recovery


@dataclass(frozen=True)
class Shortcut:
    """What the planted mark does to kites and gems: how often the detector calls them a kite.

    A thing counts as called a kite if the most confident box over it (IoU 0.5, confidence 0.25 or more) is a kite.

    Attributes:
        gems, kites: how many there are.
        gems_called_kite: share of the gems, as they are.
        marked_gems_called_kite: share of the gems with the mark added.
        kites_called_kite: share of the kites with the mark.
        unmarked_kites_called_kite: share of the kites with the mark removed.
    """

    gems: int
    kites: int
    gems_called_kite: float
    marked_gems_called_kite: float
    kites_called_kite: float
    unmarked_kites_called_kite: float

    def __str__(self) -> str:
        return (
            f"called kite, of {self.gems} gems: {self.gems_called_kite:.1%} as they are, "
            f"{self.marked_gems_called_kite:.1%} with the mark added; of {self.kites} kites: "
            f"{self.kites_called_kite:.1%} with the mark, {self.unmarked_kites_called_kite:.1%} with it removed"
        )


@dataclass(frozen=True)
class Flips:
    """What one kind's cause does to the things of the kind, each seen with all of its cause.

    Attributes:
        things: how many.
        found: the share called the first class of the kind (best box at IoU 0.5 or more, confidence 0.25 or more).
        flipped: the share found of which every experiment of :data:`detcam.demo.causes.EXPERIMENTS` comes out.
    """

    things: int
    found: float
    flipped: float


def measure_map50(weights: Path, seeds: range, write: Callable[[Path, range, range], Path] = write_dataset) -> float:
    """mAP at IoU 0.5 by Ultralytics' own validator, in [0, 1].

    Args:
        weights: the checkpoint.
        seeds: of the scenes.
        write: writes the scenes of training and validation seeds to a folder.
    """
    with tempfile.TemporaryDirectory() as scratch:
        data = write(Path(scratch) / "scenes", range(0), seeds)
        results = YOLO(str(weights)).val(
            data=str(data), device="cpu", plots=False, verbose=False, project=scratch, name="val", workers=0
        )
        return float(results.box.map50)


def measure_shortcut(weights: Path, seeds: range) -> Shortcut:
    """The effect of adding the mark to gems and of removing it from kites.

    Args:
        weights: the checkpoint.
        seeds: of the scenes.
    """
    model = YOLO(str(weights))
    counts = {(class_id, marked): [0, 0] for class_id in (GEM, KITE) for marked in (False, True)}
    for seed in seeds:
        scene = make_scene(seed)
        for class_id in (GEM, KITE):
            if not any(thing.class_id == class_id for thing in scene.things):
                continue
            for marked in (False, True):
                said = _called_kite(model, scene.with_marks(marked, class_id), class_id)
                counts[class_id, marked][0] += sum(said)
                counts[class_id, marked][1] += len(said)
    share = {key: hits / max(total, 1) for key, (hits, total) in counts.items()}
    return Shortcut(
        gems=counts[GEM, False][1],
        kites=counts[KITE, False][1],
        gems_called_kite=share[GEM, False],
        marked_gems_called_kite=share[GEM, True],
        kites_called_kite=share[KITE, True],
        unmarked_kites_called_kite=share[KITE, False],
    )


def _called_kite(model: YOLO, scene: Scene, class_id: int) -> list[bool]:
    """For each thing of the class: is the most confident box over it a kite?"""
    boxes = model.predict(render(scene)[..., ::-1], device="cpu", verbose=False)[0].boxes
    boxes_xyxy, classes = boxes.xyxy.numpy(), boxes.cls.numpy()
    things: list[Thing] = [thing for thing in scene.things if thing.class_id == class_id]
    truths = np.array([thing.xyxy for thing in things], np.float32)
    over = iou_matrix(truths, boxes_xyxy) >= 0.5  # predictions come in descending confidence: the first hit is the best
    return [bool(row.any() and classes[row.argmax()] == KITE) for row in over]


def measure_flips(weights: Path, seeds: range) -> dict[str, Flips]:
    """What the cause of each kind does to the kind's things.

    Args:
        weights: the checkpoint.
        seeds: of the scenes; of an even seed and the odd one after it take one, as they have the same things.
    """
    model = YOLO(str(weights))
    outcomes: dict[str, list[tuple[bool, bool]]] = {kind: [] for kind in causes.KINDS}
    for seed in seeds:
        scene = causes.make_scene(seed)
        for thing in scene.things:
            own = causes.CLASSES[2 * causes.KINDS.index(thing.kind)]
            found = _called(model, scene.with_cause(thing.kind, True), thing) == own
            outcomes[thing.kind].append((found, found and all(
                (_called(model, scene.with_cause(thing.kind, *present), thing) == own) == stays
                for present, stays in causes.EXPERIMENTS[thing.kind]
            )))  # fmt: skip
    return {kind: Flips(len(pairs), *np.mean(pairs, 0).tolist()) for kind, pairs in outcomes.items()}


def _called(model: YOLO, scene: causes.Scene, thing: causes.Thing) -> str | None:
    """The class of the most confident box over a thing, or None."""
    result = model.predict(causes.render(scene)[..., ::-1], device="cpu", verbose=False)[0]
    over = iou_matrix(np.array([thing.xyxy], np.float32), result.boxes.xyxy.numpy())[0] >= 0.5
    return str(result.names[int(result.boxes.cls[int(over.argmax())])]) if over.any() else None


def mark_table(weights: Path, seeds: range, methods: Sequence[str], layers: Sequence[str]) -> list[str]:
    """How much of the kites' marks each method shows, as lines of a table.

    Figures are medians and means of :func:`~detcam.metrics.recovery.recovery` outside the kite's box, over all marked
    kites
    that are detected as kites.

    Args:
        weights: the checkpoint.
        seeds: of the scenes.
        methods: names.
        layers: groups of layers; each method is measured with each.
    """
    detector = load(weights)
    scenes = [scene for scene in map(make_scene, seeds) if any(thing.marked for thing in scene.things)]
    lines = [f"{'method':10} {'layers':13} marks  " + "  ".join(f"{f'{name}, median and mean':26}" for name in FIGURES)]
    for method in methods:
        for group in layers:
            explainer = Explainer(detector, method, group)
            rows = []
            for scene in scenes:
                result = explainer(render(scene))[0]
                for thing in (thing for thing in scene.things if thing.marked):
                    if (e := explanation_over(result, thing)) is not None and e.detection.class_id == KITE:
                        heat = e.heatmap.array
                        mark, box = (box_mask(xyxy, heat.shape) for xyxy in (thing.mark_xyxy, thing.xyxy))
                        rows.append([recovery(heat, mark, ~box)[name] for name in FIGURES])
            figures = zip(np.median(rows, 0), np.mean(rows, 0), strict=True)
            cells = "  ".join(f"{f'{median:.2f}  {mean:.2f}':26}" for median, mean in figures)
            lines.append(f"{method:10} {group:13} {len(rows):5}  {cells}")
    return lines


def main() -> None:
    """Print all figures for a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seeds", type=int, nargs=2, default=(100_000, 100_200), metavar=("FROM", "TO"))
    arguments = parser.parse_args()
    seeds = range(*arguments.seeds)
    print(f"held-out mAP50: {measure_map50(arguments.weights, seeds):.3f}")
    print(measure_shortcut(arguments.weights, seeds))
    at_layers = [name for name, one in METHODS.items() if one.on == "layer" and one.models != "pooling classifiers"]
    print("\n".join(mark_table(arguments.weights, seeds, at_layers, ["backbone", "neck", "backbone,neck"])))
    print("\n".join(mark_table(arguments.weights, seeds, ["box"], ["auto"])[1:]))


if __name__ == "__main__":
    main()
