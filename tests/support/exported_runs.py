"""Run folders to export: explained images, and a review of them."""

import contextlib
import io
import json
import shutil
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest
from PIL import Image
from pycocotools.coco import COCO

from detcam.geometry import Letterbox
from detcam.runs.folder import RunFolder
from detcam.types import Detection, Explanation, Heatmap, ImageResult
from support.images import photograph

NAMES = {0: '=HYPERLINK("http://x")', 1: "<b>кот</b>", 3: "@dog"}
CLASSES = NAMES | {4: "never seen"}
SIZES = {"one/=1.png": (90, 160), "two/=1.png": (120, 80), "two/-<i>ü.png": (64, 64)}
# Per image: class, confidence, box, error type, truth, IoU.
FOUND = {
    "one/=1.png": [
        (0, 0.9, (10, 10, 50, 50), "TP", 11, 0.9),
        (1, 0.75, (60.5, 10.25, 100, 60), "Cls", 12, 0.8),
        (3, 0.5, (110, 70, 150, 88), "Bkg", None, 0.0),
    ],
    "two/=1.png": [(1, 0.625, (10, 20, 30, 60), "ignored", 14, 1.0), (3, 0.375, (5, 70, 35, 110), "Loc", 13, 0.3)],
}
# Id, image, class, box, crowd, detection that found it, where it died if it was missed.
TRUTHS = [
    (11, "one/=1.png", 0, (10, 10, 50, 46), False, 0, None),
    (12, "one/=1.png", 3, (60, 10, 100, 50), False, None, None),
    (13, "two/=1.png", 3, (20, 70, 78, 110), False, None, None),
    (14, "two/=1.png", 1, (5, 5, 60, 66), True, None, None),
    (15, "two/=1.png", 0, (40, 80, 76, 118), False, None, "suppressed"),
    (16, "two/-<i>ü.png", 1, (-3, 8, 40, 70), False, None, "never_fired"),
]


@pytest.fixture
def folder(tmp_path):
    """Photographs, two of which have the same name."""
    for seed, (name, (height, width)) in enumerate(SIZES.items()):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(photograph(height, width, seed)).save(path)
    return tmp_path


@pytest.fixture
def explained(folder):
    """A run folder of `detcam explain`, by its own writer."""
    run = RunFolder(folder / "explained", "explain", {"conf": 0.25})
    run.describe(classes=CLASSES)
    for name, rows in FOUND.items():
        run.add(result(str(folder / name), rows))
    run.finish(True)
    return folder / "explained"


@pytest.fixture
def reviewed(folder, explained):
    """The same detections as `detcam review` writes them, with truths, misses and verdicts."""
    run = folder / "reviewed"
    shutil.copytree(explained, run)
    table = pl.read_parquet(run / "detections.parquet")
    rows = [row for name in FOUND for row in FOUND[name]]
    truth_class = {number: NAMES[kind] for number, _, kind, *_ in TRUTHS}
    table.with_columns(
        error_type=pl.Series([row[3] for row in rows]),
        truth_id=pl.Series([row[4] for row in rows], dtype=pl.Int64),
        truth_class=pl.Series([truth_class.get(row[4]) for row in rows]),
        iou=pl.Series([row[5] for row in rows], dtype=pl.Float32),
        explanation=pl.lit("=speaks for <b>cat</b>"),
        cause=pl.Series([None, "cause-1", None, None, None], dtype=pl.String),
        features=pl.lit([0.5, 0.25]),
        context_dependence=pl.Series([float("nan"), -0.25, 0.5, None, 1.0], dtype=pl.Float32),
    ).write_parquet(run / "detections.parquet")
    write_truths(run, folder, table["id"].to_list())
    verdicts = {
        table["id"][1]: {"verdict": "label_error", "note": "=1+1\n\ud800 ü"},
        table["id"][2]: {"verdict": "model_error", "note": ""},
        "miss-16": {"verdict": "ambiguous", "note": "'quoted"},
        "gone": {"verdict": "label_error", "note": "of an earlier run"},
    }
    (run / "verdicts.json").write_text(json.dumps(verdicts))
    return run


def write_truths(run, folder, ids):
    truths, misses = [], []
    for number, name, kind, box, crowd, by, died in TRUTHS:
        own = {"image": str(folder / name), "class_id": kind, "class_name": NAMES[kind]}
        own |= dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True))
        truths.append({"id": number, **own, "crowd": crowd, "found_by": None if by is None else ids[by]})
        if died:
            told = {"where_it_died": died, "suppressor": ids[4], "explanation": "-", "context_dependence": 0.5}
            placed = {
                "heatmap": f"misses.npz#miss-{number}",
                "scale": 2.0,
                "letterbox": json.dumps(asdict(letterbox(name))),
            }
            misses.append({"id": f"miss-{number}", "truth_id": number, **own, **told, **placed})
    boxes = dict.fromkeys(("x1", "y1", "x2", "y2"), pl.Float32)
    pl.DataFrame(truths, schema_overrides=boxes).write_parquet(run / "truths.parquet")
    pl.DataFrame(misses, schema_overrides=boxes).write_parquet(run / "misses.parquet")
    np.savez(run / "heatmaps" / "misses.npz", **{"miss-15": np.eye(6, 8, dtype=np.float16)})


def letterbox(name):
    return Letterbox.fit(SIZES[name], (64, 64), 32)


def raw_map(name, number):
    """A map with a peak inside the image."""
    return np.random.default_rng(number).uniform(-1, 1, (6, 8)).astype(np.float32)


def result(source, rows):
    name = next(name for name in SIZES if source.endswith(name))
    image = np.zeros((*SIZES[name], 3), np.uint8)
    explanations = []
    for number, (kind, confidence, box, *_) in enumerate(rows):
        detection = Detection(np.array(box), kind, NAMES[kind], confidence, number, 8)
        heatmap = Heatmap(raw_map(name, number), letterbox(name))
        explanations.append(Explanation(detection, heatmap, "layercam", "class", ("model.1",), "ok", "", image))
    return ImageResult(source, image, tuple(e.detection for e in explanations), tuple(explanations))


def without_letterboxes(run):
    """As if written before the tables had them."""
    for name in ("detections", "misses"):
        pl.read_parquet(run / f"{name}.parquet").drop("letterbox").write_parquet(run / f"{name}.parquet")


def boxes_of(table):
    return table.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64)


def load_coco(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def from_cell(text):
    """The documented way back."""
    return text.removeprefix("'")
