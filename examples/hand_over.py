"""What Ultralytics reported, explained and handed on: ``python hand_over.py WEIGHTS IMAGE FOLDER``."""

import json
import sys
from pathlib import Path

from ultralytics import YOLO

import detcam


def main(weights: str, image: str, folder: str) -> None:
    """Explain the boxes of Ultralytics' results, one of them alone, and give them to other libraries."""
    results = YOLO(weights)(image, conf=0.4, verbose=False)
    result = detcam.explain(weights, results[0])  # its image, its boxes
    (alone,) = detcam.explain(weights, results[0], detection=results[0].boxes[0])  # this box only

    session = detcam.open_image(weights, results[0])
    (gradients,) = session.explain(results[0].boxes[0], method="layercam")

    result.save(Path(folder) / "all.png")  # the folder is made
    alone.save(Path(folder) / f"{alone.file_name}.png")
    alone.to_pil().thumbnail((320, 320))
    text = json.dumps(result.to_dict())
    frame = result.to_polars()  # to_pandas() where pandas is installed, to_supervision() where supervision is

    print(f"{len(results[0].boxes)} boxes, {len(frame)} rows, {len(text)} letters of JSON")
    print(repr(result))
    print(f"{alone!r} and by {gradients.method}")


if __name__ == "__main__":
    main(*sys.argv[1:])
