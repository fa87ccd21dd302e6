"""Reviews by masks, rotated boxes and keypoints against Ultralytics' own ``val`` of the same weights and labels."""

import json

import numpy as np
import polars as pl
import pytest
import yaml

import detcam
from detcam.data import read_data
from detcam.demo.scenes import SIZE
from detcam.review import run_review
from detcam.review.detect import detect
from detcam.review.matching import average_precision
from support.task_sets import KEYPOINTS, label_row, train, untrained, write_set
from support.vendor_val import run_val

TASKS = {"segment": "mask", "obb": "rotated box", "pose": "keypoints"}
TOLERANCE = 1 / 101
"""Ultralytics integrates under straight lines, COCO takes the mean of 101 steps: one of them, as for boxes."""
SCENES = range(710_000, 710_006)


def label_with_answers(data, detector, random):
    """Write what a detector answers, most of it moved by a little, in the place of the set's labels."""
    labelled = read_data(data, names=detector.names)
    found = detect(detector, labelled, conf=0.25, iou=0.7, max_det=300, advance=lambda tried: None)
    for image, detections in zip(found.images, found.detections, strict=True):
        rows = []
        for one in detections[: len(detections) - len(detections) // 5]:
            shift = random.normal(0, 0.06, 2) * (one.xyxy[2:] - one.xyxy[:2])
            rows.append(label_row(one, shift, random))
        path = data.parent / "labels" / "val" / f"{image.path.stem}.txt"
        path.write_text("\n".join(row for row in rows if row) + "\n")


@pytest.mark.parametrize("task", TASKS)
def test_average_precision_of_labels_made_from_answers_is_that_of_val(tmp_path, monkeypatch, task):
    data = write_set(tmp_path, task, train=SCENES[:1], val=SCENES)
    weights = untrained(tmp_path, task)
    detector = detcam.load(weights, imgsz=SIZE)
    label_with_answers(data, detector, np.random.default_rng(0))
    labelled = read_data(data, names=detector.names)
    assert sum(len(image.truths) for image in labelled.images) > 8
    assert not labelled.problems
    found = detect(detector, labelled, conf=0.25, iou=0.7, max_det=300, advance=lambda tried: None)
    assert (found.matched_by, found.notes) == (TASKS[task], ())
    ours = average_precision(found.images, found.every, found.overlaps)
    theirs = run_val(monkeypatch, task, weights, data, SIZE, tmp_path)
    assert (ours.map50, ours.map) == pytest.approx(theirs, abs=TOLERANCE)
    assert 0.2 < ours.map50 < 1
    assert ours.map < ours.map50 - 0.05


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_review_of_a_trained_detector_has_the_average_precision_of_val(tmp_path, monkeypatch, task):
    data = write_set(tmp_path, task)
    weights = train(tmp_path, task)
    for size in (SIZE, SIZE // 2):  # at half the size nearly every mask is a few cells
        out = tmp_path / str(size)
        result = run_review(detcam.load(weights, imgsz=size), data, out, method="box")
        summary = json.loads((out / "summary.json").read_text())
        assert summary["matched_by"] == TASKS[task]
        theirs = run_val(monkeypatch, task, weights, data, size, tmp_path)
        assert (result.map50, result.map) == pytest.approx(theirs, abs=TOLERANCE)
        assert result.map50 > 0.01
        for name in ("detections", "misses"):
            assert set(pl.read_parquet(out / f"{name}.parquet")["matched_by"]) <= {TASKS[task]}


@pytest.mark.parametrize("task", TASKS)
def test_a_set_of_boxes_is_reviewed_by_boxes_and_that_is_told(tmp_path, task):
    data = write_set(tmp_path, "detect", train=SCENES[:1], val=SCENES[:2])
    told = []
    result = run_review(
        untrained(tmp_path, task), data, tmp_path / "run", method="box", conf=0.95,
        complain=lambda source, reason: told.append(reason),
    )  # fmt: skip
    assert result.summary["matched_by"] == "box"
    assert result.summary["matching_notes"] == told
    assert [note.split(" and no label has any")[1] for note in told] == [
        ": detections are matched by their upright boxes"
    ]
    assert "no label has any" in result.page.read_text()


def test_the_set_s_sigmas_decide_what_a_pose_finds(tmp_path):
    data = write_set(tmp_path, "pose", train=SCENES[:1], val=SCENES[:3])
    detector = detcam.load(untrained(tmp_path, "pose"), imgsz=SIZE)
    figures = []
    for sigmas in (KEYPOINTS["kpt_oks_sigmas"], [9.0] * 4):
        data.write_text(yaml.safe_dump({**yaml.safe_load(data.read_text()), "kpt_oks_sigmas": sigmas}))
        labelled = read_data(data, names=detector.names)
        found = detect(detector, labelled, conf=0.25, iou=0.7, max_det=300, advance=lambda tried: None)
        figures.append(average_precision(found.images, found.every, found.overlaps).map50)
    assert figures[0] < 0.3
    assert figures[1] > 0.7
