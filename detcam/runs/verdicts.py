"""What a person said of a review's errors: which verdicts there are, and what an entry looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detcam.errors import UsageError
from detcam.io.documents import read_json

VERDICTS = {"model_error": "Model error", "label_error": "Label error", "ambiguous": "Ambiguous"}
"""Each verdict, and what it is called where people read it."""
LONGEST_NOTE = 10_000
"""Characters."""
LARGEST_FILE = 2**26
"""Bytes of all of a review's verdicts."""


def check_verdict(name: str, entry: object) -> None:
    """Refuse what is no verdict.

    Args:
        name: the id of the detection or the miss that was judged.
        entry: ``{"verdict": a key of VERDICTS or None, "note": text}``.

    Raises:
        UsageError: the entry is anything else, or its note is longer than :data:`LONGEST_NOTE` or no text that can be
            written as UTF-8.
    """
    verdict, note = (entry.get("verdict"), entry.get("note")) if isinstance(entry, dict) else (None, None)
    right = isinstance(entry, dict) and set(entry) == {"verdict", "note"} and isinstance(note, str)
    if not (right and (verdict is None or (isinstance(verdict, str) and verdict in VERDICTS))):
        raise UsageError(
            f"the verdict on {name!r:.200} must be {{'verdict': one of {', '.join(VERDICTS)} or null, 'note': text}}, "
            f"got {entry!r:.200}"
        )
    if len(str(note)) > LONGEST_NOTE:
        raise UsageError(f"the note on {name!r:.200} has {len(str(note)):,} characters; {LONGEST_NOTE:,} are allowed")
    if any("\ud800" <= letter <= "\udfff" for letter in str(note)):
        raise UsageError(f"the note on {name!r:.200} holds half a character (a lone surrogate), which is no text")


def read_verdicts(path: Path) -> dict[str, dict[str, Any]]:
    """The verdicts of a file, by id.

    Args:
        path: a regular file.

    Raises:
        UsageError: it cannot be read, or an entry is no verdict; the path is named.
    """
    entries = read_json(path, LARGEST_FILE)
    if not isinstance(entries, dict):
        raise UsageError(f"{path} must hold an object, got {entries!r:.200}")
    try:
        for name, entry in entries.items():
            check_verdict(name, entry)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return entries
