"""Train the detector of known causes: ``python -m detcam.demo.train_causes OUT.pt``.

Goes on from the bundled detector's weights, with the classes of :mod:`detcam.demo.causes`, on drawn scenes as they are:
to move, flip or mix them would cut causes off their things. Seeded, on the CPU, about twenty minutes on two cores.
Prints mAP50 on held-out scenes, and for each kind what its cause does (:func:`~detcam.demo.measure.measure_flips`).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from ultralytics import YOLO

from detcam.demo.causes import write_dataset
from detcam.demo.measure import measure_flips, measure_map50
from detcam.demo.scenes import SIZE

START = Path(__file__).with_name("detector.pt")
TRAIN_SEEDS, HELD_OUT_SEEDS = range(0, 2000), range(100_000, 100_200)


def train(out: Path, epochs: int = 14) -> Path:
    """Train the detector of known causes; the seeds fix data, new weights and order.

    Args:
        out: the checkpoint to write.
        epochs: how often every image is seen.

    Returns:
        ``out``.
    """
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        data = write_dataset(Path(scratch) / "scenes", TRAIN_SEEDS, HELD_OUT_SEEDS)
        YOLO(str(START)).train(
            data=str(data), epochs=epochs, imgsz=SIZE, batch=16, device="cpu", seed=0, deterministic=True, workers=0,
            optimizer="AdamW", lr0=0.002, lrf=0.02, warmup_epochs=1, cos_lr=True, cache="ram", close_mosaic=0,
            mosaic=0.0, mixup=0.0, fliplr=0.0, degrees=0.0, translate=0.0, scale=0.0, erasing=0.0,
            hsv_h=0.01, hsv_s=0.2, hsv_v=0.2, plots=False, val=False, amp=False,
            project=scratch, name="run", exist_ok=True, verbose=False,
        )  # fmt: skip
        torch.save(remove_paths(torch.load(Path(scratch) / "run" / "weights" / "last.pt", weights_only=False)), out)
    return out


def remove_paths(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint without the paths and the repository of the machine it was trained on.

    Args:
        checkpoint: as Ultralytics saves it; changed.
    """
    model = checkpoint["model"]
    for arguments in (checkpoint["train_args"], model.args):
        arguments.update(dict.fromkeys(("data", "project", "save_dir"), ""), model=START.name)
    model.yaml["yaml_file"], model.pt_path = "detector.yaml", START.name
    return {**checkpoint, "git": None}


def main() -> None:
    """Train, write, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="where to write the checkpoint")
    parser.add_argument("--epochs", type=int, default=14)
    arguments = parser.parse_args()
    weights = train(arguments.out, arguments.epochs)
    print(f"weights: {weights} ({weights.stat().st_size / 2**20:.2f} MiB)")
    print(f"held-out mAP50: {measure_map50(weights, HELD_OUT_SEEDS, write_dataset):.3f}")
    for kind, flips in measure_flips(weights, HELD_OUT_SEEDS[::2]).items():
        print(f"{kind:8} {flips.things} things: {flips.found:.1%} found, {flips.flipped:.1%} flipped by their cause")


if __name__ == "__main__":
    main()
