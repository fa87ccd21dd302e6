"""Review a detector on labels in a format of one's own: ``python own_data.py WEIGHTS LABELS FOLDER``."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import detcam
from detcam.data import LabelledImage, LabelledSet, Truth, image_size


def read_lines(path: Path, names: Mapping[int, str]) -> LabelledSet:
    """A set of lines ``FILE CLASS x1 y1 x2 y2``, read for a model with these classes."""
    numbers = {name: class_id for class_id, name in names.items()}
    truths: dict[str, list[Truth]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        file, name, *corners = line.split()
        box = np.array(corners, np.float32)
        truths.setdefault(file, []).append(Truth(f"{path.name}:{number}", box, numbers[name], name))
    files = [path.parent / file for file in truths]
    images = zip(files, map(image_size, files), map(tuple, truths.values()), strict=True)
    return LabelledSet(tuple(LabelledImage(*image) for image in images), names)


def main(weights: str, labels: str, folder: str) -> None:
    """Review, then read the rows and maps of the run folder."""
    model = detcam.load(weights)
    result = detcam.review.run_review(model, read_lines(Path(labels), model.names), folder)
    print(f"mAP50 {result.map50:.2f}")
    for row in detcam.open_run(folder).rows():
        heatmap = result.run.heatmap(row)
        print(row.detection.caption, row.further["error_type"], "no map" if heatmap is None else heatmap.raw.shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
