"""Measures what a run costs for each image, and writes docs/scale.md.

Run: DETCAM_DATA=<folder with weights/, coco/> python docs/scale.py

One thread, so that a figure is one core's. Ray's overhead needs `pip install 'ray[data]'` and is left out without it.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.geometry import Letterbox
from detcam.runs.folder import RunFolder
from detcam.runs.schema import image_key, read_detections, row_of
from detcam.types import Detection, Explanation, Heatmap

PAGE = Path(__file__).with_name("scale.md")
PHOTOGRAPHS, SCENES = 24, 480
PARTS, ROWS = 20_000, 7
MILLION = 1_000_000


def explain(source: Path, out: Path, weights: Path, *options: str) -> float:
    """Seconds that a run took, the loading of the model among them."""
    start = time.perf_counter()
    main(["explain", str(source), "--weights", str(weights), "--out", str(out), *options])
    return time.perf_counter() - start


def size(path: Path) -> int:
    """Bytes below a folder, or of a file."""
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )


def measured(name: str, source: Path, out: Path, weights: Path, options: Sequence[str]) -> dict[str, float | str]:
    """What one image and one detection cost: the difference of two runs, so that starting is not counted."""
    names = sorted(source.iterdir())[:PHOTOGRAPHS]
    took = []
    for count in (PHOTOGRAPHS // 4, PHOTOGRAPHS):
        listed = out / f"{name}-{count}.txt"
        listed.write_text("\n".join(map(str, names[:count])), encoding="utf-8")
        took.append(explain(listed, out / f"{name}-{count}", weights, *options))
    run = out / f"{name}-{PHOTOGRAPHS}"
    found = len(read_detections(run))
    pictures = size(run / "overlays") if (run / "overlays").is_dir() else 0
    return {
        "name": name,
        "seconds": (took[1] - took[0]) / (PHOTOGRAPHS - PHOTOGRAPHS // 4),
        "detections": found / PHOTOGRAPHS,
        "maps": size(run / "heatmaps") / found,
        "rows": size(run / "detections.parquet") / found,
        "pictures": pictures / PHOTOGRAPHS,
    }


def overhead(out: Path) -> tuple[float, float]:
    """Seconds of each image of the bundled detector's scenes, here and on Ray with one worker, starting not counted."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)  # its start varies by more than is looked for
    took: dict[str, list[float]] = {"local": [], "ray": []}
    for count in (SCENES // 8, SCENES):
        images = out / f"scenes-{count}"
        images.mkdir()
        for seed in range(count):
            Image.fromarray(render(make_scene(seed))).save(images / f"{seed:04d}.png", compress_level=1)
        for engine in took:
            options = ("--method", "layercam", "--save", "none", "--engine", engine, "--workers", "1", "--batch", "4")
            took[engine].append(explain(images, out / f"{engine}-{count}", WEIGHTS, *options))
    return tuple((times[1] - times[0]) / (SCENES - SCENES // 8) for times in took.values())  # type: ignore[return-value]


def gathering(out: Path) -> tuple[float, float]:
    """Seconds, and more memory in MiB than before, for the parts of many images to become one table."""
    folder = RunFolder(out, "explain", {})
    folder.describe()
    heatmap = Heatmap(np.zeros((20, 20), np.float32), Letterbox.fit((480, 640), (640, 640), 32))
    detection = Detection(np.float32([10, 20, 30, 40]), 0, "person", 0.5, 4000, 16)
    layers = ("model.4", "model.6", "model.9")
    told = Explanation(detection, heatmap, "layercam", "class", layers, "ok", "", np.zeros((1, 1, 3), np.uint8))
    for number in range(PARTS):
        name = f"/data/photographs/{number:012d}.jpg"
        folder.add_rows(name, [row_of(f"{image_key(name)}-{n:03d}", name, told) for n in range(ROWS)], {})
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    folder.finish(True)
    return time.perf_counter() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def page(
    rows: Sequence[dict[str, float | str]], engine: tuple[float, float] | None, gathered: tuple[float, float]
) -> str:
    """The whole page."""
    lines = [
        "# What many images cost\n",
        "Made by `DETCAM_DATA=... python docs/scale.py`: COCO photographs, yolov8n at 640 px, one thread of a shared",
        "machine's CPU, no GPU. Starting (loading the model, about five seconds) is not counted.\n",
        "| options | seconds an image | detections an image | bytes of maps a detection | bytes of table a detection | "
        "bytes of pictures an image | a million images: core hours | terabytes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        each, found, maps, table, pictures = (
            float(row[key]) for key in ("seconds", "detections", "maps", "rows", "pictures")
        )
        total = MILLION * (found * (maps + table) + pictures) / 1e12
        lines.append(
            f"| {row['name']} | {each:.2f} | {found:.1f} | {maps:,.0f} | {table:,.0f} | {pictures:,.0f} | "
            f"{each * MILLION / 3600:,.0f} | {total:.3f} |"
        )
    if engine is not None:
        here, there = engine
        lines += [
            "",
            f"**Ray's overhead**: {1000 * (there - here):+.0f} ms an image ({1000 * here:.0f} ms here, "
            f"{1000 * there:.0f} ms on Ray with one worker; the bundled detector's scenes at 256 px, batches of four). "
            f"A second more or less at a worker's start is {1000 / (SCENES - SCENES // 8):.0f} ms an image here.",
        ]
    seconds, memory = gathered
    lines += [
        "",
        f"**The end of a run**, when the parts of its images become one table: {seconds:.1f} s and {memory:.0f} MiB "
        f"for {PARTS:,} images of {ROWS} detections; of a million {seconds * MILLION / PARTS / 60:.0f} minutes and "
        f"{memory * MILLION / PARTS / 1024:.0f} GiB, if both grow as the images do.",
    ]
    lines += ["", TEXT]
    return "\n".join(lines)


TEXT = """## What it costs

Core hours x the price of a core hour, plus storage. Time is the detector's: `layercam` adds one backward pass to
the backbone for each detection, `guided` 64 forward passes, receipts 16 more; pictures cost more than the maps
they show. On a GPU the forward passes shrink, decoding and writing do not: here give the process enough decoding
threads (`--workers`), and on Ray, where `--workers` are detectors, several workers a GPU are not offered.

On an object store an image is a request to write its maps, one for its part of the table, one for each picture, and
at the end one to read the part and a share of one to remove it.

## What becomes a problem first

1. **Small files.** Every image leaves one `.npz` of maps, and until the run is finished one part of the table. A
   million of each in one folder is slow to list on most file systems and dear on object stores, which bill
   requests. A part is about 10 kB until then, whatever is in it. Split the images over several runs, by folder.
2. **The end of the run** holds the whole table in memory, in one process: the figure above.
3. **`--method auto` on crowded images.** Its price is by detection: a hundred boxes are 6,400 forward passes.
   `--max-det` or `--method layercam` bound it.
4. **One driver.** With Ray, rows go through the process that started the run to be counted; maps and parts do not.
   Names of 100,000 images cost it 0.2 GB, and it hands out and counts some 3,000 images a second (measured once
   by hand, with workers that do nothing).
5. **Pictures.** A panel is some fifty times as large as the maps it shows (the table above). `--save none`, and a
   second run with pictures of those images alone that are looked at.
6. **Remote run folders have no lock.** Two runs on one of them do the same work twice, to the same bytes.

## What was not measured

A GPU; a cluster of more than one machine; an object store other than an imitation of S3 on the same machine, so what
distance and throttling do is unknown.
"""


if __name__ == "__main__":
    torch.set_num_threads(1)
    data = Path(os.environ["DETCAM_DATA"])
    photographs, weights = data / "coco" / "images", data / "weights" / "yolov8n.pt"
    with tempfile.TemporaryDirectory() as scratch:
        runs = Path(scratch)
        gathered = gathering(runs / "gathered")  # first, while little else has been in memory
        rows = [
            measured("layercam", photographs, runs, weights, ("--method", "layercam", "--save", "none")),
            measured("layercam-panel", photographs, runs, weights, ("--method", "layercam", "--save", "panel")),
            measured("auto", photographs, runs, weights, ("--max-det", "5", "--save", "none")),
        ]
        on_ray = overhead(runs) if importlib.util.find_spec("ray") else None
        PAGE.write_text(page(rows, on_ray, gathered), encoding="utf-8")
