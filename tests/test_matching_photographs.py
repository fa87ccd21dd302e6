"""The same on photographs, against tidecv, pycocotools and Ultralytics."""

import json
import shutil

import pytest
from ultralytics import YOLO
from ultralytics.data import YOLODataset
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import nms

import detcam
from detcam.adapters.decoding import DecodeSettings
from detcam.data import LabelledImage, read_data
from detcam.io.images import read_image
from detcam.review.matching import average_precision
from support.data import real
from support.matching_oracles import answers_of, compare_with_coco, compare_with_tide, run_coco

REAL = {
    "coco": ("weights/yolov8n.pt", "coco/instances.json", "coco", "images"),
    "hog": ("weights/hogdetect.pt", "hog/data.yaml", "hog", "val/images"),
}


@pytest.fixture(scope="module", params=REAL)
def reviewed(request):
    """A labelled set of photographs and, by score threshold, what detcam's adapter finds in it."""
    weights, labels = (real(path) for path in REAL[request.param][:2])
    detector = detcam.load(weights, imgsz=640)
    images = read_data(labels, names=detector.names).images
    detections = {0.001: [], 0.25: []}
    for image in images:
        batch, letterboxes = detector.prepare([read_image(image.path)])
        raw = detector.forward(batch)
        for conf, several in detections.items():
            several += detector.decode(raw, letterboxes, DecodeSettings(conf=conf))
    return request.param, images, detections


@pytest.mark.slow
@pytest.mark.parametrize("conf", [0.25, 0.001])
def test_photographs_agree_with_tidecv(reviewed, conf):
    _, images, detections = reviewed
    assert sum(map(len, detections[conf])) > len(images)
    compare_with_tide(images, detections[conf])


@pytest.mark.slow
@pytest.mark.parametrize("reviewed", ["coco"], indirect=True)
def test_photographs_agree_with_pycocotools_on_the_file_as_published(tmp_path, reviewed):
    _, images, detections = reviewed
    document = json.loads(real("coco/instances.json").read_text())
    assert any(mark["iscrowd"] for mark in document["annotations"])
    model_names = {one.class_name: one.class_id for several in detections[0.001] for one in several}
    model_names |= {mark.class_name: mark.class_id for image in images for mark in image.truths}
    ours = {one["id"]: model_names[one["name"]] for one in document["categories"] if one["name"] in model_names}
    own = {class_id: category for category, class_id in ours.items()}
    answers = answers_of(detections[0.001], [int(image.path.stem) for image in images])
    answers = [{**answer, "category_id": own[answer["category_id"]]} for answer in answers]
    mean, mean50, curves = run_coco(document, tmp_path, answers)
    theirs = mean, mean50, {ours[name]: value for name, value in curves.items() if name in ours}
    compare_with_coco(average_precision(images, detections[0.001]), theirs)


class AsPredicted(DetectionValidator):
    """`yolo val`, but padded as `predict` pads, and with one class to a box as `predict` answers."""

    def build_dataset(self, img_path, mode="val", batch=None):
        size = {"imgsz": self.args.imgsz, "rect": True, "stride": int(self.stride), "pad": 0.0}
        return YOLODataset(img_path, batch_size=batch, hyp=self.args, augment=False, data=self.data, **size)

    def postprocess(self, preds):
        kept = nms.non_max_suppression(preds, self.args.conf, self.args.iou, max_det=self.args.max_det)
        return [{"bboxes": x[:, :4], "conf": x[:, 4], "cls": x[:, 5], "extra": x[:, 6:]} for x in kept]


@pytest.mark.slow
def test_photographs_agree_with_ultralytics_to_one_of_101_recalls(tmp_path, reviewed):
    """Ultralytics joins the curve's points by straight lines, lets it fall to 0 at the last recall and integrates, so
    that a perfect class has 0.995; COCO takes the mean of 101 steps. The difference is about what one of them weighs.
    Its labels leave crowds out; so are ours for this.
    """
    name, images, detections = reviewed
    weights, _, folder, inside = REAL[name]
    root = shutil.copytree(real(folder), tmp_path / "set")  # it writes a cache beside the labels
    model = YOLO(real(weights))
    (root / "own.yaml").write_text(
        json.dumps({"path": str(root), "train": inside, "val": inside, "names": model.names})
    )
    theirs = model.val(
        validator=AsPredicted, data=root / "own.yaml", conf=0.001, iou=0.7, imgsz=640, rect=True, batch=1, workers=0,
        plots=False, project=tmp_path, verbose=False, device="cpu",
    ).box  # fmt: skip
    images = [
        LabelledImage(image.path, image.size, tuple(mark for mark in image.truths if not mark.crowd))
        for image in images
    ]
    ours = average_precision(images, detections[0.001])
    assert (ours.map50, ours.map) == pytest.approx((theirs.map50, theirs.map), abs=1 / 101)
