"""Which of the patches that cost a box is told."""

import pytest
import torch

from detcam.attribution.evidence import find_evidence
from detcam.attribution.patches import area_of, propose_controls, propose_patches
from detcam.geometry import Letterbox
from support.known_frames import LETTERBOX, SIZE, Pictured, found_by, hot_at, left_of

INSIDE, BELOW = (40, 28, 50, 36), (8, 46, 20, 58)


def test_what_becomes_something_else_is_told_before_what_is_only_lost():
    def judge(images):
        other, lost = left_of(images, BELOW) < 0.3, left_of(images, INSIDE) < 0.3
        own = torch.where(other | lost, 0.05, 0.9)
        return torch.stack([own, torch.where(other & ~lost, 0.6, 0.0)], 1)

    evidence = found_by(judge, INSIDE, BELOW)
    assert (evidence.becomes, evidence.outside) == ("gem", 1)


def test_of_patches_that_cost_as_much_the_smallest_is_taken():
    large = (36, 24, 56, 40)

    def judge(images):
        gone = (left_of(images, INSIDE) < 0.3) | (left_of(images, large) < 0.5)
        return torch.where(gone, 0.05, 0.9)[:, None]

    heat = hot_at(large)
    heat[28:36, 40:50] = 5
    frame = Pictured(judge)
    evidence = find_evidence(frame, frame, heat, LETTERBOX, 0.25, 0.9)
    assert evidence.outside == 0
    assert area_of(evidence.patches[0].tolist()) < area_of(large)


@pytest.mark.parametrize(("remaining", "large"), [(0.1, False), (0.22, False), (0.24, True)])
def test_a_larger_patch_is_taken_where_it_costs_clearly_more(remaining, large):
    """Margins within 0.2 are alike; without the large patch 0.03 of the score is left."""
    wide = (36, 24, 56, 42)

    def judge(images):
        core, rest = left_of(images, (44, 31, 46, 33)) < 0.3, left_of(images, wide) < 0.4
        return torch.where(rest, 0.03, torch.where(core, remaining, 0.9))[:, None]

    heat = hot_at(wide)
    heat[28:36, 40:50] = 5
    frame = Pictured(judge)
    evidence = find_evidence(frame, frame, heat, LETTERBOX, 0.25, 0.9)
    assert (area_of(evidence.patches[0].tolist()) >= 300) == large


WIDE, CORE = (36, 24, 56, 42), (40, 28, 50, 36)


def hot_core():
    """A map whose hottest part is CORE and whose hot part is WIDE around it."""
    heat = hot_at(WIDE)
    heat[CORE[1] : CORE[3], CORE[0] : CORE[2]] = 5
    return heat


@pytest.mark.parametrize(
    ("without_core", "without_wide", "wide"),
    [
        ((0.05, 0.60), (0.05, 0.9), True),  # both become something else, the larger patch by 0.3 more
        ((0.05, 0.75), (0.05, 0.9), False),
        ((0.24, 0.00), (0.03, 0.02), True),  # both are lost, with 0.24 and 0.01 more than the other class has
        ((0.24, 0.10), (0.03, 0.02), False),
    ],
)
def test_what_a_patch_costs_is_the_distance_to_the_best_other_class(without_core, without_wide, wide):
    def judge(images):
        core, rest = left_of(images, (44, 31, 46, 33)) < 0.3, left_of(images, WIDE) < 0.4
        scores = torch.tensor([0.9, 0.0]).expand(len(images), 2)
        scores = torch.where(core[:, None], torch.tensor(without_core), scores)
        return torch.where(rest[:, None], torch.tensor(without_wide), scores)

    frame = Pictured(judge)
    evidence = find_evidence(frame, frame, hot_core(), LETTERBOX, 0.25, 0.9)
    assert (area_of(evidence.patches[0].tolist()) >= 300) == wide


def test_what_makes_it_something_else_is_compared_with_others_that_do():
    def judge(images):
        core, rest = left_of(images, (44, 31, 46, 33)) < 0.3, left_of(images, WIDE) < 0.4
        scores = torch.tensor([0.9, 0.0]).expand(len(images), 2)
        scores = torch.where((left_of(images, BELOW) < 0.3)[:, None], torch.tensor([0.0, 0.24]), scores)  # only lost
        scores = torch.where(core[:, None], torch.tensor([0.29, 0.3]), scores)
        return torch.where(rest[:, None], torch.tensor([0.1, 0.3]), scores)

    frame = Pictured(judge)
    evidence = find_evidence(frame, frame, torch.maximum(hot_core(), hot_at(BELOW)), LETTERBOX, 0.25, 0.9)
    assert (evidence.becomes, evidence.after) == ("gem", pytest.approx(0.29))


def test_where_the_best_patch_is_not_borne_out_on_the_whole_image_the_next_is_tried():
    whole = Pictured(lambda images: torch.where(left_of(images, WIDE) < 0.4, 0.05, 0.9)[:, None], (128, 192))
    frame = Pictured(lambda images: torch.where(left_of(images, (44, 31, 46, 33)) < 0.3, 0.05, 0.9)[:, None])
    heat = torch.zeros(128, 192)
    heat[: SIZE[0], : SIZE[1]] = hot_core()
    evidence = find_evidence(whole, frame, heat, Letterbox((128, 192), (128, 192), (128, 192), (0, 0)), 0.25, 0.9)
    assert area_of(evidence.patches[0].tolist()) >= 300


def test_where_a_patch_has_no_place_for_controls_the_next_is_tried():
    """A control has to reach into the box, and this patch leaves none of it free."""
    most, core = (32, 24, 60, 40), (44, 31, 46, 33)

    def judge(images):
        return torch.where(left_of(images, most) < 0.2, 0.03, torch.where(left_of(images, core) < 0.3, 0.24, 0.9))[
            :, None
        ]

    heat = hot_at(most)
    heat[28:36, 40:50] = 5
    frame = Pictured(judge)
    assert propose_controls(frame, [most], 20) == []
    evidence = find_evidence(frame, frame, heat, LETTERBOX, 0.25, 0.9)
    assert evidence.after == pytest.approx(0.24)


@pytest.mark.parametrize("number", [0, 3, 4])  # four are asked at once
def test_where_one_control_costs_the_box_as_well_the_next_patch_is_tried(number):
    cause = (70, 8, 82, 20)
    whole = Pictured(None)
    controls = propose_controls(whole, [cause], len(propose_patches(whole, hot_at(cause, INSIDE))))
    assert len(controls) == 5
    (control,) = controls[number]

    def judge(images):
        gone = (left_of(images, cause) < 0.3) | (left_of(images, control) < 0.1)
        return torch.where(gone, 0.05, 0.9)[:, None]

    alone = found_by(lambda images: torch.where(left_of(images, cause) < 0.3, 0.05, 0.9)[:, None], cause, INSIDE)
    assert alone.patches.tolist() == [list(cause)]
    assert area_of(found_by(judge, cause, INSIDE).patches[0].tolist()) > area_of(cause)


@pytest.mark.parametrize(
    ("own_score", "brought_back", "larger"),
    [(0.9, 0.6, True), (0.9, 0.75, False), (1.0, 0.8, False), (1.0, 0.79, True), (0.28, 0.24, True)],  # and is detected
)
def test_enough_for_the_box_is_what_brings_back_four_fifths_of_its_score(own_score, brought_back, larger):
    whole_cause, corner = (70, 8, 84, 22), (74, 12, 80, 18)

    def judge(images):
        lost, alone = left_of(images, corner) < 0.3, images[:, 0].mean((1, 2)) < 0.6
        partly = alone & (left_of(images, whole_cause) < 0.8)
        own = torch.where(lost, 0.05, torch.where(partly, brought_back, own_score))
        return torch.stack([own, 0 * own], 1)

    heat = hot_at(whole_cause)
    heat[12:18, 74:80] = 9
    frame = Pictured(judge)
    evidence = find_evidence(frame, frame, heat, LETTERBOX, 0.25, 0.9)
    assert (area_of(evidence.patches[0].tolist()) >= area_of(whole_cause)) == larger


def test_a_patch_outside_that_holds_the_whole_cause_is_told_before_one_that_holds_its_corner():
    """Without either the box is lost; with nothing but the box beside it only the larger one brings the box back."""
    whole_cause, corner = (70, 8, 84, 22), (74, 12, 80, 18)

    def judge(images):
        core = left_of(images, corner) < 0.3
        alone = images[:, 0].mean((1, 2)) < 0.6  # nothing but the box and a patch is left
        bare = alone & (left_of(images, whole_cause) < 0.8)
        return torch.where(core | bare, 0.05, 0.9)[:, None]

    heat = hot_at(whole_cause)
    heat[12:18, 74:80] = 9
    frame = Pictured(judge)
    evidence = find_evidence(frame, frame, heat, LETTERBOX, 0.25, 0.9)
    assert area_of(evidence.patches[0].tolist()) >= area_of(whole_cause)


def test_where_the_smaller_patches_fail_the_one_that_costs_most_is_told():
    """In the frame all three cost the box; on the whole image only the largest does, without which least is left."""
    whole = Pictured(lambda images: torch.where(left_of(images, WIDE) < 0.4, 0.05, 0.9)[:, None], (128, 192))

    def judge(images):
        core = left_of(images, (44, 31, 46, 33)) < 0.3
        return torch.where(core, 0.2 * left_of(images, WIDE), 0.9)[:, None]

    frame = Pictured(judge)
    heat = torch.zeros(128, 192)
    heat[: SIZE[0], : SIZE[1]] = hot_core()
    evidence = find_evidence(whole, frame, heat, Letterbox((128, 192), (128, 192), (128, 192), (0, 0)), 0.25, 0.9)
    assert area_of(evidence.patches[0].tolist()) >= 300


def test_the_one_that_costs_most_is_one_of_those_that_make_it_something_else():
    """The same, and without a place beside it the box is lost, in the frame alone, to no other class."""
    whole = Pictured(lambda images: torch.where(left_of(images, WIDE) < 0.4, 0.05, 0.9)[:, None], (128, 192))

    def judge(images):
        core, below = left_of(images, (44, 31, 46, 33)) < 0.3, left_of(images, BELOW) < 0.3
        own = torch.where(core, 0.2 * left_of(images, WIDE), torch.where(below, 0.05, 0.9))
        return torch.stack([own, torch.where(core, 0.3, 0.0)], 1)

    frame = Pictured(judge)
    heat = torch.zeros(128, 192)
    heat[: SIZE[0], : SIZE[1]] = torch.maximum(hot_core(), hot_at(BELOW))
    evidence = find_evidence(whole, frame, heat, Letterbox((128, 192), (128, 192), (128, 192), (0, 0)), 0.25, 0.9)
    assert area_of(evidence.patches[0].tolist()) >= 300


@pytest.mark.parametrize(
    ("cause", "asked"),
    [
        (None, [2]),  # both that lie in no other, without which the box stands: what lies in them is not tried
        (BELOW, [2, 5]),  # all that lie in the one
        ((57, 30, 59, 32), [2]),  # in the other lies none
    ],
)
def test_what_lies_in_a_patch_without_which_the_box_stands_is_not_tried(cause, asked, monkeypatch):
    most_of_it, less_of_it = (48, 30, 58, 40), (49, 30, 59, 40)  # 0.8 and 0.7 in WIDE
    proposed = [[CORE], [most_of_it], [BELOW], [WIDE], [less_of_it], [CORE, BELOW], [WIDE, BELOW]]
    monkeypatch.setattr("detcam.attribution.evidence.propose_patches", lambda *_: proposed)
    counts = []

    def judge(images):
        counts.append(len(images))
        gone = left_of(images, cause) < 0.3 if cause else torch.zeros(len(images), dtype=torch.bool)
        return torch.where(gone, 0.05, 0.9)[:, None]

    frame = Pictured(judge)
    evidence = find_evidence(frame, frame, hot_core(), LETTERBOX, 0.25, 0.9)
    assert counts[1 : len(asked) + 1] == asked  # the first is the frame as it is
    assert (evidence is None) == (cause is None) == (len(counts) == 1 + len(asked))
