"""Which predictions are reported: the settings of every adapter's ``decode`` and their checks."""

import dataclasses
import doctest

import numpy as np
import pytest
import torch

import detcam
from detcam.adapters import decoding


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conf": -0.1}, r"conf must lie in \[0, 1\], got -0.1"),
        ({"conf": float("nan")}, r"conf must lie in \[0, 1\], got nan"),
        ({"conf": "0.5"}, r"conf must lie in \[0, 1\], got '0.5'"),
        ({"iou": 1.5}, r"iou must lie in \[0, 1\], got 1.5"),
        ({"max_det": 0}, "max_det must be a whole number, at least 1, got 0"),
        ({"max_det": 2.5}, "max_det must be a whole number, at least 1, got 2.5"),
        ({"classes": [0, -1]}, r"classes must be class indices from 0 on, got \[0, -1\]"),
        ({"classes": ["kite"]}, r"classes must be class indices from 0 on, got \['kite'\]"),
        ({"classes": [True]}, r"classes must be class indices from 0 on, got \[True\]"),
        ({"classes": 3}, "classes must be class indices from 0 on, got 3"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(detcam.UsageError, match=message):
        detcam.DecodeSettings(**settings)


def test_settings_are_values():
    settings = detcam.DecodeSettings(classes=[np.int64(2), 0])
    assert settings == detcam.DecodeSettings(0.25, 0.7, 300, (2, 0))
    assert hash(settings) == hash(dataclasses.replace(settings, classes=[2, 0]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.conf = 0.5
    assert doctest.testmod(decoding).failed == 0


@pytest.mark.parametrize(
    ("classes", "kept"), [(None, [True] * 4), ([1], [False, True, True, False]), ([], [False] * 4)]
)
def test_classes_are_kept(classes, kept):
    assert detcam.DecodeSettings(classes=classes).keeps(torch.tensor([0, 1, 1, 3])).tolist() == kept
