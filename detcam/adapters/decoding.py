"""Which raw predictions are reported: the settings of every adapter's ``decode``, under Ultralytics' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from detcam.errors import UsageError
from detcam.options import check_thresholds


@dataclass(frozen=True)
class DecodeSettings:
    """Which raw predictions are reported as detections; the defaults are those of ``predict()``.

    Attributes:
        conf: confidence that a detection has to exceed, in [0, 1].
        iou: IoU above which a box is suppressed by a better one of its class, in [0, 1]; detectors that need no
            suppression make no use of it.
        max_det: detections of an image at most, from 1 on; the most confident are reported.
        classes: indices, from 0 on, of the classes to report; ``None`` reports all, an empty
            sequence none.

    Raises:
        UsageError: a value out of its range.

    >>> DecodeSettings(conf=0.5, classes=[2, 7])
    DecodeSettings(conf=0.5, iou=0.7, max_det=300, classes=(2, 7))
    """

    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    classes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_thresholds(self.conf, self.iou, self.max_det)
        if self.classes is None:
            return
        indices = self.classes if isinstance(self.classes, Sequence) else [None]
        if not all(isinstance(i, Integral) and not isinstance(i, bool) and i >= 0 for i in indices):
            raise UsageError(f"classes must be class indices from 0 on, got {self.classes!r}; None reports all")
        object.__setattr__(self, "classes", tuple(int(i) for i in indices))

    def keeps(self, class_ids: Tensor) -> Tensor:
        """Whether each of some classes is to be reported.

        Args:
            class_ids: int64, of any shape (...,).

        Returns:
            Bool, of that shape.
        """
        if self.classes is None:
            return torch.ones_like(class_ids, dtype=torch.bool)
        return torch.isin(class_ids, torch.tensor(self.classes, device=class_ids.device))
