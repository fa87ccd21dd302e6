"""Patches that may be evidence, and their controls, on frames and maps made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detcam.attribution.patches import (
    area_of,
    clip_to_frame,
    iou_of,
    is_outside,
    pad_rectangle,
    propose_controls,
    propose_patches,
    shared_area,
)

HEIGHT, WIDTH = 100, 200
BOX = (60, 30, 100, 70)
LEAST_SIDE = 6  # 0.03 of the frame's longer side
FADE = 5  # twice 0.012 of it, rounded up


def frame_of(box=BOX, window=(0, 0, WIDTH, HEIGHT), size=(HEIGHT, WIDTH)):
    inside = torch.ones(*size, dtype=torch.bool)
    return SimpleNamespace(inside=inside, box=torch.tensor(box, dtype=torch.float32), window=window)


def heat_of(*blocks, size=(HEIGHT, WIDTH)):
    """A map of blocks (left, top, right, bottom, heat)."""
    heat = torch.zeros(size)
    for left, top, right, bottom, value in blocks:
        heat[top:bottom, left:right] = value
    return heat


def singles(proposed):
    return [patches[0] for patches in proposed if len(patches) == 1]


def pairs(proposed):
    return {frozenset(patches) for patches in proposed if len(patches) == 2}


def tight_only(proposed):
    """The patches without those that are others enlarged by two fifths, two pixels to each side of ten."""
    patches = singles(proposed)
    enlarged = [
        (
            x1 - round(0.2 * (x2 - x1)),
            y1 - round(0.2 * (y2 - y1)),
            x2 + round(0.2 * (x2 - x1)),
            y2 + round(0.2 * (y2 - y1)),
        )
        for x1, y1, x2, y2 in patches
    ]
    cut = [(max(x1, 0), max(y1, 0), min(x2, WIDTH), min(y2, HEIGHT)) for x1, y1, x2, y2 in enlarged]
    return [patch for patch in patches if patch not in cut]


@pytest.mark.parametrize(
    ("hot", "box", "patch"),
    [
        ((70, 40, 80, 50), BOX, (70, 40, 80, 50)),
        ((75, 45, 77, 47), BOX, (73, 43, 79, 49)),  # widened about its middle
        ((75, 40, 78, 50), BOX, (73, 40, 79, 50)),  # in one direction only
        ((70, 45, 80, 48), BOX, (70, 43, 80, 49)),
        ((0, 0, 2, 2), (0, 0, 40, 40), (0, 0, 6, 6)),  # within the frame
        ((198, 98, 200, 100), (160, 60, 200, 100), (194, 94, 200, 100)),
    ],
)
def test_a_hot_part_in_the_box_is_proposed_and_nothing_else(hot, box, patch):
    assert tight_only(propose_patches(frame_of(box), heat_of((*hot, 1.0)))) == [patch]


def test_a_part_in_the_box_is_proposed_as_it_is_and_enlarged():
    assert propose_patches(frame_of(), heat_of((70, 40, 80, 50, 1.0))) == [[(70, 40, 80, 50)], [(68, 38, 82, 52)]]


def test_a_map_of_the_whole_input_is_cut_to_the_frame():
    frame = frame_of(window=(40, 20, 240, 120))
    heat = heat_of((110, 60, 120, 70, 1.0), (10, 5, 30, 15, 9.0), size=(140, 260))
    assert tight_only(propose_patches(frame, heat)) == [(70, 40, 80, 50)]


def test_a_coarser_window_is_stretched_to_the_frame():
    frame = frame_of(window=(0, 0, WIDTH // 2, HEIGHT // 2))
    first, *_ = singles(propose_patches(frame, heat_of((35, 20, 40, 25, 1.0))))
    assert np.abs(np.array(first) - (70, 40, 80, 50)).max() <= 2


def test_neither_padding_nor_what_is_negative_is_proposed():
    frame = frame_of()
    frame.inside[:, :80] = False
    heat = heat_of((0, 0, WIDTH, HEIGHT, -1.0), (70, 40, 88, 50, 1.0))
    assert tight_only(propose_patches(frame, heat)) == [(80, 40, 88, 50)]
    assert propose_patches(frame, -heat.abs()) == []


def test_parts_that_touch_at_a_corner_are_one():
    heat = heat_of((70, 40, 75, 45, 1.0), (75, 45, 80, 50, 1.0))
    assert tight_only(propose_patches(frame_of(), heat)) == [(70, 40, 80, 50)]


def test_of_many_parts_the_two_with_the_most_heat_are_proposed_and_both_together():
    small, large, larger = (25, 15, 33, 23), (40, 30, 50, 40), (60, 60, 72, 72)
    proposed = propose_patches(frame_of((20, 10, 100, 90)), heat_of(*[(*part, 1.0) for part in (small, large, larger)]))
    assert tight_only(proposed) == [larger, large]
    assert frozenset((larger, large)) in pairs(proposed)
    assert not any(small in patches for patches in proposed)


def test_the_hottest_pixels_are_proposed_by_shares_of_the_boxs_area():
    heat = torch.zeros(HEIGHT, WIDTH)
    heat[30:70, 60:100] = torch.arange(1.0, 41)  # each of the box's 40 columns hotter than the one before
    # 3 % are two columns, made as wide as a patch has to be; 10 % are four, nearly the same patch; 25 % are ten.
    # The first enlarged by two fifths, one pixel to the left and right and eight up and down, is no more the same.
    assert propose_patches(frame_of(), heat) == [
        [(96, 30, 102, 70)],
        [(95, 22, 103, 78)],
        [(90, 30, 100, 70)],
        [(88, 22, 102, 78)],
    ]


def test_outside_the_box_a_part_is_proposed_as_it_is_and_enlarged():
    hot, larger, largest = (150, 40, 162, 52), (148, 38, 164, 54), (144, 34, 168, 58)
    assert propose_patches(frame_of(), heat_of((*hot, 1.0))) == [[hot], [larger], [largest]]
    at_the_edge, cut = (188, 0, 200, 12), (182, 0, 200, 18)  # two fifths more is nearly the same patch there
    assert propose_patches(frame_of(), heat_of((*at_the_edge, 1.0))) == [[at_the_edge], [cut]]


def test_two_parts_outside_are_proposed_alone_enlarged_and_together():
    one, other = (130, 10, 140, 20), (160, 70, 170, 80)
    larger, other_larger = (128, 8, 142, 22), (158, 68, 172, 82)
    largest, other_largest = (125, 5, 145, 25), (155, 65, 175, 85)
    proposed = propose_patches(frame_of(), heat_of((*one, 1.0), (*other, 0.5)))
    assert singles(proposed) == [one, other, larger, other_larger, largest, other_largest]
    assert {
        frozenset((one, other)), frozenset((larger, other_larger)), frozenset((largest, other_largest)),
    } <= pairs(proposed)  # fmt: skip


def test_outside_the_box_faint_parts_count_beside_much_hotter_ones_inside():
    inside, faint = (70, 40, 90, 60), (160, 70, 170, 80)
    assert faint in singles(propose_patches(frame_of(), heat_of((*inside, 1.0), (*faint, 0.0001))))


@pytest.mark.parametrize(("fainter", "bridge"), [(0.05, 0.02), (0.2, 0.05), (0.4, 0.2), (0.9, 0.5)])
def test_two_parts_outside_that_are_joined_by_fainter_heat_are_told_apart(fainter, bridge):
    inside, one, other, between = (70, 40, 90, 60), (130, 10, 140, 20), (160, 10, 170, 20), (140, 10, 160, 20)
    heat = heat_of((*inside, 9.0), (*one, 1.0), (*other, fainter), (*between, bridge))
    assert {one, other} <= set(singles(propose_patches(frame_of(), heat)))


def test_two_parts_outside_that_are_joined_by_heat_as_strong_are_one():
    inside, joined = (70, 40, 90, 60), (130, 10, 170, 20)
    heat = heat_of((*inside, 9.0), (*joined, 1.0), (140, 10, 160, 20, 0.7))
    found = singles(propose_patches(frame_of(), heat))
    assert joined in found
    assert not {(130, 10, 140, 20), (160, 10, 170, 20)} & set(found)


def test_where_nothing_outside_is_wanted_the_rim_of_the_box_still_belongs_to_it():
    # The rim is 4 % of the box's longer side, rounded up: two pixels on each side.
    for hot in ((101, 40, 102, 50), (58, 40, 59, 50), (70, 28, 80, 29), (70, 71, 80, 72)):
        assert propose_patches(frame_of(), heat_of((*hot, 1.0)), outside=False)
    for hot in ((102, 40, 112, 50), (48, 40, 58, 50), (70, 18, 80, 28), (70, 72, 80, 82)):
        assert propose_patches(frame_of(), heat_of((*hot, 1.0)), outside=False) == []
    both = heat_of((70, 40, 80, 50, 1.0), (150, 40, 162, 52, 5.0))
    assert tight_only(propose_patches(frame_of(), both, outside=False)) == [(70, 40, 80, 50)]
    assert (150, 40, 162, 52) in singles(propose_patches(frame_of(), both))


def test_the_rim_is_a_share_of_the_longer_side_of_a_tall_box_and_of_a_wide_one():
    for box, inside, beyond in (
        ((60, 10, 70, 90), (73, 40, 74, 50), (74, 40, 84, 50)),  # 0.04 of 80, rounded up: four pixels
        ((50, 40, 150, 50), (80, 53, 90, 54), (80, 54, 90, 64)),
    ):
        assert propose_patches(frame_of(box), heat_of((*inside, 1.0)), outside=False)
        assert propose_patches(frame_of(box), heat_of((*beyond, 1.0)), outside=False) == []


@pytest.mark.parametrize(
    ("box", "hottest"),
    [
        ((0, 0, 200, 1), [(194, 0, 200, 6), (180, 0, 200, 6), (150, 0, 200, 6)]),
        # Ten rows are nearly the same as six, but enlarged they are not.
        ((0, 0, 1, 100), [(0, 94, 6, 100), (0, 88, 7, 100), (0, 75, 6, 100)]),
    ],
)
def test_the_hottest_pixels_of_a_box_of_one_row_or_column_at_the_frames_edge(box, hottest):
    heat = torch.zeros(HEIGHT, WIDTH)
    left, top, right, bottom = box
    heat[top:bottom, left:right] = torch.arange(1.0, 1 + (right - left) * (bottom - top)).view(bottom - top, -1)
    assert tight_only(propose_patches(frame_of(box), heat)) == hottest


def test_in_a_frame_lower_than_the_least_side_a_patch_is_as_high_as_the_frame():
    size = (32, 1280)  # of which the least side is 38
    frame = frame_of((600, 0, 700, 32), (0, 0, size[1], size[0]), size)
    proposed = propose_patches(frame, heat_of((640, 20, 644, 24, 1.0), size=size))
    assert tight_only(proposed) == [(623, 0, 661, 32)]


def test_in_a_small_frame_no_patch_is_narrower_than_three_pixels():
    size = (64, 96)
    frame = frame_of((30, 20, 70, 44), (0, 0, size[1], size[0]), size)
    assert singles(propose_patches(frame, heat_of((50, 30, 51, 31, 1.0), size=size)))[0] == (49, 29, 52, 32)


def test_the_tenth_of_a_frames_side_is_not_rounded():
    size = (100, 205)  # 20.5 x 20.5 pixels, twice that outside the box
    frame = frame_of((80, 40, 84, 44), (0, 0, size[1], size[0]), size)
    assert (130, 20, 164, 44) in singles(propose_patches(frame, heat_of((130, 20, 164, 44, 1.0), size=size)))


@pytest.mark.parametrize(
    ("hot", "fits"),
    [
        ((60, 30, 100, 54), True),  # 0.6 of the box
        ((60, 30, 100, 55), False),
        ((140, 20, 180, 68), True),  # outside twice that
        ((140, 20, 180, 69), False),
    ],
)
def test_a_patch_is_not_too_large(hot, fits):
    proposed = singles(propose_patches(frame_of(), heat_of((*hot, 1.0))))
    assert (hot in proposed) == fits


def test_for_a_tiny_box_a_patch_may_have_a_tenth_of_the_frame_on_a_side():
    box = (80, 40, 84, 44)
    assert (130, 20, 160, 46) in singles(
        propose_patches(frame_of(box), heat_of((130, 20, 160, 46, 1.0)))
    )  # 780 of 800 pixels
    assert propose_patches(frame_of(box), heat_of((130, 20, 160, 48, 1.0))) == []


def test_of_a_tiny_box_the_hottest_pixel_is_tried_alone():
    heat = heat_of((80, 40, 81, 41, 3.0), (81, 40, 82, 41, 2.0))
    assert singles(propose_patches(frame_of((80, 40, 84, 44)), heat))[0] == (77, 37, 83, 43)


def test_a_box_that_reaches_out_of_the_frame_has_parts_too():
    proposed = propose_patches(frame_of((-20, -10, 20, 30)), heat_of((5, 5, 15, 15, 1.0)))
    assert tight_only(proposed) == [(5, 5, 15, 15)]


@pytest.mark.parametrize("patches", [[(150, 40, 162, 52)], [(150, 40, 162, 52), (20, 10, 30, 24)]])
def test_controls_of_patches_outside_the_box_stay_away_from_it(patches):
    controls = propose_controls(frame_of(), patches, 40)
    assert len(controls) == 40
    assert controls == propose_controls(frame_of(), patches, 40)
    assert len({tuple(control) for control in controls}) > 30
    for control in controls:
        for moved, patch in zip(control, patches, strict=True):
            assert (moved[2] - moved[0], moved[3] - moved[1]) == (patch[2] - patch[0], patch[3] - patch[1])
            assert clip_to_frame(frame_of(), moved) == moved
            for kept_clear in (BOX, *patches):
                assert shared_area(moved, pad_rectangle(kept_clear, FADE)) == 0
    lefts = [control[0][0] for control in controls]
    assert min(lefts) < 30
    assert max(lefts) > 165
    tops = [control[0][1] for control in controls]
    assert min(tops) < 10
    assert max(tops) > 75


def test_controls_of_a_patch_in_the_box_reach_into_it():
    patch = (70, 40, 80, 50)
    controls = propose_controls(frame_of(), [patch], 40)
    assert len(controls) == 40
    shares = [shared_area(control[0], BOX) / 100 for control in controls]
    assert min(shares) >= 0.1
    assert min(shares) < 0.5
    assert all(shared_area(control[0], pad_rectangle(patch, FADE)) == 0 for control in controls)


def test_a_larger_frame_keeps_controls_further_away():
    frame = SimpleNamespace(inside=torch.ones(400, 600, dtype=torch.bool), box=torch.tensor([200.0, 100, 320, 220]))
    patch = (400, 150, 460, 200)
    controls = propose_controls(frame, [patch], 60)
    # What fades is twice 0.012 of the longer side: 14.4 pixels.
    assert all(
        shared_area(control[0], pad_rectangle(kept, 15)) == 0
        for control in controls
        for kept in (patch, (200, 100, 320, 220))
    )


def test_half_in_the_box_counts_as_in_it():
    for patch in ((95, 40, 105, 50), (94, 40, 104, 50)):
        assert all(shared_area(control[0], BOX) > 0 for control in propose_controls(frame_of(), [patch], 10))
    assert all(shared_area(one[0], BOX) == 0 for one in propose_controls(frame_of(), [(96, 40, 106, 50)], 10))


def test_a_strip_as_wide_as_the_frame_has_controls_above_and_below():
    strip = (0, 0, WIDTH, 10)
    tops = {control[0][1] for control in propose_controls(frame_of(), [strip], 30)}
    assert all(control[0][::2] == (0, WIDTH) for control in propose_controls(frame_of(), [strip], 30))
    assert tops <= {15, *range(75, 91)}
    assert {90, 75} <= tops
    tall = propose_controls(frame_of(), [(0, 0, 10, HEIGHT)], 30)
    assert all(control[0][1::2] == (0, HEIGHT) for control in tall)
    lefts = {control[0][0] for control in tall}
    assert lefts <= {*range(15, 46), *range(105, 191)}
    assert min(lefts) < 25
    assert max(lefts) > 180


def test_a_control_may_be_at_the_very_edge():
    far = frame_of((0, 80, 200, 100))
    assert {one[0][0] for one in propose_controls(far, [(0, 0, WIDTH - 1, 10)], 30)} == {0, 1}
    far = frame_of((180, 0, 200, 100))
    assert {one[0][1] for one in propose_controls(far, [(0, 0, 10, HEIGHT - 1)], 30)} == {0, 1}


def test_where_no_place_is_left_there_are_no_controls():
    assert propose_controls(frame_of(), [(0, 0, WIDTH, HEIGHT)], 5) == []
    assert propose_controls(frame_of((10, 10, 190, 90)), [(192, 92, 200, 100), (0, 20, 8, 99)], 5) == []


def test_areas_of_rectangles():
    assert area_of((2, 3, 7, 10)) == 35
    assert area_of((7, 3, 2, 10)) == area_of((2, 10, 7, 3)) == area_of((7, 10, 2, 3)) == 0
    assert shared_area((0, 0, 10, 20), (7, 5, 30, 9)) == 3 * 4
    assert shared_area((7, 5, 30, 9), (0, 0, 10, 20)) == 3 * 4
    assert shared_area((0, 0, 10, 20), (10, 0, 20, 20)) == shared_area((0, 0, 4, 4), (5, 6, 9, 9)) == 0
    assert iou_of((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(1 / 3)
    assert iou_of((0, 0, 4, 4), (0, 0, 4, 4)) == iou_of((3, 2, 4, 3), (3, 2, 4, 3)) == 1
    assert iou_of((0, 0, 0, 0), (0, 0, 0, 0)) == 0
    assert pad_rectangle((10, 20, 30, 40), 3) == (7, 17, 33, 43)
    assert clip_to_frame(frame_of(), (-5, -6, 205, 106)) == (0, 0, WIDTH, HEIGHT)
    assert clip_to_frame(frame_of(), (5, 6, 25, 16)) == (5, 6, 25, 16)


def test_outside_is_more_than_half_outside():
    assert is_outside((96, 40, 106, 50), BOX)
    assert not is_outside((95, 40, 105, 50), BOX)
    assert not is_outside((70, 40, 80, 50), BOX)
    assert is_outside((0, 0, 10, 10), BOX)
