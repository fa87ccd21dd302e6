"""`detcam.load` gives every kind of model to the adapter that knows it."""

import pytest
import torch
import torchvision
from ultralytics import RTDETR, YOLO

import detcam
from detcam.demo import WEIGHTS


def scratch(builder, **settings):
    return builder(weights=None, **settings)


@pytest.mark.parametrize(
    ("make", "adapter"),
    [
        (lambda: WEIGHTS, "UltralyticsDetector"),
        (lambda: YOLO(WEIGHTS), "UltralyticsDetector"),
        (lambda: YOLO(WEIGHTS).model, "UltralyticsDetector"),
        (lambda: YOLO("yolov8n-seg.yaml", verbose=False), "UltralyticsDetector"),
        (lambda: RTDETR("rtdetr-l.yaml"), "UltralyticsDetector"),
        (lambda: YOLO("yolov8n-cls.yaml", verbose=False), "Classifier"),
        (lambda: scratch(torchvision.models.resnet18), "Classifier"),
        (lambda: scratch(torchvision.models.shufflenet_v2_x2_0), "Classifier"),
        (lambda: scratch(torchvision.models.mobilenet_v2), "Classifier"),
        (
            lambda: scratch(torchvision.models.detection.retinanet_resnet50_fpn, weights_backbone=None),
            "TorchvisionDetector",
        ),
    ],
)
def test_the_adapter_of_each_kind(make, adapter):
    loaded = detcam.load(make())
    assert type(loaded).__name__ == adapter
    assert detcam.load(loaded) is loaded
    assert loaded.layers()
    assert loaded.resolve("auto")


def test_a_classifier_is_explained_as_a_whole_image(scene_image):
    torch.manual_seed(0)
    result = detcam.explain(scratch(torchvision.models.resnet18), scene_image, method="gradcam")
    (e,) = result
    assert e.detection.xyxy.tolist() == [0, 0, 256, 256]
    assert e.layers == ("layer4",)
    assert e.heatmap.array.shape == scene_image.shape[:2]


def test_what_is_no_model_is_refused():
    with pytest.raises(detcam.WeightsError, match="cannot explain a int"):
        detcam.load(3)
