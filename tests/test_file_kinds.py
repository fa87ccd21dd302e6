"""Files and folders that are no checkpoint of a family that detcam knows are named as what they are."""

import sys
import types
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from ultralytics.engine.exporter import export_formats

import detcam
from detcam.adapters.file_kinds import BLACK_BOX_LINE, FAMILIES, unknown_family
from detcam.cli import main
from detcam.errors import WeightsError
from support.images import photograph


@pytest.fixture(params=[False, True], ids=["sealed", "trusted"])
def trust(request):
    return request.param


@pytest.mark.parametrize(
    "suffix", [suffix for suffix in export_formats()["Suffix"] if not suffix.endswith((".pt", ".onnx"))]
)
def test_everything_ultralytics_exports_to_is_named(suffix, tmp_path):
    path = tmp_path / f"best{suffix}"
    path.mkdir() if suffix.startswith("_") or suffix in (".mlpackage", ".aimodel") else path.write_bytes(b"x")
    with pytest.raises(
        WeightsError, match=r"is an exported model without gradients \([\w .]+\); give the \.pt"
    ) as caught:
        detcam.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inside", "name"),
    [("best.xml", "OpenVINO"), ("saved_model.pb", "TensorFlow SavedModel"), ("model.ncnn.param", "NCNN"),
     ("model.json", "TensorFlow.js"), ("inference.pdmodel", "PaddlePaddle"), ("best.rknn", "RKNN")],
)  # fmt: skip
def test_a_folder_of_an_export_is_named_whatever_it_is_called(inside, name, tmp_path):
    folder = tmp_path / "deployed"
    folder.mkdir()
    (folder / inside).write_bytes(b"x")
    for given in (folder, folder / inside) if inside != "model.json" else (folder,):
        with pytest.raises(WeightsError, match=rf"exported model without gradients \({name}"):
            detcam.load(given)


def torchscript(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of recent releases of torch
        torch.jit.save(torch.jit.trace(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 8, 8)), path)


def test_a_folder_of_checkpoints_is_no_export(tmp_path):
    folder = tmp_path / "my_own_model"
    folder.mkdir()
    (folder / "last.pt").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"is a folder; give the \.pt file in it"):
        detcam.load(folder)


@pytest.mark.parametrize("name", ["best.torchscript", "best.pt", "best.pth"])
def test_torchscript_under_any_name(name, trust, tmp_path):
    torchscript(tmp_path / name)
    with pytest.raises(WeightsError, match=r"exported model without gradients \(TorchScript\)"):
        detcam.load(tmp_path / name, trust_weights=trust)


def test_the_command_line_says_so_and_ends_with_3(tmp_path, capsys):
    torchscript(tmp_path / "best.pt")
    assert main(["layers", "--weights", str(tmp_path / "best.pt"), "--trust-weights"]) == 3
    assert "(TorchScript)" in capsys.readouterr().err


CLASSES = {
    "YOLOv7": "models.yolo.IDetect",
    "YOLOv9 in its original format": "models.yolo.DualDDetect",
    "YOLOR": "models.models.Darknet",
    "Meituan's YOLOv6": "yolov6.models.yolo.Model",
    "YOLOX": "yolox.models.yolox.YOLOX",
    "YOLO-NAS": "super_gradients.training.models.YoloNAS",
    "EfficientDet": "effdet.efficientdet.EfficientDet",
    "MMDetection": "mmdet.models.detectors.RTMDet",
    "Detectron2": "detectron2.modeling.GeneralizedRCNN",
    "RF-DETR": "rfdetr.models.lwdetr.LWDETR",
    "Hugging Face transformers'": "transformers.models.detr.modeling_detr.DetrForObjectDetection",
}
OURS = [
    "models.yolo.Detect", "models.yolo.DetectionModel", "models.common.C3", "models.common.SPPF", "models.yolo.Model",
    "ultralytics.nn.modules.head.Detect", "transformers.models.vit.modeling_vit.ViTForImageClassification",
]  # fmt: skip


def foreign(name, monkeypatch):
    """A model of a class of this name, whose modules can be imported."""
    module, _, kind = name.rpartition(".")
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    made = type(kind, (nn.Module,), {"__module__": module, "forward": lambda self, x: {"boxes": x}})
    setattr(sys.modules[module], kind, made)
    return made()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_that_is_not_known_is_named_with_a_way_out(family, trust, tmp_path, monkeypatch):
    model = foreign(CLASSES[family], monkeypatch)
    for path in (tmp_path / "w.pt", tmp_path / "w.pth"):
        torch.save({"model": model}, path)
        with pytest.raises(WeightsError) as caught:
            detcam.load(path, trust_weights=trust)
        assert f"{family} is a family of detectors that detcam does not know" in str(caught.value)
        assert BLACK_BOX_LINE in str(caught.value)
    with pytest.raises(WeightsError, match="is a family of detectors that detcam does not know"):
        detcam.load(model)


def test_families_that_are_known_are_not_taken_for_others():
    assert unknown_family(OURS) is None


def test_a_folder_of_transformers(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "detr"}')
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsError, match="transformers' is a family of detectors that detcam does not know"):
        detcam.load(tmp_path)


def test_the_line_works(tmp_path, monkeypatch):
    """As it is printed, around a function that finds the brightest square."""
    image = photograph(64, 64)
    image[20:40, 10:30] = 255
    Image.fromarray(image).save(tmp_path / "image.jpg", quality=100)
    monkeypatch.chdir(tmp_path)

    def boxes_and_scores(given):
        brightness = given[20:40, 10:30].mean() / 255
        return np.array([[10, 20, 30, 40]]), np.array([[brightness, 0]])

    def predict(images):
        return [boxes_and_scores(given) for given in images]

    (explanation,) = eval(BLACK_BOX_LINE, {"detcam": detcam, "predict": predict})
    assert explanation.detection.class_name == "cat"


def test_a_detector_that_is_no_classifier_is_shown_the_way_out():
    class Finds(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(x).flatten(2)

    with pytest.raises(WeightsError, match=r"has to give \(image, class\) logits; for a detector see detcam\.BlackBox"):
        detcam.load(Finds())
