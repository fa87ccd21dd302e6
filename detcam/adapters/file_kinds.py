"""What weights are that detcam does not read, in one sentence: exported models, and families it does not know."""

from __future__ import annotations

import functools
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from detcam.adapters.archives import Archive

EXPORTS = {
    ".torchscript": "TorchScript", ".engine": "TensorRT", ".trt": "TensorRT", ".plan": "TensorRT", ".xml": "OpenVINO",
    "_openvino_model": "OpenVINO", ".mlpackage": "CoreML", ".mlmodel": "CoreML", ".aimodel": "Core AI",
    "saved_model": "TensorFlow SavedModel", "saved_model.pb": "TensorFlow SavedModel", ".pb": "TensorFlow GraphDef",
    ".tflite": "TensorFlow Lite",
    "_edgetpu.tflite": "TensorFlow Edge TPU", "_web_model": "TensorFlow.js", ".keras": "Keras", ".h5": "Keras",
    "_paddle_model": "PaddlePaddle", ".pdmodel": "PaddlePaddle", ".pdiparams": "PaddlePaddle", ".mnn": "MNN",
    "_ncnn_model": "NCNN", ".param": "NCNN", "_imx_model": "IMX500", "_rknn_model": "RKNN", ".rknn": "RKNN",
    "_executorch_model": "ExecuTorch", ".pte": "ExecuTorch", ".hef": "Hailo", ".dlc": "Qualcomm", ".om": "Ascend",
    ".pt2": "torch.export",
}  # fmt: skip
"""What the names of exported models end in, and what they are; the longest that fits counts. So is any other folder
``..._NAME_model`` without a checkpoint in it."""
EXPORT_CONTENTS = {
    "*.xml": "OpenVINO", "saved_model.pb": "TensorFlow SavedModel", "*.param": "NCNN", "*.pdmodel": "PaddlePaddle",
    "*.mlmodel": "CoreML", "model.json": "TensorFlow.js", "*.rknn": "RKNN", "*.pte": "ExecuTorch",
}  # fmt: skip
"""What lies in the folders of exported models, whatever the folders are called."""
FAMILIES = {
    "YOLOv7": r"models\.yolo\.(I[A-Z]\w+)|models\.common\.(MP|SP|SPPCSPC|ReOrg|RepConv|RepBottleneck\w*)",
    "YOLOv9 in its original format": (
        r"models\.yolo\.(D|Dual|Triple)D?Detect|models\.common\.(RepNCSP\w*|ADown|CBLinear|CBFuse)"
    ),
    "YOLOR": r"models\.models\.\w+|models\.common\.Implicit\w+",
    "Meituan's YOLOv6": r"yolov6\..+",
    "YOLOX": r"yolox\..+",
    "YOLO-NAS": r"super_gradients\..+",
    "EfficientDet": r"effdet\..+",
    "MMDetection": r"mm(det|yolo|engine|cv)\..+",
    "Detectron2": r"detectron2\..+",
    "RF-DETR": r"rfdetr\..+",
    "Hugging Face transformers'": r"transformers\.\S*(Detection|Detr|DETR|Yolos)\w*",
}
"""Families of detectors that detcam does not know, and the classes that give them away, as regular expressions."""
BLACK_BOX_LINE = 'detcam.explain(detcam.BlackBox(predict, ["cat", "dog"]), "image.jpg")'
"""What explains any detector there is."""


def export_format(path: Path) -> str | None:
    """What an exported model is, by its name, or by what lies in it; None where it is none.

    Args:
        path: a file or a folder.
    """
    if path.is_dir():
        for pattern, name in EXPORT_CONTENTS.items():
            if next(path.glob(pattern), None) is not None:
                return name
    fitting = [end for end in EXPORTS if path.name.lower().endswith(end)]
    if fitting:
        return EXPORTS[max(fitting, key=len)]
    folder = re.search(r"_([a-z0-9]+)_model$", path.name.lower())
    if folder and path.is_dir() and next(path.glob("*.pt"), None) is None:
        return folder[1]
    return "TorchScript" if path.is_file() and _is_torchscript(path) else None


def _is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, whatever its name: torch.save writes no ``constants.pkl``."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except Exception:  # no archive, or a damaged one
        return False


def names_in(path: Path) -> list[str]:
    """The dotted names of what a checkpoint asks for, found without unpickling anything; none in any other file.

    Args:
        path: any file.
    """
    try:
        status = path.stat()
        return list(_names_in(path, (status.st_ino, status.st_size, status.st_mtime_ns)))
    except (OSError, pickle.UnpicklingError):  # no checkpoint at all, which is for the reader to say
        return []


@functools.lru_cache(maxsize=8)
def _names_in(path: Path, _: tuple[int, ...]) -> tuple[str, ...]:
    """The names in a file, read once as long as it is the same: each way of reading asks for them."""
    return tuple(sorted({name.dotted for name in Archive(path).records.names}))


def unknown_family(names: Iterable[str]) -> str | None:
    """The sentence about a family that detcam does not know, with what explains it all the same; else None.

    Args:
        names: dotted names of classes.
    """
    several = list(names)
    for family, pattern in FAMILIES.items():
        if any(re.fullmatch(pattern, name) for name in several):
            return (
                f"{family} is a family of detectors that detcam does not know; a function that calls yours is "
                f"explained by the methods that need no gradients: {BLACK_BOX_LINE}, where predict gives, for a list "
                "of RGB images (H, W, 3), a pair each: boxes (N, 4) in pixels and scores (N, class)"
            )
    return None
