"""What an option may be, checked by itself: before torch is imported, and before any weights are read.

Whether options fit together and fit the model is checked where both are known (``attribution/options.py``,
``attribution/explaining.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from numbers import Integral, Real
from typing import Any

from detcam.errors import UsageError, is_count, nearest
from detcam.registry import REGISTRIES

METHOD_NAMES = (
    *("cam", "gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "odam", "ssgradcam", "ssgradcam++"),
    *("eigengradcam", "gradnorm", "gcame", "eigencam", "saliency", "guidedbackprop", "guidedgradcam", "fullgrad"),
    *("smoothgrad", "integratedgradients", "scorecam", "ablationcam", "reciprocam", "occlusion", "windows"),
    *("drise", "dcrisp", "vps", "phasewin", "guided", "effect", "box", "edges", "random"),
)
"""detcam's own methods, by the names of ``detcam.methods.METHODS``."""
TARGET_NAMES = (
    *("class", "against", "probability", "objectness", "score", "box", "left", "top", "right", "bottom", "iou", "mask"),
)
"""detcam's own targets, by the names of ``detcam.targets.TARGETS``."""
FUSION_NAMES = ("sum", "mean", "max")
SMOOTHING_NAMES = ("aug", "eigen", "noise")
EXPORT_FORMATS = ("coco", "csv", "fiftyone", "supervision", "relabel", "counterfactuals")
"""What runs are exported to, by the names of ``detcam.export.WRITERS``."""
MAX_PIXELS = 400_000_000
"""Of an image, unless a command or program says otherwise: 20,000 x 20,000, of which a run takes some 3.4 GB."""
LONGEST_INDEX = 20
"""Digits that no place in a list has: Python refuses to read five thousand."""
SEEDS = 2**32
"""Seeds are smaller: not all generators take larger ones."""


def check_method_name(name: str) -> None:
    """Refuse a name that is no method's.

    Raises:
        UsageError: it is neither ``auto``, nor detcam's, nor registered, nor an installed package's.
    """
    if name != "auto" and name not in METHOD_NAMES and name not in (brought := brought_names("detcam.methods")):
        raise UsageError(f"no method {name!r}{nearest(name, ['auto', *METHOD_NAMES, *brought])}")


def check_target_name(name: str) -> None:
    """Refuse a name that is no target's; whether a model has the class of ``contrast:CLASS`` is not asked.

    Raises:
        UsageError: it is neither detcam's, nor registered, nor an installed package's.
    """
    kind, _, argument = name.partition(":") if isinstance(name, str) else (name, "", "")
    if kind == "contrast" and argument:
        return
    if kind == "keypoint" and argument:
        number, _, part = argument.partition(":")
        if is_index(number) and part in ("", "x", "y", "visible"):
            return
        raise UsageError(f"no target {name!r}; a keypoint is named keypoint:5, keypoint:5:x or keypoint:5:y")
    if name != "combined" and name not in TARGET_NAMES and name not in (brought := brought_names("detcam.targets")):
        known = [*TARGET_NAMES, *brought, "combined", "contrast:CLASS", "keypoint:NUMBER"]
        raise UsageError(f"no target {name!r}{nearest(name, known)}")


def check_fusion(name: str) -> None:
    """Refuse a name that is not in :data:`FUSION_NAMES`.

    Raises:
        UsageError: it is not.
    """
    if name not in FUSION_NAMES:
        raise UsageError(f"no fusion {name!r}{nearest(name, FUSION_NAMES)}")


def check_smoothing(names: str | Sequence[str] | None) -> frozenset[str]:
    """Smoothing by name: none, or any of :data:`SMOOTHING_NAMES`.

    Raises:
        UsageError: no such smoothing.
    """
    given = [] if names is None or names in ("", (), []) else several(names, "smoothing")
    for name in given:
        if name not in SMOOTHING_NAMES:
            raise UsageError(f"no smoothing {name!r}{nearest(name, SMOOTHING_NAMES)}")
    return frozenset(given)


def check_counts(**counts: Any) -> None:
    """Refuse values, by their options' names, that are not whole numbers of at least 1.

    Raises:
        UsageError: one is not.
    """
    for name, count in counts.items():
        if not is_count(count):
            raise UsageError(f"{name} must be a whole number, at least 1, got {count!r}")


def check_shares(**shares: Any) -> None:
    """Refuse values, by their options' names, that are not numbers in [0, 1].

    Raises:
        UsageError: one is not.
    """
    for name, value in shares.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:  # type: ignore[operator]  # a Real compares
            raise UsageError(f"{name} must lie in [0, 1], got {value!r}")


def check_thresholds(conf: Any, iou: Any, max_det: Any) -> None:
    """Refuse a detector's thresholds outside of [0, 1], or a cap that is no count.

    Raises:
        UsageError: one is.
    """
    check_shares(conf=conf, iou=iou)
    check_counts(max_det=max_det)


def check_seed(seed: Any) -> None:
    """Refuse a seed that a generator does not take.

    Raises:
        UsageError: it is no whole number from 0 to 2^32 - 1.
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= int(seed) < SEEDS:
        raise UsageError(f"seed must be a whole number from 0 to {SEEDS - 1}, got {seed!r}")


def check_detection(detection: Any) -> list[int] | None:
    """The numbers of detections to explain, counted from 0; ``None`` stays.

    Args:
        detection: one number or several.

    Raises:
        UsageError: they are none.
    """
    if detection is None:
        return None
    numbers = several(detection, "detection")
    if any(isinstance(number, bool) or not isinstance(number, Integral) or number < 0 for number in numbers):
        raise UsageError(f"detections are whole numbers counted from 0, got {numbers}")
    return [int(number) for number in numbers]


def check_question(box: Sequence[float] | None, class_name: str | int | None, detection: Any = None) -> None:
    """Refuse a box without a class, a class without a box, either beside ``detection``, and a box that is none.

    Raises:
        UsageError: it is one of these.
    """
    if detection is not None and box is not None:
        raise UsageError("detection picks reported boxes and box asks about one that was not; give one of the two")
    if box is None and class_name is None:
        return
    if box is None or class_name is None:
        raise UsageError("a box to explain needs its class, and a class its box: give both")
    if len(box) != 4 or not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
        raise UsageError(f"box must be x1,y1,x2,y2 with x1 < x2 and y1 < y2, original pixels, got {list(box)}")


def find_classes(asked: Sequence[str | int], names: Mapping[int, str]) -> list[int]:
    """Class indices for names or indices; a name that several classes have stands for all of them.

    Args:
        asked: names, indices, or indices as text; a name that looks like an index is taken for the name.
        names: the model's class names by index.

    Raises:
        UsageError: no such class.

    >>> find_classes(["cat", 1], {0: "cat", 1: "dog"})
    [0, 1]
    >>> find_classes(["cat"], {0: "cat", 1: "dog", 2: "cat"})
    [0, 2]
    """
    by_name: dict[str, list[int]] = {}
    for class_id, name in names.items():
        by_name.setdefault(name, []).append(class_id)
    class_ids = []
    for item in asked:
        if str(item) in by_name:
            class_ids += by_name[str(item)]
        elif is_index(item) and int(item) in names:
            class_ids.append(int(item))
        elif is_index(item):
            raise UsageError(f"no class {item}: this model's classes run from 0 to {max(names)}")
        else:
            raise UsageError(f"no class {str(item)!r} in this model{nearest(str(item), by_name)}")
    return class_ids


def find_class(asked: str | int, names: Mapping[int, str]) -> int:
    """The index of one class.

    Args:
        asked: as of :func:`find_classes`.
        names: the model's class names by index.

    Raises:
        UsageError: no such class, or several of that name.

    >>> find_class("dog", {0: "cat", 1: "dog"})
    1
    """
    first, *others = find_classes([asked], names)
    if others:
        several = ", ".join(map(str, [first, *others]))
        raise UsageError(
            f"{len(others) + 1} classes of this model are called {str(asked)!r}: {several}; name one by its index"
        )
    return first


def name_class(class_id: int, names: Mapping[int, str]) -> str:
    """What :func:`find_class` finds a class by: its name, or its index where others are called so too.

    Args:
        class_id: its index.
        names: the model's class names by index.

    >>> name_class(1, {0: "cat", 1: "dog"}), name_class(1, {0: "dog", 1: "dog"})
    ('dog', '1')
    """
    return names[class_id] if len(find_classes([names[class_id]], names)) == 1 else str(class_id)


def several(value: Any, name: str) -> list[Any]:
    """One value or several as a list.

    Raises:
        UsageError: it is empty, or neither.
    """
    if not isinstance(value, Iterable | Integral):
        raise UsageError(f"{name} must be one or several, got {value!r}")
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if not values:
        raise UsageError(f"{name} is empty: leave it out, or name at least one")
    return values


def check_layers(layers: Sequence[str]) -> None:
    """Refuse names of layers that no model can have; whether a model has the others is not asked.

    Raises:
        UsageError: no layer is named, or a module path has an empty part.
    """
    if not layers:
        raise UsageError("no layer was named; give a group (auto, backbone, neck) or module paths such as model.15")
    if not isinstance(layers, Iterable) or not all(isinstance(layer, str) for layer in layers):
        raise UsageError(f"layers are names, such as backbone or model.15, got {layers!r}")
    for layer in layers:
        if not all(part.strip() for part in layer.split(".")):
            raise UsageError(f"no layer {layer!r}: a module path is names joined by dots, such as model.15")


def is_index(value: object) -> bool:
    """Whether something is written as a whole number from 0 on that can be the place of something in a list.

    Args:
        value: a number, or text.
    """
    text = str(value)
    return text.isdecimal() and len(text) < LONGEST_INDEX


def split_contestant(text: str) -> tuple[str, str, int | None]:
    """What is to be compared, ``NAME[@LAYERS][:BUDGET]``, as a method's name, layers and a budget.

    Args:
        text: several layers are joined by ``+``.

    Returns:
        The layers are separated by commas, and ``auto`` where none are named; the budget is None where it is not.

    Raises:
        UsageError: the budget is no whole number.

    >>> split_contestant("layercam@neck+model.9"), split_contestant("guided:64")
    (('layercam', 'neck,model.9', None), ('guided', 'auto', 64))
    """
    rest, _, budget = text.partition(":")
    method, _, layers = rest.partition("@")
    if budget and not is_index(budget):
        raise UsageError(f"the budget of {text!r} must be a whole number, as in guided:64")
    return method, layers.replace("+", ",") or "auto", int(budget) if budget else None


def check_contestants(methods: Sequence[str]) -> None:
    """Refuse what is to be compared where a name is no method's, a budget no number, or one stands twice.

    Args:
        methods: each ``NAME[@LAYERS][:BUDGET]``.

    Raises:
        UsageError: one is none of these.
    """
    for text in methods:
        method, layers, budget = split_contestant(text)
        check_method_name(method)
        check_layers(layers.split(","))
        if budget is not None:
            check_counts(budget=budget)
        if methods.count(text) > 1:
            raise UsageError(f"{text!r} is named twice")


def brought_names(group: str) -> list[str]:
    """The names of a group that are not detcam's own: registered ones and those of entry points.

    Args:
        group: of entry points, such as ``detcam.methods``.
    """
    if group in REGISTRIES:
        return [name for name in REGISTRIES[group] if name not in REGISTRIES[group].builtin]
    return [point.name for point in entry_points(group=group)]
