"""Labelled images and objects as values, and the reader that collects them: one bad label spoils no other."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detcam.data.classes import match_classes
from detcam.data.fields import shortened
from detcam.data.outlines import Polygons, check_outline, decoded
from detcam.errors import InputError, UsageError, one_line
from detcam.io.documents import read_json, read_yaml
from detcam.io.images import read_image, stored_size
from detcam.io.sources import mode_of

LARGEST_CLASS = 2**31
"""Of a set's own numbers of classes."""
FARTHEST = 2**24
"""Pixels from an image's corner to which a box may reach: beyond, single pixels are lost in float32."""


class Problem(NamedTuple):
    """Something in a labelled set that cannot be used.

    Attributes:
        path: the file.
        reason: why; it names the line or annotation where only that is left out.
    """

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Truth:
    """One labelled object.

    Attributes:
        id: the annotation's id; for YOLO labels the image's path within the set and the line, ``images/a.jpg:3``.
        xyxy: float32 (4,), original-image pixels, as labelled: it may reach over the image's edge; read-only.
        class_id: the model's class where the set was read for a model, else the set's own (COCO: the category id).
        class_name: the name that goes with ``class_id``.
        crowd: COCO's ``iscrowd``: the box holds many objects of the class, not one.
        outline: polygons in original-image pixels (a rotated box is one of four corners), COCO's run lengths
            (``size``, ``counts``), or None.
        keypoints: float32 (n, 3), x and y in original-image pixels and COCO's visibility (0 not labelled, 1 hidden,
            2 visible), read-only; or None.
    """

    id: str
    xyxy: NDArray[np.float32]
    class_id: int
    class_name: str
    crowd: bool = False
    outline: Polygons | Mapping[str, Any] | None = field(default=None, repr=False)
    keypoints: NDArray[np.float32] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.keypoints is not None:
            points = np.array(self.keypoints, np.float32)
            if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
                raise ValueError(f"keypoints must be finite (n, 3): x, y and visibility, got {self.keypoints!r}")
            points.flags.writeable = False
            object.__setattr__(self, "keypoints", points)
        box = np.array(self.xyxy, np.float32)
        if box.shape != (4,) or not np.isfinite(box).all():
            raise ValueError(f"xyxy must be four finite numbers x1, y1, x2, y2, got {self.xyxy!r}")
        if (box[2:] < box[:2]).any():
            raise ValueError(f"xyxy is two corners, x1 <= x2 and y1 <= y2, no width and height, got {self.xyxy!r}")
        box.flags.writeable = False
        object.__setattr__(self, "xyxy", box)

    def mask(self, height: int, width: int) -> NDArray[np.bool_] | None:
        """The object's pixels, bool (height, width), decoded anew at each call; None where only a box was labelled.

        Args:
            height: of the image, pixels.
            width: of the image, pixels.

        Raises:
            UsageError: the labels are run lengths or an outline of an image of another size.
        """
        if self.outline is None:
            return None
        if isinstance(self.outline, Mapping):
            size, counts = self.outline["size"], self.outline["counts"]
            if list(size) != [height, width]:
                shape = " x ".join(map(str, size))
                raise UsageError(f"the mask of {self.id} is {shape} (height x width), not {height} x {width}")
        else:
            from pycocotools import mask as coco  # only outlines need it

            try:
                check_outline(self.outline, (height, width))
            except ValueError as error:
                raise UsageError(f"the mask of {self.id}: {error}") from error
            flat = [polygon.ravel().tolist() for polygon in self.outline]
            counts = coco.merge(coco.frPyObjects(flat, height, width))["counts"].decode("ascii")
        try:
            return decoded((height, width), counts)
        except ValueError as error:
            raise UsageError(f"the mask of {self.id}: {error}") from error


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image and the objects labelled in it.

    Attributes:
        path: the file.
        size: (height, width) in pixels, as :func:`detcam.io.images.read_image` reads it.
        truths: the labelled objects.
    """

    path: Path
    size: tuple[int, int]
    truths: tuple[Truth, ...]


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Images with their truths.

    Attributes:
        images: those that can be read, in the set's order; an image without labels has no truths.
        names: what ``class_id`` counts: the model's classes where they were given, else the set's.
        problems: what cannot be used, and why; everything else is in ``images``.
        labelled: whether there were labels at all; if not, an image without truths says nothing.
        unmapped: the set's classes that the model does not have, each with the number of truths left out for it.
        keypoint_sigmas: how far each keypoint may be off for its similarity (OKS), as a share of the object's size;
            None for COCO's where there are 17, and one over their number else.
        lost: how many labels were left out because they, or their images, cannot be used.
        notes: sentences on what was read otherwise than it is written: nothing is wrong with it, but one should know.
    """

    images: tuple[LabelledImage, ...]
    names: Mapping[int, str]
    problems: tuple[Problem, ...] = ()
    labelled: bool = True
    unmapped: Mapping[str, int] = field(default_factory=dict)
    keypoint_sigmas: tuple[float, ...] | None = None
    lost: int = 0
    notes: tuple[str, ...] = ()


def check_classes(labelled: LabelledSet, names: Mapping[int, str]) -> None:
    """Refuse a set whose truths count classes otherwise than a model does: every one would be taken for another class.

    Args:
        labelled: a set, read for this model or not.
        names: the model's classes by index.

    Raises:
        UsageError: a truth's ``class_id`` is no class of the model's, or one of another name.
    """
    for image in labelled.images:
        for truth in image.truths:
            if (known := names.get(truth.class_id)) != truth.class_name:
                model = (
                    "the model has none of that number"
                    if known is None
                    else f"the model's {truth.class_id} is {known!r}"
                )
                raise UsageError(
                    f"{image.path}: truth {truth.id!r} has class {truth.class_id}, {truth.class_name!r}, and {model}: "
                    "truths need the model's class numbers and names: detcam.data.read_data(path, names=model.names)"
                )


class Label(NamedTuple):
    """One labelled object, its class still the set's own.

    Attributes:
        id: as :attr:`Truth.id`.
        class_id: in the set's own classes.
        xyxy: x1, y1, x2, y2 in original-image pixels.
        outline: as :attr:`Truth.outline`.
        crowd: as :attr:`Truth.crowd`.
        keypoints: as :attr:`Truth.keypoints`.
    """

    id: str
    class_id: int
    xyxy: NDArray[np.float32] | Sequence[float]
    outline: Polygons | Mapping[str, Any] | None
    crowd: bool = False
    keypoints: NDArray[np.float32] | None = None


class Reader:
    """Collects images and their labels, maps the set's classes to the model's, and notes what cannot be used.

    Sentences for :attr:`LabelledSet.notes` are added to ``notes``; what may be said of many labels is counted in
    ``tally``.

    Args:
        own: the set's classes.
        names: the model's classes; None keeps the set's.
        rename: names of the set -> names of the model, or None.

    Raises:
        UsageError: ``rename`` has a name that is unknown, or a class may be several of the model's.
    """

    keypoint_sigmas: tuple[float, ...] | None = None
    """As :attr:`LabelledSet.keypoint_sigmas`."""

    def __init__(
        self, own: Mapping[int, str], names: Mapping[int, str] | None, rename: Mapping[str, str] | None
    ) -> None:
        self.own = own
        self.names = dict(own if names is None else names)
        self.target, self.notes = match_classes(own, names, rename or {})
        self.unmapped = {name: 0 for class_id, name in own.items() if class_id not in self.target}
        self.images: list[LabelledImage] = []
        self.problems: list[Problem] = []
        self.lost = 0
        self.tally = Counter[str]()

    def lose(self, path: Path, reason: str, labels: int = 1) -> None:
        """Note a problem that costs labels.

        Args:
            path: the file.
            reason: why.
            labels: how many.
        """
        self.problems.append(Problem(path, reason))
        self.lost += labels

    def size(self, image: Path) -> tuple[int, int] | None:
        """The image's (height, width) in pixels; None, and a noted problem, where the image cannot be read."""
        try:
            if (mode := mode_of(image)) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise InputError("no regular file")
            return image_size(image)
        except InputError as error:
            self.problems.append(Problem(image, str(error).removeprefix(f"{image}: ")))
            return None

    def add(self, image: Path, size: tuple[int, int], labels: Iterable[Label]) -> None:
        """Add an image with its labels; labels of classes that the model does not have are only counted.

        Args:
            image: the file.
            size: (height, width), pixels.
            labels: in the set's own classes.
        """
        truths = []
        for label in labels:
            class_id = self.target.get(label.class_id)
            if class_id is None:
                self.unmapped[self.own[label.class_id]] += 1
            else:
                box = np.array(label.xyxy, np.float32)
                name = self.names[class_id]
                truths.append(Truth(label.id, box, class_id, name, label.crowd, label.outline, label.keypoints))
        self.images.append(LabelledImage(image, size, tuple(truths)))

    def finish(self, path: Path | str, labelled: bool, hint: str = "") -> LabelledSet:
        """The set of all images added.

        Args:
            path: what the set was read from, for the message.
            labelled: whether there were labels at all.
            hint: the end of the message.

        Raises:
            UsageError: not one image was added.
        """
        if not self.images:
            first = f": {self.problems[0].path}: {self.problems[0].reason}" if self.problems else ""
            raise UsageError(f"{path}: no image that can be read{first}{hint}")
        notes = map(one_line, (*self.notes, *(f"{text}: {count}" for text, count in self.tally.items())))
        return LabelledSet(
            tuple(self.images),
            self.names,
            tuple(Problem(problem.path, one_line(problem.reason)) for problem in self.problems),
            labelled,
            self.unmapped,
            self.keypoint_sigmas,
            self.lost,
            tuple(notes),
        )


def image_size(path: Path) -> tuple[int, int]:
    """The (height, width) of :func:`detcam.io.images.read_image`, from the file's header where that tells.

    Raises:
        InputError: as ``read_image`` does.
    """
    if told := stored_size(path):
        return told
    height, width = read_image(path).shape[:2]
    return height, width


def read_document(path: Path) -> dict[str, Any]:
    """The mapping that a JSON or YAML file holds.

    Args:
        path: ``.json`` is read as JSON, all else as YAML.

    Raises:
        UsageError: it cannot be read, is broken, or holds something other than a mapping.
    """
    document = read_json(path) if path.suffix.lower() == ".json" else read_yaml(path)
    if not isinstance(document, dict):
        raise UsageError(f"{path}: expected a mapping of names to values, got a {type(document).__name__}")
    return document


def as_box(xyxy: Sequence[float]) -> NDArray[np.float32]:
    """A box as it is kept, float32 (4,).

    Args:
        xyxy: x1, y1, x2, y2 in pixels.

    Raises:
        ValueError: a corner farther than :data:`FARTHEST`, or nothing is left of its size.
    """
    corners = np.array(xyxy, np.float64)
    if not (np.abs(corners) <= FARTHEST).all():
        raise ValueError(f"its box reaches farther than {FARTHEST:,} pixels: {shortened(corners.tolist())}")
    box = corners.astype(np.float32)
    if not (box[2:] > box[:2]).all():
        raise ValueError(f"its box has no size: {shortened(corners.tolist())}")
    return box
