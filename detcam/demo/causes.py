"""Scenes whose causes are known, of every kind: what a second bundled detector is trained, tested and judged on.

Each of the :data:`KINDS` has one shape and two classes that are drawn alike; which of the two a thing is hangs on a
cause and on nothing else: a mark beside it (``near``) or several box widths away (``far``), a stamp on it (``part``),
dots all over the background (``texture``), at least one of two marks (``either``), or two marks together (``both``).
Every mark looks unlike every other, and the causes of a scene's things are drawn independently, so that none stands for
another's. :meth:`Scene.with_cause` draws the same scene with a cause put in or taken away: an experiment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detcam.demo.scenes import SIZE, draw_background, write_images

KINDS = ("near", "far", "part", "texture", "either", "both")
CLASSES = ("kite", "gem", "moon", "coin", "letter", "card", "tent", "sail", "bolt", "nut", "cup", "pot")
"""Two for each kind, in their order: the one with the cause, and the one without."""

Experiment = tuple[tuple[bool, ...], bool]
EXPERIMENTS: dict[str, tuple[Experiment, ...]] = {
    **dict.fromkeys(("near", "far", "part", "texture"), (((False,), False),)),
    "either": (((True, False), True), ((False, True), True), ((False, False), False)),
    "both": (((True, False), False), ((False, True), False), ((False, False), False)),
}
"""For each kind which of the marks (or dots) to leave, and whether the thing, of the first class with all, stays so."""

Box = tuple[int, int, int, int]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

_HALF_SIZES_PX = {"far": (12, 19), "part": (19, 37), "texture": (15, 33)}
_OTHER_HALF_SIZES_PX = (16, 31)
_FAR_WIDTHS = (3.0, 6.0)
"""Distance of a far mark from its thing, centre to centre, in the thing's widths: least and most."""
_GAP_PX, _MARGIN_PX, _BORDER_PX = 4, 4, 4
"""Between a thing and a mark beside it, around both, and at the image's border, pixels."""

_LOOKS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], Callable[[Floats, Floats], NDArray[np.bool_]]]] = {
    "near": ((235, 20, 200), (250, 230, 30), lambda x, y: (np.floor(x * 1.5) + np.floor(y * 1.5)) % 2 == 0),
    "far": ((230, 20, 20), (250, 250, 250), lambda x, y: np.abs(np.hypot(x, y) - 0.6) < 0.25),
    "part": ((10, 10, 10), (250, 250, 250), lambda x, y: x * y > 0),
    "either-1": ((10, 20, 120), (40, 240, 250), lambda x, y: np.minimum(np.abs(x), np.abs(y)) < 0.3),
    "either-2": ((250, 130, 10), (250, 250, 250), lambda x, y: np.floor(x * 2.5) % 2 == 0),
    "both-1": ((130, 250, 20), (10, 10, 10), lambda x, y: x + y > 0),
    "both-2": ((20, 60, 250), (250, 250, 250), lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.5),
}
"""Each mark's two colours, RGB, and where it has the first, x and y running from -1 to 1 over it."""


_CORNERS: dict[str, list[tuple[float, float]]] = {
    "near": [(0, -1), (1, 0), (0, 1), (-1, 0)],
    "part": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "texture": [(0, -1), (1, 1), (-1, 1)],
    "either": [(-0.5, -1), (0.5, -1), (1, 0), (0.5, 1), (-0.5, 1), (-1, 0)],
    "both": [(-1, -1), (1, -1), (0.5, 1), (-0.5, 1)],
}
"""Outlines, in half-sizes from the centre; a far thing is a disc."""


@dataclass(frozen=True)
class Mark:
    """A tile that can be drawn.

    Attributes:
        look: its pattern and colours.
        xyxy: where it goes, pixels.
        present: whether it is drawn.
    """

    look: str
    xyxy: Box
    present: bool = False


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        kind: of cause, one of :data:`KINDS`.
        x, y: its centre, pixels.
        half: half of its side, pixels.
        colour: RGB.
        marks: what its class depends on; empty for ``texture``.
    """

    kind: str
    x: int
    y: int
    half: int
    colour: tuple[int, int, int]
    marks: tuple[Mark, ...]

    @property
    def xyxy(self) -> Box:
        """Truth box, pixels."""
        return self.x - self.half, self.y - self.half, self.x + self.half, self.y + self.half


@dataclass(frozen=True)
class Scene:
    """A background with at most one thing of each kind before it.

    Attributes:
        seed: of the background.
        things: the objects.
        dotted: whether the background has dots, the cause of kind ``texture``.
    """

    seed: int
    things: tuple[Thing, ...]
    dotted: bool = False

    def has_cause(self, thing: Thing) -> bool:
        """Whether a thing's cause is there, so that it is the first class of its kind.

        Args:
            thing: of this scene.
        """
        present = [mark.present for mark in thing.marks]
        return self.dotted if thing.kind == "texture" else any(present) if thing.kind == "either" else all(present)

    def class_of(self, thing: Thing) -> int:
        """The index of a thing's class in :data:`CLASSES`.

        Args:
            thing: of this scene.
        """
        return 2 * KINDS.index(thing.kind) + (not self.has_cause(thing))

    def with_cause(self, kind: str, *present: bool) -> Scene:
        """The same scene with the cause of one kind's thing put in or taken away: the counterfactual.

        Args:
            kind: one of :data:`KINDS`.
            present: whether each of the marks is there, or one value for all of them.
        """
        if kind == "texture":
            return replace(self, dotted=present[0])
        return replace(self, things=tuple(_set(t, *present) if t.kind == kind else t for t in self.things))

    def causes(self, thing: Thing) -> tuple[Mask, ...]:
        """What decides a thing's class, bool (SIZE, SIZE): each mark, or for a texture all background that shows.

        Args:
            thing: of this scene.
        """
        if thing.kind == "texture":
            black, white = (_paint(self, np.full((SIZE, SIZE, 3), v, np.float32)) for v in (0, 255))
            return ((black != white).any(-1),)
        return tuple(_box_mask(mark.xyxy) for mark in thing.marks)

    @property
    def boxes(self) -> Mask:
        """All objects' boxes together, bool (SIZE, SIZE)."""
        together = np.zeros((SIZE, SIZE), bool)
        for thing in self.things:
            together |= _box_mask(thing.xyxy)
        return together


def make_scene(seed: int) -> Scene:
    """Draw the contents of one scene: three to five things, each of another kind, and their causes.

    An even seed and the odd one after it give the same things before the same background, each with its cause in one of
    the two scenes and without it in the other.

    Args:
        seed: from 0.
    """
    rng, layout = np.random.default_rng([seed, 2]), seed // 2
    things, first = _lay_out(np.random.default_rng([layout, 3]))
    wanted = {kind: bool(has) != bool(seed % 2) for kind, has in zip(KINDS, first, strict=True)}
    scene = Scene(layout, things, wanted["texture"])
    for thing in things:
        if thing.marks:
            scene = scene.with_cause(thing.kind, *_choose(thing.kind, wanted[thing.kind], rng))
    return scene


def render(scene: Scene) -> NDArray[np.uint8]:
    """Draw a scene; the same scene gives the same bytes.

    Args:
        scene: what to draw.

    Returns:
        RGB uint8 (SIZE, SIZE, 3).
    """
    rng = np.random.default_rng([scene.seed, 1])
    image, dots = draw_background(rng), _dots(rng)
    if scene.dotted:
        image += dots[..., None]
    image = _paint(scene, np.clip(image, 0, 255))
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def write_dataset(folder: Path, train: range, val: range) -> Path:
    """Write scenes as a YOLO data set: images, labels and a YAML file.

    Args:
        folder: created where it does not exist.
        train: seeds of the training scenes.
        val: seeds of the held-out scenes.

    Returns:
        The YAML file.
    """

    def draw(seed: int) -> tuple[NDArray[np.uint8], list[tuple[int, Box]]]:
        scene = make_scene(seed)
        return render(scene), [(scene.class_of(thing), thing.xyxy) for thing in scene.things]

    return write_images(folder, train, val, draw, CLASSES)


def _lay_out(rng: np.random.Generator) -> tuple[tuple[Thing, ...], NDArray[np.bool_]]:
    """Things that do not touch, with room for their marks, and for each kind whether an even seed has its cause."""
    causes = rng.random(len(KINDS)) < 0.5
    taken = np.zeros((SIZE, SIZE), bool)
    things: list[Thing] = []
    kinds = [KINDS[n] for n in rng.permutation(len(KINDS))[: int(rng.integers(3, 6))]]
    for kind in kinds:
        for _ in range(40):
            thing = _draw_thing(kind, rng)
            marks = [mark.xyxy for mark in thing.marks]
            zones = [thing.xyxy, *marks] if kind == "far" else [_around([thing.xyxy, *marks])]
            if all(_is_free(zone, taken) for zone in zones):
                for zone in zones:
                    taken[_slices(zone, _MARGIN_PX)] = True
                things.append(thing)
                break
    return tuple(things), causes


def _draw_thing(kind: str, rng: np.random.Generator) -> Thing:
    """A thing anywhere, and its marks at their places, none of them present."""
    half = int(rng.integers(*_HALF_SIZES_PX.get(kind, _OTHER_HALF_SIZES_PX)))
    x, y = (int(v) for v in rng.integers(half + _BORDER_PX, SIZE - half - _BORDER_PX, 2))
    red, green, blue = (int(v) for v in rng.integers(40, 216, 3))
    size = int(rng.integers(14, 19))
    if kind == "texture":
        marks: tuple[Mark, ...] = ()
    elif kind == "part":
        size = int(rng.integers(11, 15))
        left, top = (int(v) for v in rng.integers(4, 2 * half - 4 - size, 2))
        marks = (_mark(kind, x - half + left, y - half + top, size),)
    elif kind == "far":
        size = int(rng.integers(18, 25))
        away, angle = rng.uniform(*_FAR_WIDTHS) * 2 * half, rng.uniform(0, 2 * np.pi)
        marks = (
            _mark(kind, round(x + away * np.cos(angle)) - size // 2, round(y + away * np.sin(angle)) - size // 2, size),
        )
    else:
        looks = (kind,) if kind == "near" else (f"{kind}-1", f"{kind}-2")
        reach, along = half + _GAP_PX, rng.integers(-half, half - size + 1, len(looks))
        marks = tuple(
            _mark(look, x + dx, y + dy, size)
            for look, side, a in zip(looks, rng.permutation(4), along.tolist(), strict=False)
            for dx, dy in [((a, -reach - size), (reach, a), (a, reach), (-reach - size, a))[side]]
        )
    return Thing(kind, x, y, half, (red, green, blue), marks)


def _mark(look: str, x: int, y: int, size: int) -> Mark:
    return Mark(look, (x, y, x + size, y + size))


def _set(thing: Thing, *present: bool) -> Thing:
    """The thing with its marks there or not."""
    each = present * len(thing.marks) if len(present) == 1 else present
    return replace(thing, marks=tuple(replace(m, present=p) for m, p in zip(thing.marks, each, strict=True)))


def _choose(kind: str, wanted: bool, rng: np.random.Generator) -> tuple[bool, ...]:
    """Which marks are there, where the cause is to be there or not."""
    some = ((True, False), (False, True))
    if kind == "either":
        return ((*some, (True, True))[rng.integers(3)]) if wanted else (False, False)
    if kind == "both":
        return (True, True) if wanted else ((*some, (False, False))[rng.integers(3)])
    return (wanted,)


def _dots(rng: np.random.Generator) -> Floats:
    """What the texture adds to a background: dots on a slanted lattice, all lighter or all darker, (SIZE, SIZE)."""
    pitch, angle, radius = rng.uniform(10, 14), rng.uniform(0, np.pi / 2), rng.uniform(2.2, 3.0)
    strength, shift = rng.choice((-1, 1)) * rng.uniform(60, 90), rng.uniform(0, pitch, 2)
    rows, columns = np.indices((SIZE, SIZE))
    along = (columns * np.cos(angle) + rows * np.sin(angle) + shift[0]) % pitch - pitch / 2
    across = (rows * np.cos(angle) - columns * np.sin(angle) + shift[1]) % pitch - pitch / 2
    return np.asarray(strength * np.clip(radius + 0.5 - np.hypot(along, across), 0, 1), np.float32)


def _paint(scene: Scene, image: Floats) -> Floats:
    """Draw the things and the marks that are there into a float image, in place."""
    for thing in scene.things:
        _draw_shape(image, thing)
    for mark in (mark for thing in scene.things for mark in thing.marks if mark.present):
        first, second, where = _LOOKS[mark.look]
        x1, y1, x2, y2 = mark.xyxy
        image[y1:y2, x1:x2] = (20, 20, 20)
        places = np.linspace(-1, 1, x2 - x1 - 2, dtype=np.float32)
        x, y = np.meshgrid(places, places)
        image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = np.where(where(x, y)[..., None], first, second)
    return image


def _draw_shape(image: Floats, thing: Thing) -> None:
    """Draw one object into the float image, in place."""
    x, y, half = thing.x, thing.y, thing.half
    dark = tuple(v * 0.45 for v in thing.colour)
    width = max(half // 12, 1)
    if thing.kind == "far":
        cv2.circle(image, (x, y), half, thing.colour, -1, cv2.LINE_AA)
        cv2.circle(image, (x, y), half - width, dark, width, cv2.LINE_AA)
        return
    outline = np.array([(x + round(half * a), y + round(half * b)) for a, b in _CORNERS[thing.kind]], np.int32)
    cv2.fillPoly(image, [outline], thing.colour, cv2.LINE_AA)
    cv2.polylines(image, [outline], True, dark, width, cv2.LINE_AA)


def _around(boxes: list[Box]) -> Box:
    """The smallest box that holds all of them."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _is_free(zone: Box, taken: Mask) -> bool:
    """Whether a zone lies in the image, off its border, where nothing is yet."""
    inside = min(zone[:2]) >= _BORDER_PX and max(zone[2:]) <= SIZE - _BORDER_PX
    return inside and not taken[_slices(zone, _MARGIN_PX)].any()


def _slices(box: Box, margin: int = 0) -> tuple[slice, slice]:
    x1, y1, x2, y2 = box
    return slice(max(y1 - margin, 0), y2 + margin), slice(max(x1 - margin, 0), x2 + margin)


def _box_mask(box: Box) -> Mask:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[_slices(box)] = True
    return mask
