"""Review a detector on labels in a format of one's own: ``python own_data.py WEIGHTS LABELS FOLDER``."""

import sys
from pathlib import Path

import numpy as np

import detcam
from detcam.data import LabelledImage, LabelledSet, Truth, image_size


def read_lines(path: str | Path) -> LabelledSet | None:
    """The set of a ``.lines`` file, ``IMAGE CLASS x1 y1 x2 y2`` in each line; None for other files."""
    path = Path(path)
    if path.suffix != ".lines":
        return None
    rows = [line.split() for line in path.read_text().splitlines()]
    classes = sorted({name for _, name, *_ in rows})
    truths: dict[Path, list[Truth]] = {path.parent / file: [] for file, *_ in rows}
    for number, (file, name, *corners) in enumerate(rows, 1):
        box = np.array(corners, np.float32)
        truths[path.parent / file].append(Truth(f"{path.name}:{number}", box, classes.index(name), name))
    images = [LabelledImage(file, image_size(file), tuple(those)) for file, those in truths.items()]
    return LabelledSet(tuple(images), dict(enumerate(classes)))


def main(weights: str, labels: str, folder: str) -> None:
    """Review, then read the rows and maps of the run folder."""
    detcam.register_data_format("lines", read_lines)
    result = detcam.review.run_review(weights, labels, folder)
    print(f"mAP50 {result.map50:.2f}")
    for row in detcam.open_run(folder).rows():
        heatmap = result.run.heatmap(row)
        print(row.detection.caption, row.further["error_type"], "no map" if heatmap is None else heatmap.raw.shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
