"""Which class of a model each class of a labelled set is."""

from __future__ import annotations

import re
from collections.abc import Mapping

from detcam.errors import UsageError, nearest


def match_classes(
    own: Mapping[int, str], names: Mapping[int, str] | None, rename: Mapping[str, str]
) -> tuple[dict[int, int], list[str]]:
    """Which class of the model each class of the set is; a class the model does not have is left out.

    Args:
        own: the set's classes.
        names: the model's; None keeps the set's.
        rename: names of the set -> names of the model, or its indices as text.

    Returns:
        The model's index by the set's; and a sentence for each class whose name is another there, but for those in
        ``rename``.

    Raises:
        UsageError: a name in ``rename`` is unknown, or a class may be several of the model's.
    """
    if names is None:
        if rename:
            raise UsageError(f"rename={dict(rename)!r} leads to the model's classes; give those as names")
        return {class_id: class_id for class_id in own}, []
    target: dict[int, int] = {}
    for ours, theirs in rename.items():
        wanted = [int(theirs)] if theirs.isdecimal() and int(theirs) in names else _alike(theirs, names)
        for side, name, known, found in (("set", ours, own, _alike(ours, own)), ("model", theirs, names, wanted)):
            if not found:
                raise UsageError(f"rename: the {side} has no class {name!r}{nearest(name, known.values())}")
        for class_id in _alike(ours, own):
            target[class_id] = _one_of(wanted, class_id, theirs, ours)
    told = []
    for class_id, name in own.items():
        if class_id not in target and (wanted := _alike(name, names)):
            target[class_id] = _one_of(wanted, class_id, name, name)
            if (theirs := names[target[class_id]]) != name:
                told.append(f"class {name!r} is taken for the model's {theirs!r}")
    return target, told


def _one_of(wanted: list[int], class_id: int, name: str, ours: str) -> int:
    """The one class of the model that a class of the set is: of several of one name, that of the same index."""
    if len(wanted) > 1 and class_id not in wanted:
        several = ", ".join(map(str, wanted))
        raise UsageError(
            f"{len(wanted)} classes of the model are called {name!r} ({several}); "
            f"say which with rename, by its index: {ours}:{wanted[0]}"
        )
    return class_id if class_id in wanted else wanted[0]


def _alike(name: str, names: Mapping[int, str]) -> list[int]:
    """The classes of a name: those of exactly this name, else those that differ in case, spaces, ``_`` and ``-``."""
    exact = [class_id for class_id, other in names.items() if other == name]
    class_ids = exact or [class_id for class_id, other in names.items() if _plain(other) == _plain(name)]
    if len({names[class_id] for class_id in class_ids}) > 1:
        several = " or ".join(repr(names[class_id]) for class_id in class_ids)
        raise UsageError(f"class {name!r} may be {several}; say which with rename, spelled exactly")
    return class_ids


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()
