"""Errors' types and gains against tidecv, average precision against pycocotools, on boxes drawn by chance."""

import pytest
from hypothesis import given, settings

from detcam.review.matching import average_precision
from support.labelled_boxes import CAT, crammed, found, sets
from support.matching_oracles import answers_of, coco_file, compare_with_coco, compare_with_tide, run_coco


@settings(max_examples=150)
@given(sets(ties=False))
def test_types_and_gains_agree_with_tidecv(data):
    compare_with_tide(*data)


@settings(max_examples=100)
@given(sets(ties=True))
def test_types_agree_with_tidecv_where_confidences_are_equal(data):
    compare_with_tide(*data, gains=False)


@pytest.mark.parametrize("seed", range(20))
def test_crammed_images_agree_with_tidecv(seed):
    images, detections = crammed(seed)
    compare_with_tide(images, detections)


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
