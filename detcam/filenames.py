"""Names of classes and images made safe: as parts of files' names, and as text."""

from __future__ import annotations

import os
import re

MOST_LETTERS = 60


def safe_name(name: str) -> str:
    """A name as part of a file's name: ASCII letters, digits, ``._-``; at most 60.

    Different names can become one, so a number or a hash has to stand beside it.

    Args:
        name: any text; a slash, a null byte or an emoji in it becomes ``_``.

    >>> safe_name("traffic light/red"), safe_name("")
    ('traffic_light_red', '_')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:MOST_LETTERS] or "_"


def printable(source: str) -> str:
    """A path as text that any file can hold: bytes that are no text are escaped."""
    try:
        return os.fsencode(source).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character that no file name has, only a document's text
        return source.encode("utf-8", "backslashreplace").decode("utf-8")
