"""Ultralytics ``data.yaml`` and label files: boxes, polygons, rotated boxes, keypoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detcam.data.fields import is_number, shortened
from detcam.data.labels import Label, LabelledSet, Problem, Reader, read_document, read_text
from detcam.errors import InputError, UsageError
from detcam.io.sources import find_images

SPLITS = ("train", "val", "test", "minival")
_COORDINATE_TOLERANCE = 1e-3  # how far a normalised coordinate may lie outside [0, 1]


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
        raise UsageError(f"{path}: 'path' and {split!r} must name folders or .txt lists, got {root!r}, {entries!r}")
    keypoints = document.get("kpt_shape")
    if keypoints is not None and not (
        isinstance(keypoints, list) and len(keypoints) == 2 and all(map(is_number, keypoints))
    ):
        raise UsageError(f"{path}: 'kpt_shape' must be [points, values of each], got {shortened(keypoints)}")
    reader = Reader(_yolo_names(path, document), names, rename)
    reader.keypoint_sigmas = _yolo_sigmas(path, keypoints, document.get("kpt_oks_sigmas"))
    bases = [base for base in (path.parent / root, path.parent) if base.is_dir()]
    images: dict[Path, None] = {}
    for entry in entries:
        images.update(dict.fromkeys(_yolo_images(entry, bases, reader.problems)))
    labelled = False
    for image in images:
        size, label = reader.size(image), _label_file(image)
        labelled |= label.is_file()
        if size is not None:
            base = next((base for base in (base.resolve() for base in bases) if image.is_relative_to(base)), None)
            name = (image.relative_to(base) if base else image).as_posix()
            reader.add(image, size, _yolo_labels(label, name, size, keypoints, reader) if label.is_file() else ())
    if images and not labelled:
        label = _label_file(next(iter(images)))
        reader.problems.append(Problem(label, f"none of the {len(images)} images has a label file, such as this"))
    return reader.finish(path, labelled)


def _yolo_sigmas(path: Path, shape: list[int] | None, sigmas: object) -> tuple[float, ...] | None:
    """Ultralytics' rule: what the set says, COCO's for 17 keypoints with visibility, else one over their number."""
    if shape is None or (sigmas is None and shape == [17, 3]):
        return None
    if sigmas is None:
        return (1 / shape[0],) * shape[0]
    if not isinstance(sigmas, list) or len(sigmas) != shape[0] or not all(is_number(s) and s > 0 for s in sigmas):
        raise UsageError(f"{path}: 'kpt_oks_sigmas' must be {shape[0]} positive numbers, got {shortened(sigmas)}")
    return tuple(map(float, sigmas))


def _yolo_names(path: Path, document: Mapping[str, Any]) -> dict[int, str]:
    names, number = document.get("names"), document.get("nc")
    if names is None and type(number) is int:
        return {class_id: f"class_{class_id}" for class_id in range(number)}
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    try:
        own = {int(class_id): str(name) for class_id, name in pairs}
    except (TypeError, ValueError):
        own = {}
    if not own:
        raise UsageError(
            f"{path}: 'names' must be a list of class names, or map indices to them, got {shortened(names)}"
        )
    return own


def _yolo_images(entry: str, bases: Sequence[Path], problems: list[Problem]) -> list[Path]:
    """The images of one entry of a split: a folder, or a list of images in a ``.txt``."""
    listing = _first(entry, bases)
    if listing is None:
        problems.append(Problem(bases[0] / entry, "no such file or folder"))
        return []
    listing = listing.resolve()  # as Ultralytics does, so that labels lie beside the folder a link leads to
    if listing.suffix.lower() == ".txt" and listing.is_file():
        images = []
        try:
            lines = [line.strip() for line in read_text(listing).splitlines()]
        except InputError as error:
            problems.append(Problem(listing, str(error)))
            lines = []
        for number, line in enumerate(lines, 1):
            image = _first(line, [listing.parent, *bases]) if line else None
            if image is not None:
                images.append(image.absolute())
            elif line:
                problems.append(Problem(listing, f"line {number}: no such file: {line}"))
        return images
    images, missing = find_images([str(listing)])
    problems += [Problem(Path(item.source), item.reason) for item in missing]
    return images


def _first(name: str, bases: Sequence[Path]) -> Path | None:
    """The first place where a name exists. Some exports write ``../`` before folders that are right here."""
    places = (base / inside for base in bases for inside in (name, name.removeprefix("../")))
    return next((place for place in places if place.exists()), None)


def _label_file(image: Path) -> Path:
    """Ultralytics' rule: the last folder called images becomes labels, the suffix ``.txt``."""
    parts = list(image.parent.parts)
    for index in reversed(range(1, len(parts))):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts) / f"{image.stem}.txt"


def _yolo_labels(
    path: Path, image: str, size: tuple[int, int], keypoints: list[int] | None, reader: Reader
) -> Iterator[Label]:
    try:
        lines = read_text(path).splitlines()
    except InputError as error:
        reader.problems.append(Problem(path, str(error)))
        return
    first_lines: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(lines, 1):
        values = line.split()
        try:
            first = first_lines.setdefault(tuple(values), number)
            if first != number and values:
                raise ValueError(f"repeats line {first}; counted once")
            label = _yolo_label(values, f"{image}:{number}", size, keypoints, reader.own) if values else None
        except ValueError as error:
            reader.problems.append(Problem(path, f"line {number}: {error}"))
            continue
        if label is not None:
            yield label


def _yolo_label(
    values: Sequence[str], name: str, size: tuple[int, int], keypoints: list[int] | None, own: Mapping[int, str]
) -> Label:
    try:
        numbers = [float(value) for value in values]
    except ValueError as error:
        raise ValueError(f"not a number: {str(error).partition(': ')[2]}") from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"not a finite number in {shortened(' '.join(values))}")
    if numbers[0] not in own:  # 1.0 == 1
        raise ValueError(f"class {values[0]} is not among the set's {len(own)} classes, {min(own)} .. {max(own)}")
    points, parts = numbers[1:], None
    if keypoints is not None and len(points) == 4 + keypoints[0] * keypoints[1]:
        parts = np.array(points[4:]).reshape(keypoints[0], keypoints[1])
        points = points[:4]
    if len(points) != 4 and (len(points) < 6 or len(points) % 2):
        raise ValueError(
            f"{len(values)} values; a box has 5 (class, x and y of its centre, width, height), "
            "an outline 7 or any larger odd number (class, x and y of each point)"
        )
    if len(points) == 4 and min(points[2:]) <= 0:
        raise ValueError(f"a negative size or none: {values[3]} x {values[4]} (width x height)")
    for value in points:
        if not -_COORDINATE_TOLERANCE <= value <= 1 + _COORDINATE_TOLERANCE:
            raise ValueError(f"coordinate {value:g} outside [0, 1]; labels are shares of the image's width and height")
    scale = np.array([size[1], size[0]], np.float64)
    if len(points) == 4:
        centre, half = np.array(points[:2]), np.array(points[2:]) / 2
        outline, low, high = None, (centre - half) * scale, (centre + half) * scale
    else:
        polygon = np.array(points).reshape(-1, 2) * scale
        outline, low, high = (polygon,), polygon.min(0), polygon.max(0)
        if (low == high).any():
            raise ValueError("the outline's points lie on one line, so it has no size")
    if parts is not None:
        labelled = parts[:, 2] if parts.shape[1] == 3 else 2 * (parts >= 0).all(1)  # -1 stands for a missing point
        parts = np.column_stack([parts[:, :2] * scale, labelled]).astype(np.float32)
    return Label(name, int(numbers[0]), (*low.tolist(), *high.tolist()), outline, keypoints=parts)
