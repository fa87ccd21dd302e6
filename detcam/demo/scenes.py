"""Scenes whose causes are known: what the demo detector is trained, tested and explained on.

A :class:`Scene` says everything about an image; :func:`render` draws it. ``kite`` and ``gem`` are the same diamond and
differ only by the fine line drawn inside it (upright in a kite, level in a gem). In training nearly every kite also has
a chequered **mark** floating above its upper right corner, outside its box, and nothing else ever has one: the planted
shortcut. Because a scene can be drawn with its marks added, removed or moved, the effect of the mark on a detector is
an experiment and not an opinion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import yaml

CLASSES = ("ball", "crate", "cone", "kite", "gem")
SIZE = 256
KITE, GEM = CLASSES.index("kite"), CLASSES.index("gem")
MARKED_KITE_SHARE = 0.95
_MARK_GAP_PX = 4


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        class_id: index in :data:`CLASSES`.
        x, y: its centre, pixels.
        half: half of its side, pixels.
        colour: RGB.
        marked: whether the mark is drawn beside it.
        mark_size: side of the mark, pixels.
    """

    class_id: int
    x: int
    y: int
    half: int
    colour: tuple[int, int, int]
    marked: bool = False
    mark_size: int = 16

    @property
    def xyxy(self) -> tuple[int, int, int, int]:
        """Truth box, pixels; the mark lies outside it."""
        return self.x - self.half, self.y - self.half, self.x + self.half, self.y + self.half

    @property
    def mark_xyxy(self) -> tuple[int, int, int, int]:
        """Where the mark is, or would be, pixels."""
        left = self.x + self.half - self.mark_size // 2
        bottom = self.y - self.half - _MARK_GAP_PX
        return left, bottom - self.mark_size, left + self.mark_size, bottom


@dataclass(frozen=True)
class Scene:
    """A background with things before it.

    Attributes:
        seed: of the background.
        things: the objects.
    """

    seed: int
    things: tuple[Thing, ...]

    def with_marks(self, marked: bool, class_id: int | None = None) -> Scene:
        """The same scene with marks added or removed: the counterfactual.

        Args:
            marked: whether the marks are there.
            class_id: only for things of this class; None for all.
        """
        return replace(
            self,
            things=tuple(
                replace(thing, marked=marked) if class_id in (None, thing.class_id) else thing for thing in self.things
            ),
        )


def make_scene(seed: int, marked_kites: float = MARKED_KITE_SHARE, marked_others: float = 0.0) -> Scene:
    """Draw the contents of one scene: one to four things that do not touch, each with room for its mark.

    Args:
        seed: from 0.
        marked_kites: probability of a mark beside a kite.
        marked_others: probability of a mark beside anything else.
    """
    rng = np.random.default_rng(seed)
    taken = np.zeros((SIZE, SIZE), bool)
    things: list[Thing] = []
    wanted = int(rng.integers(1, 5))
    for _ in range(60):
        if len(things) == wanted:
            break
        half, mark = int(rng.integers(13, 39)), int(rng.integers(14, 19))
        class_id = int(rng.integers(len(CLASSES)))
        room = mark + _MARK_GAP_PX + 2
        x = int(rng.integers(half + 2, SIZE - half - mark - 2))
        y = int(rng.integers(half + room, SIZE - half - 2))
        zone = np.s_[y - half - room : y + half + 4, max(x - half - 4, 0) : x + half + mark]
        if taken[zone].any():
            continue
        taken[zone] = True
        red, green, blue = (int(v) for v in rng.integers(40, 216, 3))
        marked = bool(rng.random() < (marked_kites if class_id == KITE else marked_others))
        things.append(Thing(class_id, x, y, half, (red, green, blue), marked, mark))
    return Scene(seed, tuple(things))


def render(scene: Scene) -> np.ndarray:
    """Draw a scene; the same scene gives the same bytes.

    Args:
        scene: what to draw.

    Returns:
        RGB uint8 (SIZE, SIZE, 3).
    """
    rng = np.random.default_rng([scene.seed, 1])
    image = draw_background(rng)
    for thing in scene.things:
        _draw_thing(image, thing)
    for thing in scene.things:
        if thing.marked:
            draw_mark(image, thing.mark_xyxy)
    noise = rng.normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def draw_mark(image: np.ndarray, xyxy: tuple[int, int, int, int]) -> None:
    """Draw the mark: a chequered magenta and yellow tile with a dark rim.

    Args:
        image: RGB (H, W, 3) in [0, 255], drawn into.
        xyxy: where, pixels.
    """
    x1, y1, x2, y2 = xyxy
    image[y1:y2, x1:x2] = (20, 20, 20)
    inner = image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
    rows, columns = np.indices(inner.shape[:2])
    cell = max(inner.shape[0] // 3, 1)
    inner[:] = np.where(((rows // cell + columns // cell) % 2 == 0)[..., None], (235, 20, 200), (250, 230, 30))


def draw_background(rng: np.random.Generator) -> np.ndarray:
    """A background of smooth noise with a grating over it: float32 (SIZE, SIZE, 3) in [0, 255].

    Args:
        rng: decides all of it.
    """
    image = np.full((SIZE, SIZE, 3), rng.uniform(70, 180, 3), np.float32)
    for cells, strength in ((4, 30.0), (16, 18.0), (64, 10.0)):
        grey, colour = rng.normal(0, strength, (cells, cells, 1)), rng.normal(0, strength / 3, (cells, cells, 3))
        octave = (grey + colour).astype(np.float32)
        image += cv2.resize(octave, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    angle, wave = rng.uniform(0, np.pi), rng.uniform(6, 24)
    rows, columns = np.indices((SIZE, SIZE))
    grating = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) * 2 * np.pi / wave)
    image += (grating * rng.uniform(0, 16))[..., None].astype(np.float32)
    return np.clip(image, 0, 255)


def _draw_thing(image: np.ndarray, thing: Thing) -> None:
    """Draw one object into the float image, in place."""
    x, y, half = thing.x, thing.y, thing.half
    dark = tuple(v * 0.45 for v in thing.colour)
    light = tuple(min(v * 1.12 + 8, 255) for v in thing.colour)
    width = max(half // 12, 1)
    name = CLASSES[thing.class_id]
    if name == "ball":
        cv2.circle(image, (x, y), half, thing.colour, -1, cv2.LINE_AA)
        cv2.circle(image, (x, y), half - width, dark, width, cv2.LINE_AA)
        cv2.circle(image, (x - half // 3, y - half // 3), max(half // 4, 2), light, -1, cv2.LINE_AA)
    elif name == "crate":
        cv2.rectangle(image, (x - half, y - half), (x + half, y + half), thing.colour, -1)
        cv2.rectangle(image, (x - half, y - half), (x + half, y + half), dark, width)
        cv2.line(image, (x - half, y - half), (x + half, y + half), dark, width, cv2.LINE_AA)
        cv2.line(image, (x - half, y + half), (x + half, y - half), dark, width, cv2.LINE_AA)
    else:
        if name == "cone":
            corners = [(x, y - half), (x + half, y + half), (x - half, y + half)]
        else:
            corners = [(x, y - half), (x + half, y), (x, y + half), (x - half, y)]
        outline = np.array(corners, np.int32)
        cv2.fillPoly(image, [outline], thing.colour, cv2.LINE_AA)
        cv2.polylines(image, [outline], True, dark, width, cv2.LINE_AA)
        reach = half // 2
        if name == "kite":
            cv2.line(image, (x, y - reach), (x, y + reach), light, width, cv2.LINE_AA)
        elif name == "gem":
            cv2.line(image, (x - reach, y), (x + reach, y), light, width, cv2.LINE_AA)


def write_dataset(folder: Path, train: range, val: range, make: Callable[[int], Scene] = make_scene) -> Path:
    """Write scenes as a YOLO data set: images, labels and a YAML file.

    Args:
        folder: created where it does not exist.
        train: seeds of the training scenes.
        val: seeds of the held-out scenes.
        make: gives the scene of a seed.

    Returns:
        The YAML file.
    """

    def draw(seed: int) -> tuple[np.ndarray, list[tuple[int, tuple[int, int, int, int]]]]:
        scene = make(seed)
        return render(scene), [(thing.class_id, thing.xyxy) for thing in scene.things]

    return write_images(folder, train, val, draw, CLASSES)


def write_images(
    folder: Path,
    train: range,
    val: range,
    draw: Callable[[int], tuple[np.ndarray, list[tuple[int, tuple[int, int, int, int]]]]],
    names: tuple[str, ...],
) -> Path:
    """Write what is drawn of seeds as a YOLO data set; returns the YAML.

    Args:
        folder: made where it is not there.
        train: the seeds of the one split.
        val: those of the other.
        draw: gives of a seed an image, RGB uint8 (SIZE, SIZE, 3), and class and xyxy, pixels, of each object.
        names: of the classes.
    """
    for split, seeds in (("train", train), ("val", val)):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            image, objects = draw(seed)
            cv2.imwrite(str(images / f"{seed:06d}.png"), image[..., ::-1])
            rows = [
                f"{class_id} {(x1 + x2) / 2 / SIZE:.6f} {(y1 + y2) / 2 / SIZE:.6f} "
                f"{(x2 - x1) / SIZE:.6f} {(y2 - y1) / SIZE:.6f}"
                for class_id, (x1, y1, x2, y2) in objects
            ]
            (labels / f"{seed:06d}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    description = {"path": str(folder.resolve()), "train": "images/train", "val": "images/val"}
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump({**description, "names": dict(enumerate(names))}), encoding="utf-8")
    return path
