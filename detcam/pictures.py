"""Where the pictures of explanations come from.

Explanations are values and know no drawing, yet can be asked for a picture. ``detcam/__init__.py``, which may know
every module, says what draws them; that is imported at the first picture, so that nothing else waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class Drawing(Protocol):
    """What has to be there to draw with: see :mod:`detcam.drawing.render`."""

    def overlay(self, explanation: Any, colormap: str, opacity: float) -> NDArray[np.uint8]:
        """One explanation over its image."""
        ...

    def captioned(self, explanation: Any, colormap: str, opacity: float) -> NDArray[np.uint8]:
        """The same above a caption in words."""
        ...

    def panel(self, result: Any, colormap: str, opacity: float) -> NDArray[np.uint8]:
        """One page of all explanations of an image."""
        ...

    def write_image(self, path: str | Path, picture: NDArray[np.uint8]) -> None:
        """A picture as a file."""
        ...


_find: Callable[[], Drawing]


def draw_with(find: Callable[[], Drawing]) -> None:
    """Say what draws: ``find`` imports and returns it."""
    global _find
    _find = find


def drawing() -> Drawing:
    """What draws, imported now if it was not before."""
    return _find()
