"""Layers that would take gigabytes end in an error before they run; and loading brings no compiler along."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from detcam.adapters.bounded import Bounded, BoundsError
from detcam.demo import WEIGHTS

IMAGE = torch.zeros(1, 3, 32, 32)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Upsample(scale_factor=1e4), nn.ZeroPad2d(10**5), nn.ReflectionPad2d(31), nn.AdaptiveAvgPool2d(10**5),
        nn.Conv2d(3, 3, 1, padding=10**6), nn.ConvTranspose2d(3, 3, 2, 10**4), nn.Conv2d(3, 2**13, 3, padding=1),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_a_layer_too_large(layer):
    with torch.no_grad(), Bounded(32 * 32):
        if isinstance(layer, nn.ReflectionPad2d):
            assert layer(IMAGE).shape == (1, 3, 94, 94)
        else:
            with pytest.raises(BoundsError, match=r"would make|takes? more"):
                layer(IMAGE)


def test_too_many_steps():
    repeated = nn.Sequential(*[nn.Tanh()] * 100_001)
    with torch.no_grad(), Bounded(1), pytest.raises(BoundsError, match="more than 100,000 steps"):
        repeated(torch.zeros(1))


def test_no_compiler_is_imported():
    program = f"import sys, detcam; detcam.load({str(WEIGHTS)!r}); print('torch._inductor.runtime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
