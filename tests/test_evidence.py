"""The evidence patch on boxes whose dependence is known by hand."""

import numpy as np
import pytest
import torch

from detcam.attribution.evidence import find_evidence, find_surroundings, is_gone
from detcam.attribution.patches import area_of, propose_controls, propose_patches, shared_area
from detcam.attribution.sentence import place_of
from detcam.geometry import Letterbox
from detcam.tensors.fills import fade_edges
from support.known_frames import BOX, CAUSE, LETTERBOX, SIZE, HandMade, Pictured, found_by, hot_at, left_of


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
    middles[11:17, 73:79] = middles[43:49, 11:17] = 1
    middles[26:30, 36:40] = 0.9
    found = find_evidence(frame, frame, middles, LETTERBOX, 0.25, 0.9)
    assert len(found.patches) == 2, "a map of the causes' middles is enough to find both"


@pytest.mark.parametrize(
    ("scores", "gone"),
    [([0.3], False), ([0.25], False), ([0.24], True), ([0.5, 0.5], False), ([0.5, 0.4, 0.6], True), ([0.2, 0.1], True)],
)
def test_a_box_is_gone_below_the_threshold_or_below_another_class(scores, gone):
    assert is_gone(torch.tensor(scores), 0.25) == gone


def test_the_control_is_the_worst_of_as_many_random_patches_as_were_proposed():
    def judge(images):
        stands = left_of(images, CAUSE) > 0.3
        own = torch.where(stands, 0.4 + 0.5 * left_of(images, (0, 0, 48, 64)), 0.05)
        return torch.stack([own, torch.where(stands, 0.3 - 0.3 * own, 0.0)], 1)

    frame = Pictured(judge)
    frame.fills["mean"] += 0.2  # controls are blurred, the first fill
    evidence = find_evidence(frame, frame, hot_at(CAUSE), LETTERBOX, 0.25, 0.9)
    (patch,) = [tuple(one) for one in evidence.patches.tolist()]
    controls = propose_controls(frame, [patch], len(propose_patches(frame, hot_at(CAUSE))))
    assert len(controls) > 1
    assert evidence.control == pytest.approx(float(frame_scores_without(frame, controls)[:, 0].min()))
    assert evidence.control < 0.9


def frame_scores_without(frame, sets):
    masks = torch.zeros(len(sets), *SIZE, dtype=torch.bool)
    for mask, patches in zip(masks, sets, strict=True):
        for x1, y1, x2, y2 in patches:
            mask[y1:y2, x1:x2] = True
    return frame.class_scores(frame.without(fade_edges(masks, frame.inside), "blur"))


def test_scores_without_the_patch_are_means_over_the_fills():
    def judge(images):
        cause = left_of(images, [CAUSE[0] + 3, CAUSE[1] + 3, CAUSE[2] - 3, CAUSE[3] - 3])  # what fades is further out
        lost = cause < 0.5
        own = torch.where(lost, 0.02 + 0.1 * cause, 0.9)
        return torch.stack([own, torch.where(lost, 0.6 + 0.2 * cause, 0.0)], 1)

    frame = Pictured(judge)
    frame.fills["mean"] = torch.full((3, *SIZE), 0.4)
    evidence = find_evidence(frame, frame, hot_at(CAUSE), LETTERBOX, 0.25, 0.9)
    assert evidence.after == pytest.approx((0.02 + 0.06) / 2, abs=1e-3)
    assert evidence.confidence == pytest.approx((0.6 + 0.68) / 2, abs=2e-3)
    size = (2 * SIZE[0], 2 * SIZE[1])  # of the whole image, where it is tried once more
    whole, heat = Pictured(judge, size), torch.nn.functional.pad(hot_at(CAUSE), (0, SIZE[1], 0, SIZE[0]))
    whole.fills["mean"] = torch.full((3, *size), 0.4)
    again = find_evidence(whole, frame, heat, Letterbox(size, size, size, (0, 0)), 0.25, 0.9)
    assert again.after == pytest.approx(evidence.after, abs=1e-3)
    assert again.confidence == pytest.approx(evidence.confidence, abs=2e-3)
    frame.fills["mean"] = torch.full((3, *SIZE), 0.6)  # a fill under which the box stands
    assert find_evidence(frame, frame, hot_at(CAUSE), LETTERBOX, 0.25, 0.9) is None


def test_a_box_that_is_gone_already_hangs_on_nothing():
    assert found_by(lambda images: torch.full((len(images), 1), 0.2), CAUSE) is None
    assert found_by(lambda images: torch.tensor([[0.5, 0.6]]).expand(len(images), -1), CAUSE) is None


@pytest.mark.parametrize(("other", "becomes"), [(0.25, "gem"), (0.24, None)])
def test_a_box_becomes_what_reaches_the_threshold_without_the_patch(other, becomes):
    def judge(images):
        stands = left_of(images, CAUSE) > 0.3
        return torch.stack([torch.where(stands, 0.9, 0.1), torch.where(stands, 0.0, other)], 1)

    assert found_by(judge, CAUSE).becomes == becomes


def test_what_is_told_is_tried_on_the_whole_image_and_in_the_originals_pixels():
    size = (2 * SIZE[0], 2 * SIZE[1])
    letterbox = Letterbox((62, 92), size, (124, 184), (2, 4))  # two pixels of the input to one of the image

    def judge(cause, whole):
        return scores(0.9, 0.0) if cause > 0.3 else scores(0.05, 0.95)

    def standing(cause, whole):
        return scores(0.9, 0.0)

    class Shifted(HandMade):
        """A frame of the whole image that begins 0.5 pixels to the right of and above its corner."""

        def box_to_input(self, xyxy):
            return [xyxy[0] + 0.5, xyxy[1] - 0.5, xyxy[2] + 0.5, xyxy[3] - 0.5]

    heat = torch.zeros(size)
    heat[CAUSE[1] : CAUSE[3], CAUSE[0] : CAUSE[2]] = 1
    evidence = find_evidence(HandMade(judge, size), Shifted(judge), heat, letterbox, 0.25, 0.8)
    # (70, 8, 82, 20) of the frame is (70, 7, 83, 20) of the input, in whole pixels outwards.
    assert evidence.patches.tolist() == [[33, 2, 40, 9]]
    assert evidence.before == 0.8
    assert find_evidence(HandMade(standing, size), Shifted(judge), heat, letterbox, 0.25, 0.8) is None


def test_the_share_outside_is_of_the_patchs_pixels():
    straddling = (56, 24, 68, 36)
    evidence = found_by(lambda images: torch.where(left_of(images, straddling) < 0.3, 0.05, 0.9)[:, None], straddling)
    (patch,) = evidence.patches.tolist()
    assert evidence.outside == pytest.approx(1 - shared_area(patch, BOX) / area_of(patch))
    assert 0 < evidence.outside < 1


def test_rings_around_the_box_are_four_rectangles_at_twice_its_size_and_up_to_the_images_edges():
    # The box and a pixel around it are (29, 19, 63, 45): half its longer side more on each side.
    near = [[12, 2, 80, 19], [12, 45, 80, 62], [12, 19, 29, 45], [63, 19, 80, 45]]
    far = [[0, 0, 96, 19], [0, 45, 96, 64], [0, 19, 29, 45], [63, 19, 96, 45]]
    for enough, expected in ((0.9, near), (0.1, far)):
        frame = Background(lambda around, enough=enough: scores(0.9, 0.0) if around > enough else scores(0.05, 0.95))
        assert find_surroundings(frame, LETTERBOX, 0.25, 0.9).patches.tolist() == expected


@pytest.mark.parametrize(
    ("box", "rings"),
    [
        ((40, 10, 56, 50), [[18, 0, 78, 9], [18, 51, 78, 64], [18, 9, 39, 51], [57, 9, 78, 51]]),
        ((20, 20, 70, 44), [[0, 0, 96, 19], [0, 45, 96, 64], [0, 19, 19, 45], [71, 19, 96, 45]]),
        ((37, 30, 47, 36), [[30, 23, 54, 29], [30, 37, 54, 43], [30, 29, 36, 37], [48, 29, 54, 37]]),
        ((50, 30, 58, 34), [[44, 24, 64, 29], [44, 35, 64, 40], [44, 29, 49, 35], [59, 29, 64, 35]]),
    ],
)
def test_the_near_ring_is_as_wide_as_half_the_boxs_longer_side(box, rings):
    frame = Pictured(lambda images: torch.where(images[:, 0].mean((1, 2)) < 0.999, 0.05, 0.9)[:, None])
    frame.box = torch.tensor(box, dtype=torch.float32)
    assert find_surroundings(frame, LETTERBOX, 0.25, 0.9).patches.tolist() == rings


def test_a_ring_has_no_parts_where_the_box_is_at_the_edge():
    frame = Pictured(lambda images: torch.where(images[:, 0].mean((1, 2)) < 0.9, 0.05, 0.9)[:, None])
    frame.box = torch.tensor([0.0, 0.0, 96.0, 30.0])
    assert find_surroundings(frame, LETTERBOX, 0.25, 0.9).patches.tolist() == [[0, 31, 96, 64]]
    frame.box = torch.tensor([0.0, 0.0, 96.0, 64.0])
    assert find_surroundings(frame, LETTERBOX, 0.25, 0.9) is None


@pytest.mark.parametrize(
    ("patch", "words"),
    [((70, 0, 80, 10), "above right"), ((40, 28, 50, 36), "in the middle"), ((0, 28, 6, 36), "left"),
     ((300, 28, 310, 36), "far right")],
)  # fmt: skip
def test_places_in_words(patch, words):
    assert place_of(np.array(BOX), np.array(patch)) == words
