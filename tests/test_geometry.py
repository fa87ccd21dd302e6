import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ultralytics.data.augment import LetterBox
from ultralytics.utils.ops import scale_boxes

from detcam.geometry import Letterbox, iou_matrix

sides = st.integers(1, 3000)
sizes = st.integers(1, 40).map(lambda n: 32 * n)


@given(sides, sides, sizes, sizes, st.booleans())
def test_a_box_goes_to_the_network_and_back(height, width, net_h, net_w, minimal):
    box = Letterbox.fit((height, width), (net_h, net_w), 32, minimal)
    corners = np.array([[0.0, 0.0, width, height], [0.25 * width, 0.5 * height, 0.75 * width, 0.9 * height]])
    there = box.to_network(corners)
    assert np.allclose(box.to_original(there), corners, rtol=0, atol=1e-9 * max(height, width))
    top, left = box.offset
    assert np.allclose(there[0], [left, top, left + box.resized[1], top + box.resized[0]])
    assert np.allclose(box.to_network(corners[:, 2:]), there[:, 2:])  # points map as the corners of boxes do
    assert all(side % 32 == 0 for side in box.network)


@given(sides, sides, sizes, sizes, st.booleans())
def test_it_is_the_letterbox_of_ultralytics(height, width, net_h, net_w, minimal):
    ours = Letterbox.fit((height, width), (net_h, net_w), 32, minimal)
    if ours.resized[0] * ours.resized[1] > 2_000_000:
        return
    image = np.zeros((height, width, 3), np.uint8)
    theirs = LetterBox((net_h, net_w), auto=minimal, stride=32)(image=image)
    assert theirs.shape[:2] == ours.network
    inside = np.argwhere(theirs[..., 0] == 0)
    assert tuple(inside.min(0)) == ours.offset
    assert tuple(inside.max(0) - inside.min(0) + 1) == ours.resized
    net = torch.tensor([[0.1 * ours.network[1], 0.2 * ours.network[0], 0.8 * ours.network[1], 0.9 * ours.network[0]]])
    back = scale_boxes(ours.network, net.clone(), (height, width)).numpy()
    # Their inverse derives the scale anew from the padded size, which can miss by a pixel of the network's input.
    difference = np.abs(ours.clip(ours.to_original(net.numpy())) - back) * np.tile(ours.gain[::-1], 2)
    assert difference.max() <= 1 + 1e-3


def test_a_map_lands_on_the_pixels_it_came_from():
    box = Letterbox.fit((100, 60), (160, 160), 32, minimal=False)
    raw = np.zeros((20, 20), np.float32)
    cell = box.to_network(np.array([30.0, 75.0])) // 8  # x, y of a pixel -> its cell
    raw[int(cell[1]), int(cell[0])] = 1
    array = box.map_to_original(raw)
    assert array.shape == (100, 60)
    y, x = np.unravel_index(array.argmax(), array.shape)
    assert abs(x - 30) <= 4
    assert abs(y - 75) <= 4


def test_without_padding_it_is_bilinear_interpolation():
    raw = np.random.default_rng(0).random((6, 9), dtype=np.float32)
    box = Letterbox((48, 72), (48, 72), (48, 72), (0, 0))
    expected = torch.nn.functional.interpolate(torch.from_numpy(raw)[None, None], (48, 72), mode="bilinear")[0, 0]
    assert np.allclose(box.map_to_original(raw), expected, atol=1e-6)


def test_energy_in_the_padding_is_counted_and_not_drawn():
    box = Letterbox.fit((50, 100), (128, 128), 32, minimal=False)  # 64 rows of image, 32 rows of grey above and below
    raw = np.zeros((16, 16), np.float32)
    raw[1, 5] = 3
    raw[8, 5] = 1
    assert box.padding_share(raw) == pytest.approx(0.75)
    assert box.map_to_original(raw).max() == pytest.approx(1, abs=0.2)
    assert np.isnan(box.padding_share(np.zeros((4, 4), np.float32)))


def test_what_a_crop_left_out_is_zero():
    box = Letterbox((10, 20), (10, 10), (10, 20), (0, -5))  # the middle ten columns
    array = box.map_to_original(np.ones((5, 5), np.float32))
    assert np.array_equal(array[0], [0] * 5 + [1] * 10 + [0] * 5)
    assert box.padding_share(np.ones((5, 5), np.float32)) == pytest.approx(0)
    assert np.allclose(box.to_original(box.to_network(np.array([3.0, 4.0]))), [3, 4])


def test_iou_by_hand():
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 5]])
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]])
    assert np.allclose(iou_matrix(a, b), [[1 / 7, 1, 0], [0, 0, 0]])
    assert iou_matrix(np.zeros((0, 4)), b).shape == (0, 3)


def test_a_letterbox_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="lies outside the input"):
        Letterbox((10, 10), (32, 32), (32, 32), (32, 0))
    with pytest.raises(ValueError, match="at least 1 x 1"):
        Letterbox((0, 10), (32, 32), (32, 32), (0, 0))
