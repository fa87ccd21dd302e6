"""COCO instances JSON: boxes, polygons, run lengths, keypoints, crowds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detcam.data.fields import identity, is_number, read_flag, read_name, read_number, read_whole, shortened
from detcam.data.labels import (
    FARTHEST,
    LARGEST_CLASS,
    Label,
    LabelledSet,
    Problem,
    Reader,
    as_box,
    read_document,
)
from detcam.data.outlines import Polygons, check_outline, check_runs, decoded
from detcam.data.places import ImageFolders
from detcam.errors import UsageError

LONGEST_ID = 100
"""Characters of an annotation's id; a longer one is named by its place in the list."""


def read_coco(
    path: Path, names: Mapping[int, str] | None, rename: Mapping[str, str] | None, images_dir: str | Path | None
) -> LabelledSet:
    """Read a COCO instances JSON; :func:`detcam.data.read_data` says what becomes of it.

    Args:
        path: the JSON file.
        names: the model's classes; None keeps the set's own.
        rename: names of the set -> names of the model, or None.
        images_dir: where the images are, or None to look beside the file as COCO lays them out.

    Raises:
        UsageError: the file is broken as a whole, ``images_dir`` is no folder, an unknown name in ``rename``, or not
            one image can be read.
    """
    document = read_document(path)
    labelled = "annotations" in document
    document.setdefault("annotations", [])
    for key in ("images", "annotations", "categories"):
        value = document.get(key)
        if not isinstance(value, list):
            raise UsageError(f"{path}: not COCO instances: {key!r} must be a list of objects, got {shortened(value)}")
    own, faults = _categories(path, document["categories"])
    reader = Reader(own, names, rename)
    reader.problems += [Problem(path, fault) for fault in faults]
    folders = _image_folders(path, images_dir)
    for image, said, marks in _images_with_files(path, document, folders, reader):
        size = reader.size(image)
        if size is None:
            reader.lost += len(marks)
        elif None in said or said == size:
            reader.add(image, size, _coco_labels(path, marks, size, reader))
        else:
            reason = f"is {size} (height, width), but {said} in {path.name}: its labels do not fit, so it is left out"
            reader.lose(image, reason, len(marks))
    return reader.finish(path, labelled, f"; looked in {', '.join(map(str, folders))}, images_dir names another folder")


def _categories(path: Path, entries: Sequence[Any]) -> tuple[dict[int, str], list[str]]:
    """The set's classes by their id, and what is wrong with the others."""
    own: dict[int, str] = {}
    faults = []
    for position, category in enumerate(entries):
        try:
            class_id, name = _category(category)
        except ValueError as error:
            faults.append(f"category {position}: {error}; its annotations are left out")
            continue
        if own.setdefault(class_id, name) != name:
            both = f"{shortened(own[class_id])} and {shortened(name)}"
            raise UsageError(f"{path}: two categories have the id {class_id}: {both}")
    return own, faults


def _category(entry: Any) -> tuple[int, str]:
    """A category's id and name."""
    class_id = identity(entry.get("id")) if isinstance(entry, dict) else None
    if not isinstance(class_id, int) or entry.get("name") is None:
        raise ValueError(f"a category must have a whole number as id and a name, got {shortened(entry)}")
    if abs(class_id) > LARGEST_CLASS:
        raise ValueError(f"a category's id must lie within {LARGEST_CLASS}, got {shortened(class_id)}")
    return class_id, read_name(entry["name"])


def _image_folders(path: Path, images_dir: str | Path | None) -> list[Path]:
    """Where the images of a COCO JSON may be."""
    if images_dir is not None:
        return [Path(images_dir)]
    folders = [path.parent, path.parent / "images"]
    if path.parent.name == "annotations":  # as published: annotations/instances_val2017.json, val2017/
        above, split = path.parent.parent, path.stem.removeprefix("instances_")
        folders += [above / split, above / "images" / split, above / "images", above]
    return folders


_Annotations: TypeAlias = list[tuple[str, dict[str, Any]]]
_Size: TypeAlias = tuple[int | None, int | None]


def _images_with_files(
    path: Path, document: Mapping[str, Any], folders: Sequence[Path], reader: Reader
) -> Iterator[tuple[Path, _Size, _Annotations]]:
    """The images of a COCO JSON with their files: path, (height, width) as written, annotations."""
    finder = ImageFolders(folders)
    placed: list[tuple[str, Path, _Size, _Annotations]] = []
    moved = []
    for entry, marks in _by_image(path, document, reader):
        name = entry["file_name"]
        try:
            height, width = (read_whole(entry.get(side), side) for side in ("height", "width"))
            image, by_name = finder.find(name)
        except ValueError as error:
            reader.lose(path, f"image {shortened(entry['id'])}, {shortened(name)}: {error}", len(marks))
            continue
        placed.append((name, image, (height, width), marks))
        moved += [(name, image)] if by_name else []
    if moved:
        name, image = moved[0]
        reader.notes.append(f"images found by their base name: {len(moved)}, such as {image} for {shortened(name)}")
    claims = Counter(image for _, image, _, _ in placed)
    for name, image, said, marks in placed:
        if claims[image] == 1:
            yield image, said, marks
        else:
            reader.lose(path, f"image {shortened(name)}: {claims[image]} images would be {image}; left out", len(marks))


def _by_image(path: Path, document: Mapping[str, Any], reader: Reader) -> list[tuple[dict[str, Any], _Annotations]]:
    """The images of a COCO JSON, each with its annotations and their ids, which are made unique."""
    images: dict[int | str, tuple[dict[str, Any], _Annotations]] = {}
    for position, entry in enumerate(document["images"]):
        key = identity(entry.get("id")) if isinstance(entry, dict) else None
        if key is None or not isinstance(entry.get("file_name"), str):
            reader.problems.append(
                Problem(path, f"image {position} needs an id and a file_name, got {shortened(entry)}")
            )
        elif key in images:
            reason = f"image {position} has the id {shortened(key)} of another image: {shortened(entry)}"
            reader.problems.append(Problem(path, reason))
        else:
            images[key] = (entry, [])
    names: set[str] = set()
    for position, annotation in enumerate(document["annotations"]):
        if not isinstance(annotation, dict):
            reader.lose(path, f"annotation #{position} must be an object, got {shortened(annotation)}")
            continue
        own = identity(annotation.get("id"))
        name = f"#{position}" if own is None or len(str(own)) > LONGEST_ID else str(own)
        name = f"{name}#{position}" if name in names else name
        names.add(name)
        key = identity(annotation.get("image_id"))
        if key is not None and key in images:
            images[key][1].append((name, annotation))
        else:
            reader.lose(path, f"annotation {name}: no image has the id {shortened(annotation.get('image_id'))}")
    return list(images.values())


def _coco_labels(path: Path, marks: _Annotations, size: tuple[int, int], reader: Reader) -> Iterator[Label]:
    for name, annotation in marks:
        try:
            label, faults = _coco_label(name, annotation, size, reader)
        except ValueError as error:
            reader.lose(path, f"annotation {name}: {error}")
            continue
        reader.problems += [Problem(path, f"annotation {name}: {fault}") for fault in faults]
        yield label


def _coco_label(
    name: str, annotation: Mapping[str, Any], size: tuple[int, int], reader: Reader
) -> tuple[Label, list[str]]:
    """A label, and what of the annotation is wrong but not needed for its box."""
    class_id, box, faults = identity(annotation.get("category_id")), annotation.get("bbox"), []
    if not isinstance(class_id, int) or class_id not in reader.own:
        given = shortened(annotation.get("category_id"))
        raise ValueError(f"category_id {given} is not among the {len(reader.own)} categories")
    crowd = read_flag(annotation.get("iscrowd"), "iscrowd")
    if read_flag(annotation.get("ignore"), "ignore") and not crowd:
        reader.tally["labels with ignore: 1, which are judged like any other, as pycocotools does"] += 1
    for field, read in (("area", read_number), ("score", read_number), ("num_keypoints", read_whole)):
        try:
            read(annotation.get(field), field)
        except ValueError as error:
            faults.append(f"{error}; its box is kept")
    outline, fault = None, "no segmentation"
    try:
        outline = _coco_outline(annotation.get("segmentation"), size)
    except ValueError as error:
        fault = str(error)
        faults.append(f"{fault}; its box is kept, without a mask")
    keypoints = None
    try:
        keypoints = _coco_keypoints(annotation.get("keypoints"))
    except ValueError as error:
        faults.append(f"{error}; its box is kept, without keypoints")
    if box in (None, []):
        if outline is None:
            raise ValueError(f"bbox must be four numbers x, y, width, height in pixels, got {box}, and {fault}")
        x1, y1, x2, y2 = _bounds(outline)
        box = [x1, y1, x2 - x1, y2 - y1]
        reader.tally["labels without a bbox, whose box is that of their segmentation"] += 1
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise ValueError(f"bbox must be four numbers x, y, width, height in pixels, got {shortened(box)}")
    x, y, width, height = map(float, box)
    if width <= 0 or height <= 0:
        raise ValueError(f"bbox has a negative size or none: {box[2]} x {box[3]} (width x height)")
    if x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0:
        raise ValueError(f"bbox {box} lies outside its image, {size[0]} x {size[1]} (height x width)")
    return Label(name, class_id, as_box([x, y, x + width, y + height]), outline, crowd, keypoints), faults


def _bounds(outline: Polygons | Mapping[str, Any]) -> tuple[float, float, float, float]:
    """What encloses an outline, xyxy."""
    if isinstance(outline, Mapping):
        rows, columns = np.nonzero(decoded(outline["size"], outline["counts"]))
        if not len(rows):
            raise ValueError("no bbox, and run lengths without a pixel")
        return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)
    points = np.concatenate(outline)
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return x1, y1, x2, y2


def _as_numbers(value: object) -> NDArray[np.float64] | None:
    """A list of finite numbers as an array; None for all else. Faster than to ask of each by itself."""
    if not isinstance(value, list) or not set(map(type, value)) <= {int, float}:
        return None
    try:
        numbers = np.array(value, np.float64)
    except OverflowError:  # 401 digits
        return None
    return numbers if np.isfinite(numbers).all() else None


def _coco_keypoints(value: object) -> NDArray[np.float32] | None:
    """An object's keypoints (n, 3), checked; None where not one of them is labelled, as in most crowds."""
    if not value:
        return None
    numbers = _as_numbers(value)
    if numbers is None or len(numbers) % 3 or (np.abs(numbers) > FARTHEST).any():
        raise ValueError(f"keypoints must be x1, y1, visibility1, x2, ..., got {shortened(value)}")
    keypoints = numbers.astype(np.float32).reshape(-1, 3)
    if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
        raise ValueError(f"a keypoint's visibility must be 0, 1 or 2, got {shortened(value)}")
    return keypoints if keypoints[:, 2].any() else None


def _coco_outline(value: object, size: tuple[int, int]) -> Polygons | Mapping[str, Any] | None:
    """A segmentation, checked: pycocotools fills memory until killed along what lies far outside."""
    height, width = size
    if not value:
        return None
    if isinstance(value, list):
        polygons = []
        for polygon in value:
            numbers = _as_numbers(polygon)
            if numbers is None or len(numbers) < 6 or len(numbers) % 2:
                raise ValueError(f"a polygon must be x1, y1, x2, y2, x3, y3, ..., got {shortened(polygon)}")
            polygons.append(numbers.reshape(-1, 2))
        check_outline(tuple(polygons), size)
        return tuple(polygons)
    if not isinstance(value, dict) or not {"size", "counts"} <= value.keys():
        raise ValueError(f"a segmentation must be polygons or run lengths (size, counts), got {shortened(value)}")
    if value["size"] != [height, width]:
        raise ValueError(f"run lengths of size {shortened(value['size'])} in an image of [{height}, {width}]")
    counts = value["counts"]
    if not isinstance(counts, str | list):
        raise ValueError(f"run lengths must be whole numbers from 0 on, got {shortened(counts)}")
    check_runs(size, counts)
    return {"size": [height, width], "counts": counts}
