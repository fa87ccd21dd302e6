"""detcam shows why an object detector made each of its detections.

>>> model = detcam.load("best.pt")
>>> for explanation in detcam.explain(model, "bus.jpg"):
...     explanation.save(f"{explanation.detection.class_name}.png")
"""

from detcam.adapters import load
from detcam.errors import DetcamError, InputError, UsageError, WeightsError
from detcam.explainer import Explainer, explain
from detcam.types import Detection, Explanation, Heatmap, ImageResult
from detcam.version import __version__

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
]
