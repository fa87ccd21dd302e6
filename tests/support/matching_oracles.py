"""What tidecv and pycocotools make of the same truths and detections, compared with ours."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
import tidecv
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detcam.review.errors import TYPES, find_errors
from support.labelled_boxes import NAMES, box_of


def run_tide(images, detections):
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


def compare_with_tide(images, detections, gains=True):
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
        run = run_tide(images, detections)
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
