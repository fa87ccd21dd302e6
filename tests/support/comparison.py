"""Detections and run folders compared with others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detcam.types import Detection


def paired(ours: Sequence[Detection], classes, confidences, boxes, within: float) -> list[tuple[int, int]]:
    """(ours, theirs): which of another library's detections each of ours is; fails if one is missing or out of order.

    Confidences are the same within so much. Detections no further apart than twice that may change places, and the
    last, where a limit cuts the list off, may be another as likely: rounding decides that, and differs by processor.
    """
    told, given = np.array([d.confidence for d in ours]), np.asarray(confidences, np.float64)
    assert len(told) == len(given)
    assert (np.diff(told) <= 0).all()
    left, pairs = set(range(len(given))), []
    for n, detection in enumerate(ours):
        alike = [m for m in left if int(classes[m]) == detection.class_id and abs(given[m] - told[n]) <= within]
        if alike:
            pairs.append((n, min(alike, key=lambda m: np.abs(np.asarray(boxes[m]) - detection.xyxy).max())))
            left.remove(pairs[-1][1])
        else:
            assert told[n] - told[-1] <= 2 * within, f"{detection} is none of theirs"
    for m in left:
        assert given[m] - given.min() <= 2 * within, f"class {classes[m]} at {given[m]} is none of ours"
    assert pairs or not len(given)
    return pairs


def contents(run: Path) -> dict[str, bytes]:
    """The bytes of everything that a run leaves behind, but for ``run.json``, which tells times."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name not in ("run.json", ".lock"))
    return {str(path.relative_to(run)): path.read_bytes() for path in files}
