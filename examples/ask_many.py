"""Ask about one image many times: what is there, why, and what the detector says of the image when it is changed.

python examples/ask_many.py best.pt bus.jpg
"""

import sys
from collections.abc import Iterator

import numpy as np

import detcam

SQUARE = 32


def hidden_squares(image: np.ndarray) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """The place (x, y) of every square of a grid, and the image with that square painted grey."""
    height, width = image.shape[:2]
    for y in range(0, height, SQUARE):
        for x in range(0, width, SQUARE):
            changed = image.copy()
            changed[y : y + SQUARE, x : x + SQUARE] = 114
            yield (x, y), changed


def main(weights: str, image: str) -> None:
    """Print the answers."""
    session = detcam.open_image(weights, image)  # one forward pass
    for explanation in session.explain():
        print(explanation.sentence)

    unsure = session.detections_at(conf=0.05)  # from the same pass
    print(f"{len(session.detections)} detections, {len(unsure)} at a confidence of 0.05")

    first = session.detections[0]
    evidence = session.evidence(first)
    if evidence is not None:
        print(f"{first.caption} hangs on {evidence.patches.tolist()}")
    (gradients,) = session.explain(first, method="layercam")
    print(f"layercam: {session.receipt(gradients).text}")

    places, changed = zip(*hidden_squares(session.image), strict=True)
    left = session.scores(changed, first)[:, 0]
    print(f"{left.min():.2f} is left without the square at {places[left.argmin()]}")

    x1, y1, x2, y2 = (first.xyxy + SQUARE).tolist()
    (why_not,) = session.explain(box=(x1, y1, x2, y2), class_name=first.class_name)
    print(why_not.sentence)


if __name__ == "__main__":
    main(*sys.argv[1:])
