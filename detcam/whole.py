"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Any) -> None:
    """Write a file under another name and rename it, so that no reader ever sees half of it.

    Args:
        path: the file; what is there is replaced.
        write: called with a binary file to write to; it is in memory, so that a full disk is an OSError whatever
            library writes.
    """
    made = BytesIO()
    write(made)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(made.getbuffer())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
