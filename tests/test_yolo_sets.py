"""Labelled sets as Ultralytics has them: a data.yaml, and a text file for each image."""

import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.data.utils import img2label_paths

from detcam.data import read_data
from detcam.data import yolo as yolo_format
from detcam.errors import UsageError
from support.labelled_sets import NAMES, SIZE, draw, only, reasons, yolo


def test_yolo_boxes_outlines_and_rotated_boxes(tmp_path):
    text = "0 0.5 0.5 0.2 0.1\n\n1 0.1 0.2 0.5 0.25 0.3 0.75\n1.0 0.2 0.1 0.4 0.3 0.2 0.5 0 0.3\n"
    found = read_data(yolo(tmp_path, {"a": text}))
    box, outline, rotated = only(found)
    assert found.labelled
    assert not found.problems
    assert found.names == NAMES
    assert found.images[0].size == SIZE
    assert [(t.id, t.class_id, t.class_name, t.crowd) for t in (box, outline, rotated)] == [
        ("images/val/a.png:1", 0, "cat", False),
        ("images/val/a.png:3", 1, "traffic light", False),
        ("images/val/a.png:4", 1, "traffic light", False),
    ]
    np.testing.assert_allclose(box.xyxy, [20, 18, 30, 22], rtol=1e-6)
    np.testing.assert_allclose(outline.xyxy, [5, 8, 25, 30], rtol=1e-6)
    np.testing.assert_allclose(rotated.xyxy, [0, 4, 20, 20], rtol=1e-6)
    assert box.xyxy.dtype == np.float32
    assert not box.xyxy.flags.writeable
    np.testing.assert_allclose(rotated.outline[0], [[10, 4], [20, 12], [10, 20], [0, 12]], rtol=1e-6)


def test_masks_of_yolo_outlines(tmp_path):
    text = "0 0.5 0.5 0.2 0.1\n1 0.1 0.2 0.5 0.25 0.3 0.75\n1 0.2 0.1 0.4 0.3 0.2 0.5 0 0.3\n"
    box, outline, rotated = only(read_data(yolo(tmp_path, {"a": text})))
    assert box.mask(*SIZE) is None
    for truth in (outline, rotated):
        mask = truth.mask(*SIZE)
        assert mask.dtype == bool
        assert mask.shape == SIZE
        polygon = truth.outline[0].astype(np.float32)
        for y, x in np.ndindex(SIZE):
            depth = cv2.pointPolygonTest(polygon, (x + 0.5, y + 0.5), measureDist=True)
            assert abs(depth) <= 1 or mask[y, x] == (depth > 0)


@settings(max_examples=60)
@given(st.lists(st.tuples(*[st.floats(0, 50), st.floats(0, 40)] * 2), min_size=1, max_size=8, unique=True))
def test_boxes_come_back_from_shares(boxes):
    height, width = SIZE
    wanted = [np.float64([min(a, c), min(b, d), max(a, c) + 0.01, max(b, d) + 0.01]) for a, b, c, d in boxes]
    lines = []
    for x1, y1, x2, y2 in wanted:
        lines.append(f"1 {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}")
    with tempfile.TemporaryDirectory() as folder:
        found = read_data(yolo(Path(folder), {"a": "\n".join(dict.fromkeys(lines))}))
    assert not found.problems
    unique = [box for number, box in enumerate(wanted) if lines.index(lines[number]) == number]
    np.testing.assert_allclose([truth.xyxy for truth in only(found)], unique, atol=1e-4)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.2", "4 values; a box has 5"),
        ("0 0.5 0.5 0.2 0.1 0.9", "6 values; a box has 5"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.1 0.4", "8 values"),
        ("0", "1 values"),
        ("0 0.5 0.5 wide 0.1", "not a number: 'wide'"),
        ("cat 0.5 0.5 0.2 0.1", "not a number: 'cat'"),
        ("0 0.5 0.5 nan 0.1", "not a finite number"),
        ("0 0.5 1.02 0.2 0.1", "coordinate 1.02 outside [0, 1]"),
        ("0 -0.02 0.5 0.2 0.1", "coordinate -0.02 outside [0, 1]"),
        ("0 25 18 10 4", "coordinate 25 outside [0, 1]"),
        ("0 0.1 0.1 0.2 0.2 1.3 0.1", "coordinate 1.3 outside [0, 1]"),
        ("0 0.5 0.5 -0.2 0.1", "a negative size or none: -0.2 x 0.1"),
        ("0 0.5 0.5 0.2 0", "a negative size or none: 0.2 x 0"),
        ("0 0.1 0.1 0.1 0.2 0.1 0.3", "the outline's points lie on one line"),
        ("2 0.5 0.5 0.2 0.1", "class 2 is not among the set's 2 classes, 0 .. 1"),
        ("-1 0.5 0.5 0.2 0.1", "class -1 is not"),
        ("0.5 0.5 0.5 0.2 0.1", "class 0.5 is not"),
        ("1 0.5 0.5 0.2 0.1", "repeats line 1; counted once"),
    ],
)
def test_a_malformed_line_is_named_and_the_rest_goes_on(tmp_path, line, reason):
    good = "1 0.5 0.5 0.2 0.1"
    found = read_data(yolo(tmp_path, {"a": f"{good}\n{line}\n0 0.1 0.1 0.2 0.2\n"}))
    assert [truth.id.rpartition(":")[2] for truth in only(found)] == ["1", "3"]
    (problem,) = found.problems
    assert problem.path == tmp_path.resolve() / "labels" / "val" / "a.txt"
    assert problem.reason.startswith(f"line 2: {reason}")


def test_a_coordinate_just_outside_is_rounding(tmp_path):
    found = read_data(yolo(tmp_path, {"a": "0 0.5 1.0009 0.2 0.1\n0 -0.0009 0.5 0.2 0.1\n"}))
    assert not found.problems
    assert len(only(found)) == 2


def test_a_box_over_the_edge_stays_as_labelled(tmp_path):
    (truth,) = only(read_data(yolo(tmp_path, {"a": "0 0.02 0.5 0.2 0.1"})))
    np.testing.assert_allclose(truth.xyxy, [-4, 18, 6, 22], atol=1e-5)


def test_labels_with_keypoints_keep_the_box(tmp_path):
    text = "0 0.5 0.5 0.2 0.1 0.1 0.2 2 0.3 0.4 1"  # as an outline these would be five points
    (truth,) = only(read_data(yolo(tmp_path, {"a": text}, extra="kpt_shape: [2, 3]\n")))
    np.testing.assert_allclose(truth.xyxy, [20, 18, 30, 22], rtol=1e-6)
    assert truth.outline is None
    with pytest.raises(UsageError, match=r"'kpt_shape' must be \[points, values of each\], got 17"):
        read_data(yolo(tmp_path, {"a": text}, extra="kpt_shape: 17\n"))


def test_an_image_without_a_label_file_has_nothing_in_it(tmp_path):
    found = read_data(yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.1", "b": None, "c": ""}))
    assert [len(image.truths) for image in found.images] == [1, 0, 0]
    assert not found.problems


def test_no_label_file_at_all_is_no_labelled_set(tmp_path):
    found = read_data(yolo(tmp_path, {"a": None, "b": None}))
    assert not found.labelled
    assert reasons(found) == ["a.txt: none of the 2 images has a label file, such as this"]


def test_unreadable_images_and_labels_are_problems(tmp_path):
    path = yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.1", "b": "0 0.5 0.5 0.2 0.1", "c": "", "d": ""})
    (tmp_path / "images" / "val" / "b.png").write_bytes(b"not an image")
    (tmp_path / "labels" / "val" / "c.txt").write_bytes(b"0 0.5 0.5 \xff")
    found = read_data(path)
    assert [image.path.name for image in found.images] == ["a.png", "c.png", "d.png"]
    assert [reason[:40] for reason in reasons(found)] == [
        "b.png: not an image that can be decoded;",
        "c.txt: not UTF-8 text: byte 10 is 0xff",
    ]


def test_labels_lie_where_ultralytics_looks(tmp_path):
    images = [tmp_path / name for name in ("images/a/images/1.2.jpg", "images/b.jpeg", "c/d.png", "my images/e.png")]
    assert [str(yolo_format._label_file(image)) for image in images] == img2label_paths(images)


@pytest.mark.parametrize(
    "val",
    [
        "images/val",
        "[images/val, images/more]",
        "list.txt",
        "../images/val",  # as Roboflow exports it
        "{here}/images/val",
    ],
)
@pytest.mark.parametrize("root", ["", "path: .\n", "path: ../set\n", "path: /data/of/another/machine\n"])
def test_where_the_images_of_a_split_are(tmp_path, val, root):
    folder = tmp_path / "set"
    path = yolo(folder, {"a": "0 0.5 0.5 0.2 0.1"})
    draw(folder / "images" / "more" / "b.png")
    (folder / "list.txt").write_text("\ufeff./images/val/a.png\nimages/more/b.png\nimages/none.png\n", encoding="utf-8")
    path.write_text(f"{root}val: {val.format(here=folder)}\nnames: {{0: cat}}\n", encoding="utf-8")
    found = read_data(path)
    names = [image.path.name for image in found.images]
    assert names == (["a.png", "b.png"] if "more" in val or "list" in val else ["a.png"])
    assert len(found.images[0].truths) == 1
    assert found.images[0].truths[0].id == "images/val/a.png:1"
    assert reasons(found) == (["list.txt: line 3: no such file: images/none.png"] if "list" in val else [])


def test_links_lead_to_labels_as_for_ultralytics(tmp_path):
    path = yolo(tmp_path / "store", {"a": "0 0.5 0.5 0.2 0.1"})
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "pictures").symlink_to(tmp_path / "store" / "images")
    path = tmp_path / "set" / "data.yaml"
    path.write_text("val: pictures\nnames: [cat]\n", encoding="utf-8")
    assert len(only(read_data(path))) == 1


def test_a_missing_folder_of_several_is_a_problem(tmp_path):
    path = yolo(tmp_path, {"a": ""})
    path.write_text("val: [images/val, images/gone]\nnames: [cat]\n", encoding="utf-8")
    found = read_data(path)
    assert len(found.images) == 1
    assert reasons(found) == ["gone: no such file or folder"]


def test_splits(tmp_path):
    path = yolo(tmp_path, {"a": ""})
    draw(tmp_path / "images" / "train" / "t.png")
    assert read_data(path, "train").images[0].path.name == "t.png"
    with pytest.raises(UsageError, match=r"no split 'test'; it has: train, val"):
        read_data(path, "test")
    path.write_text("validation: images/val\nnames: [cat]\n", encoding="utf-8")
    assert len(read_data(path).images) == 1


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("{0: cat, 2: 5}", {0: "cat", 2: "5"}),
        ("{'0': cat}", {0: "cat"}),
        ("\nnc: 2", {0: "class_0", 1: "class_1"}),
        ("cat", None),
        ("{cat: 0}", None),
        ("[]", None),
    ],
)
def test_class_names_of_a_yaml(tmp_path, names, wanted):
    path = yolo(tmp_path, {"a": ""}, names)
    if wanted is None:
        with pytest.raises(UsageError, match="'names' must be a list of class names"):
            read_data(path)
    else:
        assert read_data(path).names == wanted
