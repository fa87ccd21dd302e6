"""Labelled sets in formats from outside: readers that a program registers, or that other packages bring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from detcam.data.classes import match_classes
from detcam.data.labels import LabelledImage, LabelledSet
from detcam.errors import DetcamError, UsageError
from detcam.registry import Registry

DataFormat: TypeAlias = Callable[..., LabelledSet | None]
"""(path, and by name any of ``split`` and ``images_dir``) -> a set in its own classes, or None for other formats."""
SETTINGS = ("split", "images_dir")
"""What a reader may ask for by name."""


def _as_format(given: DataFormat) -> DataFormat:
    """A reader as it is.

    Raises:
        UsageError: it cannot be called as :func:`read_registered` calls it.
    """
    if not callable(given):
        raise UsageError(f"a data format is registered as a function of a path, got {given!r}")
    try:
        inspect.signature(given).bind(None, **dict.fromkeys(_taken(given)))
    except TypeError as error:
        takes = " and ".join(SETTINGS)
        raise UsageError(
            f"a data format is registered as a function of a path that may also take {takes}, and this one is a "
            f"function of {inspect.signature(given)}"
        ) from error
    return given


def _taken(given: DataFormat) -> list[str]:
    """Which of :data:`SETTINGS` a reader takes."""
    parameters = inspect.signature(given).parameters
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    return [name for name in SETTINGS if takes_all or name in parameters]


DATA_FORMATS: Registry[DataFormat] = Registry("data format", "detcam.data_formats", _as_format, {})
"""Readers from outside by name: the registered ones, and those of entry points ``detcam.data_formats``."""


def register_data_format(name: str, reader: DataFormat) -> None:
    """Let reviews and evaluations read labels of another format in this process.

    An entry point ``detcam.data_formats`` does so for everyone who has the package, on the command line too.

    Args:
        name: letters, digits and any of ``_ . + -``; messages call the format so.
        reader: called with the path as the caller gave it, a ``str`` or a ``Path``, and with those of ``split`` (which
            images: ``val``, ``train``, ...) and ``images_dir`` (where they are, or None) that it names. It gives a
            :class:`~detcam.data.LabelledSet` in the set's own classes, which are then matched with a model's; or None,
            soon and without reading more than it must, where the path is none of its own. Readers are asked before
            detcam's own, in the order of registration.

    Raises:
        UsageError: the name is taken or cannot be one, or ``reader`` is no such function.
    """
    DATA_FORMATS.add(name, reader)


def read_registered(
    path: str | Path,
    split: str,
    names: Mapping[int, str] | None,
    rename: Mapping[str, str] | None,
    images_dir: str | Path | None,
) -> LabelledSet | None:
    """What the first registered format that knows a path makes of it; None where none does.

    Args:
        path: as :func:`detcam.data.read_data` was given it, and the others too.
        split: which images.
        names: the model's classes; None keeps the set's.
        rename: names of the set -> names of the model, or None.
        images_dir: where the images are, or None.

    Raises:
        UsageError: the format failed, or gave something that cannot be used; ``images_dir`` means nothing to it; an
            unknown name in ``rename``; not one image.
    """
    settings = {"split": split, "images_dir": images_dir}
    for name, reader in DATA_FORMATS.items():
        taken = _taken(reader)
        try:
            found = reader(path, **{key: settings[key] for key in taken})
        except DetcamError:
            raise
        except Exception as error:
            raise UsageError(f"{path}: data format {name!r} failed: {type(error).__name__}: {error}") from error
        if found is not None:
            if images_dir is not None and "images_dir" not in taken:
                raise UsageError(
                    f"images_dir={str(images_dir)!r} means nothing to data format {name!r}, which reads {path}"
                )
            return _in_classes_of(_checked(found, name, path), names, rename)
    return None


def _checked(found: LabelledSet, name: str, path: str | Path) -> LabelledSet:
    """What a reader gave, if it can be used."""
    if not isinstance(found, LabelledSet):
        raise UsageError(
            f"{path}: data format {name!r} has to give a detcam.data.LabelledSet or None, and gave a "
            f"{type(found).__name__}"
        )
    if not found.images:
        first = f": {found.problems[0].path}: {found.problems[0].reason}" if found.problems else ""
        raise UsageError(f"{path}: data format {name!r} found no image that can be read{first}")
    for image in found.images:
        for truth in image.truths:
            if found.names.get(truth.class_id) != truth.class_name:
                raise UsageError(
                    f"{image.path}: data format {name!r} gave truth {truth.id!r} the class {truth.class_id}, "
                    f"{truth.class_name!r}, which is not in the set's own names"
                )
    return found


def _in_classes_of(
    labelled: LabelledSet, names: Mapping[int, str] | None, rename: Mapping[str, str] | None
) -> LabelledSet:
    """A set in the classes of a model: truths of classes that the model does not have are left out and counted."""
    target, notes = match_classes(labelled.names, names, rename or {})
    known = labelled.names if names is None else names
    unmapped = {name: 0 for class_id, name in labelled.names.items() if class_id not in target}
    images = []
    for image in labelled.images:
        truths = []
        for truth in image.truths:
            class_id = target.get(truth.class_id)
            if class_id is None:
                unmapped[truth.class_name] += 1
            else:
                truths.append(replace(truth, class_id=class_id, class_name=known[class_id]))
        images.append(LabelledImage(image.path, image.size, tuple(truths)))
    return replace(
        labelled, images=tuple(images), names=dict(known), unmapped=unmapped, notes=(*labelled.notes, *notes)
    )
