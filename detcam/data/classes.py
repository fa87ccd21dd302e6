"""Which class of a model each class of a labelled set is."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from detcam.data.fields import shortened
from detcam.errors import UsageError, nearest
from detcam.options import is_index

_SEVERAL = 5
"""Names or numbers that a message lists at most."""


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
    of_set, of_model = _Names(own), _Names(names)
    for ours, theirs in rename.items():
        wanted = [int(theirs)] if is_index(theirs) and int(theirs) in names else of_model.alike(theirs)
        for side, name, known, found in (("set", ours, own, of_set.alike(ours)), ("model", theirs, names, wanted)):
            if not found:
                raise UsageError(f"rename: the {side} has no class {shortened(name)}{nearest(name, known.values())}")
        for class_id in of_set.alike(ours):
            target[class_id] = _one_of(wanted, class_id, theirs, ours)
    told = []
    for class_id, name in own.items():
        if class_id not in target and (wanted := of_model.alike(name)):
            target[class_id] = _one_of(wanted, class_id, name, name)
            if (theirs := names[target[class_id]]) != name:
                told.append(f"class {shortened(name)} is taken for the model's {shortened(theirs)}")
    return target, told


def _one_of(wanted: list[int], class_id: int, name: str, ours: str) -> int:
    """The one class of the model that a class of the set is: of several of one name, that of the same index."""
    if len(wanted) > 1 and class_id not in wanted:
        several = ", ".join(map(str, wanted[:_SEVERAL])) + (", ..." if len(wanted) > _SEVERAL else "")
        raise UsageError(
            f"{len(wanted)} classes of the model are called {shortened(name)} ({several}); "
            f"say which with rename, by its index: {ours}:{wanted[0]}"
        )
    return class_id if class_id in wanted else wanted[0]


class _Names:
    """Classes by their names.

    Args:
        names: of a set or a model, by class.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = names
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._plain: dict[str, list[int]] = defaultdict(list)
        for class_id, name in names.items():
            self._exact[name].append(class_id)
            self._plain[_plain(name)].append(class_id)

    def alike(self, name: str) -> list[int]:
        """The classes of a name: those of exactly this name, else those that differ in case, spaces, ``_`` and ``-``.

        Args:
            name: asked for.

        Raises:
            UsageError: several names differ from it in that only.
        """
        class_ids = self._exact.get(name) or self._plain.get(_plain(name), [])
        if len(found := dict.fromkeys(self.names[class_id] for class_id in class_ids)) > 1:
            several = " or ".join(map(shortened, list(found)[:_SEVERAL])) + (", ..." if len(found) > _SEVERAL else "")
            raise UsageError(f"class {shortened(name)} may be {several}; say which with rename, spelled exactly")
        return class_ids


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()
