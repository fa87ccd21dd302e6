"""Labelled sets of any format: classes, images without labels, sizes, and paths that are no set."""

import pytest
from PIL import Image

from detcam.data import LabelledImage, LabelledSet, Truth, check_classes, labels, read_data
from detcam.data.labels import image_size
from detcam.errors import UsageError
from detcam.io.images import read_image
from support.data import real
from support.labelled_sets import NAMES, SIZE, draw, only, reasons, yolo


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
        (
            "a.json",
            '{"images": [1], "categories": []}',
            "no image that can be read: .*image 0 needs an id and a file_name, got 1",
        ),
        (
            "a.json",
            '{"images": [], "categories": [{"id": "one", "name": "cat"}]}',
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


def test_animal_photographs():
    found = read_data(real("hog/data.yaml"))
    assert len(found.images) == 89
    assert sum(len(image.truths) for image in found.images) == 126
    assert not found.problems
    assert all(len(read_data(real("hog/data.yaml"), split).images) == 89 for split in ("train", "val"))


@pytest.mark.parametrize(
    ("class_id", "class_name", "message"),
    [
        (
            2,
            "cat",
            r"a\.png: truth 'a:1' has class 2, 'cat', and the model has none of that number: truths need .* names=",
        ),
        (0, "cat", r"has class 0, 'cat', and the model's 0 is 'dog'"),
    ],
)
def test_a_set_whose_classes_are_not_the_models_is_refused(tmp_path, class_id, class_name, message):
    def made(*truths):
        return LabelledSet((LabelledImage(tmp_path / "a.png", (4, 4), truths),), {})

    model = {0: "dog", 1: "cat"}
    right = Truth("a:0", [0, 0, 2, 2], 1, "cat")
    check_classes(made(right), model)
    with pytest.raises(UsageError, match=message):
        check_classes(made(right, Truth("a:1", [0, 0, 2, 2], class_id, class_name)), model)


def test_a_truths_box_is_two_corners():
    assert Truth("a", [3, 3, 3, 5], 0, "dog").xyxy.tolist() == [3, 3, 3, 5]
    with pytest.raises(ValueError, match=r"two corners, x1 <= x2 and y1 <= y2, .*\[60, 60, 20, 90\]"):
        Truth("a", [60, 60, 20, 90], 0, "dog")


def test_classes_spelled_otherwise_are_told(tmp_path):
    path = yolo(tmp_path, {"a": ""}, "[CAT, traffic_light, van]")
    found = read_data(path, names={0: "cat", 1: "traffic light", 2: "van"}, rename={"CAT": "van"})
    assert found.notes == ("class 'traffic_light' is taken for the model's 'traffic light'",)
