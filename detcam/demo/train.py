"""Train the bundled detector: ``python -m detcam.demo.train OUT.pt``.

Draws the training and held-out scenes, trains the network of ``detector.yaml`` from scratch on them with Ultralytics'
own trainer (seeded, CPU, under half an hour on two cores), and prints the two figures that the demo stands on: mAP50 on
the held-out scenes, and what the planted mark does to the class of a box (:mod:`detcam.demo.measure`).

``--start detector.pt --extra SET`` trains a finished detector further, on half of the scenes and a set beside them:
the counterfactuals of ``detcam export --to counterfactuals``.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
import yaml
from ultralytics import YOLO

from detcam.demo.measure import measure_map50, measure_shortcut
from detcam.demo.scenes import SIZE, write_dataset

TRAIN_SEEDS = range(0, 1600)
HELD_OUT_SEEDS = range(100_000, 100_200)


def train(out: Path, epochs: int = 26, start: Path | None = None, extra: Path | None = None) -> Path:
    """Train from scratch, or from a checkpoint on, and write the checkpoint to ``out``.

    The seeds fix data, initial weights and order.

    Args:
        out: the checkpoint to write.
        epochs: how often every image is seen.
        start: a checkpoint to go on from, with a smaller learning rate and half of the scenes.
        extra: a folder in YOLO's layout whose ``images/train`` are trained on too.
    """
    with tempfile.TemporaryDirectory() as scratch:
        seeds = TRAIN_SEEDS if start is None else TRAIN_SEEDS[::2]
        data = write_dataset(Path(scratch) / "scenes", seeds, HELD_OUT_SEEDS)
        if extra is not None:
            described = yaml.safe_load(data.read_text(encoding="utf-8"))
            described["train"] = [described["train"], str((extra / "images" / "train").resolve())]
            data.write_text(yaml.safe_dump(described), encoding="utf-8")
        model = YOLO(str(start or Path(__file__).with_name("detector.yaml")), task="detect")
        model.train(
            data=str(data), epochs=epochs, imgsz=SIZE, batch=32, device="cpu", seed=0, deterministic=True, workers=0,
            optimizer="AdamW", lr0=0.003 if start is None else 0.001, lrf=0.02,
            warmup_epochs=2 if start is None else 0, cos_lr=True, cache="ram", close_mosaic=0,
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
    parser.add_argument("--start", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--extra", type=Path, help="a set to train on beside the scenes")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    weights = train(arguments.out, arguments.epochs, arguments.start, arguments.extra)
    print(f"weights: {weights} ({weights.stat().st_size / 2**20:.2f} MiB)")
    print(f"held-out mAP50: {measure_map50(weights, HELD_OUT_SEEDS):.3f}")
    print(measure_shortcut(weights, HELD_OUT_SEEDS))


if __name__ == "__main__":
    main()
