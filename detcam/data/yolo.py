"""Ultralytics ``data.yaml`` and label files: boxes, polygons, rotated boxes, keypoints."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detcam.data.fields import identity, is_number, read_name, read_whole, shortened
from detcam.data.labels import LARGEST_CLASS, LabelledSet, Problem, Reader, read_document
from detcam.data.places import first_place, is_root, roots_of
from detcam.data.yolo_lines import guess_keypoints, label_lines, read_labels
from detcam.errors import InputError, UsageError
from detcam.io.documents import read_text
from detcam.io.sources import find_images, mode_of

MOST_CLASSES = 100_000
MOST_KEYPOINTS = 10_000
SPLITS = ("train", "val", "test", "minival")


def read_yolo(path: Path, split: str, names: Mapping[int, str] | None, rename: Mapping[str, str] | None) -> LabelledSet:
    """Read an Ultralytics ``data.yaml``; :func:`detcam.data.read_data` says what becomes of it.

    Args:
        path: the YAML file.
        split: which of its images, such as ``val``.
        names: the model's classes; None keeps the set's own.
        rename: names of the set -> names of the model, or None.

    Raises:
        UsageError: the file is broken as a whole, it has no such split, an unknown name in ``rename``, or not one image
            can be read.
    """
    document = read_document(path)
    if "validation" in document:
        document.setdefault("val", document["validation"])
    splits = [name for name in SPLITS if document.get(name)]
    if split not in splits:
        raise UsageError(f"{path}: no split {split!r}; it has: {', '.join(splits) or 'none'}")
    entries = document[split] if isinstance(document[split], list) else [document[split]]
    root = document.get("path") or "."
    if not all(isinstance(entry, str) for entry in [root, *entries]):
        given = f"{shortened(root)}, {shortened(entries)}"
        raise UsageError(f"{path}: 'path' and {split!r} must name folders or .txt lists, got {given}")
    shape = _keypoint_shape(path, document.get("kpt_shape"))
    own, note, faults = _yolo_names(path, document, None if rename else names)
    reader = Reader(own, names, rename)
    reader.problems += [Problem(path, fault) for fault in faults]
    reader.keypoint_sigmas = _yolo_sigmas(path, shape, document.get("kpt_oks_sigmas"))
    bases, where = roots_of(path, root, entries)
    reader.notes += filter(None, (note, where))
    images: dict[Path, None] = {}
    for entry in dict.fromkeys(entries):
        images.update(dict.fromkeys(_yolo_images(entry, bases, reader.problems)))
    labels = {image: label for image in images if os.path.lexists(label := _label_file(image))}
    if shape is None and (guess := guess_keypoints(labels.values())) is not None:
        points, values = guess
        raise UsageError(
            f"{path}: kpt_shape is missing: the label lines have {5 + points * values} values, a box and {points} "
            f"keypoints of {values} each; add kpt_shape: [{points}, {values}]"
        )
    for image in images:
        size, own_label = reader.size(image), labels.get(image)
        if size is not None:
            base = next((base for base in (base.resolve() for base in bases) if image.is_relative_to(base)), None)
            name = (image.relative_to(base) if base else image).as_posix()
            reader.add(image, size, () if own_label is None else read_labels(own_label, name, size, shape, reader))
        elif own_label is not None:
            reader.lost += sum(1 for _ in label_lines(own_label))
    if images and not labels:
        missing = _label_file(next(iter(images)))
        reader.problems.append(Problem(missing, f"none of the {len(images)} images has a label file, such as this"))
    return reader.finish(path, bool(labels))


def _keypoint_shape(path: Path, given: object) -> tuple[int, int] | None:
    """``kpt_shape``: how many keypoints a label has, and how many values each of them."""
    if given is None:
        return None
    try:
        points, values = (read_whole(value, "kpt_shape") or 0 for value in given) if isinstance(given, list) else (0, 0)
    except ValueError:  # not numbers, or not two
        points = values = 0
    if not 1 <= points <= MOST_KEYPOINTS or values not in (2, 3):
        raise UsageError(
            f"{path}: 'kpt_shape' must be [points, values of each], got {shortened(given)}; "
            f"at most {MOST_KEYPOINTS:,} points, and the values of each are 2 (x, y) or 3 (x, y, visible)"
        )
    return points, values


def _yolo_sigmas(path: Path, shape: tuple[int, int] | None, sigmas: object) -> tuple[float, ...] | None:
    """Ultralytics' rule: what the set says, COCO's for 17 keypoints with visibility, else one over their number."""
    if shape is None or (sigmas is None and shape == (17, 3)):
        return None
    if sigmas is None:
        return (1 / shape[0],) * shape[0]
    if not isinstance(sigmas, list) or len(sigmas) != shape[0] or not all(is_number(s) and s > 0 for s in sigmas):
        raise UsageError(f"{path}: 'kpt_oks_sigmas' must be {shape[0]} positive numbers, got {shortened(sigmas)}")
    return tuple(map(float, sigmas))


def _yolo_names(
    path: Path, document: Mapping[str, Any], model: Mapping[int, str] | None
) -> tuple[dict[int, str], str, list[str]]:
    """The set's classes, what to tell of them, and what is wrong with others.

    Without names they are the model's, as they are for ``yolo val``.
    """
    names = document.get("names")
    try:
        number = read_whole(document.get("nc"), "nc")
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    if number is not None and number > MOST_CLASSES:
        raise UsageError(f"{path}: nc must be a number of classes, at most {MOST_CLASSES:,}, got {shortened(number)}")
    if names is None and number is not None and number > 0:
        if model is not None and set(model) == set(range(number)):
            return dict(model), f"nc: {number} without names: its classes are taken for the model's, by index", []
        note = f"nc: {number} without names, and the model has {len(model)} classes" if model is not None else ""
        return {class_id: f"class_{class_id}" for class_id in range(number)}, note, []
    pairs = [*(names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ())]
    own: dict[int, str] = {}
    faults = []
    for key, name in pairs[: MOST_CLASSES + 1]:
        try:
            own |= _class(key, name, own)
        except ValueError as error:
            faults.append(f"names: {error}; labels of it are left out")
    if not own or len(pairs) > MOST_CLASSES:
        raise UsageError(
            f"{path}: 'names' must be a list of class names, or map indices to them, got {shortened(names)}"
        )
    if number is not None and number != len(pairs):
        raise UsageError(f"{path}: 'names' has {len(pairs)} classes and nc is {number}; Ultralytics refuses that too")
    return own, "", faults


def _class(key: object, name: object, known: Mapping[int, str]) -> dict[int, str]:
    """One class by its index."""
    class_id = identity(key)
    if not isinstance(class_id, int) or not 0 <= class_id < LARGEST_CLASS:
        raise ValueError(f"a class's index must be a whole number from 0 on, got {shortened(key)}")
    if class_id in known:
        raise ValueError(f"two classes have the index {class_id}")
    return {class_id: read_name(name)}


def _yolo_images(entry: str, bases: Sequence[Path], problems: list[Problem]) -> list[Path]:
    """The images of one entry of a split: a folder, or a list of images in a ``.txt``."""
    listing = first_place(entry, bases)
    if listing is None:
        problems.append(Problem(bases[0] / entry, "no such file or folder"))
        return []
    if is_root(listing):
        problems.append(Problem(listing, "the root of the file system; name the folder of the images"))
        return []
    if not (stat.S_ISREG(mode := mode_of(listing)) or stat.S_ISDIR(mode)):
        problems.append(Problem(listing, "no regular file"))
        return []
    listing = listing.resolve()  # as Ultralytics does, so that labels lie beside the folder a link leads to
    if listing.suffix.lower() == ".txt" and listing.is_file():
        images = []
        lines: Iterable[str] = ()
        try:
            lines = map(str.strip, read_text(listing).splitlines())
        except InputError as error:
            problems.append(Problem(listing, str(error)))
        for number, line in enumerate(lines, 1):
            image = first_place(line, [listing.parent, *bases]) if line else None
            if image is not None:
                images.append(image.absolute())
            elif line:
                problems.append(Problem(listing, f"line {number}: no such file: {line}"))
        return images
    images, missing = find_images([str(listing)])
    problems += [Problem(Path(item.source), item.reason) for item in missing]
    return images


def _label_file(image: Path) -> Path:
    """Ultralytics' rule: the last folder called images becomes labels, the suffix ``.txt``."""
    parts = list(image.parent.parts)
    for index in reversed(range(1, len(parts))):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts) / f"{image.stem}.txt"
