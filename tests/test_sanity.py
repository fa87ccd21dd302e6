"""Sanity checks: a method that looks at the weights notices when they change, one that does not fails."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

import detcam
from detcam.demo import WEIGHTS
from detcam.evaluate.sanity import (
    CASCADE_SHARES,
    Case,
    class_swap,
    instance_swap,
    max_sensitivity,
    randomisation,
    randomised,
    rank_correlation,
)


@given(*(arrays(np.float64, (4, 5), elements=st.integers(-3, 3).map(float)) for _ in range(2)))
def test_the_rank_correlation_is_scipys(first, second):
    ours = rank_correlation(first, second)
    if np.ptp(np.abs(first)) == 0 or np.ptp(np.abs(second)) == 0:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(spearmanr(np.abs(first), np.abs(second), axis=None).statistic, abs=1e-9)


@pytest.fixture(scope="module")
def case(scene_image):
    model = detcam.load(WEIGHTS)
    session = detcam.open_image(model, scene_image)
    return Case(session.prepared, session.detections)


def test_randomising_shuffles_a_copy_from_the_output_backwards(demo_detector):
    changed = randomised(demo_detector, 0.1, seed=0)
    pairs = list(zip(demo_detector.model.named_parameters(), changed.model.named_parameters(), strict=True))
    differ = [name for (name, ours), (_, theirs) in pairs if not torch.equal(ours, theirs)]
    assert differ
    assert all(name.startswith("model.") for name in differ)
    assert not any(name.startswith("model.0.") for name in differ)
    for (_, ours), (_, theirs) in pairs:
        assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values)
    everything = randomised(demo_detector, 1.0, seed=0)
    assert not torch.equal(everything.model.model[0].conv.weight, demo_detector.model.model[0].conv.weight)


def test_a_gradient_map_follows_the_weights_and_edges_do_not(case):
    gradient = randomisation(detcam.Explainer(WEIGHTS, "hirescam", layers="backbone"), case, seed=0)
    edges = randomisation(detcam.Explainer(WEIGHTS, "edges"), case, seed=0)
    assert all(len(steps) == len(CASCADE_SHARES) for steps in gradient)
    last = np.mean([steps[-1] for steps in gradient])
    print(f"hirescam: rank correlation {last:.2f} with every layer shuffled; edges: {edges[0][-1]:.2f}")
    assert last < 0.7
    assert np.allclose(edges, 1)


def test_eigencam_is_blind_to_class_and_instance_and_hirescam_is_not(case):
    eigen, hires = (detcam.Explainer(WEIGHTS, name, layers="backbone") for name in ("eigencam", "hirescam"))
    assert np.allclose(class_swap(eigen, case), 1)
    assert np.allclose(instance_swap(eigen, case), 1)
    assert np.mean(class_swap(hires, case)) < 0.99
    assert len(instance_swap(hires, case)) == 1  # the scene has two things of one class
    assert instance_swap(hires, case)[0] < 0.9


def test_sensitivity_is_zero_for_a_map_that_ignores_the_image(case):
    assert max_sensitivity(detcam.Explainer(WEIGHTS, "random"), case, seed=0) == [0.0] * len(case.detections)
    noisy = max_sensitivity(detcam.Explainer(WEIGHTS, "hirescam", layers="backbone"), case, seed=0)
    assert all(0 < value < 10 for value in noisy)
