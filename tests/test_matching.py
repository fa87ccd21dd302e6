"""Detections matched with truths, and their errors' types and gains, against boxes by hand."""

import math

import pytest
from hypothesis import given

from detcam.review.errors import ERRORS, TYPES, find_errors
from detcam.review.matching import average_precision
from detcam.review.overlaps import measure_set
from support.labelled_boxes import CAT, COW, DOG, crammed, found, labelled, sets, truth


def one_image(truths, detections):
    """The review of a set of one image, and that image's part of it."""
    errors = find_errors([labelled(*truths)], [detections])
    return errors, errors.images[0]


A_CAT = truth((0, 0, 10, 10))
FAR_DOG = truth((50, 50, 60, 60), DOG)


@pytest.mark.parametrize(
    ("box", "class_id", "error", "partner", "iou"),
    [
        ((0, 0, 10, 10), CAT, "TP", 0, 1.0),
        ((0, 0, 10, 5), CAT, "TP", 0, 0.5),
        ((0, 0, 7, 7), CAT, "Loc", 0, 0.49),
        ((0, 0, 10, 1), CAT, "Loc", 0, 0.1),
        ((0, 0, 9, 1), CAT, "Bkg", None, 0.09),
        ((0, 0, 10, 5), DOG, "Cls", 0, 0.5),
        ((0, 0, 7, 7), DOG, "Both", 0, 0.49),
        ((0, 0, 10, 1.25), DOG, "Both", 0, 0.125),
        ((0, 0, 10, 1), DOG, "Bkg", None, 0.1),
        ((80, 80, 90, 90), CAT, "Bkg", None, 0.0),
        ((50, 50, 60, 60), CAT, "Cls", 1, 1.0),
        ((10, 10, 0, 0), CAT, "Bkg", None, 0.0),  # turned inside out
    ],
)
def test_one_detection(box, class_id, error, partner, iou):
    errors, image = one_image([A_CAT, FAR_DOG], [found(box, class_id)])
    (outcome,) = image.detections
    assert (outcome.error, outcome.truth) == (error, partner)
    assert outcome.truth_class == {None: None, 0: CAT, 1: DOG}[partner]
    assert outcome.iou == pytest.approx(iou, abs=1e-12)
    explained = partner if error in ("Loc", "Cls") else None
    for index, fate in enumerate(image.truths):
        assert fate.found_by == (0 if error == "TP" and index == partner else None)
        assert fate.explained_by == (0 if index == explained else None)
        assert fate.missed == (fate.found_by is None and fate.explained_by is None)
    assert errors.counts == {**dict.fromkeys(TYPES, 0), error: 1, "Miss": sum(fate.missed for fate in image.truths)}
    assert len(errors.confusions) == (error == "Cls")


def test_a_truth_is_found_once():
    close, closest = found((0, 0, 10, 9), confidence=0.9), found((0, 0, 10, 10), confidence=0.8)
    _, image = one_image([A_CAT], [closest, close])
    assert [(outcome.error, outcome.truth, outcome.iou) for outcome in image.detections] == [
        ("Dupe", 0, 1.0),
        ("TP", 0, 0.9),
    ]
    assert image.truths[0].found_by == 1


def test_of_equal_confidence_the_first_claims_and_of_equal_overlap_the_first_is_claimed():
    twice = found((0, 0, 10, 10))
    _, image = one_image([A_CAT], [twice, twice])
    assert [outcome.error for outcome in image.detections] == ["TP", "Dupe"]
    left, right = truth((0, 0, 10, 10)), truth((2, 0, 12, 10))
    _, image = one_image([left, right], [found((1, 0, 11, 10), confidence=0.9), found((0, 0, 10, 10))])
    assert [(outcome.error, outcome.truth) for outcome in image.detections] == [("TP", 0), ("TP", 1)]


def test_a_badly_placed_box_is_a_location_error_even_on_a_found_truth_or_right_on_another_class():
    exact, shifted = found((0, 0, 10, 10), confidence=0.9), found((0, 0, 10, 4), confidence=0.8)
    _, image = one_image([A_CAT], [exact, shifted])
    assert [outcome.error for outcome in image.detections] == ["TP", "Loc"]
    assert image.truths[0].explained_by is None
    _, image = one_image([A_CAT], [exact, found((0, 0, 10, 5))])
    assert [outcome.error for outcome in image.detections] == ["TP", "Loc"]  # exactly half is still loose
    _, image = one_image([truth((0, 0, 10, 2)), truth((0, 0, 10, 10), DOG)], [found((0, 0, 10, 10))])
    assert (image.detections[0].error, image.detections[0].truth) == ("Loc", 0)
    assert [fate.missed for fate in image.truths] == [False, True]


def test_the_most_confident_error_explains_a_truth():
    loose, taken_for_dog = found((0, 0, 10, 4), CAT, 0.6), found((0, 0, 10, 10), DOG, 0.7)
    errors, image = one_image([A_CAT], [loose, taken_for_dog])
    assert [outcome.error for outcome in image.detections] == ["Loc", "Cls"]
    assert image.truths[0].explained_by == 1
    assert [(pair.predicted, pair.truth, pair.count) for pair in errors.confusions] == [("dog", "cat", 1)]


@pytest.mark.parametrize(
    ("box", "class_id", "error", "share"),
    [
        ((40, 40, 50, 50), CAT, "ignored", 1.0),
        ((35, 40, 45, 50), CAT, "Bkg", 0.0),  # half of it
        ((36, 40, 46, 50), CAT, "ignored", 0.6),
        ((40, 40, 50, 50), DOG, "Bkg", 0.0),
    ],
)
def test_a_crowd_takes_what_lies_more_than_half_in_it(box, class_id, error, share):
    errors, image = one_image([A_CAT, truth((40, 40, 90, 90), crowd=True)], [found(box, class_id)])
    (outcome,) = image.detections
    assert (outcome.error, outcome.truth) == (error, 1 if error == "ignored" else None)
    assert outcome.iou == pytest.approx(share)
    assert [fate.missed for fate in image.truths] == [True, False]
    assert errors.counts == {**dict.fromkeys(TYPES, 0), "Bkg": int(error == "Bkg"), "Miss": 1}
    assert errors.per_class[0].truths == 1


def test_a_crowd_takes_no_true_positive_and_what_it_took_still_explains_a_truth():
    crowd = truth((0, 0, 90, 90), crowd=True)
    _, image = one_image([crowd, A_CAT], [found((0, 0, 10, 10))])
    assert image.detections[0].error == "TP"
    errors, image = one_image([crowd, A_CAT], [found((0, 0, 10, 4))])
    assert (image.detections[0].error, image.detections[0].truth, image.detections[0].iou) == ("ignored", 0, 1)
    assert (image.truths[1].explained_by, image.truths[1].missed) == (0, False)
    assert errors.dap["Loc"] == 1
    assert sum(errors.counts.values()) == 0


HALF = 51 / 101  # the recalls 0, 0.01, ..., 0.5 of 0, 0.01, ..., 1
SECOND = truth((20, 20, 30, 30))
RIGHT = found((0, 0, 10, 10), confidence=0.5)


@pytest.mark.parametrize(
    ("error", "truths", "detections", "before", "after"),
    [
        ("Bkg", [A_CAT], [RIGHT, found((80, 80, 90, 90), confidence=0.9)], 1 / 2, 1),
        ("Dupe", [A_CAT, SECOND], [found((0, 0, 10, 10), confidence=0.9), found((0, 0, 10, 9), confidence=0.8),
                                   found((20, 20, 30, 30))], (51 + 50 * 2 / 3) / 101, 1),
        ("Loc", [A_CAT, SECOND], [RIGHT, found((20, 20, 30, 24))], HALF, 1),
        ("Miss", [A_CAT, SECOND], [RIGHT], HALF, 1),
        # The dogs, without a truth, count at 0 until the error is gone.
        ("Both", [A_CAT, SECOND], [RIGHT, found((20, 20, 30, 24), DOG)], HALF / 2, HALF),
        ("Cls", [A_CAT, SECOND], [RIGHT, found((20, 20, 30, 30), DOG)], HALF / 2, 1),
        # Of two errors on one truth the more confident is made right, the other goes.
        ("Loc", [A_CAT], [found((0, 0, 10, 4), confidence=0.9), found((0, 0, 10, 3))], 0, 1),
        # The more confident error is of another type, so mending this one only drops it.
        ("Loc", [A_CAT], [found((0, 0, 10, 10), DOG, 0.9), found((0, 0, 10, 4))], 0, 0),
    ],
)  # fmt: skip
def test_what_mending_one_type_gains(error, truths, detections, before, after):
    errors, _ = one_image(truths, detections)
    assert errors.tide_map50 == pytest.approx(before)
    assert errors.dap[error] == pytest.approx(after - before)


def test_rows_of_classes_and_confusions():
    images = [labelled(A_CAT, FAR_DOG), labelled(A_CAT), labelled(A_CAT), labelled()]
    detections = [
        [found((0, 0, 10, 10), DOG, 0.9), found((50, 50, 60, 60), DOG, 0.8), found((50, 50, 60, 60), DOG, 0.7)],
        [found((0, 0, 10, 10), DOG, 0.9), found((0, 0, 10, 10), COW, 0.9)],
        [found((0, 0, 10, 10), COW, 0.9), found((0, 0, 10, 9), COW, 0.9)],
        [found((0, 0, 10, 10), COW, 0.9)],
    ]
    errors = find_errors(images, detections)
    nothing = dict.fromkeys(TYPES, 0)
    assert [(row.class_id, row.class_name, row.truths) for row in errors.per_class] == [
        (CAT, "cat", 3), (DOG, "dog", 1), (COW, "cow", 0),
    ]  # fmt: skip
    assert [row.counts for row in errors.per_class] == [
        nothing, {**nothing, "TP": 1, "Cls": 2, "Dupe": 1}, {**nothing, "Cls": 3, "Bkg": 1},
    ]  # fmt: skip
    assert [row.ap50 for row in errors.per_class] == pytest.approx([0, 1 / 3, math.nan], nan_ok=True)
    assert [(pair.predicted, pair.truth, pair.count) for pair in errors.confusions] == [
        ("cow", "cat", 3), ("dog", "cat", 2),
    ]  # fmt: skip
    assert errors.precision.map50 == pytest.approx(1 / 6)


def test_confusions_as_frequent_are_in_the_order_of_the_classes():
    kinds = [(COW, DOG), (DOG, CAT), (COW, CAT), (CAT, COW)]
    images = [labelled(truth((0, 0, 10, 10), true)) for _, true in kinds]
    errors = find_errors(images, [[found((0, 0, 10, 10), taken)] for taken, _ in kinds])
    assert [(pair.predicted, pair.truth, pair.count) for pair in errors.confusions] == [
        ("cat", "cow", 1), ("dog", "cat", 1), ("cow", "cat", 1), ("cow", "dog", 1),
    ]  # fmt: skip


def test_nothing_found_and_nothing_there():
    errors, image = one_image([A_CAT, FAR_DOG], [])
    assert errors.counts == {**dict.fromkeys(TYPES, 0), "Miss": 2}
    assert (errors.precision.map50, errors.precision.map, errors.tide_map50) == (0, 0, 0)
    assert math.isnan(errors.dap.pop("Miss"))  # without the missed truths there is nothing left
    assert set(errors.dap.values()) == {0}
    errors, _ = one_image([A_CAT, truth((40, 40, 90, 90), DOG, crowd=True)], [])
    assert [row.class_id for row in errors.per_class] == [CAT]
    errors, image = one_image([], [found((0, 0, 10, 10))])
    assert (image.detections[0].error, image.detections[0].truth, image.detections[0].iou) == ("Bkg", None, 0)
    assert math.isnan(errors.precision.map50)
    assert errors.precision.ap50 == pytest.approx({CAT: math.nan}, nan_ok=True)
    for images, detections in (([], []), ([labelled()], [[]])):
        errors = find_errors(images, detections)
        assert math.isnan(errors.precision.map)
        assert math.isnan(errors.tide_map50)
        assert not errors.per_class


def test_each_image_needs_its_detections():
    with pytest.raises(ValueError, match="got 2 images and 1 sequences"):
        find_errors([labelled(), labelled()], [[]])
    for images, detections in (([labelled()], [[], []]), ([labelled(), labelled()], [[]])):
        with pytest.raises(ValueError, match=f"got {len(images)} images and {len(detections)} sequences"):
            average_precision(images, detections)
    assert math.isnan(average_precision([labelled()] * 300, [[]] * 300).map)


def test_overlaps_of_another_set_are_refused():
    images, detections = [labelled(A_CAT)], [[RIGHT]]
    (own,) = measure_set(images, detections)
    assert average_precision(images, detections, [own]).map50 == pytest.approx(1)
    for overlaps in ([], [own, own], measure_set([labelled()], [[]]), measure_set([labelled(A_CAT, SECOND)], [[]])):
        with pytest.raises(ValueError, match=r"zip\(\) argument"):
            average_precision(images, detections, overlaps)


def test_only_a_hundred_detections_to_an_image_and_class_count_in_average_precision():
    wrong = [found((80, 80, 90, 90), confidence=0.9) for _ in range(100)]
    late = found((0, 0, 10, 10), confidence=0.1)
    assert average_precision([labelled(A_CAT)], [[late, *wrong]]).map50 == 0
    assert average_precision([labelled(A_CAT)], [[late, *wrong[1:]]]).map50 == pytest.approx(1 / 100)
    dogs = [found((0, 0, 10, 10), DOG, 0.9) for _ in range(100)]
    assert average_precision([labelled(A_CAT)], [[late, *dogs]]).map50 == pytest.approx(1)
    _, image = one_image([A_CAT], [late, *wrong])
    assert image.detections[0].error == "TP"


def test_an_inside_out_box_counts_as_wrong_and_a_crowd_takes_half_a_box():
    inside_out = found((90, 10, 80, 20), confidence=0.9)
    assert average_precision([labelled(A_CAT)], [[inside_out, RIGHT]]).map50 == pytest.approx(1 / 2)
    crowd, half_in = truth((40, 40, 90, 90), crowd=True), found((35, 40, 45, 50), confidence=0.9)
    assert average_precision([labelled(A_CAT, crowd)], [[half_in, RIGHT]]).map50 == pytest.approx(1)


@pytest.mark.parametrize(
    ("box", "thresholds"),
    [((0, 0, 10, 10), 10), ((0, 0, 10, 7.2), 5), ((0, 0, 7.2, 10), 5), ((0, 0, 10, 5), 1), ((0, 0, 10, 4.9), 0)],
)
def test_the_map_is_a_mean_over_the_thresholds_that_an_overlap_reaches(box, thresholds):
    precision = average_precision([labelled(A_CAT)], [[found(box)]])
    assert (precision.map50, precision.map) == pytest.approx((min(thresholds, 1), thresholds / 10))
    assert precision.ap50 == pytest.approx({CAT: min(thresholds, 1)})


def test_boxes_of_less_than_a_pixel_and_very_large_ones_are_found():
    for box in ((0.2, 0.2, 0.5, 0.9), (0, 0, 60_000, 3), (-40, -30, -10, -20)):
        assert average_precision([labelled(truth(box))], [[found(box)]]).map == pytest.approx(1)
        shifted = (box[0] + (box[2] - box[0]) / 2, box[1], box[2] + (box[2] - box[0]) / 2, box[3])  # an IoU of a third
        assert average_precision([labelled(truth(box))], [[found(shifted)]]).map == 0


def test_boxes_of_other_images_and_classes_are_not_matched():
    images = [labelled(A_CAT), labelled(FAR_DOG), labelled()]
    right = [[found((0, 0, 10, 10))], [found((50, 50, 60, 60), DOG)], []]
    precision = average_precision(images, right)
    assert precision.map == pytest.approx(1)
    assert precision.ap50 == pytest.approx({CAT: 1, DOG: 1})
    turned = average_precision(images, [right[2], right[0], right[1]])
    assert (turned.map50, turned.map, turned.ap50) == (0, 0, {CAT: 0, DOG: 0})
    only_dogs = average_precision(images, [[], right[1], [found((0, 0, 9, 9), COW)]])
    assert (only_dogs.map50, only_dogs.map) == pytest.approx((0.5, 0.5))  # a class without truths is in neither mean
    assert only_dogs.ap50 == pytest.approx({CAT: 0, DOG: 1, COW: math.nan}, nan_ok=True)


def test_a_class_of_crowds_alone_has_no_row():
    precision = average_precision([labelled(A_CAT, truth((40, 40, 90, 90), DOG, crowd=True))], [[RIGHT]])
    assert precision.ap50 == pytest.approx({CAT: 1})


@pytest.mark.parametrize("box", [(90, 10, 80, 20), (80, 20, 90, 10), (90, 20, 80, 10)])
def test_a_box_turned_inside_out_either_way_counts_as_wrong(box):
    precision = average_precision([labelled(A_CAT)], [[found(box, confidence=0.9), RIGHT]])
    assert precision.map50 == pytest.approx(1 / 2)


def test_pycocotools_is_silent(capsys):
    one_image([A_CAT], [RIGHT])
    assert capsys.readouterr() == ("", "")


def test_crammed_images_hold_every_type():
    every = [find_errors(*crammed(seed)) for seed in range(20)]
    for name in TYPES:
        assert sum(errors.counts[name] for errors in every) >= 20
    assert (
        sum(outcome.error == "ignored" for errors in every for image in errors.images for outcome in image.detections)
        >= 20
    )
    for name in ERRORS:
        assert max(errors.dap[name] for errors in every) > 0


@given(sets(ties=True))
def test_tables_add_up(data):
    images, detections = data
    errors = find_errors(images, detections)
    outcomes = [outcome for image in errors.images for outcome in image.detections]
    assert sum(errors.counts.values()) - errors.counts["Miss"] + sum(o.error == "ignored" for o in outcomes) == len(
        outcomes
    )
    for name in TYPES:
        assert errors.counts[name] == sum(row.counts[name] for row in errors.per_class)
    for row in errors.per_class:
        fates = [
            fate
            for image, told in zip(images, errors.images, strict=True)
            for mark, fate in zip(image.truths, told.truths, strict=True)
            if mark.class_id == row.class_id and not mark.crowd
        ]
        assert row.truths == len(fates)
        assert row.counts["TP"] == sum(fate.found_by is not None for fate in fates)
        assert row.truths == row.counts["TP"] + row.counts["Miss"] + sum(f.explained_by is not None for f in fates)
    assert sum(pair.count for pair in errors.confusions) == errors.counts["Cls"]
    assert all(math.isnan(gain) or -1e-12 <= gain <= 1 for gain in errors.dap.values())
