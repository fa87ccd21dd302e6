"""Imports of other libraries that start processes or look names up as they are imported, made without either.

torch asks ``ldconfig``, matplotlib ``fc-list`` and Ultralytics the name servers, whether anybody wants to know or not.
All of them take a refusal for an answer. Nothing is changed for other threads, or for what is imported afterwards.
"""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_importing: list[int] = []
"""Threads inside :func:`alone`, one entry for each time."""
_changing = threading.RLock()
_PLACES: tuple[tuple[Any, str], ...] = ((subprocess.Popen, "_execute_child"), (socket, "getaddrinfo"))


@contextmanager
def alone() -> Iterator[None]:
    """While this thread is inside, it starts no process by ``subprocess`` and looks no name up."""
    known = "ultralytics.utils" in sys.modules
    with _changing:
        _importing.append(threading.get_ident())
        for owner, name in _PLACES if len(_importing) == 1 else ():
            setattr(owner, name, _refusing(getattr(owner, name)))
    try:
        yield
    finally:
        with _changing:
            _importing.remove(threading.get_ident())
            for owner, name in _PLACES if not _importing else ():
                now = getattr(owner, name)
                if hasattr(now, "refused_before"):  # else somebody else has replaced it meanwhile
                    setattr(owner, name, now.refused_before)
        if not known and hasattr(sys.modules.get("ultralytics.utils"), "is_online"):
            _ask_later()


def _refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*arguments: Any, **settings: Any) -> Any:
        if threading.get_ident() in _importing:
            raise OSError(errno.EPERM, "no process is started and no name looked up during an import")
        return function(*arguments, **settings)

    refuse.refused_before = function  # type: ignore[attr-defined]
    return refuse


class _Online:
    """Ultralytics' ``ONLINE``, which asks when somebody wants to know."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask, self._known = ask, list[bool]()

    def __bool__(self) -> bool:
        if threading.get_ident() in _importing:
            return False
        if not self._known:
            self._known.append(bool(self._ask()))
        return self._known[0]

    def __eq__(self, other: object) -> bool:
        return bool(self) == other

    def __hash__(self) -> int:
        return hash(bool(self))

    def __repr__(self) -> str:
        return repr(bool(self))


def _ask_later() -> None:
    """Undo that Ultralytics, imported while it could not ask, takes this machine for one without a network."""
    utils = sys.modules["ultralytics.utils"]
    later = _Online(utils.is_online)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "ultralytics" and vars(module).get("ONLINE") is False:
            module.ONLINE = later  # type: ignore[attr-defined]
