"""Real weights and photographs, which are no part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("DETCAM_DATA", Path(__file__).parents[3] / "shared" / "data"))


def real(path: str) -> Path:
    """A file or folder of the real data; skips the test where there is no such data at all, or not this of it."""
    if not DATA.exists():
        pytest.skip("no photographs and weights here: set DETCAM_DATA to a folder that has them")
    found = DATA / path
    if not found.exists():
        pytest.skip(f"{DATA} lacks {path}")
    return found
