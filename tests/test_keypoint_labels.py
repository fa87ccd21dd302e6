"""Keypoints of labelled sets: Ultralytics' columns and COCO's triples, with how far each may be off."""

import numpy as np
import pytest

from detcam.data import Truth, read_data
from detcam.errors import UsageError
from support.labelled_sets import SIZE, coco, only, reasons, yolo

BOX = "0 0.5 0.5 0.2 0.1"
HEIGHT, WIDTH = SIZE


def test_yolo_keypoints_with_visibility(tmp_path):
    found = read_data(yolo(tmp_path, {"a": f"{BOX} 0.5 0.25 2 0 0 0 1 1 1"}, extra="kpt_shape: [3, 3]"))
    (truth,) = only(found)
    expected = [[0.5 * WIDTH, 0.25 * HEIGHT, 2], [0, 0, 0], [WIDTH, HEIGHT, 1]]
    np.testing.assert_allclose(truth.keypoints, expected)
    assert truth.keypoints.dtype == np.float32
    assert not truth.keypoints.flags.writeable
    assert truth.outline is None
    assert found.keypoint_sigmas == (1 / 3,) * 3


def test_a_yolo_keypoint_without_visibility_is_missing_where_it_is_negative(tmp_path):
    found = read_data(yolo(tmp_path, {"a": f"{BOX} 0.5 0.25 -1 -1"}, extra="kpt_shape: [2, 2]"))
    (truth,) = only(found)
    np.testing.assert_allclose(truth.keypoints[:, 2], [2, 0])
    np.testing.assert_allclose(truth.keypoints[0, :2], [0.5 * WIDTH, 0.25 * HEIGHT])


@pytest.mark.parametrize(
    ("extra", "sigmas"),
    [
        ("", None),
        ("kpt_shape: [17, 3]", None),  # COCO's
        ("kpt_shape: [17, 2]", (1 / 17,) * 17),  # as Ultralytics takes it
        ("kpt_shape: [4, 3]", (0.25,) * 4),
        ("kpt_shape: [2, 3]\nkpt_oks_sigmas: [0.1, 1]", (0.1, 1.0)),
    ],
)
def test_how_far_a_keypoint_may_be_off(tmp_path, extra, sigmas):
    assert read_data(yolo(tmp_path, {"a": ""}, extra=extra)).keypoint_sigmas == sigmas


@pytest.mark.parametrize("sigmas", ["[0.1]", "[0.1, 0]", "0.1", "[a, b]"])
def test_sigmas_that_cannot_be_are_refused(tmp_path, sigmas):
    path = yolo(tmp_path, {"a": ""}, extra=f"kpt_shape: [2, 3]\nkpt_oks_sigmas: {sigmas}")
    with pytest.raises(UsageError, match="'kpt_oks_sigmas' must be 2 positive numbers, got"):
        read_data(path)


def test_coco_keypoints(tmp_path):
    marks = [
        {"keypoints": [1, 2, 2, 3.5, 4, 1, 0, 0, 0], "num_keypoints": 2},
        {"keypoints": [0] * 9, "num_keypoints": 0},
        {},
        {"keypoints": [1, 2, 2, 3]},
        {"keypoints": [1, 2, 7]},
    ]
    found = read_data(coco(tmp_path, marks))
    first, *others = only(found)
    np.testing.assert_array_equal(first.keypoints, [[1, 2, 2], [3.5, 4, 1], [0, 0, 0]])
    assert [truth.keypoints for truth in others] == [None] * 4
    assert found.keypoint_sigmas is None
    assert reasons(found) == [
        "instances.json: annotation 103: keypoints must be x1, y1, visibility1, x2, ..., got [1, 2, 2, 3]; "
        "its box is kept, without keypoints",
        "instances.json: annotation 104: a keypoint's visibility must be 0, 1 or 2, got [1, 2, 7]; "
        "its box is kept, without keypoints",
    ]


@pytest.mark.parametrize("keypoints", [[1, 2, 2], [[1, 2]], [[1, np.nan, 2]]])
def test_keypoints_by_hand_are_checked(keypoints):
    with pytest.raises(ValueError, match=r"keypoints must be finite \(n, 3\): x, y and visibility"):
        Truth("a", [0, 0, 1, 1], 0, "cat", keypoints=keypoints)
