"""What can be asked for by name: what detcam brings, what a program registers, and what other packages bring."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.metadata import entry_points
from threading import RLock
from typing import Any, Generic, TypeVar

from detcam.errors import UsageError

T = TypeVar("T")
logger = logging.getLogger("detcam")
_NAME = re.compile(r"[\w.+-]+")  # the command line separates names by commas, and by @ and : from what belongs to them


class Registry(Mapping[str, T], Generic[T]):
    """Things of one kind by their names.

    The entry points of other packages are read once, when a name is asked for that is not known yet, or all names are.
    One that cannot be used is reported in a line of the logger ``detcam`` and left out.

    Args:
        kind: what a thing is called in messages.
        group: the group of entry points that adds to it.
        read: makes a thing of what was registered, or raises a UsageError where it cannot be one.
        builtin: what detcam brings.
        reserved: names that mean something else.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        read: Callable[[Any], T],
        builtin: Mapping[str, T],
        reserved: Collection[str] = (),
    ) -> None:
        self.builtin = frozenset(builtin)
        self._kind, self._group, self._read, self._reserved = kind, group, read, frozenset(reserved)
        REGISTRIES[group] = self
        self._known = dict(builtin)
        self._complete = False
        self._completing = RLock()  # of two threads that look a name up, the second waits for the packages' names too

    def add(self, name: str, given: Any) -> None:
        """Register a thing under a name, for this process.

        Raises:
            UsageError: the name is taken, or cannot be one; or ``given`` is no such thing.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(f"the name of a {self._kind} is made of letters, digits and any of _ . + -, got {name!r}")
        self.check_free(name)
        self._known[name] = self._read(given)

    def check_free(self, name: str) -> None:
        """Refuse a name that is taken.

        Raises:
            UsageError: it is.
        """
        if name in self._reserved or name in self:
            raise UsageError(f"there is already a {self._kind} {name!r}; give yours another name")

    def __getitem__(self, name: str) -> T:
        if name not in self._known:
            self._complete_once()
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        self._complete_once()
        return iter(self._known)

    def __len__(self) -> int:
        self._complete_once()
        return len(self._known)

    def _complete_once(self) -> None:
        """Read the entry points of other packages, if that was not done before."""
        with self._completing:
            if not self._complete:
                self._complete = True  # first: a package may register more while it is imported
                self._read_entry_points()

    def _read_entry_points(self) -> None:
        for point in sorted(entry_points(group=self._group), key=lambda point: (point.name, point.value)):
            try:
                self.add(point.name, point.load())
            except Exception as error:  # whatever another package does must not keep the rest from working
                package = f" of {point.dist.name}" if point.dist is not None else ""
                logger.warning(
                    "%s %r%s (%s) is left out: %s: %s",
                    self._kind, point.name, package, point.value, type(error).__name__, error,
                )  # fmt: skip


REGISTRIES: dict[str, Registry[Any]] = {}
"""Every registry that was made, by its group of entry points."""


def name_of(function: Any) -> str:
    """What a function is called: its ``__name__``, or its type's where it has none."""
    return str(getattr(function, "__name__", type(function).__name__))
