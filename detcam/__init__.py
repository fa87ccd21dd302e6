"""detcam shows why an object detector made each of its detections.

>>> model = detcam.load("best.pt")
>>> for explanation in detcam.explain(model, "bus.jpg"):
...     explanation.save(f"{explanation.detection.class_name}.png")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from detcam import pictures as _pictures
from detcam.errors import DetcamError, InputError, UsageError, WeightsError
from detcam.version import __version__

if TYPE_CHECKING:
    from detcam.adapters import load
    from detcam.explainer import Explainer, explain
    from detcam.runs import open_run
    from detcam.types import Detection, Explanation, Heatmap, ImageResult

__all__ = [
    "DetcamError",
    "Detection",
    "Explainer",
    "Explanation",
    "Heatmap",
    "ImageResult",
    "InputError",
    "UsageError",
    "WeightsError",
    "__version__",
    "explain",
    "load",
    "open_run",
]

_FROM = {"load": "adapters", "Explainer": "explainer", "explain": "explainer", "open_run": "runs"}


def _drawing() -> _pictures.Drawing:
    from detcam.drawing import render

    return render


_pictures.draw_with(_drawing)


def __getattr__(name: str) -> Any:
    """What needs torch, at its first use: a wrong option on the command line should not wait for it."""
    if name in __all__:
        return getattr(import_module(f"detcam.{_FROM.get(name, 'types')}"), name)
    try:
        return import_module(f"detcam.{name}")  # detcam.adapters.blackbox, after `import detcam` alone
    except ModuleNotFoundError as error:
        if error.name != f"detcam.{name}":
            raise
        raise AttributeError(f"module 'detcam' has no attribute {name!r}") from None
