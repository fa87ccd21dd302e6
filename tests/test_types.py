import numpy as np
import pytest
import torch

from detcam.errors import InputError
from detcam.geometry import Letterbox
from detcam.io.images import read_image
from detcam.types import Detection, Heatmap

BOX = Letterbox((8, 8), (8, 8), (8, 8), (0, 0))


def test_the_array_is_the_positive_part_over_its_peak():
    heatmap = Heatmap(np.array([[-4.0, 1.0], [0.5, 0.0]]), BOX)
    assert heatmap.array.shape == (8, 8)
    assert heatmap.array.dtype == np.float32
    assert heatmap.array.min() == 0
    assert heatmap.array.max() == 1
    assert heatmap.raw.min() == -4
    assert heatmap.peak == 1


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30])
def test_tiny_and_huge_maps_are_scaled_all_the_same(scale):
    raw = np.array([[1.0, 3.0], [2.0, 0.0]])
    assert np.allclose(Heatmap(raw * scale, BOX).array, Heatmap(raw, BOX).array, atol=2e-3)


def test_an_all_zero_or_negative_map_stays_dark():
    assert not Heatmap(np.zeros((2, 2)), BOX).array.any()
    assert not Heatmap(-np.ones((2, 2)), BOX).array.any()


def test_values_are_checked_and_frozen():
    with pytest.raises(ValueError, match="finite, got 1 values"):
        Heatmap(np.array([[np.nan, 1]]), BOX)
    with pytest.raises(ValueError, match=r"must be \(h, w\)"):
        Heatmap(np.zeros(3), BOX)
    with pytest.raises(ValueError, match="confidence must lie"):
        Detection((0, 0, 1, 1), 0, "a", 1.5, 0, 8)
    with pytest.raises(ValueError, match="xyxy must be four finite"):
        Detection((0, 0, 1), 0, "a", 0.5, 0, 8)
    with pytest.raises(ValueError, match="anchor must be"):
        Detection((0, 0, 1, 1), 0, "a", 0.5, -1, 8)
    detection = Detection((0, 0, 1, 1), 0, "a", 0.5, 0, 8)
    with pytest.raises(ValueError, match="read-only"):
        detection.xyxy[0] = 5
    with pytest.raises(AttributeError):
        detection.confidence = 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), "must be uint8 in 0 .. 255, got float64"),
        (np.zeros((4, 4, 4), np.uint8), r"must be \(H, W, 3\), got \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"must be \(H, W, 3\)"),
        (torch.zeros(1, 3, 4, 4), "pass a batch as a list"),
        (torch.full((3, 4, 4), 2.0), r"must lie in \[0, 1\]"),
        (torch.full((3, 4, 4), torch.nan), r"must lie in \[0, 1\]"),
        (7, "got int"),
    ],
)
def test_images_that_are_none(image, message):
    with pytest.raises(InputError, match=message):
        read_image(image)


def test_grey_arrays_become_rgb():
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert np.array_equal(read_image(grey), np.stack([grey] * 3, -1))


def test_exif_orientation_is_applied(tmp_path):
    from PIL import Image

    image = Image.fromarray(np.zeros((20, 40, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # turned a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (40, 20, 3)
