"""Checkpoints from strangers: nothing in them runs, and each is a sane model or one line."""

import numpy as np
import pytest
import torchvision.ops  # noqa: F401  as it is imported, torch makes a folder for its compiler

import detcam
from detcam.demo import WEIGHTS
from detcam.errors import InputError, WeightsError
from hostile import weight_inputs
from hostile.judging import Input, run_command

pytestmark = pytest.mark.hostile
IMAGE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
SHARES, TRIED = 24, 8
"""Of some 3,000 values in other places, a third is tried; which one, the seed says."""


def load(path, out):
    """Load a file, and see that what can be loaded answers sanely."""
    detector = detcam.load(path)
    assert 1 <= len(detector.names) <= 100_000
    assert all(isinstance(name, str) for name in detector.names.values())
    assert max(detector.imgsz) <= 8192
    batch, letterboxes = detector.prepare([IMAGE])
    raw = detector.forward(batch)
    (found,) = detector.decode(raw, letterboxes, detcam.DecodeSettings(conf=1e-6, max_det=3))
    for detection in found:
        assert np.isfinite(detection.xyxy).all()
        assert 0 <= detection.confidence <= 1
        assert detection.class_name == detector.names[detection.class_id]
    assert detector.layers()
    return detector


FAMILIES = {
    "calls": weight_inputs.calls,
    "opcodes": lambda seed: weight_inputs.opcodes(),
    "archives": weight_inputs.archives,
    "tensors": weight_inputs.tensors,
    "structures": lambda seed: weight_inputs.structures(),
    **{
        f"values, share {part}": lambda seed, part=part: weight_inputs.replaced((3 * part + seed) % SHARES, SHARES)
        for part in range(TRIED)
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_weights(family, judge, seed):
    judge("weights", FAMILIES[family](seed), load, errors=(WeightsError, InputError))


def test_weights_on_the_command_line(judge, seed):
    every = [*list(weight_inputs.calls(seed))[::40], *list(weight_inputs.replaced(3, 100))]

    def ask(path, out):
        return run_command("layers", "--weights", str(path))

    run_command("layers", "--weights", str(WEIGHTS))  # other libraries set their warnings as they are imported
    inputs = [Input(one.name, one.make, one.accepted) for one in every]
    judge("weights", inputs, ask, codes=(0, 3))
