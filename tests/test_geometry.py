import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ultralytics.data.augment import LetterBox
from ultralytics.utils.ops import scale_boxes

from detcam.geometry import PADDING_GREY, Letterbox, iou_matrix

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
    assert set(np.unique(theirs)) <= {0, PADDING_GREY}
    net = torch.tensor([[0.1 * ours.network[1], 0.2 * ours.network[0], 0.8 * ours.network[1], 0.9 * ours.network[0]]])
    back = scale_boxes(ours.network, net.clone(), (height, width)).numpy()
    # Their inverse derives the scale anew from the padded size: it can miss by a pixel of the network's input, and by
    # what that scale is off, over the whole of the image.
    theirs_scale = min(net_side / side for net_side, side in zip(ours.network, (height, width), strict=True))
    off = max(abs(theirs_scale / gain - 1) * side for gain, side in zip(ours.gain, ours.resized, strict=True))
    difference = np.abs(ours.clip(ours.to_original(net.numpy())) - back) * np.tile(ours.gain[::-1], 2)
    assert difference.max() <= 1 + off + 1e-3


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
    assert box.padding_share(raw) == box.padding_share(raw / 1024) == pytest.approx(0.75)
    assert box.map_to_original(raw).max() == pytest.approx(1, abs=0.2)
    assert np.isnan(box.padding_share(np.zeros((4, 4), np.float32)))


def test_what_a_crop_left_out_is_zero():
    box = Letterbox((10, 20), (10, 10), (10, 20), (0, -5))  # the middle ten columns
    array = box.map_to_original(np.ones((5, 5), np.float32))
    assert np.array_equal(array[0], [0] * 5 + [1] * 10 + [0] * 5)
    assert box.padding_share(np.ones((5, 5), np.float32)) == pytest.approx(0)
    assert np.allclose(box.to_original(box.to_network(np.array([3.0, 4.0]))), [3, 4])


@pytest.mark.parametrize(
    ("original", "imgsz", "minimal", "expected"),
    [
        ((100, 200), (320, 320), True, ((160, 320), (160, 320), (0, 0))),
        ((100, 200), (320, 320), False, ((320, 320), (160, 320), (80, 0))),
        ((90, 200), (320, 320), True, ((160, 320), (144, 320), (8, 0))),
        ((200, 90), (320, 320), True, ((320, 160), (320, 144), (0, 8))),
        ((105, 200), (64, 96), False, ((64, 96), (50, 96), (7, 0))),
        ((103, 200), (64, 96), True, ((64, 96), (49, 96), (7, 0))),  # of 15 rows the odd one is below
        ((1, 3000), (320, 320), True, ((32, 320), (1, 320), (15, 0))),
        ((3000, 1), (320, 320), True, ((320, 32), (320, 1), (0, 15))),
    ],
)
def test_letterboxes_by_hand(original, imgsz, minimal, expected):
    box = Letterbox.fit(original, imgsz, 32, minimal)
    assert (box.network, box.resized, box.offset) == expected
    assert box.original == original
    assert box.gain == (box.resized[0] / original[0], box.resized[1] / original[1])


def test_points_and_boxes_by_hand():
    box = Letterbox((100, 200), (64, 96), (50, 80), (7, 8))  # 0.5 times as high, 0.4 times as wide
    assert box.to_network([10, 20]).tolist() == [12, 17]
    assert box.to_network([[10, 20, 110, 40]]).tolist() == [[12, 17, 52, 27]]
    assert box.to_original([12, 17, 52, 27]) == pytest.approx([10, 20, 110, 40])
    assert box.clip([[-5, -6, 205, 106], [5, 6, 195, 96]]).tolist() == [[0, 0, 200, 100], [5, 6, 195, 96]]


def interpolated(raw, size):
    return torch.nn.functional.interpolate(torch.from_numpy(raw)[None, None], size, mode="bilinear")[0, 0].numpy()


def test_a_map_of_more_rows_than_are_made_at_once_has_no_seam():
    raw = np.random.default_rng(1).random((40, 3), dtype=np.float32)
    size = (1100, 6)
    array = Letterbox(size, size, size, (0, 0)).map_to_original(raw)
    assert array.dtype == np.float32
    assert np.allclose(array, interpolated(raw, size), atol=1e-5)


@pytest.mark.parametrize("cells", [(1, 1), (1, 4), (4, 1), (8, 16)])
def test_maps_of_few_cells_and_of_as_many_as_pixels(cells):
    raw = np.random.default_rng(2).random(cells, dtype=np.float32)
    array = Letterbox((8, 16), (8, 16), (8, 16), (0, 0)).map_to_original(raw)
    assert np.allclose(array, interpolated(raw, (8, 16)), atol=1e-6)


def test_a_map_is_read_where_the_image_lies_in_the_input():
    raw = np.random.default_rng(3).random((16, 24), dtype=np.float32)
    box = Letterbox((20, 40), (64, 96), (40, 80), (6, 10))
    whole = interpolated(raw, (64, 96))
    # The centre of a pixel of the original is the corner that four pixels of the input share.
    there = whole[6:46, 10:90].reshape(20, 2, 40, 2).mean((1, 3))
    assert np.allclose(box.map_to_original(raw), there, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "offset", "rows", "columns"),
    [((10, 10), (0, -5), (0, 10), (5, 15)), ((6, 20), (-3, 0), (3, 9), (0, 20)), ((12, 24), (2, 4), (0, 10), (0, 20)),
     ((6, 12), (4, 10), (0, 2), (0, 2))],
)  # fmt: skip
def test_what_lies_outside_the_input_is_zero(network, offset, rows, columns):
    array = Letterbox((10, 20), network, (10, 20), offset).map_to_original(np.ones((2, 2), np.float32))
    expected = np.zeros((10, 20))
    expected[slice(*rows), slice(*columns)] = 1
    assert np.allclose(array, expected, atol=1e-6)


def test_pixels_whose_centre_is_on_the_inputs_edge_are_seen():
    box = Letterbox((3, 4), (2, 3), (3, 4), (0, 0))
    assert box.map_to_original(np.ones((1, 1), np.float32)).sum() == 6
    halved = Letterbox((3, 3), (2, 2), (6, 6), (-1, -1))  # centres at 0, 2 and 4
    assert halved.map_to_original(np.ones((1, 1), np.float32)).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_cells_that_lie_partly_in_the_padding_count_in_part():
    box = Letterbox((10, 20), (16, 32), (10, 20), (4, 5))  # cells of 4 x 8 pixels: rows 4 to 14, columns 5 to 25
    inside_rows, inside_columns = [0, 1, 1, 0.5], [3 / 8, 1, 1, 1 / 8]
    for row in range(4):
        for column in range(4):
            raw = np.zeros((4, 4))
            raw[row, column] = -2
            assert box.padding_share(raw) == pytest.approx(1 - inside_rows[row] * inside_columns[column])
    assert box.padding_share(np.ones((4, 4))) == pytest.approx(1 - 2.5 * 2.5 / 16)


def test_iou_by_hand():
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 5]])
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]])
    assert np.allclose(iou_matrix(a, b), [[1 / 7, 1, 0], [0, 0, 0]])
    assert iou_matrix(np.zeros((0, 4)), b).shape == (0, 3)
    assert iou_matrix([0, 0, 4, 2], [[1, 1, 3, 5]]).tolist() == [[2 / 14]]
    inside_out = [[2, 0, 0, 2], [0, 2, 2, 0], [2, 2, 0, 0], [0, 0, 0, 0]]
    assert not iou_matrix(inside_out, [*inside_out, [0, 0, 2, 2]]).any()
    assert np.allclose(iou_matrix([0, 0, 0.5, 0.5], [[0, 0, 0.5, 0.5], [0.25, 0, 0.75, 0.5]]), [[1, 1 / 3]])


@pytest.mark.parametrize("offset", [(32, 0), (0, 48), (-10, 0), (0, -20), (40, 50), (-11, 0)])
def test_an_image_beside_the_input_is_refused(offset):
    with pytest.raises(ValueError, match="lies outside the input"):
        Letterbox((10, 20), (32, 48), (10, 20), offset)


@pytest.mark.parametrize("offset", [(31, 0), (0, 47), (-9, 0), (0, -19), (31, -19)])
def test_an_image_of_which_a_pixel_is_in_the_input_is_not(offset):
    assert Letterbox((10, 20), (32, 48), (10, 20), offset).offset == offset


@pytest.mark.parametrize("name", ["original", "network", "resized"])
@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-1, 10)])
def test_a_size_without_pixels_is_refused(name, size):
    sizes = {"original": (1, 1), "network": (1, 1), "resized": (1, 1), "offset": (0, 0)}
    assert Letterbox(**sizes).gain == (1, 1)
    with pytest.raises(ValueError, match=f"letterbox {name} must be at least 1 x 1 pixels, got"):
        Letterbox(**{**sizes, name: size})
