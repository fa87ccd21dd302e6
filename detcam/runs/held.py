"""A folder that one process writes to at a time, and its ``run.json``, which says what the run is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from detcam.errors import UsageError
from detcam.io.files import is_local, write_whole
from detcam.runs.schema import SCHEMA_VERSION

LOCK = ".lock"

Held = TypeVar("Held", bound="HeldFolder")


class HeldFolder:
    """The folder of a run of one command with one configuration, locked for one process at a time.

    Remote file systems have no locks, so there any process may write. Leaving a ``with`` block releases the folder; the
    lock ends with its process in any case.

    Args:
        path: the folder, local or an address of fsspec's, as :func:`detcam.io.files.locate` gives it; nothing is
            created
            or read yet.
        command: the command's name.
        configuration: the resolved configuration; runs of the same ``command`` and configuration are the same run.
    """

    def __init__(self, path: Path, command: str, configuration: Mapping[str, Any]) -> None:
        self.path = path
        described = {"schema": SCHEMA_VERSION, "command": command, "configuration": dict(configuration)}
        self._description: dict[str, Any] = json.loads(json.dumps(described, default=str))
        self._lock = FileLock(path / LOCK) if is_local(path) else None

    def __enter__(self: Held) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def hold(self) -> None:
        """Lock the folder for this process.

        Raises:
            UsageError: another process holds it.
        """
        try:
            if self._lock is not None and not self._lock.is_locked:
                self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(f"another process is writing to {self.path}; wait, or choose another folder") from error

    def release(self) -> None:
        """Release the lock; other processes may write then."""
        if self._lock is not None:
            self._lock.release()

    def _is_same(self, old: Mapping[str, Any] | None) -> bool:
        """Whether what a folder's ``run.json`` says is of a run with this command and configuration."""
        return old is not None and all(
            old.get(key) == self._description[key] for key in ("schema", "command", "configuration")
        )

    def _write_description(self) -> None:
        text = json.dumps(self._description, indent=2, default=str)
        write_whole(self.path / "run.json", lambda file: file.write(text.encode()))
