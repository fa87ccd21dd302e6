"""A target from outside detcam: ``python own_target.py WEIGHTS IMAGE FOLDER``."""

import sys
from pathlib import Path

import torch

import detcam


def margin(raw: detcam.RawOutput, index: int, detection: detcam.Detection) -> torch.Tensor:
    """The logit of the detection's class less that of the strongest other class."""
    logits = raw.logits[index, detection.anchor]
    others = torch.cat([logits[: detection.class_id], logits[detection.class_id + 1 :]])
    return logits[detection.class_id] - others.max()


def main(weights: str, image: str, folder: str) -> None:
    """Ask two methods what the margin of the most confident detection rests on."""
    for method in ("layercam", "effect"):
        e = detcam.explain(weights, image, method=method, target=margin, detection=0)[0]
        e.save(Path(folder) / f"{method}.png")
        print(f"{e.detection.caption}, {e.method} of {e.target}: {e.status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
