"""A folder that one process writes to at a time, and its ``run.json``, which says what the run is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from detcam.errors import UsageError
from detcam.io.files import is_local, locate, reaching, refresh, write_whole
from detcam.runs.schema import SCHEMA_VERSION, read_description

LOCK = ".lock"
HASHES = ("weights_sha256", "sha256")
"""What a configuration calls the hash of the weights; where it is the same, the file may be called otherwise."""
MOST_SHOWN_LETTERS = 40
"""Of a value of an option in a message."""

Held = TypeVar("Held", bound="HeldFolder")


@dataclass(frozen=True)
class Sources:
    """What a run is made of; a run grows by others, as long as its configuration stays the same.

    Attributes:
        names: as they were given.
        working_directory: what relative names among them start from; None where none is relative.
    """

    names: tuple[str, ...]
    working_directory: str | None = None


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
        sources: what the run is made of, where it may grow.
    """

    def __init__(
        self, path: Path, command: str, configuration: Mapping[str, Any], sources: Sources | None = None
    ) -> None:
        self.path = path
        self.sources = sources
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

    def refuse_other(self, old: Mapping[str, Any], overwrite: bool, partly: bool = False) -> bool:
        """Refuse another run's folder.

        Args:
            old: what its ``run.json`` says.
            overwrite: let another configuration of the same command through.
            partly: compare only what this run's configuration names: more of it is known later.

        Returns:
            Whether it is this run's own; False for one that may be overwritten.

        Raises:
            UsageError: it is a run of another command, or of another configuration; the message names what differs.
        """
        command = self._description["command"]
        if old["command"] != command:
            raise UsageError(f"{self.path} holds a run of detcam {old['command']}; choose another folder")
        differing = self._differences(old, partly)
        if differing and not overwrite:
            raise UsageError(
                f"{self.path} holds a run of detcam {command} with another configuration ({'; '.join(differing)}); "
                "choose another folder, or overwrite this one"
            )
        return not differing

    def _differences(self, old: Mapping[str, Any], partly: bool) -> list[str]:
        """What a folder's run has other than this one, in words."""
        if old["schema"] != self._description["schema"]:
            return [f"written by another detcam: schema {old['schema']}, now {self._description['schema']}"]
        before, now = old.get("configuration"), self._description["configuration"]
        if not isinstance(before, dict):
            return ["none is known"]
        names = [name for name in (*now, *(() if partly else before)) if before.get(name, "") != now.get(name, "")]
        if any(now.get(name) and now.get(name) == before.get(name) for name in HASHES):
            names = [name for name in names if name != "weights"]
        if self.sources is not None:
            names = [name for name in names if name not in ("source", "working_directory")]
        differing = [f"{name}: {_shown(before, name)}, now {_shown(now, name)}" for name in sorted(set(names))]
        places = {before.get("working_directory"), self.sources and self.sources.working_directory} - {None}
        if self.sources is not None and len(places) == 2:
            here = self.sources.working_directory
            differing.append(f"its names start from {before['working_directory']}, now from {here}: give full paths")
        return differing

    def _write_description(self) -> None:
        text = json.dumps(self._description, indent=2, default=str)
        write_whole(self.path / "run.json", lambda file: file.write(text.encode()))


def check_folder(
    path: str | Path,
    command: str,
    configuration: Mapping[str, Any],
    overwrite: bool = False,
    sources: Sources | None = None,
) -> None:
    """Refuse a folder that holds another run, before anything is done; nothing is written.

    Args:
        path: the folder, or an address.
        command: the command's name.
        configuration: as far as it is known yet.
        overwrite: whether a run of the same command may be overwritten.
        sources: what the run is made of, where it may grow.

    Raises:
        UsageError: it holds a run of another command or configuration, or cannot be read.
    """
    held = HeldFolder(locate(path), command, configuration, sources)
    try:
        with reaching(held.path):
            refresh(held.path)
            old = read_description(held.path)
    except OSError as error:
        raise UsageError(f"cannot read {held.path}: {error.strerror or error}; choose another folder") from error
    if old is not None:
        held.refuse_other(old, overwrite, partly=True)


def _shown(configuration: Mapping[str, Any], name: str) -> str:
    """An option's value in a message."""
    if name not in configuration:
        return "not given"
    value = configuration[name]
    if name.endswith("sha256") and isinstance(value, str):
        return f"{value[:8]}..."
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_SHOWN_LETTERS else f"{text[:MOST_SHOWN_LETTERS]}..."
