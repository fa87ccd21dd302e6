"""A review's run folder with rows of every kind, and a browser that reads its report."""

import json
import time
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest
from PIL import Image

from detcam.geometry import Letterbox
from detcam.report.build import build_report
from detcam.runs.schema import COLUMNS, image_key, write_maps
from support.images import photograph

LETTERBOX = Letterbox((120, 200), (160, 256), (154, 256), (3, 0))
REVIEWED = {
    "error_type": pl.String, "truth_id": pl.Int64, "truth_class": pl.String, "iou": pl.Float32,
    "explanation": pl.String, "cause": pl.String, "evidence_inside": pl.Float32,
}  # fmt: skip
TRUTH = {
    "id": pl.Int64, "image": pl.String, "class_id": pl.Int32, "class_name": pl.String, "x1": pl.Float32,
    "y1": pl.Float32, "x2": pl.Float32, "y2": pl.Float32, "crowd": pl.Boolean, "found_by": pl.String,
}  # fmt: skip
MISS = {
    "id": pl.String, "image": pl.String, "truth_id": pl.Int64, "class_id": pl.Int32, "class_name": pl.String,
    "x1": pl.Float32, "y1": pl.Float32, "x2": pl.Float32, "y2": pl.Float32, "where_it_died": pl.String,
    "suppressor": pl.String, "anchor": pl.Int32, "stride": pl.Int32, "raw_confidence": pl.Float32,
    "raw_x1": pl.Float32, "raw_y1": pl.Float32, "raw_x2": pl.Float32, "raw_y2": pl.Float32, "explanation": pl.String,
    "method": pl.String, "layers": pl.String, "target": pl.String, "status": pl.String, "heatmap": pl.String,
    "scale": pl.Float32, "letterbox": pl.String, "receipt": pl.String, "supported": pl.Boolean,
    "context_dependence": pl.Float32,
}  # fmt: skip
FILLS = {"blur": 0.2, "mean": 0.3}
RECEIPT = {
    "score": 0.8, "hot_share": 0.05, "removed": FILLS, "removed_random": FILLS, "kept": FILLS, "kept_random": FILLS,
    "box_only": FILLS, "box_random": FILLS, "context_dependence": 0.4, "supported": True, "forwards": 16,
}  # fmt: skip
HOSTILE = "<img src=x onerror=alert(1)>"
LONG = "a_class_whose_name_" + "goes_on_" * 7 + "eighty"
RTL = "\u05db\u05dc\u05d1 \u05d2\u05d3\u05d5\u05dc"
CLASSES = ("cat", "dog", LONG[:80], RTL, HOSTILE)
TYPES = ("Cls", "Loc", "Both", "Dupe", "Bkg")


def detection(number, image, **facts):
    """A row of a review's detections; what is not said differs from row to row."""
    name, size = f"d{number:05d}", 12 + 9 * (number % 12)
    return {
        "id": name, "image": str(image), "class_id": number % 5, "class_name": CLASSES[number % 5],
        "confidence": (number * 37 % 100) / 100, "x1": 10.0, "y1": 12.0, "x2": 10.0 + size, "y2": 12.0 + min(size, 100),
        "anchor": number, "stride": 8, "method": "layercam", "layers": "model.4,model.6", "target": "class",
        "status": "ok", "reason": "", "heatmap": f"{image_key(str(image))}.npz#{name}", "scale": 1.0,
        "letterbox": json.dumps(asdict(LETTERBOX)), "receipt": json.dumps(RECEIPT) if number % 3 else None,
        "supported": True if number % 3 else None,
        "context_dependence": (number * 13 % 100) / 100 if number % 3 else None, "error_type": TYPES[number % 5],
        "truth_id": None if number % 5 == 4 else number % 8, "truth_class": None if number % 5 == 4 else "dog",
        "iou": 0.4, "explanation": f"sentence {number}", "cause": "cause-1" if number % 4 == 0 else None,
        "evidence_inside": 0.7,
    } | facts  # fmt: skip


def missed(number, image, **facts):
    """A row of a review's misses."""
    name = f"m{number:05d}"
    return {
        "id": name, "image": str(image), "truth_id": number, "class_id": 1, "class_name": "dog", "x1": 100.0,
        "y1": 40.0, "x2": 180.0, "y2": 110.0, "where_it_died": "suppressed", "suppressor": "d00000", "anchor": 3,
        "stride": 16, "raw_confidence": 0.31, "raw_x1": 95.0, "raw_y1": 44.0, "raw_x2": 170.0, "raw_y2": 115.0,
        "explanation": "a word of its own", "method": "layercam", "layers": "model.4", "target": "class",
        "status": "no_signal", "heatmap": f"{image_key(str(image))}.npz#{name}", "scale": 0.0,
        "letterbox": json.dumps(asdict(LETTERBOX)),
    } | facts  # fmt: skip


def write_run(path, detections, misses=(), cause="dry grass", **configuration):
    """A review's run folder, its maps random; images are those of the rows that are there."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "heatmaps").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    images = sorted({row["image"] for row in (*detections, *misses)})
    for image in images[:4]:
        own = [row["id"] for row in detections if row["image"] == image]
        write_maps(path, image, {name: rng.normal(size=(10, 16)).astype(np.float32) for name in own})
    box = {"x1": 20.0, "y1": 20.0, "x2": 90.0, "y2": 100.0}
    truths = [
        {"id": n, "image": images[0], "class_id": 1, "class_name": "dog", "crowd": n == 7, "found_by": "d00000"} | box
        for n in range(8)
    ]
    pl.DataFrame(detections, schema=COLUMNS | REVIEWED).write_parquet(path / "detections.parquet")
    pl.DataFrame(truths, schema=TRUTH).write_parquet(path / "truths.parquet")
    pl.DataFrame(list(misses), schema=MISS).write_parquet(path / "misses.parquet")
    names = sorted({row["class_name"] for row in detections})
    counts = {kind: sum(row["error_type"] == kind for row in detections) for kind in ("TP", *TYPES)}
    per_class = [{"class_name": name, "truths": 9, "ap50": 0.5, "Miss": 0} | counts for name in names]
    members = [row["id"] for row in detections if row["cause"] == "cause-1"]
    files = {
        "run": {"schema": 1, "command": "review", "configuration": {"weights": "w.pt", "data": "d.yaml", "conf": 0.1}
                | configuration},
        "summary": {"images": len(images), "counts": counts | {"Miss": len(misses)}, "dap": {"Cls": 0.012},
                    "map50": 0.5, "map": None, "per_class": per_class,
                    "unmapped": [{"class_name": HOSTILE, "truths": 5}],
                    "problems": [{"path": HOSTILE, "reason": "five numbers expected, got 4"}],
                    "confusions": [{"predicted": LONG[:80], "truth": HOSTILE, "count": 3}]},
        "causes": [{"id": "cause-1", "name": cause, "members": members, "tried": 9, "flipped": 7, "pasted": 5,
                    "appeared": 4, "confirmed": True, "text": f"{len(members)} share it", "patches": ["patch.png"]}],
    }  # fmt: skip
    Image.fromarray(photograph(20, 30)).save(path / "patch.png")
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three photographs, one with a name that is HTML, and the path of one that is not there."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / name for name in ("first.jpg", f"{HOSTILE}.jpg", "third.png", "gone.jpg")]
    for seed, path in enumerate(paths[:3]):
        Image.fromarray(photograph(120, 200, seed)).save(path)
    return paths


@pytest.fixture(scope="module")
def rows(images):
    return [detection(n, images[n % 4]) for n in range(40)] + [detection(40, images[0], error_type="TP")]


@pytest.fixture(scope="module")
def run(tmp_path_factory, images, rows):
    path = write_run(tmp_path_factory.mktemp("runs") / "review", rows, [missed(n, images[0]) for n in range(3)])
    build_report(path)
    return path


@pytest.fixture
def visit(browser):
    """Open an address in a new browser; at the end nothing was complained of, and nothing asked of the network."""
    contexts, wrong = [], []

    def open_page(address, allowed="file:", **settings):
        context = browser.new_context(**{"viewport": {"width": 1366, "height": 768}} | settings)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message) or dialog.dismiss())
        page.on("requestfailed", lambda request: request.failure == "net::ERR_ABORTED" or wrong.append(request.url))
        page.on(
            "request", lambda request: request.url.startswith((allowed, "blob:", "data:")) or wrong.append(request.url)
        )
        contexts.append(context)
        page.goto(address)
        until(page, "document.getElementById('kept').textContent !== ''")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def address(run, route=""):
    return (run / "report" / "index.html").as_uri() + route


def until(page, condition, arg=None):
    """Wait for an expression to hold; asked from outside, as the page's policy forbids evaluating text within it."""
    end = time.monotonic() + 20
    while not page.evaluate(condition, arg):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def shown(page):
    return page.evaluate("Gallery.shown.map((number) => DETCAM.cases[number].id)")


def kept(page):
    return json.loads(page.evaluate("Verdicts.toJson()"))
