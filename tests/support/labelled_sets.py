"""Labelled sets of one small image or a few, written as Ultralytics and COCO have them."""

import json
import warnings
from pathlib import Path

from PIL import Image
from pycocotools.coco import COCO

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
