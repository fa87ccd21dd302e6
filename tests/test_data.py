import json
import tempfile
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from ultralytics.data.utils import img2label_paths

from detcam.data import labels, read_data
from detcam.data import yolo as yolo_format
from detcam.data.labels import image_size
from detcam.errors import UsageError
from detcam.io.images import read_image
from support.data import real
from support.images import photograph

SIZE = (40, 50)  # height, width
NAMES = {0: "cat", 1: "traffic light"}


def draw(path, size=SIZE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph(*size)).save(path, **options)
    return path


def yolo(folder, labels, names="[cat, traffic light]", extra=""):
    """A set with one image for each of the labels, None for an image without a label file."""
    for name, text in labels.items():
        draw(folder / "images" / "val" / f"{name}.png")
        label = folder / "labels" / "val" / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            label.write_text(text, encoding="utf-8")
    yaml = folder / "data.yaml"
    yaml.write_text(f"path: .\ntrain: images/train\nval: images/val\nnames: {names}\n{extra}", encoding="utf-8")
    return yaml


def coco(folder, annotations, images=None, categories=None, name="instances.json", at="images"):
    """A set with one image, number 7, drawn in the folder ``at``."""
    if images is None:
        draw(folder / at / "a.png")
        images = [{"id": 7, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}]
    categories = categories or [{"id": 3, "name": "cat"}, {"id": 9, "name": "Traffic_Light"}]
    marks = [
        {"id": 100 + number, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], **mark}
        for number, mark in enumerate(annotations)
    ]
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": marks, "categories": categories}), encoding="utf-8")
    return path


def only(found):
    """The truths of a set of one image."""
    (image,) = found.images
    return image.truths


def pycocotools_masks(path):
    """From an annotation's id to pycocotools' own mask."""
    theirs = COCO(path)

    def mask(name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy 2
            return theirs.annToMask(theirs.anns[int(name)]).astype(bool)

    return mask


def reasons(found):
    return [f"{Path(path).name}: {reason}" for path, reason in found.problems]


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
        ("0 0.5 1.002 0.2 0.1", "coordinate 1.002 outside [0, 1]"),
        ("0 -0.002 0.5 0.2 0.1", "coordinate -0.002 outside [0, 1]"),
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
    runs = labels.uncompressed(text)
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


def test_images_without_labels(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "deep" / "b.jpg")
    (tmp_path / "c.jpg").write_bytes(b"?")
    for source, names in ((tmp_path, ["a.png", "b.jpg"]), (tmp_path / "*.[jp][np]g", ["a.png"])):
        found = read_data(source, names=NAMES)
        assert [image.path.name for image in found.images] == names
        assert not found.labelled
        assert found.names == NAMES
        assert all(image.truths == () for image in found.images)
        assert [reason[:12] for reason in reasons(found)] == ["c.jpg: not a"]
    with pytest.raises(UsageError, match="holds images without labels, so it has no classes to rename"):
        read_data(tmp_path, names=NAMES, rename={"cat": "cat"})


def test_classes_become_the_models(tmp_path):
    text = "0 0.5 0.5 0.2 0.1\n1 0.5 0.5 0.2 0.1\n2 0.5 0.5 0.2 0.1\n2 0.5 0.5 0.2 0.2\n3 0.5 0.5 0.2 0.1\n"
    path = yolo(tmp_path, {"a": text}, "[CAT, traffic_light, lorry, Van]")
    model = {4: "Traffic-Light", 5: "cat", 6: "truck"}
    found = read_data(path, names=model)
    assert [(t.class_id, t.class_name) for t in only(found)] == [(5, "cat"), (4, "Traffic-Light")]
    assert found.names == model
    assert found.unmapped == {"lorry": 2, "Van": 1}
    found = read_data(path, names=model, rename={"lorry": "truck", "van": "Truck"})
    assert [t.class_id for t in only(found)] == [5, 4, 6, 6, 6]
    assert found.unmapped == {}
    found = read_data(path, names=model, rename={"CAT": "truck"})  # said, so not by its name
    assert [t.class_id for t in only(found)] == [6, 4]


def test_wrong_names_in_rename(tmp_path):
    path = yolo(tmp_path, {"a": ""})
    with pytest.raises(UsageError, match=r"rename: the set has no class 'catt'; did you mean 'cat'\?"):
        read_data(path, names={0: "dog"}, rename={"catt": "dog"})
    with pytest.raises(UsageError, match=r"rename: the model has no class 'dogs'; did you mean 'dog'\?"):
        read_data(path, names={0: "dog"}, rename={"cat": "dogs"})
    with pytest.raises(UsageError, match="leads to the model's classes; give those as names"):
        read_data(path, rename={"cat": "dog"})


def test_names_alike_to_several(tmp_path):
    path = yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.1"}, "[T Shirt]")
    model = {0: "t-shirt", 1: "tshirt"}
    with pytest.raises(UsageError, match="class 'T Shirt' may be 't-shirt' or 'tshirt'; say which with rename"):
        read_data(path, names=model)
    assert only(read_data(path, names=model, rename={"T Shirt": "tshirt"}))[0].class_id == 1
    assert only(read_data(path, names={**model, 2: "T Shirt"}))[0].class_id == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"images": [\n  1,,]}', "broken JSON at line 2, column 5: Expecting value"),
        ("a.json", "[]", "expected a mapping of names to values, got a list"),
        ("a.json", "{}", "not COCO instances: 'images' must be a list of objects, got None"),
        ("a.json", '{"images": [1], "categories": []}', "'images' must be a list of objects, got \\[1\\]"),
        (
            "a.json",
            '{"images": [], "categories": [{"id": "1", "name": "cat"}]}',
            "a category must have a whole number as id",
        ),
        ("a.json", '{"images": [], "categories": []}', "no image that can be read"),
        ("a.yaml", "val: [a\nnames: b: c", "broken YAML: .* line 2, column"),
        ("a.yml", "", "expected a mapping of names to values, got a NoneType"),
        ("a.yaml", "names: [cat]", "no split 'val'; it has: none"),
        ("a.yaml", "val: 5\nnames: [cat]", "must name folders or .txt lists, got '.', \\[5\\]"),
        ("a.yaml", "val: gone\nnames: [cat]", "no image that can be read: .*gone: no such file or folder"),
        ("a.csv", "", "not a labelled set; expected a COCO instances .json, an Ultralytics data.yaml, or a folder"),
        ("b.csv", None, "no such file or folder"),
        ("*.jpg", None, "no image that can be read: .*: no image matches this pattern"),
    ],
)
def test_a_path_that_is_no_set(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_data(path)


def test_a_set_that_is_not_text(tmp_path):
    (tmp_path / "a.json").write_bytes(b"{\xff}")
    with pytest.raises(UsageError, match=r"a\.json: not UTF-8 text: byte 1 is 0xff"):
        read_data(tmp_path / "a.json")


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_sizes_are_those_of_read_image(tmp_path, suffix, orientation):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    path = draw(tmp_path / f"a{suffix}", **({} if suffix == ".bmp" else {"exif": exif}))
    assert image_size(path) == read_image(path).shape[:2]


def test_a_size_is_read_from_the_header(tmp_path, monkeypatch):
    monkeypatch.setattr(labels, "read_image", None)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert image_size(draw(tmp_path / "a.jpg", exif=exif)) == SIZE[::-1]
    for suffix in (".jpg", ".png", ".webp", ".bmp"):
        assert image_size(draw(tmp_path / f"b{suffix}")) == SIZE


def test_what_only_pillow_says_of_the_orientation_does_not_count(tmp_path):
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    path = draw(tmp_path / "a.jpg", xmp=xmp.encode())
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == 6
    assert image_size(path) == read_image(path).shape[:2] == SIZE


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


def test_animal_photographs():
    found = read_data(real("hog/data.yaml"))
    assert len(found.images) == 89
    assert sum(len(image.truths) for image in found.images) == 126
    assert not found.problems
    assert all(len(read_data(real("hog/data.yaml"), split).images) == 89 for split in ("train", "val"))
