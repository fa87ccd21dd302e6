"""A patch of one image pasted beside an object of another, as it lay beside its own."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detcam.drawing.pasting import paste


@given(st.integers(4, 30), st.integers(4, 30), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_a_pasted_patch_lies_as_it_lay(width, height, across, down):
    patch = np.full((6, 6, 3), 200, np.uint8)
    image = np.zeros((200, 200, 3), np.uint8)
    target = np.array([80.0, 80, 80 + width, 80 + height])
    changed, where = paste(patch, np.array([across, down]), np.array([0.0, 0, 10, 10]), image, target)
    assert not image.any()
    rows, columns = np.nonzero(changed.any(2))
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == where.tolist()
    centre = (where[:2] + where[2:]) / 2
    expected = np.array([80 + width / 2 + across * width, 80 + height / 2 + down * height])
    assert np.abs(centre - expected).max() <= 1


def test_a_patch_that_would_leave_the_image_is_not_pasted():
    patch, image = np.zeros((6, 6, 3), np.uint8), np.zeros((50, 50, 3), np.uint8)
    assert paste(patch, np.array([0, -3.0]), np.array([0, 0, 10, 10]), image, np.array([10, 10, 20, 20])) is None
