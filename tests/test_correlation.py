"""Correlations against scipy's, and the cells in which maps are compared."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detcam.metrics.correlation import CELLS, cell_numbers, in_cells, pearson, spearman

VALUES = arrays(np.float64, (4, 5), elements=st.integers(-3, 3).map(float))  # many ties, both signs


@given(VALUES, VALUES)
def test_correlations_are_scipys(first, second):
    ours = spearman(first, second), pearson(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert np.isnan(ours).all()
    else:
        theirs = (
            scipy.stats.spearmanr(first, second, axis=None).statistic,
            scipy.stats.pearsonr(first.ravel(), second.ravel()).statistic,
        )
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_correlation_does_not_depend_on_scale_however_small():
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 6, 6))
    assert pearson(first * 1e-200, second * 1e200) == pytest.approx(pearson(first, second), abs=1e-12)


def test_cells_by_hand():
    # An image of two rows and six columns, padding above it and on its right; a map over a third of that.
    inside = torch.zeros(4, 8, dtype=torch.bool)
    inside[2:, :6] = True
    numbers, shape = cell_numbers(inside)
    assert shape == (2, 6)
    assert numbers.tolist() == [[-1] * 8, [-1] * 8, [0, 1, 2, 3, 4, 5, -1, -1], [6, 7, 8, 9, 10, 11, -1, -1]]
    heat = torch.arange(32.0).view(4, 8).masked_fill(~inside, 1e6)
    assert in_cells(heat, inside).tolist() == [[16, 17, 18, 19, 20, 21], [24, 25, 26, 27, 28, 29]]


def test_cells_of_an_image_are_means_of_its_pixels_and_48_along_the_longer_side():
    inside = torch.zeros(96, 200, dtype=torch.bool)
    inside[:, 8:] = True
    heat = torch.rand(96, 200, generator=torch.Generator().manual_seed(0)).masked_fill(~inside, torch.inf)
    cells = in_cells(heat, inside)
    assert cells.shape == (CELLS // 2, CELLS)
    blocks = heat[:, 8:].view(24, 4, 48, 4).mean((1, 3))
    assert torch.allclose(cells.float(), blocks, atol=1e-6)
    assert torch.allclose(in_cells(torch.full((3, 5), 0.25), inside), torch.tensor(0.25, dtype=torch.float64))
