"""COCO JSONs as other tools write them: fields as text or floats, no boxes, and images named elsewhere."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from detcam.data import read_data
from detcam.data.fields import identity
from support.labelled_sets import SIZE, coco, draw, only, reasons


@pytest.mark.parametrize(
    ("value", "crowd"),
    [
        *((value, False) for value in ("0", 0, 0.0, False, None, "false", "0.0")),
        *((value, True) for value in ("1", 1, 1.0, True, " True")),
    ],
)
def test_a_crowd_is_what_iscrowd_means(tmp_path, value, crowd):
    found = read_data(coco(tmp_path, [{"iscrowd": value}] * 5))
    assert [truth.crowd for truth in only(found)] == [crowd] * 5
    assert not found.problems


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ({"iscrowd": "no"}, "annotation 101: iscrowd must be 0 or 1, got 'no'"),
        ({"iscrowd": 2}, "annotation 101: iscrowd must be 0 or 1, got 2"),
        ({"iscrowd": ""}, "annotation 101: iscrowd must be 0 or 1, got ''"),
        ({"iscrowd": [0]}, "annotation 101: iscrowd must be 0 or 1, got [0]"),
        ({"ignore": "maybe"}, "annotation 101: ignore must be 0 or 1, got 'maybe'"),
        ({"category_id": "cat"}, "annotation 101: category_id 'cat' is not among the 2 categories"),
        ({"category_id": 3.5}, "annotation 101: category_id 3.5 is not among the 2 categories"),
        ({"category_id": True}, "annotation 101: category_id True is not among the 2 categories"),
        ({"image_id": "8"}, "annotation 101: no image has the id '8'"),
        ({"image_id": 7.5}, "annotation 101: no image has the id 7.5"),
        ({"image_id": True}, "annotation 101: no image has the id True"),
        ({"bbox": {"x": 1}}, "annotation 101: bbox must be four numbers x, y, width, height in pixels, got {'x': 1}"),
        ({"bbox": [1, 2, True, 4]}, "annotation 101: bbox must be four numbers"),
        ({"bbox": None}, "annotation 101: bbox must be four numbers x, y, width, height in pixels, got None, and no"),
        (
            {"bbox": [], "segmentation": [[1, 1, 2, 2]]},
            "annotation 101: bbox must be four numbers x, y, width, height in pixels, got [], and a polygon must be",
        ),
        (
            {"bbox": None, "segmentation": {"size": list(SIZE), "counts": [SIZE[0] * SIZE[1]]}},
            "annotation 101: no bbox, and run lengths without a pixel",
        ),
    ],
)
def test_a_field_that_means_nothing_is_named_with_its_value(tmp_path, mark, reason):
    found = read_data(coco(tmp_path, [{}, mark, {}]))
    assert [truth.id for truth in only(found)] == ["100", "102"]
    (problem,) = reasons(found)
    assert problem.startswith(f"instances.json: {reason}")
    assert found.lost == 1


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ({"area": "large"}, "area must be a number, got 'large'"),
        ({"score": [1]}, "score must be a number, got [1]"),
        ({"num_keypoints": 2.5}, "num_keypoints must be a whole number, got 2.5"),
    ],
)
def test_a_field_that_no_box_needs_costs_no_box(tmp_path, mark, reason):
    found = read_data(coco(tmp_path, [mark]))
    assert len(only(found)) == 1
    assert reasons(found) == [f"instances.json: annotation 100: {reason}; its box is kept"]
    assert found.lost == 0


def test_numbers_as_text_or_floats_are_numbers(tmp_path):
    images = [{"id": "7", "file_name": "a.png", "height": "40", "width": 50.0}]
    draw(tmp_path / "images" / "a.png")
    categories = [{"id": "3", "name": "cat"}, {"id": 9.0, "name": "dog"}]
    marks = [
        {"id": "5", "image_id": 7, "category_id": "3", "area": "12", "score": "0.5", "num_keypoints": "0"},
        {"id": 6.0, "image_id": 7.0, "category_id": 9, "ignore": "0"},
        {"image_id": "7.0", "category_id": 9.0},
    ]
    found = read_data(coco(tmp_path, marks, images, categories))
    assert not found.problems
    assert [(truth.id, truth.class_id, truth.class_name) for truth in only(found)] == [
        ("5", 3, "cat"), ("6", 9, "dog"), ("102", 9, "dog")
    ]  # fmt: skip


def test_ids_that_are_text(tmp_path):
    for name in ("a", "b", "c"):
        draw(tmp_path / f"{name}.png")
    images = [{"id": key, "file_name": f"{name}.png"} for key, name in (("a1", "a"), ("007", "b"), ("7", "c"))]
    found = read_data(coco(tmp_path, [{"image_id": "a1"}, {"image_id": "007"}, {"image_id": 7}], images))
    assert not found.problems
    assert [[truth.id for truth in image.truths] for image in found.images] == [["100"], ["101"], ["102"]]
    assert [identity(value) for value in ("7\n", "-3", "1e3", float("inf"), None)] == [7, -3, "1e3", None, None]


def test_ignore_counts_as_it_does_for_pycocotools(tmp_path):
    found = read_data(coco(tmp_path, [{"ignore": 1}, {"ignore": "1"}, {"ignore": 1, "iscrowd": 1}]))
    assert [truth.crowd for truth in only(found)] == [False, False, True]
    assert found.notes == ("labels with ignore: 1, which are judged like any other, as pycocotools does: 2",)


def test_a_box_that_was_left_out_is_that_of_the_segmentation(tmp_path):
    shape = np.zeros(SIZE, np.uint8)
    shape[5:20, 8:30] = 1
    compressed = coco_mask.encode(np.asfortranarray(shape))
    compressed["counts"] = compressed["counts"].decode()
    runs = [len(list(run)) for run in np.split(shape.T.ravel(), np.flatnonzero(np.diff(shape.T.ravel())) + 1)]
    path = coco(
        tmp_path,
        [
            {"bbox": None, "segmentation": [[5, 5, 30.5, 7, 25, 33.25], [1, 6, 8, 6, 8, 8, 1, 8]]},
            {"bbox": [], "segmentation": compressed},
            {"bbox": None, "segmentation": {"size": list(SIZE), "counts": runs}, "iscrowd": 1},
        ],
    )
    document = json.loads(path.read_text())
    for mark in document["annotations"]:
        del mark["bbox"]
    path.write_text(json.dumps(document))
    found = read_data(path)
    assert not found.problems
    assert [truth.xyxy.tolist() for truth in only(found)] == [[1, 5, 30.5, 33.25], [8, 5, 30, 20], [8, 5, 30, 20]]
    x, y, width, height = coco_mask.toBbox(COCO(path).annToRLE(COCO(path).anns[102])).tolist()
    assert only(found)[2].xyxy.tolist() == [x, y, x + width, y + height]
    assert found.notes == ("labels without a bbox, whose box is that of their segmentation: 3",)


@pytest.mark.parametrize(
    ("name", "at", "told"),
    [
        ("images/a.png", "images", False),
        ("images\\a.png", "images", False),
        ("C:\\Users\\me\\set\\images\\a.png", "images", True),
        ("/home/me/set/train/a.png", "images", True),
        ("train/a.png", "images/deep", True),
        ("http://images.cocodataset.org/val2017/a.png", "images", True),
    ],
)
def test_an_image_is_found_by_the_name_another_machine_gave_it(tmp_path, name, at, told):
    draw(tmp_path / at / "a.png")
    found = read_data(coco(tmp_path, [{}], [{"id": 7, "file_name": name}]))
    assert len(only(found)) == 1
    place = tmp_path / at / "a.png"
    assert found.images[0].path == place
    assert found.notes == ((f"images found by their base name: 1, such as {place} for {name!r}",) if told else ())


def test_the_folders_that_agree_decide_between_images_of_one_base_name(tmp_path):
    for folder in ("train", "val"):
        draw(tmp_path / "images" / folder / "a.png")
    found = read_data(coco(tmp_path, [{}], [{"id": 7, "file_name": "D:\\set\\val\\a.png"}]))
    assert found.images[0].path == tmp_path / "images" / "val" / "a.png"


def test_an_ambiguous_base_name_is_refused(tmp_path):
    for folder in ("one", "two"):
        draw(tmp_path / "images" / folder / "a.png")
    draw(tmp_path / "b.png")
    images = [{"id": 7, "file_name": "set\\a.png"}, {"id": 8, "file_name": "b.png"}]
    found = read_data(coco(tmp_path, [{}, {}, {"image_id": 8}], images))
    assert [image.path.name for image in found.images] == ["b.png"]
    (reason,) = reasons(found)
    assert reason.startswith("instances.json: image 7, 'set\\\\a.png': no such file, and 2 are called 'a.png': ")
    assert found.lost == 2


def test_two_images_that_would_be_one_file_are_refused(tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / "images" / f"{name}.png")
    names = ("x/a.png", "y/a.png", "b.png")
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, 7)]
    found = read_data(coco(tmp_path, [{}, {"image_id": 9}], images))
    assert [image.path.name for image in found.images] == ["b.png"]
    place = tmp_path / "images" / "a.png"
    assert reasons(found) == [
        f"instances.json: image {name!r}: 2 images would be {place}; left out" for name in names[:2]
    ]


def test_the_size_of_an_image_has_to_be_a_number(tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / f"{name}.png")
    images = [{"id": 7, "file_name": "a.png", "width": "wide", "height": 40}, {"id": 8, "file_name": "b.png"}]
    found = read_data(coco(tmp_path, [{}, {"image_id": 8}], images))
    assert [image.path.name for image in found.images] == ["b.png"]
    assert reasons(found) == ["instances.json: image 7, 'a.png': width must be a whole number, got 'wide'"]
    assert found.lost == 1


def test_two_categories_of_one_id(tmp_path):
    twice = [{"id": 3, "name": "cat"}, {"id": "3", "name": "dog"}]
    with pytest.raises(ValueError, match="two categories have the id 3: 'cat' and 'dog'"):
        read_data(coco(tmp_path, [{}], categories=twice))
