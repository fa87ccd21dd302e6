"""Strict measures of a known cause, worked by hand and against scikit-learn, and what an evidence patch holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from detcam.metrics.recovery import FIGURES, auroc, holds, hottest_inside, precision, recovery

MARK, BOX = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
MARK[2:5, 20:24] = True  # 12 pixels
BOX[6:16, 8:20] = True
ROW = np.array([1, 1, 0, 0, 0, 0], bool)

few_values = arrays(float, (4, 5), elements=st.integers(0, 3).map(float))
regions = arrays(bool, (4, 5))


def test_a_map_that_is_the_mark_scores_one_everywhere():
    assert recovery(MARK.astype(np.float32), MARK, ~BOX) == dict.fromkeys(FIGURES, 1.0)


def test_a_map_without_heat_shows_nothing():
    assert recovery(np.zeros(MARK.shape), MARK, ~BOX) == {"precision": 0, "auroc": 0.5, "peak": 0}


@pytest.mark.parametrize(
    ("heat", "expected"),
    [
        ([3, 2, 1, 0, 0, 0], 1),
        ([1, 0, 0, 0, 0, 0], 0.5),  # one hot pixel: the other is without heat, whatever it ties with
        ([0, 0, 1, 1, 1, 1], 0),
        ([1, 1, 1, 1, 1, 1], 0),  # what ties comes after all that is off the cause
        ([1, 1, 1, 0, 0, 0], 0.5),  # three for two places: the one off the cause takes the first
        ([2, 1, 1, 0, 0, 0], 0.5),
        ([2, 1, 0, 1, 1, 0], 0.5),
        ([0, 0, 0, 0, 0, 0], 0),
        ([0, 0, 9, 0, 0, 0], 0),
        ([2, 1, 3, 0, 0, 0], 0.5),
    ],
)
def test_precision_by_hand(heat, expected):
    assert precision(np.array(heat, float), ROW) == expected


def test_precision_of_another_number_of_pixels():
    heat = np.array([5, 1, 4, 3, 2, 0], float)
    assert [precision(heat, ROW, n) for n in (1, 2, 4, 5)] == [1, 0.5, 0.25, 0.4]


@given(few_values, regions.filter(np.any))
def test_precision_is_the_worst_that_ties_allow(heat, cause):
    order = np.lexsort((cause.ravel(), -heat.ravel()))[: cause.sum()]  # off the cause first where equally hot
    assert precision(heat, cause) == (cause.ravel()[order] & (heat.ravel()[order] > 0)).sum() / cause.sum()
    assert precision(heat, cause) <= hottest_inside(heat, cause, cause.sum()) / cause.sum()


@given(few_values, regions.filter(lambda region: region.any() and not region.all()))
def test_auroc_is_scikit_learns(heat, cause):
    assert auroc(heat, cause) == pytest.approx(roc_auc_score(cause.ravel(), heat.ravel()), abs=1e-12)


def test_a_flat_map_knows_nothing():
    assert recovery(np.full(MARK.shape, 0.3), MARK, ~BOX) == {"precision": 0, "auroc": 0.5, "peak": 1}


def test_only_what_is_judged_counts_but_the_peak_is_the_whole_maps():
    heat = BOX * 4.0 + MARK
    assert recovery(heat, MARK, ~BOX) == {"precision": 1, "auroc": 1, "peak": 0.25}
    assert recovery(heat, MARK, np.ones_like(BOX))["precision"] == 0
    inside = recovery(heat, MARK, BOX)
    assert np.isnan(inside["precision"])
    assert np.isnan(inside["auroc"])


@given(st.permutations(range(20)), regions, st.integers(1, 20))
def test_without_ties_the_hottest_are_numpys(order, region, number):
    heat = np.array(order, float).reshape(4, 5)
    top = np.argsort(heat, axis=None)[::-1][:number]
    assert hottest_inside(heat, region, number) == region.ravel()[top].sum()


@given(few_values, regions, st.integers(1, 20))
def test_ties_fall_as_chance_has_it(heat, region, number):
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(400):  # break the ties at random
        order = generator.permutation(20)
        top = order[np.argsort(heat.ravel()[order], kind="stable")[::-1][:number]]
        drawn.append(region.ravel()[top].sum())
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert abs(hottest_inside(heat, region, number) - np.mean(drawn)) <= 5 * error + 1e-9


SECOND = np.zeros((20, 30), bool)
SECOND[17:20, 2:6] = True
FIRST_PATCH, SECOND_PATCH, NOWHERE = [20, 2, 24, 5], [2, 17, 6, 20], [26, 10, 29, 13]
HALF, LESS_THAN_HALF = [20, 2, 22, 5], [20, 2, 21, 5]


@pytest.mark.parametrize(
    ("kind", "patches", "marks", "expected"),
    [
        ("near", [FIRST_PATCH], [MARK], True),
        ("near", [HALF], [MARK], True),
        ("near", [LESS_THAN_HALF], [MARK], False),
        ("near", [NOWHERE, FIRST_PATCH], [MARK], True),
        ("far", [NOWHERE], [MARK], False),
        ("near", [[-5, -5, 25, 9]], [MARK], True),  # 225 pixels where 4 x 12 + 200 are allowed
        ("near", [[0, 0, 25, 10]], [MARK], False),  # 250
        ("either", [FIRST_PATCH], [MARK, SECOND], False),
        ("either", [FIRST_PATCH, SECOND_PATCH], [MARK, SECOND], True),
        ("both", [FIRST_PATCH], [MARK, SECOND], True),
        ("both", [SECOND_PATCH], [MARK, SECOND], True),
        ("both", [NOWHERE], [MARK, SECOND], False),
        ("texture", [[0, 0, 10, 6]], [~BOX], True),
        ("texture", [[8, 4, 10, 14]], [~BOX], False),  # 4 of 20 pixels outside
        ("texture", [[8, 0, 9, 8]], [~BOX], False),  # 6 of 8
        ("texture", [[8, 0, 9, 7]], [~BOX], True),  # 6 of 7
    ],
)
def test_what_a_patch_holds_by_hand(kind, patches, marks, expected):
    assert holds(kind, np.array(patches), marks, BOX) is expected
