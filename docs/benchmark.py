"""Measures the methods on real weights and photographs, and writes docs/benchmark.md.

Run: DETCAM_DATA=<folder with weights/, coco/, hog/> python docs/benchmark.py [OUT]

Two tables for each set: methods that a user waits for, on many detections; and all methods, searches of a thousand
forward passes among them, on few. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import polars as pl

from detcam.cli import main

PAGE = Path(__file__).with_name("benchmark.md")
QUICK = (
    "random,edges,box,eigencam@neck,gradcam,gradcam@neck,layercam,layercam@neck,hirescam,odam@neck,guided,guided:256"
)
SLOW = (
    "box,eigencam,gradcam++,xgradcam,layercam,ssgradcam,fullgrad,occlusion,drise:600,dcrisp:600,guided:16,guided,"
    "guided:256,phasewin,vps"
)
TABLES = {"quick": (QUICK, 20), "slow": (SLOW, 4)}
SETS = {
    "yolov8n-coco": ("yolov8n.pt", "coco/instances.json", "yolov8n, COCO photographs"),
    "yolo26n-coco": ("yolo26n.pt", "coco/instances.json", "yolo26n (end to end), COCO photographs"),
    "hogdetect-hog": ("hogdetect.pt", "hog/data.yaml", "hogdetect (custom, two classes), animal photographs"),
}
SIDE = 384


def measure(name: str, kind: str, out: Path) -> pl.DataFrame:
    """The summary of one table of one set."""
    data = Path(os.environ["DETCAM_DATA"])
    weights, labels, _ = SETS[name]
    methods, detections = TABLES[kind]
    folder = out / f"{name}-{kind}"
    code = main(
        ["evaluate", "--weights", str(data / "weights" / weights), "--imgsz", str(SIDE), "--data", str(data / labels),
         "--methods", methods, "--limit", str(detections), "--per-image", "1", "--out", str(folder)]
    )  # fmt: skip
    if code:
        raise SystemExit(f"{folder}: detcam evaluate ended with {code}")
    return pl.read_csv(folder / "summary.csv")


def section(name: str, summary: pl.DataFrame) -> str:
    """One table."""
    lines = [
        f"## {SETS[name][2]}: {summary['detections'].max()} detections\n",
        "| method | ins - del, blur | lead on the box | ins - del, mean fill | deletion | insertion | "
        "outside | forwards | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in summary.iter_rows(named=True):
        main_figure, lead, mean = (
            f"{row[key]:+.3f} [{row[f'{key}_low']:+.2f}, {row[f'{key}_high']:+.2f}]"
            for key in ("faithfulness_blur", "lead", "faithfulness_mean")
        )
        lines.append(
            f"| {row['method']} | {main_figure} | {lead} | {mean} | {row['deletion_blur']:.3f} | "
            f"{row['insertion_blur']:.3f} | {row['outside_blur']:.3f} | {row['forwards']:.0f} | {row['seconds']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def page(sections: list[str]) -> str:
    """The whole page."""
    return (
        "# Methods against each other\n\n"
        "Made by `DETCAM_DATA=... python docs/benchmark.py`; the tables are written by it alone. Insertion minus\n"
        f"deletion of the tracked score, in ten steps up to the box's area, images at {SIDE} px, one\n"
        "detection a photograph; bootstrap 95 % intervals. The lead is the difference\n"
        "to the Gaussian in the box on the same detections. Outside: deletion of the pixels outside the box alone, as\n"
        "much as the box's area; lower is better.\n"
        "Forwards: images passed through the detector for each detection; a backward pass counts as two, what\n"
        "detections of an image share is divided among them (here each image has one). Seconds: one core of a busy\n"
        "machine, good for comparison alone. `eigencam@neck` is how EigenCAM is usually drawn for YOLO,\n"
        "`gradcam@neck` pytorch-grad-cam's usual recipe with the detection's own score, `layercam@neck` the layers of\n"
        "Ultralytics' own heatmaps.\n\n" + "\n".join(sections)
    )


if __name__ == "__main__":
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/benchmark")
    tables = [section(name, measure(name, kind, runs)) for kind in TABLES for name in SETS]
    PAGE.write_text(page(tables), encoding="utf-8")
