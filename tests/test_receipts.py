"""Both receipts, the full and the quick one: marks that are causes are borne out, random parts that are none are not.

``pytest -m slow -s tests/test_receipts.py`` prints how often.
"""

from itertools import islice

import numpy as np
import pytest
import torch

import detcam
from detcam.attribution.receipt import make_quick_receipts, verify
from detcam.data import read_data
from detcam.evaluate.planted.cases import detections_of, planted_kites
from detcam.evaluate.planted.measure import measure_causes
from detcam.evaluate.planted.table import summarise
from detcam.io.images import read_image
from detcam.metrics.localization import box_mask
from detcam.probing.prepared_image import prepare_images
from detcam.probing.probe import Probe
from detcam.targets import class_logit
from support.data import real

TRIES = 400


def random_part(rng, shape, side, taken):
    """A square of about so many pixels a side, bool (H, W), that touches nothing taken; None where there is no room."""
    height, width = shape
    side = min(max(round(side), 2), height - 1, width - 1)
    for _ in range(TRIES):
        x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        if not taken[y : y + side, x : x + side].any():
            return box_mask((x, y, x + side, y + side), shape)
    return None


def network_map(letterbox, part):
    """A part of the original image, bool (H, W), as a map over the detector's input."""
    rows, columns = np.nonzero(part)
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return torch.from_numpy(box_mask(letterbox.to_network(box).round().astype(int), letterbox.network)).float()


def verdicts(model, image, detection, part):
    """Whether the full and the quick receipt support a map of one part of an image."""
    (prepared,) = prepare_images(model, [image])
    heat = network_map(prepared.letterbox, part)
    probe = Probe(prepared, [(detection, class_logit)])
    (full,), (quick,) = verify(probe, [heat]), make_quick_receipts(probe, {0: heat})
    return full.supported, quick.supported


def parts_beside_kites(model, kites, each):
    """Verdicts on random parts as large as the mark, beside the box and the mark, in scenes with a mark that counts."""
    rng = np.random.default_rng(0)
    for kite in islice(planted_kites(model), kites):
        detection = detections_of(model, kite.image)[kite.number]
        side = np.sqrt(np.count_nonzero(kite.cause))
        for _ in range(each):
            part = random_part(rng, kite.box.shape, side, kite.box | kite.cause)
            if part is not None:
                yield verdicts(model, kite.image, detection, part)


def parts_of_photographs(model, images):
    """Verdicts on random parts of photographs, away from a box enlarged twice; two fifths of its side, as a mark is."""
    rng = np.random.default_rng(0)
    for image in images:
        found = detections_of(model, image)
        for detection in (found[i] for i in rng.permutation(len(found))[:2]):
            x1, y1, x2, y2 = detection.xyxy
            across, down = (x2 - x1) / 2, (y2 - y1) / 2
            near = box_mask((x1 - across, y1 - down, x2 + across, y2 + down), image.shape[:2])
            part = random_part(rng, image.shape[:2], 0.4 * np.sqrt((x2 - x1) * (y2 - y1)), near)
            if part is not None:
                yield verdicts(model, image, detection, part)


def tell(what, outcomes):
    """Print how many of some parts each receipt supports; those two numbers."""
    full, quick = (sum(part) for part in zip(*outcomes, strict=True))
    print(f"{what}: of {len(outcomes)} random parts the full receipt supports {full}, the quick one {quick}")
    return full, quick


def test_neither_receipt_supports_random_parts(demo_detector):
    outcomes = list(parts_beside_kites(demo_detector, 5, 3))
    assert len(outcomes) >= 12
    assert max(tell("scenes", outcomes)) <= 1


def test_both_receipts_support_the_mark(demo_detector):
    lines = {line["method"]: line for line in summarise(measure_causes([], 5, receipts=True, kinds=["near"]))}
    for name in ("cause", "elsewhere"):
        assert lines[name]["judged"] == 5
        assert min(lines[name]["right"], lines[name]["quick_right"]) >= 4


@pytest.mark.slow
def test_false_alarms_of_random_parts_beside_kites_are_at_most_three_in_a_hundred(demo_detector):
    outcomes = list(islice(parts_beside_kites(demo_detector, 40, 4), 100))
    assert len(outcomes) == 100
    assert max(tell("scenes", outcomes)) <= 3


@pytest.mark.slow
def test_false_alarms_in_photographs_are_at_most_three_in_a_hundred():
    labelled = read_data(real("coco/instances.json"))
    model = detcam.load(real("weights/yolov8n.pt"))
    images = (read_image(one.path) for one in labelled.images)
    outcomes = list(islice(parts_of_photographs(model, images), 100))
    assert len(outcomes) == 100
    assert max(tell("photographs", outcomes)) <= 3
