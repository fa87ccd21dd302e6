"""What Ultralytics and supervision report, given as images and as boxes to explain."""

import logging
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from ultralytics import YOLO

import detcam
from detcam.demo import WEIGHTS
from detcam.io.images import read_image
from support.images import photograph
from support.models import spread_logits
from support.wired_detector import WiredDetector, wired_image

FAST = {"method": "layercam"}
SEG_IMAGE = photograph(150, 260, seed=1)


@pytest.fixture(scope="module")
def yolo():
    return YOLO(WEIGHTS)


@pytest.fixture(scope="module")
def results(yolo, scene_image):
    return yolo.predict(scene_image[..., ::-1], verbose=False)


def built(name):
    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml", verbose=False)
    spread_logits(model.model, SEG_IMAGE)
    return model, model.predict(SEG_IMAGE[..., ::-1], imgsz=256, conf=1e-3, max_det=6, verbose=False)[0]


def same_box(detection, box):
    assert detection.class_id == int(box.cls[0])
    assert detection.confidence == pytest.approx(float(box.conf[0]), abs=1e-3)
    height, width = box.orig_shape
    assert np.abs(detection.xyxy - np.clip(box.xyxy[0].numpy(), 0, [width, height] * 2)).max() <= 1
    assert detection.asked is None


def test_results_bring_image_boxes_and_thresholds(demo_detector, results, scene_image, caplog):
    (one,) = results
    strict = detcam.Explainer(demo_detector, conf=0.97, **FAST)  # which the image's boxes need not pass
    assert len(strict(scene_image)[0]) < len(one.boxes) == len(strict(one)[0])
    explained = detcam.explain(demo_detector, one, **FAST)
    assert np.array_equal(explained.image, scene_image)  # RGB, whatever `bgr` says
    assert np.array_equal(detcam.explain(demo_detector, one, bgr=True, **FAST).image, scene_image)
    assert explained.source == one.path
    assert len(explained) == len(explained.detections) == len(one.boxes)
    for explanation, box in zip(explained, one.boxes, strict=True):
        same_box(explanation.detection, box)
    assert not caplog.records


def test_the_list_is_several_images(demo_detector, results, yolo, scene_image):
    more = [*results, *yolo.predict(scene_image[::-1, ::-1, ::-1], verbose=False)]
    explained = detcam.explain(demo_detector, more, **FAST)
    assert [len(one) for one in explained] == [len(one.boxes) for one in more]
    assert len(detcam.Explainer(demo_detector, batch=2, **FAST)(more)) == 2
    with pytest.raises(detcam.InputError, match="expected one image, got a list of 2"):
        detcam.open_image(demo_detector, more)


def test_files_keep_their_names(demo_detector, yolo, scene_image, tmp_path):
    from PIL import Image

    Image.fromarray(scene_image).save(tmp_path / "scene.png")
    (one,) = yolo.predict(tmp_path / "scene.png", verbose=False)
    assert detcam.explain(demo_detector, one, **FAST).source == str(tmp_path / "scene.png")
    assert np.array_equal(read_image(one), scene_image)


@pytest.mark.parametrize("as_numpy", [False, True])
def test_one_box_is_explained_alone(demo_detector, results, scene_image, as_numpy):
    one = results[0].numpy() if as_numpy else results[0]
    box = one.boxes[3]
    for explained in (
        detcam.explain(demo_detector, one, detection=box, **FAST),
        detcam.explain(demo_detector, scene_image, detection=box, **FAST),
        detcam.Explainer(demo_detector, **FAST)(one, detection=box)[0],
        detcam.explain(demo_detector, one[3], **FAST),
        detcam.explain(demo_detector, one, detection=3, **FAST),
        detcam.open_image(demo_detector, one).explain(box, **FAST),
        detcam.open_image(demo_detector, one).explain(3, **FAST),
        detcam.open_image(demo_detector, scene_image, conf=0.9).explain(box, **FAST),
    ):
        (explanation,) = explained
        same_box(explanation.detection, results[0].boxes[3])


def test_several_boxes_in_the_order_asked(demo_detector, results):
    boxes = results[0].boxes
    for asked in (boxes[[2, 0]], [boxes[2], boxes[0]]):
        explained = detcam.explain(demo_detector, results[0], detection=asked, **FAST)
        for explanation, number in zip(explained, (2, 0), strict=True):
            same_box(explanation.detection, boxes[number])
        assert len(explained.detections) == len(boxes)


def test_a_session_is_of_the_boxes_and_their_threshold(demo_detector, results):
    session = detcam.open_image(demo_detector, results[0], conf=0.99)
    assert len(session.detections) == len(results[0].boxes)
    assert session.conf == pytest.approx(float(results[0].boxes.conf.min()), abs=2e-3)
    box = results[0].boxes[0]
    assert session.score(session.image, box) == pytest.approx(session.score(session.image, 0))
    assert session.scores([session.image], results[0].boxes).shape == (1, len(results[0].boxes))
    assert str(session.evidence(box)) == str(session.evidence(0))
    with pytest.raises(detcam.UsageError, match="a score is of one box, and"):
        session.score(session.image, results[0].boxes)


def test_classes_are_kept_as_asked(demo_detector, results):
    kept = detcam.explain(demo_detector, results[0], classes=["kite"], **FAST)
    assert {one.detection.class_name for one in kept} == {"kite"}


def test_results_of_another_size_are_explained_as_this_model_sees_them(yolo, demo_detector, scene_image, caplog):
    (other,) = yolo.predict(scene_image[..., ::-1], imgsz=160, verbose=False)
    with caplog.at_level(logging.WARNING, "detcam"):
        explained = detcam.explain(demo_detector, other, **FAST)
    assert len(explained) == len(other.boxes)
    assert "are not what this model reports with these options" in caplog.text
    caplog.clear()
    for explanation, box in zip(detcam.explain(demo_detector, other, imgsz=160, **FAST), other.boxes, strict=True):
        same_box(explanation.detection, box)
    assert not caplog.records


@pytest.mark.parametrize("name", ["yolov8n-seg", "yolov8n-pose", "yolov8n-obb"])
def test_masks_keypoints_and_rotated_boxes_name_their_detection(name):
    model, one = built(name)
    part = next(part for part in (one.masks, one.keypoints, one.obb) if part is not None)
    boxes = one.obb if one.boxes is None else one.boxes
    options = {"imgsz": 256, **FAST}
    everything = detcam.explain(model, one, **options)
    assert len(everything) == len(boxes) == 6
    for number in (0, 4):
        (explanation,) = detcam.explain(model, one, detection=part[number], **options)
        same_box(explanation.detection, boxes[number])
        assert (explanation.detection.polygons is None) != (explanation.detection.keypoints is None)
        (asked,) = detcam.open_image(model, one, imgsz=256).explain(part[number], **FAST)
        assert asked.detection.anchor == explanation.detection.anchor
    if name != "yolov8n-obb":
        with pytest.raises(detcam.UsageError, match="alone tells no box and no class; give the results"):
            detcam.explain(model, SEG_IMAGE, detection=part[0], **options)


def test_what_cannot_be_told(demo_detector, results):
    box = results[0].boxes[3]
    with pytest.raises(
        detcam.InputError, match=r"a Boxes holds no image: give the results .* results\[0\]\.boxes\[3\]"
    ):
        detcam.explain(demo_detector, box)
    with pytest.raises(detcam.UsageError, match="boxes belong to one image, and 2 are given"):
        detcam.explain(demo_detector, [results[0], results[0]], detection=box)
    with pytest.raises(detcam.UsageError, match="boxes belong to an image, not to an explainer"):
        detcam.Explainer(demo_detector, detection=box)
    with pytest.raises(detcam.UsageError, match="give one of the two"):
        detcam.open_image(demo_detector, results[0]).explain(box, box=(1, 1, 9, 9), class_name="kite")
    renamed = results[0].new()
    renamed.boxes, renamed.names = results[0].boxes, {number: f"other {number}" for number in results[0].names}
    with pytest.raises(detcam.UsageError, match=r"another model's: class \d is 'other \d' there and"):
        detcam.explain(demo_detector, renamed)


def test_results_without_boxes(demo_detector, yolo):
    (empty,) = yolo.predict(np.full((64, 96, 3), 114, np.uint8), conf=0.9, verbose=False)
    assert len(detcam.explain(demo_detector, empty, **FAST)) == 0
    assert len(detcam.explain(demo_detector, empty, detection=empty.boxes, **FAST)) == 0


class Detections(SimpleNamespace):
    """As supervision's, for where it is not installed."""

    def __len__(self):
        return len(self.xyxy)


Detections.__module__ = "supervision.detection.core"


def of_supervision(xyxy, class_id=None, confidence=None, names=None):
    if "supervision" in sys.modules and isinstance(sys.modules["supervision"], ModuleType):
        kind = sys.modules["supervision"].Detections
    else:
        kind = Detections
    data = {} if names is None else {"class_name": np.array(names)}
    return kind(xyxy=np.array(xyxy, np.float32), class_id=class_id, confidence=confidence, data=data)


def test_supervisions_detections_are_boxes_to_ask_about(demo_detector, scene_image):
    known = detcam.explain(demo_detector, scene_image, **FAST)
    boxes = [one.detection.xyxy for one in known]
    by_name = of_supervision(boxes, names=[one.detection.class_name for one in known])
    by_number = of_supervision(boxes, class_id=np.array([one.detection.class_id for one in known]))
    for given in (by_name, by_number):
        asked = detcam.explain(demo_detector, scene_image, detection=given, **FAST)
        assert [one.detection.anchor for one in asked] == [one.detection.anchor for one in known]
        assert [one.detection.asked for one in asked] == [None] * len(known)
    moved = of_supervision([boxes[0] + 15], class_id=np.array([known[0].detection.class_id]))
    (elsewhere,) = detcam.open_image(demo_detector, scene_image).explain(moved, **FAST)
    assert elsewhere.detection.asked == pytest.approx(boxes[0] + 15)
    with pytest.raises(detcam.UsageError, match="neither class_id nor data"):
        detcam.explain(demo_detector, scene_image, detection=of_supervision(boxes))
    with pytest.raises(detcam.UsageError, match="no class 'dog'"):
        detcam.explain(demo_detector, scene_image, detection=of_supervision(boxes[:1], names=["dog"]))


def test_there_and_back_by_supervision(demo_detector, scene_image):
    pytest.importorskip("supervision", reason="supervision is not installed: pip install '.[supervision]'")
    known = detcam.explain(demo_detector, scene_image, **FAST)
    asked = detcam.explain(demo_detector, scene_image, detection=known.to_supervision(), **FAST)
    assert [one.detection.anchor for one in asked] == [one.detection.anchor for one in known]


@pytest.mark.parametrize("choices", [{}, {"verify": True}], ids=["quick", "verified"])
@pytest.mark.parametrize("door", ["explainer", "session", "several images"])
def test_own_methods_and_targets_work_at_every_door(door, choices):
    def ramp(subject):
        return torch.arange(16.0).view(4, 4).expand(len(subject.boxes), 4, 4)

    def twice(raw, index, detection):
        return 2 * raw.logits[index, detection.anchor, detection.class_id]

    detector, image = WiredDetector(), wired_image()
    for options in ({"method": ramp}, {"target": twice}, {"method": ramp, "target": twice}):
        if door == "session":
            made = [detcam.open_image(detector, image).explain(**options, **choices)]
        elif door == "explainer":
            made = [detcam.explain(detector, image, **options, **choices)]
        else:
            made = detcam.explain(detector, [image, image], batch=2, **options, **choices)
        for one in (one for explanations in made for one in explanations):
            assert one.method in ("ramp", "effect", "vps")
            assert one.target in ("twice", "class")
            assert (one.receipt is not None) or not choices
        assert all(len(explanations) for explanations in made)
