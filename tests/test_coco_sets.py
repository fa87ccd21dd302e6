"""Labelled sets in COCO's format: boxes, masks as pycocotools has them, and what is broken."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from detcam.data import outlines, read_data
from detcam.errors import UsageError
from support.data import real
from support.labelled_sets import SIZE, coco, draw, only, pycocotools_masks, reasons


def test_coco_boxes_and_masks_are_those_of_pycocotools(tmp_path):
    shape = np.zeros(SIZE, np.uint8)
    shape[5:20, 8:30] = shape[15:33, 20:45] = 1
    compressed = coco_mask.encode(np.asfortranarray(shape))
    compressed["counts"] = compressed["counts"].decode()
    runs = [len(list(run)) for run in np.split(shape.T.ravel(), np.flatnonzero(np.diff(shape.T.ravel())) + 1)]
    path = coco(
        tmp_path,
        [
            {"segmentation": [[5, 5, 30.5, 7, 25, 33.25], [1, 1, 8, 1, 8, 8, 1, 8]]},
            {"segmentation": {"size": list(SIZE), "counts": runs}, "iscrowd": 1},
            {"segmentation": compressed, "category_id": 9},
            {"segmentation": [[-20, -20, 90, 10, 60, 70]]},
            {"segmentation": []},
            {},
        ],
    )
    found = read_data(path)
    assert not found.problems
    assert found.labelled
    assert found.names == {3: "cat", 9: "Traffic_Light"}
    truths = only(found)
    assert [(t.id, t.class_id, t.crowd) for t in truths] == [
        ("100", 3, False), ("101", 3, True), ("102", 9, False), ("103", 3, False), ("104", 3, False), ("105", 3, False)
    ]  # fmt: skip
    np.testing.assert_array_equal(truths[0].xyxy, [1, 2, 4, 6])
    theirs = pycocotools_masks(path)
    for truth in truths[:4]:
        mask = truth.mask(*SIZE)
        assert mask.dtype == bool
        assert mask.any()
        np.testing.assert_array_equal(mask, theirs(truth.id))
    np.testing.assert_array_equal(truths[1].mask(*SIZE), shape)
    assert [truth.mask(*SIZE) for truth in truths[4:]] == [None, None]
    with pytest.raises(UsageError, match=r"the mask of 101 is 40 x 50 \(height x width\), not 50 x 40"):
        truths[1].mask(50, 40)


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=12, max_size=600))
def test_compressed_run_lengths_are_read_as_pycocotools_writes_them(pixels):
    mask = np.array(pixels[: len(pixels) // 4 * 4], np.uint8).reshape(4, -1)
    text = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    runs = outlines.uncompressed(text)
    np.testing.assert_array_equal(np.repeat(np.arange(len(runs)) % 2, runs), mask.T.ravel())


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ({"category_id": 4}, "category_id 4 is not among the 2 categories"),
        ({"category_id": None}, "category_id None is not"),
        ({"bbox": [1, 2, 3]}, "bbox must be four numbers x, y, width, height in pixels, got [1, 2, 3]"),
        ({"bbox": [1, 2, "3", 4]}, "bbox must be four numbers"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox must be four numbers"),
        ({"bbox": None}, "bbox must be four numbers"),
        ({"bbox": [1, 2, -3, 4]}, "bbox has a negative size or none: -3 x 4"),
        ({"bbox": [1, 2, 3, 0]}, "bbox has a negative size or none: 3 x 0"),
        ({"bbox": [50, 2, 3, 4]}, "bbox [50, 2, 3, 4] lies outside its image, 40 x 50"),
        ({"bbox": [2, -4, 3, 4]}, "bbox [2, -4, 3, 4] lies outside its image"),
        ({"image_id": 8}, "no image has the id 8"),
        ({"image_id": [7]}, "no image has the id [7]"),
    ],
)
def test_a_malformed_annotation_is_named_and_the_rest_goes_on(tmp_path, mark, reason):
    path = coco(tmp_path, [{}, mark, {}])
    found = read_data(path)
    assert [truth.id for truth in only(found)] == ["100", "102"]
    (problem,) = found.problems
    assert problem.path == path
    assert problem.reason.startswith(f"annotation 101: {reason}")


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[1, 1, 2, 2]], "a polygon must be x1, y1, x2, y2, x3, y3"),
        ([[1, 1, 2, 2, 3, 3, 4]], "a polygon must be"),
        ([1, 1, 2, 2, 3, 3], "a polygon must be"),
        ([[1, 1, 2, 2, 3, float("nan")]], "a polygon must be"),
        ([[1, 1, 2, 2, 1e9, 3]], "a polygon reaches more than an image's size beyond its image"),
        ("polygon", "a segmentation must be polygons or run lengths"),
        ({"counts": [2000]}, "a segmentation must be polygons or run lengths"),
        ({"size": [50, 40], "counts": [2000]}, "run lengths of size [50, 40] in an image of [40, 50]"),
        ({"size": [40, 50], "counts": [1999]}, "run lengths must add up to the image's 2000 pixels, not 1999"),
        ({"size": [40, 50], "counts": [2005, -5]}, "run lengths must be whole numbers from 0 on"),
        ({"size": [40, 50], "counts": [1000.5, 999.5]}, "run lengths must be whole numbers from 0 on"),
        ({"size": [40, 50], "counts": 2000}, "run lengths must be whole numbers from 0 on"),
        ({"size": [40, 50], "counts": "ooo"}, "compressed run lengths that break off: 'ooo'"),
        ({"size": [40, 50], "counts": "0~\u00e9"}, "compressed run lengths with the character '~'"),
        ({"size": [40, 50], "counts": "01"}, "run lengths must add up to"),
    ],
)
def test_a_malformed_outline_costs_the_mask_and_not_the_box(tmp_path, segmentation, reason):
    found = read_data(coco(tmp_path, [{"segmentation": segmentation}]))
    (truth,) = only(found)
    assert truth.outline is None
    (problem,) = found.problems
    assert problem.reason.startswith(f"annotation 100: {reason}")
    assert problem.reason.endswith("; its box is kept, without a mask")


def test_ids_of_annotations_are_unique(tmp_path):
    assert [truth.id for truth in only(read_data(coco(tmp_path, [{"id": 5}, {"id": 5}, {"id": 6}])))] == [
        "5",
        "5#1",
        "6",
    ]


def test_images_of_a_coco_set_that_cannot_be_used(tmp_path):
    for name in ("good.png", "turned.png"):
        draw(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"")
    images = [
        {"id": 7, "file_name": "good.png"},
        {"id": 8, "file_name": "turned.png", "height": 50, "width": 40},
        {"id": 9, "file_name": "gone.png"},
        {"id": 10, "file_name": "bad.png"},
        {"id": 7, "file_name": "twice.png"},
        {"id": 11},
    ]
    found = read_data(coco(tmp_path, [{}, {"image_id": 8}, {"image_id": 9}], images))
    assert [(image.path.name, len(image.truths)) for image in found.images] == [("good.png", 1)]
    assert [reason.partition("; known")[0].partition(", got")[0] for reason in reasons(found)] == [
        "instances.json: image 4 has the id 7 of another image: {'id': 7, 'file_name': 'twice.png'}",
        "instances.json: image 5 needs an id and a file_name",
        "turned.png: is (40, 50) (height, width), but (50, 40) in instances.json: its labels do not fit, "
        "so it is left out",
        "gone.png: no such file",
        "bad.png: not an image that can be decoded",
    ]


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("instances.json", "."),
        ("instances.json", "images"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
    ],
)
def test_where_the_images_of_a_coco_set_are(tmp_path, name, at):
    assert only(read_data(coco(tmp_path, [{}], name=name, at=at)))


def test_images_dir(tmp_path):
    path = coco(tmp_path, [{}], at="elsewhere")
    with pytest.raises(UsageError, match=r"no image that can be read: .*a.png: no such file; looked in .*images_dir"):
        read_data(path)
    assert only(read_data(path, images_dir=tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match=r"images_dir='.*nowhere': no such folder"):
        read_data(path, images_dir=tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"images_dir=.* goes with a COCO .json"):
        read_data(tmp_path / "elsewhere", images_dir=tmp_path)


def test_a_coco_file_without_annotations_is_not_labelled(tmp_path):
    draw(tmp_path / "a.png")
    path = tmp_path / "image_info.json"
    path.write_text('{"images": [{"id": 7, "file_name": "a.png"}], "categories": []}', encoding="utf-8")
    assert not read_data(path).labelled


def test_coco_photographs():
    path = real("coco/instances.json")
    found = read_data(path)
    truths = [truth for image in found.images for truth in image.truths]
    assert len(found.images) == 64
    assert len(truths) == 574
    assert sum(truth.crowd for truth in truths) == 9
    assert not found.problems
    theirs = pycocotools_masks(path)
    for image in found.images:
        for truth in image.truths:
            np.testing.assert_array_equal(truth.mask(*image.size), theirs(truth.id))


def test_coco_json_and_yolo_labels_of_the_same_photographs_agree():
    yolos = read_data(real("coco/data.yaml"))
    cocos = read_data(real("coco/instances.json"), names=yolos.names)
    assert not yolos.problems
    assert cocos.unmapped == {}
    theirs = {image.path.name: image for image in yolos.images}
    assert len(theirs) == len(cocos.images)
    for image in cocos.images:
        other = theirs[image.path.name]
        assert other.size == image.size
        left = list(other.truths)
        for truth in (truth for truth in image.truths if not truth.crowd):
            match = min(left, key=lambda o: (o.class_id != truth.class_id, np.abs(o.xyxy - truth.xyxy).max()))
            assert match.class_id == truth.class_id
            np.testing.assert_allclose(match.xyxy, truth.xyxy, atol=0.01)
            left.remove(match)
        assert not left
