"""Average precision against pycocotools and Ultralytics, types against tidecv, and both against boxes by hand."""

import contextlib
import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics import YOLO
from ultralytics.data import YOLODataset
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import nms

import detcam
from detcam.data import LabelledImage, Truth, read_data
from detcam.io.images import read_image
from detcam.review.errors import ERRORS, TYPES, find_errors
from detcam.review.matching import average_precision
from detcam.types import Detection
from support.data import real

CAT, DOG, COW = 0, 1, 2
NAMES = ["cat", "dog", "cow"]


def truth(box, class_id=CAT, crowd=False):
    return Truth("", np.float32(box), class_id, NAMES[class_id], crowd)


def found(box, class_id=CAT, confidence=0.5):
    return Detection(np.float32(box), class_id, NAMES[class_id], confidence, anchor=0, stride=8)


def labelled(*truths):
    return LabelledImage(Path("a.jpg"), (100, 100), truths)


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


def test_pycocotools_is_silent(capsys):
    one_image([A_CAT], [RIGHT])
    assert capsys.readouterr() == ("", "")


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


@pytest.fixture(scope="module")
def tidecv():
    return pytest.importorskip("tidecv", reason="tidecv, TIDE's own package, is the oracle: pip install tidecv")


def box_of(mark):
    x1, y1, x2, y2 = mark.xyxy.tolist()
    return [x1, y1, x2 - x1, y2 - y1]


def run_tide(tidecv, images, detections):
    """tidecv's own run, without its limit of 100 detections to an image."""
    truths, answers = tidecv.Data("truths", max_dets=10**6), tidecv.Data("answers")
    for number, (image, several) in enumerate(zip(images, detections, strict=True)):
        truths.add_image(number, str(number))
        for mark in image.truths:
            add = truths.add_ignore_region if mark.crowd else truths.add_ground_truth
            add(number, mark.class_id, box_of(mark))
        for one in several:
            answers.add_detection(number, one.class_id, one.confidence, box_of(one))
    return tidecv.TIDE().evaluate(truths, answers, mode=tidecv.TIDE.BOX)


def compare_with_tide(tidecv, images, detections, gains=True):
    """Every detection's type and truth, every truth's fate, and every gain."""
    if not any(map(len, detections)) and not any(image.truths for image in images):
        return
    errors = find_errors(images, detections)
    ours = [outcome for image in errors.images for outcome in image.detections]
    fates = [fate for image in errors.images for fate in image.truths]
    first_truth = np.cumsum([0] + [len(image.truths) for image in images])
    first_found = np.cumsum([0] + [len(several) for several in detections])
    of_found = np.repeat(np.arange(len(images)), np.diff(first_found))
    of_truth = np.repeat(np.arange(len(images)), np.diff(first_truth))
    try:
        run = run_tide(tidecv, images, detections)
    except ZeroDivisionError:  # crowds alone: nothing to average over
        assert math.isnan(errors.tide_map50)
        return
    answers = run.preds.annotations
    types = {e.pred["_id"]: e.short_name for e in run.errors if hasattr(e, "pred") and e.pred["used"] is not None}
    types |= {one["_id"]: "TP" for one in answers if one["used"]}
    types |= {one["_id"]: "ignored" for one in answers if one["used"] is None}
    assert [outcome.error for outcome in ours] == [types[number] for number in range(len(ours))]
    partners = {one["_id"]: one["matched_with"] for one in answers if one["used"]}
    confused = [e for e in run.errors if e.short_name in ("Cls", "Loc")]
    partners |= {e.pred["_id"]: e.gt["_id"] for e in confused if e.pred["used"] is not None}
    for number, partner in partners.items():
        assert ours[number].truth == partner - first_truth[of_found[number]]
    for number, one in enumerate(answers):
        if ours[number].error == "TP":
            assert fates[one["matched_with"]].found_by == number - first_found[of_found[number]]
    heirs = {e.gt["_id"]: e.pred["_id"] for e in confused if e.fixed[1] is not None}
    assert {
        number: fate.explained_by + first_found[of_truth[number]]
        for number, fate in enumerate(fates)
        if fate.explained_by is not None
    } == heirs
    assert {n for n, fate in enumerate(fates) if fate.missed} == {
        e.gt["_id"] for e in run.errors if e.short_name == "Miss"
    }
    counts = {name: list(types.values()).count(name) for name in TYPES}
    assert errors.counts == {**counts, "Miss": sum(fate.missed for fate in fates)}
    assert errors.tide_map50 == pytest.approx(run.ap / 100, abs=1e-9)
    for kind in run.error_dict if gains else ():
        try:
            (gain,) = run.fix_main_errors(error_types=[kind]).values()
        except ZeroDivisionError:
            gain = math.nan
        assert errors.dap[kind.short_name] == pytest.approx(gain / 100, abs=1e-9, nan_ok=True), kind.short_name


@settings(max_examples=150)
@given(sets(ties=False))
def test_types_and_gains_agree_with_tidecv(tidecv, data):
    compare_with_tide(tidecv, *data)


@settings(max_examples=100)
@given(sets(ties=True))
def test_types_agree_with_tidecv_where_confidences_are_equal(tidecv, data):
    compare_with_tide(tidecv, *data, gains=False)


@pytest.mark.parametrize("seed", range(20))
def test_crammed_images_agree_with_tidecv(tidecv, seed):
    images, detections = crammed(seed)
    compare_with_tide(tidecv, images, detections)


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


def coco_file(images):
    """A COCO instances file's content, its classes numbered as the model's."""
    marks = [(number, mark) for number, image in enumerate(images, 1) for mark in image.truths]
    return {
        "images": [{"id": number, "height": 100, "width": 100} for number in range(1, len(images) + 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": mark.class_id, "iscrowd": int(mark.crowd),
             "bbox": box_of(mark), "area": np.prod(box_of(mark)[2:])}
            for number, (image, mark) in enumerate(marks, 1)
        ],
    }  # fmt: skip


def run_coco(document, folder, answers):
    """pycocotools as published: files read back, all its sizes and limits. AP, AP50, and AP50 by category."""
    (folder / "instances.json").write_text(json.dumps(document))
    (folder / "answers.json").write_text(json.dumps(answers))
    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO(folder / "instances.json")
        evaluation = COCOeval(truths, truths.loadRes(str(folder / "answers.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    curves = evaluation.eval["precision"][0, :, :, 0, -1].mean(0)
    return evaluation.stats[0], evaluation.stats[1], dict(zip(evaluation.params.catIds, curves.tolist(), strict=True))


def answers_of(detections, ids):
    return [
        {"image_id": number, "category_id": one.class_id, "score": one.confidence, "bbox": box_of(one)}
        for number, several in zip(ids, detections, strict=True)
        for one in several
    ]


def compare_with_coco(precision, theirs, tolerance=1e-12):
    known = {name: value for name, value in theirs[2].items() if value >= 0}
    if known:
        assert (precision.map, precision.map50) == pytest.approx(theirs[:2], abs=tolerance)
    else:
        assert math.isnan(precision.map)
    ours = {name: value for name, value in precision.ap50.items() if not math.isnan(value)}
    assert ours == pytest.approx(known, abs=tolerance)


@settings(max_examples=60)
@given(data=sets(ties=True))
def test_average_precision_is_that_of_pycocotools(tmp_path_factory, data):
    images, detections = data
    answers = answers_of(detections, range(1, len(images) + 1))
    if answers:  # pycocotools cannot read an empty list
        theirs = run_coco(coco_file(images), tmp_path_factory.mktemp("coco"), answers)
        compare_with_coco(average_precision(images, detections), theirs)


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_of_crammed_images_is_that_of_pycocotools(tmp_path, seed):
    images, detections = crammed(seed)
    detections[1] = detections[1] + [found((x / 5, 0, 30, 30), CAT, x / 400) for x in range(130)]  # past the limit
    theirs = run_coco(coco_file(images), tmp_path, answers_of(detections, range(1, len(images) + 1)))
    compare_with_coco(average_precision(images, detections), theirs)


REAL = {
    "coco": ("weights/yolov8n.pt", "coco/instances.json", "coco", "images"),
    "hog": ("weights/hogdetect.pt", "hog/data.yaml", "hog", "val/images"),
}


@pytest.fixture(scope="module", params=REAL)
def reviewed(request):
    """A labelled set of photographs and, by score threshold, what detcam's adapter finds in it."""
    weights, labels = (real(path) for path in REAL[request.param][:2])
    detector = detcam.load(weights, imgsz=640)
    images = read_data(labels, names=detector.names).images
    detections = {0.001: [], 0.25: []}
    for image in images:
        batch, letterboxes = detector.prepare([read_image(image.path)])
        raw = detector.forward(batch)
        for conf, several in detections.items():
            several += detector.decode(raw, letterboxes, conf=conf, iou=0.7, classes=None, max_det=300)
    return request.param, images, detections


@pytest.mark.slow
@pytest.mark.parametrize("conf", [0.25, 0.001])
def test_photographs_agree_with_tidecv(tidecv, reviewed, conf):
    _, images, detections = reviewed
    assert sum(map(len, detections[conf])) > len(images)
    compare_with_tide(tidecv, images, detections[conf])


@pytest.mark.slow
@pytest.mark.parametrize("reviewed", ["coco"], indirect=True)
def test_photographs_agree_with_pycocotools_on_the_file_as_published(tmp_path, reviewed):
    _, images, detections = reviewed
    document = json.loads(real("coco/instances.json").read_text())
    assert any(mark["iscrowd"] for mark in document["annotations"])
    model_names = {one.class_name: one.class_id for several in detections[0.001] for one in several}
    model_names |= {mark.class_name: mark.class_id for image in images for mark in image.truths}
    ours = {one["id"]: model_names[one["name"]] for one in document["categories"] if one["name"] in model_names}
    own = {class_id: category for category, class_id in ours.items()}
    answers = answers_of(detections[0.001], [int(image.path.stem) for image in images])
    answers = [{**answer, "category_id": own[answer["category_id"]]} for answer in answers]
    mean, mean50, curves = run_coco(document, tmp_path, answers)
    theirs = mean, mean50, {ours[name]: value for name, value in curves.items() if name in ours}
    compare_with_coco(average_precision(images, detections[0.001]), theirs)


class AsPredicted(DetectionValidator):
    """`yolo val`, but padded as `predict` pads, and with one class to a box as `predict` answers."""

    def build_dataset(self, img_path, mode="val", batch=None):
        size = {"imgsz": self.args.imgsz, "rect": True, "stride": int(self.stride), "pad": 0.0}
        return YOLODataset(img_path, batch_size=batch, hyp=self.args, augment=False, data=self.data, **size)

    def postprocess(self, preds):
        kept = nms.non_max_suppression(preds, self.args.conf, self.args.iou, max_det=self.args.max_det)
        return [{"bboxes": x[:, :4], "conf": x[:, 4], "cls": x[:, 5], "extra": x[:, 6:]} for x in kept]


@pytest.mark.slow
def test_photographs_agree_with_ultralytics_to_one_of_101_recalls(tmp_path, reviewed):
    """Ultralytics joins the curve's points by straight lines, lets it fall to 0 at the last recall and integrates, so
    that a perfect class has 0.995; COCO takes the mean of 101 steps. The difference is about what one of them weighs.
    Its labels leave crowds out; so are ours for this.
    """
    name, images, detections = reviewed
    weights, _, folder, inside = REAL[name]
    root = shutil.copytree(real(folder), tmp_path / "set")  # it writes a cache beside the labels
    model = YOLO(real(weights))
    (root / "own.yaml").write_text(
        json.dumps({"path": str(root), "train": inside, "val": inside, "names": model.names})
    )
    theirs = model.val(
        validator=AsPredicted, data=root / "own.yaml", conf=0.001, iou=0.7, imgsz=640, rect=True, batch=1, workers=0,
        plots=False, project=tmp_path, verbose=False, device="cpu",
    ).box  # fmt: skip
    images = [
        LabelledImage(image.path, image.size, tuple(mark for mark in image.truths if not mark.crowd))
        for image in images
    ]
    ours = average_precision(images, detections[0.001])
    assert (ours.map50, ours.map) == pytest.approx((theirs.map50, theirs.map), abs=1 / 101)
