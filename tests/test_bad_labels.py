"""One bad label is a named problem and costs no other label; nothing that a set says hangs, or ends the process."""

import contextlib
import json
import math
import os
import re

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detcam.data import Truth, read_data
from detcam.data.fields import identity, is_number, shortened
from detcam.data.outlines import check_outline, decoded, uncompressed
from detcam.errors import UsageError, one_line
from detcam.filenames import printable

HEIGHT, WIDTH = 24, 32
ORDINARY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def folder(tmp_path):
    """A COCO set's and a YOLO set's images; the labels are the test's."""
    for place in (tmp_path, tmp_path / "images"):
        place.mkdir(exist_ok=True)
        for name in ("good.png", "other.png"):
            cv2.imwrite(str(place / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "good.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    return tmp_path


def read_coco(folder, text="", **changes):
    """Two images and two labels, the second with other fields; ``text`` stands in for the value of ``"@"``."""
    document = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(("good.png", "other.png"))],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [2, 3, 4, 5]} for n in (0, 1)],
        "categories": [{"id": 1, "name": "kite"}, {"id": 2, "name": "gem"}],
    }
    for field, value in changes.items():
        kind, _, name = field.partition("_")
        if name:
            document[kind][1][name] = value
        else:
            document[kind][1] = value
    (folder / "set.json").write_text(json.dumps(document).replace('"@"', text))
    return read_data(folder / "set.json")


def read_yolo(folder, lines, **description):
    described = {"path": ".", "val": "images", "names": ["kite", "gem"], **description}
    (folder / "data.yaml").write_text(json.dumps(described))
    if lines is not None:
        (folder / "labels" / "other.txt").write_bytes(lines)
    return read_data(folder / "data.yaml")


def assert_good_is_there(found, box):
    good = next(image for image in found.images if image.path.name == "good.png")
    np.testing.assert_array_equal(good.truths[0].xyxy, box)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("annotations", None, "annotation #1 must be an object, got None"),
        ("annotations_bbox", [0, 0, 1e39, 4], "reaches farther than 16,777,216 pixels"),
        ("annotations_bbox", [1e7, 0, 1e-3, 4], "lies outside its image"),
        ("annotations_bbox", [0, 0, 1e-320, 1], "its box has no size"),
        ("annotations_bbox", [10**400, 0, 1, 1], "bbox must be four numbers"),
        ("annotations_bbox", [0, 0, math.inf, math.nan], "bbox must be four numbers"),
        ("annotations_category_id", 10**400, "category_id 1000"),
        ("annotations_image_id", "x" * 5000, "no image has the id 'xxx"),
        ("images", [], "image 1 needs an id and a file_name, got \\[\\]"),
        ("images_file_name", "a" * 5000, "no such file|too long"),
        ("images_file_name", "/dev/zero", "no regular file"),
        ("categories", 5, "category 1: a category must have a whole number as id and a name, got 5"),
        ("categories_name", "a" * 5000, "at most 1,000 characters, got 5,000: 'aaa"),
        ("categories_name", "a\x1b[2J", "characters that cannot be written: 'a\\\\x1b"),
        ("categories_name", {"a": 1}, "a class's name must be text"),
        ("categories_id", 10**400, "must lie within 2147483648"),
    ],
)
def test_a_bad_entry_of_coco_is_named_and_costs_itself(folder, field, value, why):
    found = read_coco(folder, **{field: value})
    assert_good_is_there(found, [2, 3, 6, 8])
    (problem,) = [problem for problem in found.problems if "no image has the id 1" not in problem.reason]
    assert re.search(why, problem.reason)
    assert len(problem.reason) < 1600


def test_a_number_too_long_for_python_is_one_annotations_fault(folder):
    found = read_coco(folder, "9" * 5000, annotations_bbox=["@", 1, 2, 3])
    assert_good_is_there(found, [2, 3, 6, 8])
    assert "bbox must be four numbers" in found.problems[0].reason


@pytest.mark.parametrize(
    ("outline", "why"),
    [
        ([[1, 1, 9, 1, 9, 10**400]], "a polygon must be"),
        ([[1, 1, 9, 1, 9, math.nan]], "a polygon must be"),
        ([[1, 1, 9, 1, 9, True]], "a polygon must be"),
        ([[0, 0, 32, 0, 0, 24] * 1000], "longer than 100 times around its image"),
        ({"size": [10**9, 10**9], "counts": [10**18]}, "run lengths of size"),
        ({"size": [24, 32], "counts": [2**64, 5]}, "must add up to the image's 768 pixels"),
        ({"size": [24, 32], "counts": [-1, 769]}, "whole numbers from 0 on"),
        ({"size": [24, 32], "counts": "o" * 10**5}, "a length beyond 64 bits"),
        ({"size": [24, 32], "counts": None}, "whole numbers from 0 on"),
    ],
)
def test_a_bad_outline_leaves_the_box(folder, outline, why):
    found = read_coco(folder, annotations_segmentation=outline)
    assert [len(image.truths) for image in found.images] == [1, 1]
    assert found.images[1].truths[0].mask(HEIGHT, WIDTH) is None
    assert why in found.problems[0].reason


def test_no_mask_is_drawn_of_an_outline_that_cannot_be():
    endless = np.array([[0, 0], [32, 24]] * 1000, np.float64)
    nowhere = np.array([[0, 0], [32, np.nan], [3, 4]], np.float64)
    for outline in ((endless,), (nowhere,), {"size": [24, 32], "counts": [5]}):
        with pytest.raises(UsageError, match="the mask of a"):
            Truth("a", np.array([0, 0, 5, 5]), 0, "kite", outline=outline).mask(HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (b"0 0.5 0.5 1e-320 1e-320\n", "no size"),
        (b"0 0.5 0.5 0.4 " + b"a" * 10**6, "not a number: 'aaa"),
        (b"9" * 5000 + b" 0.5 0.5 0.4 0.4", "not a finite number"),
        (b"9" * 300 + b" 0.5 0.5 0.4 0.4", "class 999"),
        (b"\0\0\xff", "not UTF-8 text"),
        (b"0 .5 .5 .1 .1\n" * 1_300_000, "larger than 16,777,216 bytes"),
    ],
)
def test_bad_lines_are_named_and_cost_themselves(folder, lines, why):
    found = read_yolo(folder, lines)
    assert_good_is_there(found, [12, 9, 20, 15])
    assert why in found.problems[0].reason
    assert len(found.problems[0].reason) < 400


def test_one_image_has_no_million_labels(folder, monkeypatch):
    monkeypatch.setattr("detcam.data.yolo_lines.MOST_LABELS", 3)
    found = read_yolo(folder, b"".join(b"0 0.5 0.5 0.4 0.%d\n" % number for number in range(1, 9)))
    assert [len(image.truths) for image in found.images] == [1, 3]
    assert found.lost == 5
    assert "line 4: more than 3 labels; the last 5 are left out" in found.problems[0].reason


def test_an_outline_of_very_many_points_is_no_tangle_of_keypoints(folder):
    points = " ".join(f"{0.5 + 0.4 * f(i * math.tau / 5000):.5f}" for i in range(5000) for f in (math.cos, math.sin))
    found = read_yolo(folder, f"0 {points}\n".encode())
    assert [len(image.truths) for image in found.images] == [1, 1]


@pytest.mark.parametrize(
    ("description", "why"),
    [
        ({"nc": 10**9, "names": None}, "at most 100,000, got 1000000000"),
        ({"nc": 10**400}, "at most 100,000"),
        ({"kpt_shape": [10**9, 3]}, "at most 10,000 points"),
        ({"val": "/"}, "the root of the file system"),
        ({"val": "../" * 60}, "the root of the file system"),
        ({"val": "a" * 5000}, "no such file or folder"),
        ({"path": "a\0b", "val": "x"}, "no such file or folder"),
        ({"val": [1] * 10**5}, "must name folders"),
        ({"names": [None, []]}, "must be a list of class names"),
    ],
)
def test_a_description_that_cannot_be_is_refused_in_one_line(folder, description, why):
    with pytest.raises(UsageError, match=why) as refusal:
        read_yolo(folder, b"", **description)
    assert len(str(refusal.value)) < 1600


def test_a_bad_name_costs_the_labels_of_its_class(folder):
    found = read_yolo(folder, b"0 0.5 0.5 0.4 0.4\n1 0.5 0.5 0.4 0.4\n", names=["kite", "a" * 5000])
    assert [len(image.truths) for image in found.images] == [1, 1]
    assert [problem.reason.partition(":")[0] for problem in found.problems] == ["names", "line 2"]
    found = read_yolo(folder, None, names={"0": "kite", "-1": "gem", "1.5": "c", "01": "d", "0.0": "e"})
    assert found.names == {0: "kite"}
    assert len(found.problems) == 5  # four names, and the line of the second class
    with pytest.raises(UsageError, match="'names' has 1 classes and nc is 2"):
        read_yolo(folder, None, names=["kite"], nc=2)


def test_what_is_no_file_is_named_and_not_waited_for(folder):
    os.mkfifo(folder / "labels" / "other.txt")
    found = read_yolo(folder, None)
    assert_good_is_there(found, [12, 9, 20, 15])
    assert (found.lost, found.problems[0].reason) == (1, "no regular file")
    (folder / "labels" / "other.txt").unlink()
    (folder / "images" / "other.png").unlink()
    (folder / "images" / "other.png").symlink_to("/dev/zero")
    assert "no regular file" in read_yolo(folder, None).problems[0].reason
    for name in ("pipe.png", "pipe.txt", "pipe.yaml", "pipe.json"):
        os.mkfifo(folder / name)
    (folder / "list.txt").write_text(f"images/good.png\n{folder}/pipe.png\n/dev/zero\n")
    assert len(read_yolo(folder, None, val="list.txt").problems) == 2
    for split in ("pipe.png", "pipe.txt"):
        with pytest.raises(UsageError, match="no regular file"):
            read_yolo(folder, None, val=split)
    for name in ("pipe.yaml", "pipe.json"):
        with pytest.raises(UsageError, match="no regular file"):
            read_data(folder / name)
    for name in ("/", "a" * 5000, "a\0b", str(folder / ("b" * 300 + ".json"))):
        with pytest.raises(UsageError, match=r"no such file|the root"):
            read_data(name)


def test_ten_thousand_classes_are_matched_at_once(folder):
    names = {number: f"class {number}" for number in range(10_000)}
    found = read_data(_many_names(folder, list(names.values())), names=names)
    assert found.names == names
    with pytest.raises(UsageError, match=r"class 'KITE' may be 'kite' or 'Kite'"):
        read_data(_many_names(folder, ["KITE"]), names={0: "kite", 1: "Kite"})


def _many_names(folder, names):
    (folder / "data.yaml").write_text(json.dumps({"val": "images", "names": names}))
    return folder / "data.yaml"


def test_messages_are_one_line_and_their_values_short():
    assert shortened([["a" * 10**6] * 10**5] * 10**5) == f"[['{'a' * 74}..."
    assert shortened({"a": 1, "b": [1, None]}) == "{'a': 1, 'b': [1, None]}"
    assert str(UsageError("a\nb\x1b\u2028ä")) == "a\\nb\\x1b\\u2028ä"
    assert len(one_line("a" * 10**6)) < 1600
    assert (is_number(10**400), identity(10**400), identity("9" * 500)) == (False, 10**400, "9" * 500)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
numbers = st.floats() | st.integers() | st.sampled_from([1e39, 2**64, 10**400, -0.0, 5e-324])


@ORDINARY
@given(
    field=st.sampled_from(["annotations", "annotations_bbox", "annotations_segmentation", "annotations_keypoints"])
    | st.sampled_from(["annotations_id", "annotations_iscrowd", "images", "images_height", "categories"]),
    value=json_values | st.lists(numbers, min_size=4, max_size=4) | st.lists(st.lists(numbers, max_size=8), max_size=2),
)
def test_whatever_one_entry_is_the_others_are_read(folder, field, value):
    found = read_coco(folder, **{field: value})
    assert_good_is_there(found, [2, 3, 6, 8])
    for image in found.images:
        for truth in image.truths:
            assert np.isfinite(truth.xyxy).all()
            mask = truth.mask(*image.size)
            assert mask is None or mask.shape == image.size


tokens = st.sampled_from(["0", "1", "0.5", "-1", "1e39", "nan", "inf", "9" * 401, "a", "\0", "0x1", "1_0", "2"])


@ORDINARY
@given(lines=st.lists(st.lists(tokens | st.floats(0, 1).map(str), max_size=9), max_size=5) | st.binary(max_size=60))
def test_whatever_lines_say_the_other_image_is_read(folder, lines):
    data = lines if isinstance(lines, bytes) else "\n".join(map(" ".join, lines)).encode()
    found = read_yolo(folder, data, kpt_shape=[1, 2])
    assert_good_is_there(found, [12, 9, 20, 15])


@ORDINARY
@given(description=st.dictionaries(st.sampled_from(["path", "val", "names", "nc", "kpt_shape"]), json_values))
def test_whatever_a_description_says_it_is_read_or_refused(folder, description):
    with contextlib.suppress(UsageError):
        assert read_yolo(folder, b"", **description).images


@given(counts=st.text(max_size=30) | st.text("0123456789:;<=>?@ABCNOPQRSnopq", max_size=30) | st.lists(st.integers()))
def test_run_lengths_are_pixels_or_refused(counts):
    try:
        mask = decoded((3, 4), counts)
    except ValueError:
        return
    assert mask.shape == (3, 4)
    assert sum((uncompressed(counts) if isinstance(counts, str) else counts)[1::2]) == mask.sum()


@given(st.lists(st.tuples(numbers.filter(is_number), numbers.filter(is_number)), min_size=3, max_size=9))
def test_an_outline_that_passes_can_be_drawn(points):
    outline = (np.array(points, np.float64),)
    try:
        with np.errstate(all="ignore"):
            check_outline(outline, (3, 4))
    except ValueError:
        return
    assert Truth("a", np.array([0, 0, 1, 1]), 0, "kite", outline=outline).mask(3, 4).shape == (3, 4)


def test_a_name_that_no_file_has_can_be_written():
    assert printable("a\ud800b\udcff") == "a\\ud800b\\udcff"
    assert printable("a\udcff") == "a\\xff"
