"""A review's ``verdicts.json`` while it is served: changed by pages, by other servers, and by people with an editor."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detcam.errors import UsageError
from detcam.io.files import write_whole
from detcam.runs.reading import open_run
from detcam.runs.verdicts import LARGEST_FILE, check_verdict, read_verdicts

Entries = dict[str, dict[str, Any]]


class BrokenVerdictsError(UsageError):
    """``verdicts.json`` was changed by others, and cannot be read any more."""


class KeptVerdicts:
    """A run's verdicts, as they are on disk.

    Args:
        run: the run folder of a review.

    Raises:
        UsageError: not such a folder, or its ``verdicts.json`` is broken.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "verdicts.json"
        opened = open_run(run)
        self._known = {row_id for name in ("detections", "misses") for row_id in opened.table(name)["id"]}
        self._seen: tuple[int, ...] = ()
        self._entries: Entries = {}
        self._look_again()

    def entries(self) -> Entries:
        """The verdicts on disk; where the file was broken meanwhile, those that were last read or written."""
        with contextlib.suppress(UsageError, OSError):
            self._look_again()
        return self._entries

    def change(self, patch: Any) -> None:
        """Set or remove verdicts on disk; nothing changes where one of them is wrong.

        What others wrote meanwhile is kept.

        Args:
            patch: entries by id, see :func:`detcam.runs.verdicts.check_verdict`; None removes one.

        Raises:
            BrokenVerdictsError: the file was changed meanwhile, and is none any more. It is left as it is.
            UsageError: the patch is no object, has an id the run does not have, or an entry that is no verdict; or the
                file would be too large.
            OSError: the file cannot be written.
        """
        if not isinstance(patch, dict):
            raise UsageError(f"verdicts must be an object of ids, got {patch!r:.200}")
        for name, entry in patch.items():
            if name not in self._known:
                raise UsageError(f"the run has no case {name!r:.200}")
            if entry is not None:
                check_verdict(name, entry)
        with _alone(self.path.parent):
            try:
                self._look_again()
            except UsageError as error:
                words = "it was changed while it was served; mend or remove it, then this is saved"
                raise BrokenVerdictsError(f"{error}: {words}") from error
            entries = {name: entry for name, entry in (self._entries | patch).items() if entry is not None}
            text = json.dumps(entries, indent=1).encode("ascii")
            if len(text) > LARGEST_FILE:
                raise UsageError(f"{self.path.name} would be larger than {LARGEST_FILE:,} bytes")
            write_whole(self.path, lambda file: file.write(text))
            self._seen, self._entries = self._stamp(), entries

    def _look_again(self) -> None:
        """Read the file where it is not the one that was last seen."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._entries = read_verdicts(self.path) if stamp else {}
            self._seen = stamp

    def _stamp(self) -> tuple[int, ...]:
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return ()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{self.path} is no regular file: move it away")
        return (status.st_ino, status.st_size, status.st_mtime_ns)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other servers of the same folder waiting, where the system has such locks; no file is left behind."""
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
