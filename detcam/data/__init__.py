"""Read a labelled set: a COCO instances JSON, an Ultralytics ``data.yaml``, a registered format, or bare images."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from detcam.data.coco import read_coco
from detcam.data.formats import DATA_FORMATS as DATA_FORMATS
from detcam.data.formats import read_registered
from detcam.data.formats import register_data_format as register_data_format
from detcam.data.labels import LabelledImage as LabelledImage
from detcam.data.labels import LabelledSet as LabelledSet
from detcam.data.labels import Problem, Reader
from detcam.data.labels import Truth as Truth
from detcam.data.labels import check_classes as check_classes
from detcam.data.labels import image_size as image_size
from detcam.data.places import is_root
from detcam.data.yolo import read_yolo
from detcam.errors import UsageError
from detcam.inputs import check_data
from detcam.io.sources import find_images, mode_of


def read_data(
    path: str | Path,
    split: str = "val",
    names: Mapping[int, str] | None = None,
    rename: Mapping[str, str] | None = None,
    images_dir: str | Path | None = None,
) -> LabelledSet:
    """Read a labelled set. One bad file, line or annotation is a problem of the set; the rest goes on.

    Args:
        path: a COCO instances ``.json``; an Ultralytics ``data.yaml``; a folder or glob of images without labels; or
            what a reader of :func:`register_data_format` takes. Those are asked first.
        split: which images of a ``data.yaml``, or of a registered format that has splits; other kinds have one set of
            images only.
        names: the model's classes. Truths get its indices; names that differ in case, spaces, ``_`` and ``-`` only
            are the same class. Truths of classes it does not have are left out and counted.
        rename: names of the set -> names of the model, for classes the two call differently; several may become one.
        images_dir: where the images of a COCO JSON are, if neither in its folder nor in ``images`` or, below an
            ``annotations`` folder, in the folder named like the JSON's split; or those of a registered format.

    Raises:
        UsageError: nothing at ``path``, or none of the kinds; a file that is broken as a whole; a split it does not
            have; an unknown name in ``rename``; not one image there; a registered format that fails.
    """
    registered = read_registered(path, split, names, rename, images_dir)
    if registered is not None:
        return registered
    path = Path(path)
    check_data(path, images_dir)
    mode = mode_of(path)
    suffix = path.suffix.lower() if mode and not stat.S_ISDIR(mode) else ""
    if suffix == ".json":
        return read_coco(path, names, rename, images_dir)
    if suffix:
        return read_yolo(path, split, names, rename)
    if rename:
        raise UsageError(f"rename={dict(rename)!r}: {path} holds images without labels, so it has no classes to rename")
    if is_root(path):
        raise UsageError(f"{path}: the root of the file system; name the folder of the images")
    images, missing = find_images([str(path)])
    problems = [Problem(Path(item.source), item.reason) for item in missing]
    return _without_labels(images, names, problems, str(path))


def read_images(paths: Sequence[Path], names: Mapping[int, str] | None = None) -> LabelledSet:
    """A set without labels, of images named by path. One that cannot be read is a problem of the set.

    Args:
        paths: of files.
        names: the model's classes, or None.

    Raises:
        UsageError: not one image can be read.
    """
    return _without_labels(paths, names, [], "the images that were given")


def _without_labels(
    paths: Sequence[Path], names: Mapping[int, str] | None, problems: Sequence[Problem], place: str
) -> LabelledSet:
    reader = Reader({}, names, None)
    reader.problems += problems
    for path in paths:
        if (size := reader.size(path)) is not None:
            reader.add(path, size, ())
    return reader.finish(place, labelled=False)
