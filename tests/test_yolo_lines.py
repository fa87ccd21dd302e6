"""Lines of Ultralytics' label files as its own reading takes them, and keypoints that no kpt_shape announces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.data.utils import verify_image_label

from detcam.data import read_data
from detcam.data.labels import Reader
from detcam.data.yolo_lines import read_labels
from detcam.errors import UsageError
from support.images import photograph
from support.labelled_sets import NAMES, SIZE, draw, only, reasons, yolo

BOX = [0.5, 0.6, 0.4, 0.5]
POSE = np.random.default_rng(0).uniform([0.32, 0.37], [0.68, 0.83], (17, 2))
ARROW = "0 0.1 0.1 0.6 0.2 0.4 0.3 0.45 0.7 0.2 0.5 0.15 0.3"


def line(*parts):
    return " ".join(["0", *(f"{value:g}" for value in np.concatenate([np.ravel(part) for part in parts]))])


def with_visibility(points, seed=0):
    visible = np.random.default_rng(seed).integers(0, 3, len(points))
    return np.column_stack([points * (visible > 0)[:, None], visible])


@pytest.mark.parametrize(
    ("lines", "shape"),
    [
        ([line(BOX, with_visibility(POSE))], [17, 3]),
        ([line(BOX, with_visibility(POSE[:4]))], [4, 3]),  # 17 values: an outline of eight points by number
        ([line(BOX, np.column_stack([POSE[:4], np.ones(4)]))], [4, 3]),
        ([line(BOX, POSE)], [17, 2]),
        ([line(BOX, POSE), line(BOX, POSE[::-1])], [17, 2]),
        ([line(BOX, POSE), line(BOX)], [17, 2]),
        ([line(BOX, POSE[:5])], [5, 2]),
    ],
)
def test_keypoints_without_kpt_shape_are_no_outline(tmp_path, lines, shape):
    path = yolo(tmp_path, {"a": "\n".join(lines), "b": ""})
    with pytest.raises(UsageError, match=f"kpt_shape is missing.* a box and {shape[0]} keypoints of {shape[1]} each"):
        read_data(path)
    path = yolo(tmp_path, {"a": "\n".join(lines), "b": ""}, extra=f"kpt_shape: {shape}")
    found = read_data(path)
    assert not found.problems
    for truth in found.images[0].truths:
        np.testing.assert_allclose(truth.xyxy, [15, 14, 35, 34], rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        ARROW,
        "0 0.8 0.8 0.82 0.8 0.84 0.84 0.8 0.86 0.78 0.82",  # in the box that its first four values would be
        "0 0.5 0.5 0.9 0.5 0.9 0.9 0.5 0.9",  # four corners, of a box or of an outline
        f"{ARROW}\n0 0.5 0.5 0.9 0.5 0.9 0.9 0.5 0.9",
        "0 0 0 1 0 1 1 0 1 0 0.5",
        line(BOX, POSE) + "\n" + ARROW,  # lines of several lengths are no keypoints
    ],
)
def test_outlines_stay_outlines(tmp_path, text):
    found = read_data(yolo(tmp_path, {"a": text}))
    assert not found.problems
    assert all(truth.outline is not None for truth in only(found))


@pytest.mark.parametrize(
    ("columns", "extra", "reason"),
    [
        (39, "kpt_shape: [17, 3]", "39 values; with kpt_shape [17, 3] a label has 56 (class, box, keypoints), or 5"),
        (56, "kpt_shape: [17, 2]", "56 values; with kpt_shape [17, 2] a label has 39 (class, box, keypoints), or 5"),
        (9, "kpt_shape: [17, 3]", "9 values; with kpt_shape [17, 3] a label has 56"),
        (56, "", "56 values; a box has 5"),
        (6, "", "6 values; a box has 5"),
    ],
)
def test_a_line_that_fits_nothing_is_named(tmp_path, columns, extra, reason):
    wrong = " ".join(["0", *["0.4"] * (columns - 1)])
    found = read_data(yolo(tmp_path, {"a": f"{wrong}\n{line(BOX)}"}, extra=extra))
    assert len(only(found)) == 1
    (problem,) = reasons(found)
    assert problem.startswith(f"a.txt: line 1: {reason}")
    assert extra or problem.endswith("for keypoints kpt_shape is missing")
    assert found.lost == 1


@pytest.mark.parametrize("shape", ["[17, 4]", "[0, 3]", "[17]", "[17.5, 3]", "[a, b]", "{17: 3}"])
def test_a_kpt_shape_that_cannot_be(tmp_path, shape):
    path = yolo(tmp_path, {"a": ""}, extra=f"kpt_shape: {shape}")
    with pytest.raises(UsageError, match=r"'kpt_shape' must be \[points, values of each\], got .*2 \(x, y\) or 3"):
        read_data(path)


@pytest.fixture(scope="module")
def verified(tmp_path_factory):
    """Ultralytics' reading of one line: the box as xyxy in pixels, or None where it refuses the file."""
    folder = tmp_path_factory.mktemp("verified")
    image, label = draw(folder / "a.png"), folder / "a.txt"

    def box(text):
        label.write_text(text)
        result = verify_image_label((str(image), str(label), "", False, 2, 0, 0, False))
        if result[0] is None:
            return None, label
        x, y, width, height = result[1][0, 1:].tolist()
        scale = np.array([SIZE[1], SIZE[0]] * 2)
        return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]) * scale, label

    return box


SHARES = st.floats(-0.05, 1.05).map(lambda value: round(value, 3)).filter(lambda value: abs(value) != 0.01)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.tuples(SHARES, SHARES, st.floats(0.02, 1.05), st.floats(0.02, 1.05)),
        st.lists(SHARES, min_size=6, max_size=8).filter(lambda values: len(values) % 2 == 0),
    )
)
def test_coordinates_outside_the_image_are_taken_as_ultralytics_takes_them(verified, values):
    points = np.array(values).reshape(-1, 2)
    box = values if len(values) == 4 else [*((points.min(0) + points.max(0)) / 2), *np.ptp(points, 0)]
    if min(box[2:]) < 1e-3 or min(abs(abs(np.array(box) - 0.5) - 0.51)) < 1e-4:
        return  # a box without size is refused here and not there; at the very limit rounding decides
    theirs, label = verified(line(values))
    reader = Reader(NAMES, None, None)
    ours = list(read_labels(label, "a", SIZE, None, reader))
    assert (theirs is None) == (not ours)
    if ours:
        np.testing.assert_allclose(ours[0].xyxy, theirs, atol=1e-3)


def test_what_lies_just_outside_is_told(tmp_path):
    text = f"{line([0.5, 1.005, 0.2, 0.1])}\n{line([-0.008, 0.5, 0.2, 0.1])}\n{line(BOX)}"
    found = read_data(yolo(tmp_path, {"a": text}))
    assert len(only(found)) == 3
    assert not found.problems
    assert found.notes == ("labels with a coordinate outside [0, 1] by what Ultralytics lets pass, kept as written: 2",)


def test_labels_of_images_that_cannot_be_read_are_lost(tmp_path):
    path = yolo(tmp_path, {"a": f"{line(BOX)}\n\n{ARROW}", "b": f"{line(BOX)}\n7 0.5 0.5 0.1 0.1", "c": None})
    (tmp_path / "images" / "val" / "a.png").write_bytes(b"no image")
    found = read_data(path)
    assert found.lost == 3
    assert photograph(*SIZE).shape[:2] == found.images[0].size
