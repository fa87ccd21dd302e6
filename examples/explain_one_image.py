"""Explain every detection of one image: ``python explain_one_image.py WEIGHTS IMAGE FOLDER``."""

import sys
from pathlib import Path

import detcam


def main(weights: str, image: str, folder: str) -> None:
    """Write one picture per detection and print what each stands on."""
    out = Path(folder)
    for number, e in enumerate(detcam.explain(weights, image)):
        if e.status != "ok":
            print(f"{e.detection.caption}: {e.status}, {e.reason}")
            continue
        e.save(out / f"{number}-{e.file_name}.png")
        x1, y1, x2, y2 = e.detection.xyxy.round().astype(int)
        heat = e.heatmap.array
        inside = heat[y1:y2, x1:x2].sum() / heat.sum()
        print(f"{e.detection.caption}: {inside:.0%} of the heat lies in its box; layers {', '.join(e.layers)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
