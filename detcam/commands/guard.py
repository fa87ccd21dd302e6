"""The last guard: what nobody foresaw ends a command with one line and a file that says where it happened."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import traceback
from pathlib import Path

from detcam.errors import one_line
from detcam.version import __version__

BUG_CODE = 70
"""The exit code of an error that is detcam's own: EX_SOFTWARE of sysexits.h."""
MACHINE_CODE = 2
"""The exit code where memory did not suffice, or Python cannot load what it needs."""


def say(line: str) -> None:
    """Write one line to stderr, where there is one that can be written to.

    Args:
        line: any text; what the stream cannot encode is written as escapes.
    """
    stream = sys.stderr
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(f"{one_line(line).encode(encoding, 'backslashreplace').decode(encoding)}\n")
        stream.flush()


def tell_of(error: BaseException, program: str) -> int:
    """Say what became of an error that nothing foresaw, and keep where it happened.

    Args:
        error: as it was caught.
        program: how the line begins, such as ``detcam explain``.

    Returns:
        The exit code.
    """
    if is_out_of_memory(error):
        say(
            f"{program}: out of memory; smaller images (--imgsz), fewer at once (--batch) or fewer boxes (--max-det) "
            "take less; what was finished is kept"
        )
        return MACHINE_CODE
    if isinstance(error, Warning | ImportError):  # made an error by -W; a package that is broken or not there
        what = "a warning was made an error" if isinstance(error, Warning) else "a package cannot be loaded"
        say(f"{program}: {what}: {' '.join(str(error).split())[:300]}; what was finished is kept")
        return MACHINE_CODE
    reason = " ".join(str(error).split())[:300]
    kind = type(error).__name__ + (f": {reason}" if reason else "")
    trace = "".join(traceback.format_exception(error))
    text = f"detcam {__version__}, Python {platform.python_version()}, {platform.platform()}\n{sys.argv}\n\n{trace}"
    try:
        descriptor, name = tempfile.mkstemp(prefix="detcam-bug-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        say(f"{program}: this is a bug in detcam ({kind}); what was finished is kept. Where it happened:")
        say(text)
        return BUG_CODE
    say(f"{program}: this is a bug in detcam ({kind}); what was finished is kept; where it happened: {Path(name)}")
    return BUG_CODE


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, the processor's or a GPU's."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # of torch, which is not imported
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
