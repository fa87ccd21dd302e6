"""The evidence patch on boxes whose dependence is known by hand."""

import numpy as np
import pytest
import torch

from detcam.attribution.evidence import find_evidence, find_surroundings
from detcam.attribution.sentence import place_of
from detcam.geometry import Letterbox

SIZE = (64, 96)
BOX = (30, 20, 62, 44)
CAUSE = (70, 8, 82, 20)
LETTERBOX = Letterbox(SIZE, SIZE, SIZE, (0, 0))


class HandMade:
    """A frame of an image that is 1 everywhere; ``judge`` takes what is left of the cause, and of the whole image."""

    def __init__(self, judge, size=SIZE):
        self.judge = judge
        self.image = torch.ones(3, *size)
        self.inside = torch.ones(size, dtype=torch.bool)
        self.fills = {"blur": torch.zeros(3, *size), "mean": torch.zeros(3, *size)}
        self.box = torch.tensor(BOX, dtype=torch.float32)
        self.window, self.price = (0, 0, SIZE[1], SIZE[0]), 1.0
        self.class_ids, self.model = [0, 1], self
        self.names = {0: "kite", 1: "gem"}

    def without(self, parts, fill):
        return torch.lerp(self.image, self.fills[fill], parts[:, None].float())

    def class_scores(self, images):
        x1, y1, x2, y2 = CAUSE
        cause, whole = images[:, 0, y1:y2, x1:x2].mean((1, 2)), images[:, 0].mean((1, 2))
        return torch.stack([torch.stack([*self.judge(float(c), float(w))]) for c, w in zip(cause, whole, strict=True)])

    @property
    def own_class_scores(self):
        return self.class_scores(self.image[None])[0]

    def box_to_input(self, xyxy):
        return list(xyxy)


def scores(own, other):
    return torch.tensor(own), torch.tensor(other)


def evidence_of(judge, hot=CAUSE):
    heat = torch.zeros(SIZE)
    heat[hot[1] : hot[3], hot[0] : hot[2]] = 1
    frame = HandMade(judge)
    return find_evidence(frame, frame, heat, LETTERBOX, 0.25, 0.9)


def test_a_patch_that_makes_it_something_else_is_found():
    found = evidence_of(lambda cause, whole: scores(0.9, 0.0) if cause > 0.3 else scores(0.05, 0.95))
    assert found.becomes == "gem"
    assert found.confidence == pytest.approx(0.95)
    assert (found.before, found.after, found.control) == pytest.approx((0.9, 0.05, 0.9))
    assert found.outside == 1
    x1, y1, x2, y2 = found.xyxy
    assert x1 <= CAUSE[0] + 2
    assert y1 <= CAUSE[1] + 2
    assert x2 >= CAUSE[2] - 2
    assert y2 >= CAUSE[3] - 2


def test_a_map_at_a_layers_resolution_points_to_the_same_place():
    size = (2 * SIZE[0], 2 * SIZE[1])  # of the whole image; the frame is its upper left quarter
    coarse = torch.zeros(size[0] // 4, size[1] // 4)
    coarse[2:5, 18:20] = 1  # the cells that the cause covers most of

    def judge(cause, whole):
        return scores(0.9, 0.0) if cause > 0.3 else scores(0.05, 0.95)

    found = find_evidence(
        HandMade(judge, size), HandMade(judge), coarse, Letterbox(size, size, size, (0, 0)), 0.25, 0.9
    )
    x1, y1, x2, y2 = found.xyxy
    assert CAUSE[0] - 4 <= x1 <= 74
    assert CAUSE[1] - 4 <= y1 <= 10
    assert 78 <= x2 <= CAUSE[2] + 4
    assert 18 <= y2 <= CAUSE[3] + 4


def test_a_box_that_is_lost_without_it_becomes_nothing():
    found = evidence_of(lambda cause, whole: scores(0.9 if cause > 0.3 else 0.1, 0.0))
    assert found.becomes is None
    assert found.after == pytest.approx(0.1)


def test_where_any_other_patch_costs_the_box_as_well_there_is_no_evidence():
    assert evidence_of(lambda cause, whole: scores(0.9 if whole > 0.999 else 0.1, 0.0)) is None


def test_a_box_that_stands_without_it_has_no_evidence():
    assert evidence_of(lambda cause, whole: scores(0.9 if cause > 0.3 else 0.6, 0.0)) is None


def test_a_map_without_heat_proposes_nothing():
    assert evidence_of(lambda cause, whole: scores(0.9, 0.0), hot=(0, 0, 0, 0)) is None


class Background(HandMade):
    """The same, where ``judge`` takes what is left of all that surrounds the box."""

    def class_scores(self, images):
        x1, y1, x2, y2 = BOX
        around = torch.ones(SIZE, dtype=torch.bool)
        around[y1 - 1 : y2 + 1, x1 - 1 : x2 + 1] = False
        return torch.stack([torch.stack([*self.judge(float(one))]) for one in images[:, 0, around].mean(1)])


@pytest.mark.parametrize(("enough", "everywhere"), [(0.9, False), (0.1, True)])
def test_where_it_is_no_patch_but_all_around_the_box_that_is_said(enough, everywhere):
    frame = Background(lambda around: scores(0.9, 0.0) if around > enough else scores(0.05, 0.95))
    found = find_surroundings(frame, LETTERBOX, 0.25, 0.9)
    assert found.is_all_around
    assert (found.becomes, found.outside, found.control) == ("gem", 1, None)
    covered = np.zeros(SIZE, int)
    for x1, y1, x2, y2 in found.patches:
        covered[y1:y2, x1:x2] += 1
    assert covered.max() == 1
    assert not covered[BOX[1] : BOX[3], BOX[0] : BOX[2]].any()
    assert bool(covered[0, 0]) == everywhere


def test_a_box_that_stands_alone_hangs_on_nothing_around_it():
    frame = Background(lambda around: scores(0.9, 0.0))
    assert find_surroundings(frame, LETTERBOX, 0.25, 0.9) is None


def test_one_of_two_causes_that_are_each_enough_is_no_evidence_and_both_are():
    other = (8, 40, 20, 52)

    class Either(HandMade):
        def class_scores(self, images):
            left = [images[:, 0, y1:y2, x1:x2].mean((1, 2)) for x1, y1, x2, y2 in (CAUSE, other)]
            kept = torch.stack(left).amax(0) > 0.3
            return torch.stack([0.05 + 0.85 * kept, 0.95 - 0.95 * kept.float()], 1)

    heat = torch.zeros(SIZE)
    for x1, y1, x2, y2 in (CAUSE, other):
        heat[y1:y2, x1:x2] = 1
    frame = Either(None)
    found = find_evidence(frame, frame, heat, LETTERBOX, 0.25, 0.9)
    assert len(found.patches) == 2
    assert found.outside == 1
    heat[40:52, 8:20] = 0
    assert find_evidence(frame, frame, heat, LETTERBOX, 0.25, 0.9) is None
    middles = torch.zeros(SIZE)
    middles[12:16, 74:78] = middles[44:48, 12:16] = 1
    middles[26:30, 36:40] = 0.9
    found = find_evidence(frame, frame, middles, LETTERBOX, 0.25, 0.9)
    assert len(found.patches) == 2, "a map of the causes' middles is enough to find both"


@pytest.mark.parametrize(
    ("patch", "words"),
    [((70, 0, 80, 10), "above right"), ((40, 28, 50, 36), "in the middle"), ((0, 28, 6, 36), "left"),
     ((300, 28, 310, 36), "far right")],
)  # fmt: skip
def test_places_in_words(patch, words):
    assert place_of(np.array(BOX), np.array(patch)) == words
