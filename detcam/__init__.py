"""detcam shows why an object detector made each of its detections.

>>> model = detcam.load("best.pt")
>>> for explanation in detcam.explain(model, "bus.jpg"):
...     explanation.save(f"why/{explanation.file_name}.png")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from detcam import pictures as _pictures
from detcam.alone import alone as _alone
from detcam.errors import DetcamError, InputError, UsageError, WeightsError
from detcam.version import __version__

if TYPE_CHECKING:
    from detcam.adapters import load, register_adapter
    from detcam.adapters.base import DetectorAdapter, RawOutput
    from detcam.adapters.blackbox import BlackBox
    from detcam.adapters.decoding import DecodeSettings
    from detcam.data import register_data_format
    from detcam.explainer import Explainer, explain
    from detcam.geometry import Letterbox
    from detcam.methods import Method, register_method
    from detcam.methods.subject import Subject
    from detcam.runs import open_run
    from detcam.session import ImageSession, open_image
    from detcam.targets import Target, register_target
    from detcam.types import Detection, Evidence, Explanation, Heatmap, ImageResult, Receipt

__all__ = [
    "BlackBox",
    "DecodeSettings",
    "DetcamError",
    "Detection",
    "DetectorAdapter",
    "Evidence",
    "Explainer",
    "Explanation",
    "Heatmap",
    "ImageResult",
    "ImageSession",
    "InputError",
    "Letterbox",
    "Method",
    "RawOutput",
    "Receipt",
    "Subject",
    "Target",
    "UsageError",
    "WeightsError",
    "__version__",
    "explain",
    "load",
    "open_image",
    "open_run",
    "register_adapter",
    "register_data_format",
    "register_method",
    "register_target",
]

_FROM = {
    "BlackBox": "adapters.blackbox",
    "DecodeSettings": "adapters.decoding",
    "DetectorAdapter": "adapters.base",
    "Explainer": "explainer",
    "ImageSession": "session",
    "Letterbox": "geometry",
    "Method": "methods",
    "RawOutput": "adapters.base",
    "Subject": "methods.subject",
    "Target": "targets",
    "explain": "explainer",
    "load": "adapters",
    "open_image": "session",
    "open_run": "runs",
    "register_adapter": "adapters",
    "register_data_format": "data",
    "register_method": "methods",
    "register_target": "targets",
}
"""Where a name is from that is not of ``types``."""


def _drawing() -> _pictures.Drawing:
    with _alone():
        from detcam.drawing import render

    return render


_pictures.draw_with(_drawing)


def __getattr__(name: str) -> Any:
    """What needs torch, at its first use: a wrong option on the command line should not wait for it."""
    if name in __all__:
        with _alone():
            return getattr(import_module(f"detcam.{_FROM.get(name, 'types')}"), name)
    try:
        with _alone():
            return import_module(f"detcam.{name}")  # detcam.adapters.blackbox, after `import detcam` alone
    except ModuleNotFoundError as error:
        if error.name != f"detcam.{name}":
            raise
        raise AttributeError(f"module 'detcam' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    """The public names, those among them that are not imported yet."""
    return sorted(__all__)
