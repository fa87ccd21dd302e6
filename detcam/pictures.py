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
    from PIL.Image import Image


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

    def explanation_html(self, explanation: Any) -> str:
        """The same small, for a notebook."""
        ...

    def result_html(self, result: Any) -> str:
        """All explanations of an image small, for a notebook."""
        ...

    def write_image(self, path: str | Path, picture: NDArray[np.uint8]) -> None:
        """A picture as a file."""
        ...


class Pictured:
    """What can be saved as a picture."""

    def drawn(self, colormap: str, opacity: float) -> NDArray[np.uint8]:
        """The picture, RGB uint8 (H, W, 3)."""
        raise NotImplementedError

    def save(self, path: str | Path, colormap: str = "inferno", opacity: float = 0.6) -> None:
        """Write :meth:`drawn` to an image file.

        Args:
            path: its suffix says which format; its folder is made where it is missing. A class's name may hold a
                slash: an explanation's ``file_name`` is safe.
            colormap: a name that matplotlib knows.
            opacity: of the hottest parts, in [0, 1].

        Raises:
            UsageError: no format has that suffix, or no file can have that name.
            OSError: the file cannot be written; the error names it.
        """
        drawing().write_image(path, self.drawn(colormap, opacity))

    def to_pil(self, colormap: str = "inferno", opacity: float = 0.6) -> Image:
        """What :meth:`save` writes, as a PIL image.

        Args:
            colormap: a name that matplotlib knows.
            opacity: of the hottest parts, in [0, 1].
        """
        from PIL.Image import fromarray

        return fromarray(self.drawn(colormap, opacity))


_find: Callable[[], Drawing]


def draw_with(find: Callable[[], Drawing]) -> None:
    """Say what draws: ``find`` imports and returns it."""
    global _find
    _find = find


def drawing() -> Drawing:
    """What draws, imported now if it was not before."""
    return _find()
