from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import detcam
from detcam.adapters.answers import corners_of
from detcam.errors import UsageError
from detcam.geometry import Letterbox
from detcam.render import BOX_COLOUR, blend, colourmap, drawable, is_small, panel, write_image, zoom, zoom_window
from detcam.types import Detection, Explanation, Heatmap, ImageResult

IMAGE = np.full((90, 160, 3), 128, np.uint8)


def explanation(raw, xyxy=(20, 20, 80, 70), status="ok", name="cat", image=IMAGE):
    letterbox = Letterbox.fit(image.shape[:2], (96, 160), 32)
    detection = Detection(xyxy, 0, name, 0.9, 3, 8)
    return Explanation(detection, Heatmap(raw, letterbox), "layercam", "class", ("model.4",), status, "", image)


def hot(row, column):
    raw = np.zeros((12, 20), np.float32)
    raw[row, column] = 1
    return raw


def test_nothing_hot_leaves_a_muted_photograph_and_hot_pixels_take_the_colour():
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = 1
    image = np.full((4, 4, 3), 100, np.uint8)
    picture = blend(image, heat, "viridis", opacity=1)
    assert (picture[0, 0] == 90).all()
    assert np.abs(picture[1, 2] - colourmap("viridis")[255]).max() <= 1
    assert (image == 100).all()
    assert (blend(image, heat, opacity=0) == 90).all()


def test_a_large_image_is_blended_as_its_parts_are():
    rng = np.random.default_rng(0)
    image, heat = rng.integers(0, 256, (1301, 7, 3)).astype(np.uint8), rng.random((1301, 7)).astype(np.float32)
    parts = [blend(image[top : top + 100], heat[top : top + 100]) for top in range(0, 1301, 100)]
    assert np.array_equal(blend(image, heat), np.concatenate(parts))


def test_the_overlay_is_hot_where_the_map_is():
    cold, warm = explanation(np.zeros((12, 20), np.float32)), explanation(hot(5, 6))
    changed = np.argwhere((cold.plot() != warm.plot()).any(-1))
    assert np.abs(changed.mean(0) - [5.5 * 8 - 3, 6.5 * 8]).max() < 3  # three rows of padding above the image
    assert warm.plot().shape == IMAGE.shape
    assert warm.plot().dtype == np.uint8


def test_a_jet_map_and_opacity_are_available():
    e = explanation(hot(5, 6))
    assert not np.array_equal(e.plot("jet"), e.plot())
    assert not np.array_equal(e.plot(opacity=0.2), e.plot())
    with pytest.raises(UsageError, match="did you mean 'viridis'"):
        e.plot("viridiss")
    with pytest.raises(UsageError, match="opacity must lie in"):
        e.plot(opacity=2)


@pytest.mark.parametrize(
    "xyxy", [(0, 0, 160, 90), (150, 80, 160, 90), (0, 0, 1, 1), (80, 40, 80, 40), (90, 50, 60, 20)]
)
def test_boxes_anywhere_can_be_drawn_and_zoomed(xyxy):
    e = explanation(hot(5, 6), xyxy)
    assert e.plot().shape == IMAGE.shape
    assert max(zoom(e, side=200).shape) == 200
    assert is_small(e) == (xyxy not in {(0, 0, 160, 90), (90, 50, 60, 20)})


def test_the_zoom_shows_the_box_where_it_is():
    e = explanation(np.zeros((12, 20), np.float32), (70, 40, 80, 50))
    x1, y1, x2, y2 = zoom_window(e)
    assert (x1, y1, x2, y2) == (51, 21, 99, 69)  # 48 pixels about (75, 45)
    picture = zoom(e, side=480)
    rows, columns = np.nonzero((picture == BOX_COLOUR).all(-1))
    assert np.abs(np.array([columns.min(), rows.min(), columns.max(), rows.max()]) - [190, 190, 290, 290]).max() <= 2


def test_rotated_boxes_masks_and_keypoints_are_drawn():
    plain = explanation(hot(5, 6))
    corners = np.array([[50, 10], [90, 40], [70, 60], [30, 30]], np.float32)
    keypoints = np.array([[60, 30, 0.9], [100, 40, 0.1]], np.float32)
    for shape in ({"polygons": (corners,)}, {"polygons": (corners[:3], corners[1:])}, {"keypoints": keypoints}):
        e = replace(plain, detection=replace(plain.detection, **shape))
        changed = np.argwhere((e.plot() != plain.plot()).any(-1))
        assert len(changed)
        assert not np.array_equal(zoom(e), zoom(plain))
    rotated = replace(plain, detection=replace(plain.detection, polygons=(corners,))).plot()
    assert (rotated[20, 60:70] != BOX_COLOUR).any(-1).all()  # not its upright box
    shown = replace(plain, detection=replace(plain.detection, keypoints=keypoints)).plot()
    assert (shown[30, 60] == BOX_COLOUR).all()
    assert np.array_equal(shown[38:43, 98:103], plain.plot()[38:43, 98:103])  # an invisible point is not drawn


def test_a_rotated_box_is_zoomed_upright():
    plain = explanation(np.zeros((12, 20), np.float32))
    corners = corners_of(np.array([80, 45, 40, 20, 0.5])).astype(np.float32)
    picture = zoom(replace(plain, detection=replace(plain.detection, polygons=(corners,))), side=480)
    rows, columns = np.nonzero((picture == BOX_COLOUR).all(-1))
    edges = [columns.min(), rows.min(), columns.max(), rows.max()]
    assert np.abs(np.array(edges) - [160, 200, 320, 280]).max() <= 2  # a third of the picture wide, half that high


def test_an_image_of_one_pixel():
    letterbox = Letterbox.fit((1, 1), (32, 32), 32)
    pixel = np.zeros((1, 1, 3), np.uint8)
    detection, heatmap = Detection((0, 0, 1, 1), 0, "x", 0.5, 0, 8), Heatmap(np.ones((4, 4)), letterbox)
    e = Explanation(detection, heatmap, "random", "class", ("a",), "ok", "", pixel)
    assert e.plot().shape == (1, 1, 3)
    assert zoom(e).ndim == 3


@pytest.mark.parametrize("name", ["<img src=x>", "a" * 80, "été 猫 قط", "$x^2$", ""])
def test_any_class_name_can_be_drawn(name):
    e = explanation(hot(5, 6), name=name)
    result = ImageResult("x.png", IMAGE, (e.detection,), (e,))
    assert e.plot().shape == IMAGE.shape
    assert result.plot().shape[2] == 3


def test_a_character_no_font_has_becomes_a_square():
    assert drawable("caf\u00e9 \U0010ffff") == "caf\u00e9 \u25a1"
    assert drawable("cat\ndog") == "cat\ndog"


def test_the_panel_says_what_it_leaves_out(scene_image, demo_detector):
    result = detcam.explain(demo_detector, scene_image, conf=0.0, max_det=30, method="layercam")
    assert len(result) == 30
    picture = panel(result)
    assert picture.dtype == np.uint8
    assert picture.shape[0] < 60_000


def test_pictures_are_written_as_their_suffix_says(tmp_path):
    e = explanation(hot(5, 6))
    e.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.array(picture), e.plot())
    e.save(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match=r"no picture format ends in '\.mp9'; use \.png or \.jpg"):
        write_image(tmp_path / "a.mp9", IMAGE)
