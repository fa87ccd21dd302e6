"""Labelled images and detections: by hand, drawn by hypothesis, and crammed."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from detcam.data import LabelledImage, Truth
from detcam.types import Detection

CAT, DOG, COW = 0, 1, 2
NAMES = ["cat", "dog", "cow"]


def truth(box, class_id=CAT, crowd=False):
    return Truth("", np.float32(box), class_id, NAMES[class_id], crowd)


def found(box, class_id=CAT, confidence=0.5):
    return Detection(np.float32(box), class_id, NAMES[class_id], confidence, anchor=0, stride=8)


def labelled(*truths):
    return LabelledImage(Path("a.jpg"), (100, 100), truths)


# Boxes on a coarse grid: equal overlaps and overlaps of exactly a half and a tenth are common.
CORNERS, SIDES = st.sampled_from([0, 0, 5]), st.sampled_from([1, 5, 10])
BOXES = st.tuples(CORNERS, CORNERS, SIDES, SIDES).map(lambda box: (*box[:2], box[0] + box[2], box[1] + box[3]))
CLASSES = st.integers(0, 2)
TRUTHS = st.lists(st.builds(truth, BOXES, CLASSES, st.sampled_from([False, False, False, True])), max_size=5)


@st.composite
def sets(draw, ties):
    """Up to four images with their detections; ``ties``: of equal confidence."""
    truths = draw(st.lists(TRUTHS, min_size=1, max_size=4))
    confidences = iter(
        draw(
            st.lists(
                st.sampled_from([0.25, 0.5, 0.75]) if ties else st.floats(0.01, 1),
                unique=not ties,
                min_size=32,
                max_size=32,
            )
        )
    )
    boxes = st.lists(st.tuples(BOXES, CLASSES), max_size=8)
    detections = [[found(box, c, next(confidences)) for box, c in draw(boxes)] for _ in truths]
    return [labelled(*several) for several in truths], detections


def crammed(seed):
    """Twelve images whose detections lie near truths, of the right class or not, with crowds, as floats."""
    random = np.random.default_rng(seed)
    images, detections = [], []
    for number in range(12):
        corners = random.uniform(0, 60, (random.integers(0, 7) if number else 0, 2))
        boxes = np.concatenate([corners, corners + random.uniform(13, 40, corners.shape)], 1)
        truths = [truth(box, int(random.integers(3)), random.random() < 0.2) for box in boxes]
        images.append(labelled(*truths))
        near = [boxes[random.integers(len(boxes))] + random.uniform(-6, 6, 4) for _ in range(12) if len(boxes)]
        free = [np.array([x, y, x + 20, y + 20]) for x, y in random.uniform(0, 80, (number % 4, 2))]
        detections.append([found(box, int(random.integers(3)), random.random()) for box in near + free])
    return images, detections


def box_of(mark):
    x1, y1, x2, y2 = mark.xyxy.tolist()
    return [x1, y1, x2 - x1, y2 - y1]
