"""Where a missed rotated box, mask or pose was lost: raw predictions are compared by what they carry."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detcam.adapters.base import RawOutput
from detcam.geometry import Letterbox
from detcam.probing.prepared_image import PreparedImage
from detcam.review.misses import trace_miss
from support.labelled_boxes import NAMES
from support.shapes import corners, found_outline, outlined, posed

LETTERBOX = Letterbox((100, 100), (200, 200), (200, 200), (0, 0))  # twice as large in the network
DETECTOR = SimpleNamespace(names=dict(enumerate(NAMES)))


def raw_of(box, probability, **extras):
    """A raw output of one prediction; the box in original pixels, the rest in the network's."""
    boxes = torch.tensor([[box]], dtype=torch.float32) * 2
    logits = torch.logit(torch.tensor([[[probability, 0.001, 0.001]]]))
    carried = {name: torch.tensor(np.float32(value))[None, None] for name, value in extras.items()}
    return RawOutput(logits, boxes, torch.zeros_like(boxes), torch.tensor([8.0]), extras=carried, size=(200, 200))


def prepared(raw):
    """An image whose raw output is known."""
    return PreparedImage(DETECTOR, np.zeros((100, 100, 3), np.uint8), torch.zeros(1, 3, 200, 200), raw, 0, LETTERBOX)


def rotated(degrees):
    return [100.0, 100, 160, 8, math.radians(degrees)]


@pytest.mark.parametrize(
    ("degrees", "where", "words"),
    [(45, "below_threshold", "20% sure of cat"), (135, "never_fired", "the closest has rotated IoU 0.05")],
)
def test_a_rotated_prediction_is_near_where_its_angle_is(degrees, where, words):
    label = outlined(corners(50, 50, 80, 4, 45))
    raw = raw_of(label.xyxy.tolist(), 0.2, rotated=rotated(degrees))
    trace = trace_miss(label, prepared(raw), (), 0.25, 0.6, "rotated box")
    assert trace.where == where
    assert words in trace.text
    assert trace_miss(label, prepared(raw), (), 0.25, 0.6).where == "below_threshold"  # by boxes


@pytest.mark.parametrize(("shift", "where"), [(0, "below_threshold"), (28, "never_fired")])
@pytest.mark.parametrize("sigmas", [None, (0.1, 0.1)])
def test_a_prediction_of_keypoints_is_near_where_they_are(shift, where, sigmas):
    label = posed((20, 20, 60, 80), [(30, 30, 2), (50, 70, 1)])
    points = (label.keypoints[:, :2] + shift) * 2
    raw = raw_of(label.xyxy.tolist(), 0.2, keypoints=points)
    trace = trace_miss(label, prepared(raw), (), 0.25, 0.6, "keypoints", sigmas)
    lenient = sigmas is None  # half of the size: 28 pixels are near
    assert trace.where == ("below_threshold" if lenient else where)
    area = 40 * 60 * 0.53
    off = 2 * shift**2 / (2 * (2 * (0.5 if lenient else 0.1)) ** 2 * area)
    assert trace.iou == pytest.approx(math.exp(-off), abs=1e-4)


def test_a_mask_that_did_not_find_the_object_is_told_so_as_its_box_did():
    label = outlined([(10, 10), (50, 10), (50, 14), (10, 14)], [(10, 14), (14, 14), (14, 50), (10, 50)])
    other = found_outline([(18, 18), (50, 18), (50, 50)], confidence=0.9)
    trace = trace_miss(label, prepared(raw_of(label.xyxy.tolist(), 0.9, mask=[1.0])), (other,), 0.25, 0.6, "mask")
    assert (trace.where, trace.suppressor) == ("suppressed", 0)
    assert "its box was reported, but its mask did not find this object" in trace.text
