"""The figures of an evaluation against optima and chances that are known, and the masks of pycocotools."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from detcam.data import read_data
from detcam.evaluate.contest import mask_of
from detcam.metrics.faithfulness import PARTS, STEPS, faithfulness, interval
from detcam.metrics.localization import energy_inside
from detcam.tensors.fills import FILLS
from detcam.types import Detection
from support.data import real
from support.labelled_sets import coco, pycocotools_masks


def drawn_set(folder):
    """One image: a polygon, two polygons, and a crowd as run lengths."""
    crowd = np.zeros((40, 50), np.uint8, order="F")
    crowd[25:38, 5:40:2] = 1
    code = {"size": [40, 50], "counts": coco_mask.encode(crowd)["counts"].decode()}
    marks = [
        {"bbox": [4.5, 3.2, 25.6, 18.7], "segmentation": [[4.5, 3.2, 30.1, 6.0, 22.7, 21.9]]},
        {"bbox": [31, 2, 17, 18], "segmentation": [[31, 2, 38, 2, 38, 20, 31, 20], [42, 2, 48, 2, 48, 18.5, 42, 20]]},
        {"bbox": [5, 25, 35, 13], "segmentation": code, "iscrowd": 1},
    ]
    return coco(folder, [{"iscrowd": 0, **mark} for mark in marks])


@pytest.mark.parametrize("source", ["drawn", "photographs"])
def test_energy_in_masks_is_that_of_pycocotools(tmp_path, source):
    path = drawn_set(tmp_path) if source == "drawn" else real("coco/instances.json")
    theirs, drawn, generator, kinds = COCO(path), pycocotools_masks(path), np.random.default_rng(0), set()
    for labelled in read_data(path).images:
        heat = generator.random(labelled.size, np.float32)
        marks = [theirs.anns[int(truth.id)] for truth in labelled.truths]
        for truth, mark in zip(labelled.truths, marks, strict=True):
            kinds.add((truth.crowd, type(mark["segmentation"])))
            share = np.average(drawn(truth.id), weights=heat.astype(float))
            assert energy_inside(heat, truth.mask(*labelled.size)) == pytest.approx(share, rel=1e-9)
            # A detection's mask is that of the object of its class, no crowd, that pycocotools finds nearest.
            box = truth.xyxy + generator.normal(0, 0.1, 4) * np.tile(truth.xyxy[2:] - truth.xyxy[:2], 2)
            detection = Detection(box.astype(np.float32), truth.class_id, truth.class_name, 0.9, 0, 8)
            alike = [other for other in marks if other["category_id"] == truth.class_id and not other["iscrowd"]]
            boxes = np.array([other["bbox"] for other in alike], np.float64).reshape(-1, 4)
            overlaps = coco_mask.iou(np.r_[box[:2], box[2:] - box[:2]][None].astype(float), boxes, [0] * len(alike))
            expected = drawn(alike[np.argmax(overlaps)]["id"]) if alike and np.max(overlaps) >= 0.5 else None
            np.testing.assert_equal(mask_of(labelled, detection, labelled.size), expected)
    assert kinds == {(False, list), (True, dict)}


class Counted:
    """An image with padding above and below of which known pixels matter: the score is the share of them left."""

    def __init__(self, cause, box, sides):
        self.inside, self.cause = (torch.zeros(40, 56, dtype=torch.bool) for _ in range(2))
        self.inside[6:34] = self.cause[cause] = True
        self.image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
        self.box = torch.tensor(box, dtype=torch.float32)
        self.counts = np.array([round(step * sides[0] * sides[1] / 10) for step in range(11)])
        self.size, self.pixels = int(self.cause.sum()), int(self.inside.sum())

    def score(self, images):
        return (images == self.image).all(1)[:, self.cause].float().mean(1, keepdim=True).expand(-1, len(PARTS))

    def figures(self, heat, seed=0):
        return faithfulness(heat, self.image, self.box, self.inside, torch.ones(len(PARTS)), self.score, seed)


BLOCK, CORNER = (slice(12, 20), slice(20, 30)), (slice(6, 20), slice(0, 30))  # 80 and 420 pixels
CASES = {  # the cause, the box, and what sides of it are within the image
    "a box around the cause": (BLOCK, (16, 9, 34, 23), (18, 14)),
    "a box smaller than the cause": (CORNER, (4, 8, 16, 16), (12, 8)),
    "a box cut by the image's sides": (BLOCK, (-7, 10, 70, 22), (56, 12)),
    "a box that reaches into the padding": (CORNER, (10, -5, 31, 16), (21, 10)),
    "a box around the whole image": (CORNER, (-3, -3, 99, 99), (56, 28)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_optimum_and_the_worst_of_a_known_cause(case):
    known = Counted(*CASES[case])
    heat = known.cause.float().masked_fill(~known.inside, 9)  # what is hot in the padding must not count
    best, worst = known.figures(heat), known.figures(1 - known.cause.float())
    # Of its n hottest pixels, a map has at most n in the cause, and at least those that find no place elsewhere.
    most = np.minimum(known.counts, known.size) / known.size
    least = np.maximum(known.counts - (known.pixels - known.size), 0) / known.size
    for told, found in ((best, most), (worst, least)):
        for fill in FILLS:
            for name, curve in (("deletion", 1 - found), ("insertion", found)):
                assert np.abs(told[f"curve_{name}_{fill}"] - curve).max() < 1e-6
                assert told[f"{name}_{fill}"] == pytest.approx(scipy.integrate.trapezoid(curve) / STEPS, abs=1e-6)
            assert told[f"faithfulness_{fill}"] == pytest.approx(
                2 * scipy.integrate.trapezoid(found) / STEPS - 1, abs=1e-6
            )


@pytest.mark.parametrize("kind", ["random", "flat"])  # the ties of a flat map fall at random
@pytest.mark.parametrize("case", CASES)
def test_a_random_map_is_in_the_middle(case, kind):
    known, draws = Counted(*CASES[case]), 40
    counts, share = known.counts, known.size / known.pixels
    generator = torch.Generator().manual_seed(1)
    heats = [torch.rand(40, 56, generator=generator) if kind == "random" else torch.ones(40, 56) for _ in range(draws)]
    told = [known.figures(heat, seed) for seed, heat in enumerate(heats)]
    # How many of the cause are among n pixels at random is hypergeometric; those of one step are among the next's.
    fewer, more = np.minimum.outer(counts, counts), np.maximum.outer(counts, counts)
    covariance = fewer * (known.pixels - more) * share * (1 - share) / (known.pixels - 1) / known.size**2
    weights = np.array([0.5, *[1] * 9, 0.5]) / 10
    error, middle = np.sqrt(weights @ covariance @ weights / draws), weights @ counts / known.pixels
    for fill in FILLS:
        deletion, insertion = (np.mean([one[f"{name}_{fill}"] for one in told]) for name in ("deletion", "insertion"))
        assert insertion == pytest.approx(middle, abs=4 * error)
        assert deletion == pytest.approx(1 - middle, abs=4 * error)
    assert np.std([one["deletion_mean"] for one in told]) == pytest.approx(error * np.sqrt(draws), rel=0.5)


@pytest.mark.parametrize("values", ["even", "skewed"])
def test_the_interval_is_scipys_bootstrap(values):
    generator = np.random.default_rng(0)
    sample = generator.normal(2, 1, 200) if values == "even" else generator.exponential(1, 25)
    draws, (mean, *ends) = 10_000, interval(sample)
    theirs = scipy.stats.bootstrap((sample,), np.mean, n_resamples=draws, method="percentile", random_state=1)
    assert mean == pytest.approx(theirs.bootstrap_distribution.mean(), abs=4 * theirs.standard_error / np.sqrt(draws))
    # A quantile of n draws has the standard error sqrt(p (1 - p) / n) over their density there; both have it.
    density = scipy.stats.gaussian_kde(theirs.bootstrap_distribution)
    for ours, other in zip(ends, theirs.confidence_interval, strict=True):
        error = np.sqrt(2 * 0.025 * 0.975 / draws) / density(other)[0]
        assert ours == pytest.approx(other, abs=4 * error)
