"""What a person said of a review's errors: which verdicts there are, and what an entry looks like."""

from __future__ import annotations

from detcam.errors import UsageError

VERDICTS = {"model_error": "Model error", "label_error": "Label error", "ambiguous": "Ambiguous"}
"""Each verdict, and what it is called where people read it."""


def check_verdict(name: str, entry: object) -> None:
    """Refuse what is no verdict.

    Args:
        name: the id of the detection or the miss that was judged.
        entry: ``{"verdict": a key of VERDICTS or None, "note": text}``.

    Raises:
        UsageError: the entry is anything else.
    """
    right = isinstance(entry, dict) and set(entry) == {"verdict", "note"} and isinstance(entry["note"], str)
    if not (right and isinstance(entry, dict) and (entry["verdict"] is None or entry["verdict"] in VERDICTS)):
        raise UsageError(
            f"the verdict on {name!r} must be {{'verdict': one of {', '.join(VERDICTS)} or null, 'note': text}}, "
            f"got {entry!r:.200}"
        )
