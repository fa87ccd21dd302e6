"""Adapters from outside whose tensors do not fit together: that is told, and not read as other predictions."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import detcam

EXAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "own_torch_adapter.py"))


def detector(change):
    class Changed(EXAMPLE["BrightDetector"]):
        def run_model(self, batch):
            return change(super().run_model(batch))

    return Changed(EXAMPLE["BrightCells"]())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.logits, r"has to give a detcam.RawOutput, and gave a tensor \(1, 256, 1\)"),
        (lambda raw: replace(raw, logits=raw.logits[0]), r"logits \(1, anchor, class\), and gave a tensor \(256, 1\)"),
        (lambda raw: replace(raw, logits=raw.logits.mT), r"\(1, 1, 256\), .* boxes have to be a tensor \(1, 1, 4\)"),
        (lambda raw: replace(raw, boxes=raw.boxes.mT), r"boxes .* \(1, 256, 4\), and are a tensor \(1, 4, 256\)"),
        (lambda raw: replace(raw, sides=raw.sides[0]), r"sides .* \(1, 256, 4\), and are a tensor \(256, 4\)"),
        (lambda raw: replace(raw, strides=8), r"strides .* \(256,\), and are a int"),
    ],
)
def test_raw_output_of_another_shape_is_refused(change, message):
    with pytest.raises(detcam.UsageError, match=message):
        detcam.explain(detector(change), np.full((64, 64, 3), 255, np.uint8), method="layercam")
