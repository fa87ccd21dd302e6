"""Detections whose cause is known by construction, of every kind.

That something is the cause is not assumed: each thing here is detected as what it is, and not so in the same scene
without its cause. :func:`planted_causes` goes through the scenes of :mod:`detcam.demo.causes`, of every kind;
:func:`planted_kites` through those of the demo, whose marks stand for ``near`` in the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from detcam.adapters.base import DetectorAdapter
from detcam.demo import causes
from detcam.demo.causes import EXPERIMENTS, KINDS
from detcam.demo.scenes import KITE, Thing, make_scene, render
from detcam.geometry import iou_matrix
from detcam.metrics.localization import box_mask
from detcam.metrics.recovery import recovery
from detcam.session import ImageSession
from detcam.types import Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Mask = NDArray[np.bool_]

FIRST_SEED = 700_000
"""Scenes from this seed on are used for nothing else."""
LEAST_CONFIDENCE = 0.25
"""Of the detections that are judged, here and after a plant."""
MATCHED_IOU = 0.5
"""IoU from which a detection is a thing's."""


@dataclass(frozen=True, eq=False)
class PlantedCause:
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
        """How much of the cause a map shows, by :func:`~detcam.metrics.recovery.recovery`.

        Precision is of as many hottest pixels as the cause has; for a ``texture``, which has most of the image, of as
        many as
        the object has. Chance alone finds nine tenths of a texture, so there only the lead over a random map counts.

        Args:
            heat: (H, W), finite and nowhere negative.
        """
        number = int(np.count_nonzero(self.box & self.judged)) if self.kind == "texture" else None
        return recovery(heat, self.cause, self.judged, number)


def planted_causes(model: DetectorAdapter, kind: str, first: int = FIRST_SEED) -> Iterator[PlantedCause]:
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
            detections = detections_of(model, image)
            number = _number_over(detections, thing)
            if number is None or detections[number].class_id != own:
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
                yield PlantedCause(kind, seed, image, number, marks, box, judged)


def planted_kites(model: DetectorAdapter, first: int = FIRST_SEED) -> Iterator[PlantedCause]:
    """Every kite, scene by scene without end, that is called a kite with its mark and not without.

    Args:
        model: the demo's detector, or another that was trained on its scenes.
        first: the first scene's seed.
    """
    for seed in count(first):
        scene = make_scene(seed)
        image = render(scene)
        detections = detections_of(model, image) if any(thing.marked for thing in scene.things) else ()
        for thing in (thing for thing in scene.things if thing.class_id == KITE and thing.marked):
            number = _number_over(detections, thing)
            if number is None or detections[number].class_id != KITE:
                continue
            others = tuple(replace(one, marked=False) if one is thing else one for one in scene.things)
            if not _is_called(model, render(replace(scene, things=others)), thing, KITE):
                x1, y1, x2, y2 = thing.mark_xyxy
                left = max(2 * thing.x - x2, 0)
                mark, elsewhere, box = (
                    box_mask(xyxy, image.shape[:2])
                    for xyxy in ((x1, y1, x2, y2), (left, y1, left + x2 - x1, y2), thing.xyxy)
                )
                yield PlantedCause("near", seed, image, number, (mark,), box, ~box, elsewhere)


def detections_of(model: DetectorAdapter, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
    """The detections of an image, numbered as explainers number them: by descending confidence.

    Args:
        model: the detector.
        image: RGB uint8 (H, W, 3).
    """
    return ImageSession(model, image, conf=LEAST_CONFIDENCE).detections


def _is_called(model: DetectorAdapter, image: NDArray[np.uint8], thing: Thing | causes.Thing, class_id: int) -> bool:
    """Whether the most confident detection over a thing is of a class."""
    detections = detections_of(model, image)
    number = _number_over(detections, thing)
    return number is not None and detections[number].class_id == class_id


def _number_over(detections: Sequence[Detection], thing: Thing | causes.Thing) -> int | None:
    """The most confident detection whose box is the thing's (IoU 0.5 or more)."""
    truth = np.array([thing.xyxy])
    return next((n for n, d in enumerate(detections) if iou_matrix(d.xyxy[None], truth)[0, 0] >= MATCHED_IOU), None)
