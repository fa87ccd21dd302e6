"""``detcam`` and ``python -m detcam`` as processes: streams, signals, exit code; the rest is ``detcam.cli.main``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any, NoReturn

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes, as shells count processes that a signal ended."""


def start() -> NoReturn:
    """Run the command of this process, and end it; see :mod:`detcam.cli` for the exit codes.

    SIGTERM ends a command as Ctrl-C does: what was finished is kept, and files are whole.
    """
    asked: list[int] = []

    def end(number: int, frame: Any) -> NoReturn:
        asked.append(number)
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGTERM, end)
        _open_streams()
        from detcam.cli import main  # which takes a while

        code = main()
    except KeyboardInterrupt:  # before main() could hear it
        code = INTERRUPTED
        with contextlib.suppress(OSError, AttributeError):
            sys.stderr.write("detcam: interrupted\n")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # no traceback while Python takes itself down
    sys.exit(TERMINATED if asked and code == INTERRUPTED else code)


def _open_streams() -> None:
    """Let streams that are closed lead nowhere, before a file that is opened gets their number and what they print."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.dup(number), "r" if number == 0 else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict":  # no name of a file is too odd to be printed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


if __name__ == "__main__":
    start()
