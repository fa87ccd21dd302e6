"""Make ``docs/support.md`` from a run: ``python docs/support_table.py``. Nothing in its tables is written by hand.

Each cell is the outcome of calling the test that proves it, and the methods column of explaining a detection with every
method there is. ``python docs/support_table.py files`` makes the second table alone, of weights as files, and leaves
the first as it is.
"""

import sys
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import ultralytics
from rich.progress import track

import detcam
from detcam.methods import METHODS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import test_classifier  # noqa: E402
import test_families  # noqa: E402
import test_saved_weights  # noqa: E402
import test_tasks  # noqa: E402
import test_torchvision  # noqa: E402
import test_yolov5  # noqa: E402
from support.data import real  # noqa: E402
from support.images import photograph  # noqa: E402

FILES_HEADING = "## Weights as files"
OUT = Path(__file__).with_name("support.md")
YOLOV5 = [("yolov5n-original", "yolov5n-original.pt", "coco/images"),
          ("yolov5-plates-original", "yolov5-plates-original.pt", "plates/images")]  # fmt: skip


KINDS = ("layercam", "gradcam", "eigencam", "saliency", "fullgrad", "guidedbackprop", "drise", "guided", "random")
"""One of every kind: at layers, pooled, without gradients, at the pixels, with biases, gated, masked, both, neither."""


def outcome(check: Callable[..., object], *arguments: Any, **keywords: Any) -> str:
    """``yes``, or why not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(*arguments, **keywords)
    except pytest.skip.Exception as skipped:
        return f"not run: {skipped.msg}"
    except Exception as error:
        return f"no: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return "yes"


def methods_of(model: Any, image: Any, **choices: Any) -> str:
    """Which of one method of every kind give a map of the first detection."""

    def works(name: str) -> bool:
        found: list[str] = []
        budget = {"budget": 16} if METHODS[name].budget else {}
        explain = lambda: detcam.explain(model, image, method=name, detection=0, **budget, **choices)  # noqa: E731
        outcome(lambda: found.append(explain()[0].status))
        return found == ["ok"]

    working = [name for name in KINDS if works(name)]
    return f"all {len(KINDS)}" if len(working) == len(KINDS) else ", ".join(working) or "none"


def row(family: str, task: str, make: Callable[[], Any], same: str, gradients: str, image: Any, **choices: Any) -> str:
    """One line of the table."""
    loads = outcome(lambda: detcam.load(make()))
    methods = methods_of(detcam.load(make()), image, **choices) if loads == "yes" else "none"
    return f"| {family} | {task} | {loads} | {same} | {gradients} | {methods} |"


def ultralytics_rows() -> list[str]:
    """Every family at its smallest scale, with random weights."""
    rows = []
    for name in track([*test_families.SMALLEST, *test_tasks.TASKS], "Ultralytics"):
        model = test_tasks.build(name)
        same = outcome(test_tasks.test_detections_are_those_of_predict_and_each_has_a_map, name)
        gradients = outcome(test_tasks.test_gradients_are_those_of_a_plain_backward, name)
        choices = {"imgsz": 256, **test_tasks.SETTINGS}
        rows.append(row(name, model.task, lambda m=model: m, same, gradients, test_tasks.IMAGE, **choices))
    return rows


def torchvision_rows() -> list[str]:
    """Detectors and classifiers with random weights."""
    rows = []
    image = photograph(200, 220, seed=7)
    for name in track(test_torchvision.FAMILIES, "torchvision"):
        same = outcome(test_torchvision.test_detections_are_torchvisions, name, (200, 220), {})
        gradients = outcome(test_torchvision.test_gradients_are_those_of_a_plain_backward, name)
        make = lambda name=name: test_torchvision.made(name)  # noqa: E731
        rows.append(row(f"torchvision {name}", "detect", make, same, gradients, image, conf=0.05))
    for name in track(test_classifier.MAKERS, "classifiers"):
        same = outcome(test_classifier.test_answers_are_the_models_own, name)
        gradients = outcome(test_classifier.test_gradients_are_those_of_a_plain_backward, name)
        make = lambda name=name: test_classifier.made(name)  # noqa: E731
        rows.append(row(name, "classify", make, same, gradients, image))
    return rows


def yolov5_rows() -> list[str]:
    """Original YOLOv5, with real weights where they and its package are there."""
    rows = []
    for name, weights, folder in track(YOLOV5, "YOLOv5"):
        gradients = outcome(test_yolov5.test_gradients_are_those_of_a_plain_backward, weights, folder)
        if gradients.startswith("not run"):
            rows.append(f"| {name} | detect | {gradients} | | | |")
            continue
        settings = {"conf": 0.25, "iou": 0.45}
        with contextmanager(test_yolov5.vendor._get_wrapped_function())() as vendor:
            same = outcome(test_yolov5.test_detections_are_the_vendors_own, vendor, weights, folder, settings)
        image = next(path for path in sorted(real(folder).glob("*.jpg")))
        rows.append(row(name, "detect", lambda w=weights: real(f"weights/{w}"), same, gradients, image))
    return rows


def file_rows() -> list[str]:
    """The smallest of every family, saved in every way; read sealed and with trust, and compared with ``predict()``."""
    rows = []
    for name in track([*test_saved_weights.SMALL, *test_saved_weights.OTHERS], "Files"):
        cells = []
        for way in test_saved_weights.WAYS:
            if way == "trained" and name.startswith(("yoloe", "yolov8s-world")):
                cells.append("needs a text model")
                continue
            with TemporaryDirectory() as folder:
                cells.append(outcome(test_saved_weights.answers_agree, name, way, folder))
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def families_table() -> str:
    """The first part of the page."""
    rows = [*ultralytics_rows(), *yolov5_rows(), *torchvision_rows()]
    return (
        f"# What is supported\n\nMade by `python docs/support_table.py` ({versions()}); nothing is written by hand.\n"
        "Detections: the vendor's own on the same settings. Gradients: those of a plain forward and backward of the\n"
        "vendor's model, to 1e-5. Methods: one of every kind ("
        f"{', '.join(KINDS)}).\nRandom weights, but for original YOLOv5.\n\n"
        "| family | task | loads | detections equal | gradients equal | methods |\n"
        "|---|---|---|---|---|---|\n"
        + "\n".join(rows) + "\n"
    )  # fmt: skip


def files_table() -> str:
    """The second part of the page."""
    ways = list(test_saved_weights.WAYS)
    return (
        f"{FILES_HEADING}\n\nMade by `python docs/support_table.py files` ({versions()}). Each is a `.pt` file, read\n"
        "without and with `--trust-weights`; yes: both give the boxes of `predict()` on it. Plain: `YOLO.save()`.\n"
        "Fused: `fuse()`, then `save()`. Half: stored in float16, as a training stores it. Trained: an epoch on four\n"
        "small images.\n\n"
        f"| family | {' | '.join(ways)} |\n|---|{'---|' * len(ways)}\n" + "\n".join(file_rows()) + "\n"
    )


def versions() -> str:
    """Of what the tables hang on."""
    return f"torch {torch.__version__.partition('+')[0]}, ultralytics {ultralytics.__version__}"


def main() -> None:
    """Run what is asked for and write the page."""
    torch.set_num_threads(2)
    written = OUT.read_text(encoding="utf-8").partition(FILES_HEADING)[0].rstrip() + "\n"
    families = written if sys.argv[1:] == ["files"] else families_table()
    OUT.write_text(f"{families}\n{files_table()}", encoding="utf-8")


if __name__ == "__main__":
    main()
