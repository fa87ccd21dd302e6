"""What detections are matched by: rotated boxes, masks and keypoints by hand, and boxes where labels have no more."""

import math
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detcam.data import LabelledImage, Truth
from detcam.errors import UsageError
from detcam.review.errors import find_errors, image_errors
from detcam.review.matching import average_precision
from detcam.review.overlaps import matching_notes, measure
from support.labelled_boxes import CAT, DOG, found, labelled, truth
from support.shapes import corners, found_outline, found_pose, outlined, posed


def types_of(truths, detections):
    """Every detection's type, how many truths are missed, and what was compared."""
    (image,) = find_errors([labelled(*truths)], [detections]).images
    return [one.error for one in image.detections], sum(fate.missed for fate in image.truths), image.matched_by


def by_boxes(detections):
    return [replace(one, polygons=None, keypoints=None) for one in detections]


def twice(make, *shape):
    return [make(*shape, confidence=0.9), make(*shape, confidence=0.8)]


LEFT, RIGHT = corners(45, 45, 80, 6, 45), corners(50, 40, 80, 6, 45)  # parallel, apart by more than their width
TOP_LEFT = np.array([(0, 0), (40, 0), (40, 10), (10, 10), (10, 40), (0, 40)])
BOTTOM_RIGHT = 40 - TOP_LEFT  # in the same box; the two share two corners of 10 x 10
PERSON = (10, 10, 50, 90)
STANDING, BENT = ([(30, 10, 2), (30, 50, 2), (30, 90, 1)], [(10, 90, 2), (50, 10, 2), (50, 90, 2)])
FAR = np.add(STANDING, (300, 0, 0))


@pytest.mark.parametrize(
    ("truths", "detections", "by"),
    [
        ([outlined(LEFT), outlined(RIGHT)], twice(found_outline, LEFT), "rotated box"),
        ([outlined(TOP_LEFT), outlined(BOTTOM_RIGHT)], twice(found_outline, TOP_LEFT), "mask"),
        ([posed(PERSON, STANDING), posed(PERSON, BENT)], twice(found_pose, PERSON, STANDING), "keypoints"),
    ],
)  # fmt: skip
def test_the_second_answer_about_one_object_is_no_answer_about_the_object_in_the_same_box(truths, detections, by):
    assert types_of(truths, detections) == (["TP", "Dupe"], 1, by)
    assert types_of(truths, by_boxes(detections)) == (["TP", "TP"], 0, "box")
    outcomes = image_errors(truths, detections)
    assert [(one.error, one.truth) for one in outcomes.detections] == [("TP", 0), ("Dupe", 0)]
    assert average_precision([labelled(*truths)], [detections]).map50 == pytest.approx(51 / 101)  # half of the recalls
    assert average_precision([labelled(*truths)], [by_boxes(detections)]).map50 == pytest.approx(1)


@pytest.mark.parametrize(("ratio", "error", "missed"), [(10, "Loc", 0), (20, "Bkg", 1)])
def test_a_box_turned_by_a_right_angle_is_another_box(ratio, error, missed):
    length = 80
    labels = [outlined(corners(50, 50, length, length / ratio, 45))]
    turned = [found_outline(corners(50, 50, length, length / ratio, 135))]
    assert types_of(labels, turned) == ([error], missed, "rotated box")
    assert types_of(labels, by_boxes(turned)) == (["TP"], 0, "box")
    (one,) = image_errors(labels, turned).detections
    assert one.iou == pytest.approx(1 - math.sqrt(1 - 2 * ratio / (ratio**2 + 1)), abs=1e-3)  # ProbIoU, by hand
    assert average_precision([labelled(*labels)], [turned]).map50 == 0


def test_a_rotated_box_is_the_same_from_whichever_corner_it_is_counted():
    box = corners(50, 50, 60, 20, 30)
    for shift in range(4):
        for order in (1, -1):
            detection = found_outline(np.roll(box, shift, 0)[::order])
            (one,) = image_errors([outlined(box)], [detection]).detections
            assert (one.error, one.iou) == ("TP", pytest.approx(1, abs=1e-3))


def test_an_upright_label_among_rotated_ones_is_a_rotated_box():
    upright = truth((60, 60, 90, 70))
    detections = [found_outline(LEFT), found_outline(corners(75, 65, 30, 10, 0))]
    assert types_of([outlined(LEFT), upright], detections) == (["TP", "TP"], 0, "rotated box")


@pytest.mark.parametrize(
    ("mask", "error", "iou"),
    [
        (TOP_LEFT, "TP", 1),
        (BOTTOM_RIGHT, "Loc", 200 / 1200),
        ([(0, 0), (40, 0), (40, 40), (0, 40)], "Loc", 700 / 1600),
        ([(0, 0), (40, 0), (40, 10), (0, 10)], "TP", 400 / 700),
    ],
)
def test_masks_overlap_by_their_pixels(mask, error, iou):
    (one,) = image_errors([outlined(TOP_LEFT)], [found_outline(mask)]).detections
    assert (one.error, one.iou) == (error, pytest.approx(iou))


@pytest.mark.parametrize("sides", [(90, 20), (20, 90)])
def test_masks_are_compared_whole_where_the_images_size_is_not_told(sides):
    width, height = sides
    whole, half = ([(0, 0), (end, 0), (end, height), (0, height), (0, height / 2)] for end in (width, width / 2))
    (one,) = image_errors([outlined(whole)], [found_outline(half)]).detections
    assert one.iou == pytest.approx(1 / 2)


def test_a_mask_of_run_lengths_keeps_its_hole_and_one_of_several_polygons_all_its_parts():
    ring = np.zeros((100, 100), np.uint8)
    ring[0:40, 0:40], ring[10:30, 10:30] = 1, 0
    runs = coco_mask.encode(np.asfortranarray(ring))
    whole = found_outline([(0, 0), (40, 0), (40, 40), (0, 40)])
    for counts in (runs["counts"].decode(), coco_lengths(ring)):
        label = Truth("", [0, 0, 40, 40], CAT, "cat", outline={"size": [100, 100], "counts": counts})
        (one,) = find_errors([labelled(label)], [[whole]]).images[0].detections
        assert one.iou == pytest.approx(1200 / 1600)
    halves = [(0, 0), (10, 0), (10, 40), (0, 40)], [(30, 0), (40, 0), (40, 40), (30, 40)]
    (one,) = image_errors([outlined(*halves)], [found_outline(halves[0])]).detections
    assert one.iou == pytest.approx(1 / 2)


def coco_lengths(mask):
    flat = mask.T.ravel()
    runs = np.diff(np.flatnonzero(np.concatenate([[1], np.diff(flat), [1]]))).tolist()
    return [0, *runs] if flat[0] else runs


@pytest.mark.parametrize("points", [[(70, 70)], [(60, 60), (90, 90)]])
def test_a_point_or_a_line_among_a_masks_polygons_adds_nothing(points):
    for polygons in ([TOP_LEFT, points], [points, TOP_LEFT]):
        (one,) = image_errors([outlined(TOP_LEFT)], [found_outline(*polygons)]).detections
        assert one.iou == pytest.approx(1)


def test_run_lengths_have_a_rotated_box_too():
    mask = np.zeros((100, 100), np.uint8)
    mask[20:30, 10:70] = 1
    runs = {"size": [100, 100], "counts": coco_lengths(mask)}
    label = Truth("", [10, 20, 70, 30], CAT, "cat", outline=runs)
    overlaps = measure([label], [found_outline(corners(40, 25, 60, 10, 0))], "rotated box")
    assert overlaps.iou[0, 0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("sigma", [None, 0.1])
def test_keypoints_overlap_by_how_far_each_is_off_for_the_size_of_the_object(sigma):
    box, label = (0, 0, 40, 20), [(10, 10, 2), (20, 10, 1), (5, 5, 0)]
    off = [(13, 14), (20, 10), (90, 90)]  # by 5 pixels, not at all, and by what nobody labelled
    sigmas = None if sigma is None else [sigma] * 3
    overlaps = measure([posed(box, label)], [found_pose(box, off)], "keypoints", sigmas=sigmas)
    variance = (2 * (sigma or 1 / 3)) ** 2
    expected = (math.exp(-(5**2) / (2 * variance * 800 * 0.53)) + 1) / 2
    assert overlaps.iou[0, 0] == pytest.approx(expected, abs=1e-6)


def test_seventeen_keypoints_are_coco_s_person():
    box, points = (0, 0, 40, 20), [(10.0, 10, 2)] * 17
    moved = np.array(points)[:, :2] + (2, 0)
    (eyes, hips), (narrow, wide) = [(1, 2), (11, 12)], [0.025, 0.107]
    for places, sigma in ((eyes, narrow), (hips, wide)):
        label = np.array(points)
        label[[n for n in range(17) if n not in places], 2] = 0
        overlaps = measure([posed(box, label)], [found_pose(box, moved)], "keypoints")
        assert overlaps.iou[0, 0] == pytest.approx(math.exp(-4 / (2 * (2 * sigma) ** 2 * 800 * 0.53)), abs=1e-6)


def test_a_truth_without_the_shape_is_left_out_and_takes_what_lies_in_its_box():
    outline, bare = outlined(TOP_LEFT), truth((60, 60, 90, 90))
    detections = [found_outline(TOP_LEFT), found_outline([(62, 62), (88, 62), (88, 88)])]
    assert types_of([outline, bare], detections) == (["TP", "ignored"], 0, "mask")
    assert average_precision([labelled(outline, bare)], [detections]).map50 == pytest.approx(1)
    (note,) = matching_notes([labelled(outline, bare)], "mask", "mask")
    assert note.startswith("1 of 2 truths have no labelled mask: they count neither as found nor as missed")
    errors = find_errors([labelled(outline, bare)], [detections[:1]])
    assert (errors.precision.map50, errors.tide_map50) == pytest.approx((1, 1))
    assert [(row.truths, row.counts["TP"], row.counts["Miss"]) for row in errors.per_class] == [(1, 1, 0)]
    people = [posed(PERSON, STANDING), truth((60, 60, 90, 90))]
    detections = [found_pose(PERSON, STANDING), found_pose((60, 60, 90, 90), FAR, confidence=0.9)]
    assert types_of(people, detections) == (["TP", "ignored"], 0, "keypoints")
    (note,) = matching_notes([labelled(*people)], "keypoints", "keypoints")
    assert note.startswith("1 of 2 truths have no labelled keypoint: they count neither as found nor as missed")


def test_keypoints_that_are_all_hidden_are_missed_as_by_ultralytics():
    hidden = [(x, y, 0) for x, y, _ in STANDING]
    people = [posed((60, 10, 99, 90), FAR), posed(PERSON, hidden)]
    assert types_of(people, [found_pose(PERSON, STANDING)]) == (["Bkg"], 2, "keypoints")
    (note,) = matching_notes([labelled(*people)], "keypoints", "keypoints")
    assert note.startswith("1 of 2 truths have keypoints of visibility 0 only")


def test_a_crowd_takes_masks_by_their_pixels_and_poses_by_their_boxes():
    crowd = outlined(TOP_LEFT, crowd=True)
    inside, beside = [(1, 1), (9, 1), (9, 39), (1, 39)], [(12, 12), (38, 12), (38, 38), (12, 38)]
    one = outlined([(60, 60), (90, 60), (90, 90)])
    detections = [found_outline(inside), found_outline(beside)]
    assert types_of([one, crowd], detections) == (["ignored", "Bkg"], 1, "mask")
    people = [posed((60, 60, 90, 90), FAR), posed(PERSON, STANDING, crowd=True)]
    assert types_of(people, [found_pose((20, 20, 40, 60), BENT)]) == (["ignored"], 1, "keypoints")


@pytest.mark.parametrize(
    ("detection", "shape", "what"),
    [
        (found_outline(TOP_LEFT), "mask", "masks"),
        (found_outline(LEFT), "rotated box", "rotated boxes"),
        (found_pose((0, 0, 40, 40), STANDING), "keypoints", "keypoints"),
    ],
)
def test_labels_of_boxes_are_matched_by_boxes_and_that_is_told(detection, shape, what):
    labels = [truth(detection.xyxy), outlined(TOP_LEFT + 50, crowd=True)]  # a crowd's outline is nothing to judge by
    if shape == "keypoints":
        labels.append(outlined(TOP_LEFT + 50, class_id=DOG))  # nor are masks for poses
    kinds, _, by = types_of(labels, [detection])
    assert (kinds, by) == (["TP"], "box")
    assert matching_notes([labelled(*labels)], shape, "box") == [
        f"the detector gives {what} and no label has any: detections are matched by their upright boxes"
    ]


def test_a_detector_of_boxes_is_matched_by_boxes_whatever_is_labelled():
    labels = [outlined(TOP_LEFT), posed(PERSON, STANDING, DOG)]
    assert types_of(labels, [found((0, 0, 40, 40)), found(PERSON, DOG)]) == (["TP", "TP"], 0, "box")
    assert not matching_notes([labelled(*labels)], "box", "box")


def test_four_corners_are_a_mask_where_a_label_has_more():
    square = [(0, 0), (40, 0), (40, 40), (0, 40)]
    assert types_of([outlined(TOP_LEFT)], [found_outline(square)]) == (["Loc"], 0, "mask")


def test_another_number_of_keypoints_is_refused():
    with pytest.raises(UsageError, match="the detector gives 2 keypoints and the set labels 3: they are not the same"):
        find_errors([labelled(posed(PERSON, STANDING))], [[found_pose(PERSON, [(1, 2), (3, 4)])]])


def test_a_detection_without_the_shape_that_others_have():
    plain = found((0, 0, 40, 40), confidence=0.9)
    (one, _) = image_errors([outlined(TOP_LEFT)], [plain, found_outline(TOP_LEFT)]).detections
    assert one.iou == pytest.approx(700 / 1600)  # the box is all that it says
    (one, _) = image_errors([posed(PERSON, STANDING)], [found(PERSON), found_pose(PERSON, STANDING)]).detections
    assert one.iou == 0


def test_images_with_nothing_found_or_nothing_labelled():
    images = [labelled(outlined(TOP_LEFT)), labelled(), LabelledImage("b.png", (50, 50), (outlined(TOP_LEFT),))]
    errors = find_errors(images, [[], [found_outline(TOP_LEFT)], [found_outline(TOP_LEFT)]])
    assert errors.counts["Miss"] == errors.counts["Bkg"] == errors.counts["TP"] == 1
    assert {image.matched_by for image in errors.images} == {"mask"}
