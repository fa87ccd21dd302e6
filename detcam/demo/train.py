"""Train the bundled detector: ``python -m detcam.demo.train OUT.pt``.

Draws the training and held-out scenes, trains the network of ``detector.yaml`` from scratch on them with Ultralytics'
own trainer (seeded, CPU, under half an hour on two cores), and prints the two figures that the demo stands on: mAP50 on
the held-out scenes, and what the planted mark does to the class of a box (:mod:`detcam.demo.measure`).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
from ultralytics import YOLO

from detcam.demo.measure import measure_map50, measure_shortcut
from detcam.demo.scenes import SIZE, write_dataset

TRAIN_SEEDS = range(0, 1600)
HELD_OUT_SEEDS = range(100_000, 100_200)


def train(out: Path, epochs: int = 26) -> Path:
    """Train from scratch and write the checkpoint to ``out``; the seeds fix data, initial weights and order."""
    with tempfile.TemporaryDirectory() as scratch:
        data = write_dataset(Path(scratch) / "scenes", TRAIN_SEEDS, HELD_OUT_SEEDS)
        model = YOLO(str(Path(__file__).with_name("detector.yaml")), task="detect")
        model.train(
            data=str(data), epochs=epochs, imgsz=SIZE, batch=32, device="cpu", seed=0, deterministic=True, workers=0,
            optimizer="AdamW", lr0=0.003, lrf=0.02, warmup_epochs=2, cos_lr=True, cache="ram", close_mosaic=0,
            mosaic=0.0, mixup=0.0, fliplr=0.0, degrees=0.0, translate=0.1, scale=0.2, erasing=0.0,
            hsv_h=0.02, hsv_s=0.3, hsv_v=0.3, plots=False, val=False, amp=False,
            project=scratch, name="run", exist_ok=True, verbose=False,
        )  # fmt: skip
        shutil.copyfile(Path(scratch) / "run" / "weights" / "last.pt", out)
    return out


def main() -> None:
    """Train, write, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="where to write the checkpoint")
    parser.add_argument("--epochs", type=int, default=26)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    weights = train(arguments.out, arguments.epochs)
    print(f"weights: {weights} ({weights.stat().st_size / 2**20:.2f} MiB)")
    print(f"held-out mAP50: {measure_map50(weights, HELD_OUT_SEEDS):.3f}")
    print(measure_shortcut(weights, HELD_OUT_SEEDS))


if __name__ == "__main__":
    main()
