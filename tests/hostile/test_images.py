"""Images, folders, lists and videos from strangers: a picture, or one line that says why there is none."""

import warnings

import numpy as np
import pytest
from PIL import Image

from detcam.errors import InputError
from detcam.io.images import read_image, stored_size
from detcam.io.limits import MAX_PIXELS
from detcam.runs.loading import count_items, find_items
from hostile import image_inputs

pytestmark = pytest.mark.hostile

BYTES_A_PIXEL = 16
"""What decoding an image that ``--max-pixels`` lets through may take: AVIF's decoder takes most, five copies."""


def read(image, out):
    """The pixels, which are as the header says; an opened file gives the same."""
    pixels = read_image(image)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.size
    assert not pixels.flags.writeable
    if hasattr(image, "suffix"):
        size = stored_size(image)
        assert size in (None, pixels.shape[:2])
    return pixels


def read_as_upright_as_pillow(path, out):
    """The pixels; Pillow's own have the same size, where the orientation is one that there is."""
    pixels = read(path, out)
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:  # Pillow warns of damage
        assert read_image(image).shape == pixels.shape
    return pixels


@pytest.mark.parametrize("part", range(4))
def test_encodings_that_are_cut(judge, part):
    judge("images", list(image_inputs.cut_files(12))[part::4], read)


@pytest.mark.parametrize("part", range(4))
def test_encodings_that_are_changed(judge, seed, part):
    judge("images", image_inputs.changed_files(10 * seed + part, 5), read)


def test_headers_that_lie(judge):
    judge("images", image_inputs.lying_headers(), read, mebibytes=BYTES_A_PIXEL * MAX_PIXELS // 2**20)


def test_right_files(judge):
    judge("images", [*image_inputs.right_files(), *image_inputs.wrong_suffixes(), *image_inputs.names()], read)


def test_orientations(judge):
    judge("images", image_inputs.exif_files(), read_as_upright_as_pillow)


def test_what_is_no_image(judge):
    judge("images", [*image_inputs.other_files(), *image_inputs.special_files(), *image_inputs.bombs()], read)


def test_values_in_memory(judge):
    judge("images", image_inputs.in_memory(), read)


def test_sources(judge):
    def ask(given, out):
        items = list(find_items(given))
        count_items(given)
        assert len(items) < 1200
        found, said = 0, list[str]()
        for item in items:
            try:
                found += item.read().shape == (40, 56, 3)
            except InputError as error:
                said.append(str(error))
        assert all(0 < len(line) < 2000 and "\n" not in line for line in said)
        return found

    judge("images", image_inputs.sources(), ask)
