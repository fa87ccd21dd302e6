"""Explanations of large images made drawable: the same picture, smaller, without the memory."""

import resource
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from detcam.demo import WEIGHTS
from detcam.drawing import pages, zooms
from detcam.drawing.reduced import MOST_DRAWN_SIDE_PX, reduced, resized
from detcam.explainer import Explainer
from detcam.types import Detection, Evidence


@pytest.fixture(scope="module")
def result(demo_detector, scene_image):
    large = cv2.resize(scene_image, (1000, 800), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    return Explainer(demo_detector, "layercam").explain_named({"large": large})[0]


def test_what_can_be_drawn_is_left_alone(result):
    assert reduced(result) is result
    assert reduced(result, 1000) is result
    assert MOST_DRAWN_SIDE_PX > 1000


def test_image_boxes_and_maps_shrink_together(result):
    small = reduced(result, 250)
    assert small.image.shape == (200, 250, 3)
    assert not small.image.flags.writeable
    assert len(small) == len(result) > 1
    for big, little in zip(result, small, strict=True):
        assert little.detection.xyxy == pytest.approx(big.detection.xyxy / 4, abs=1e-3)
        assert np.array_equal(little.heatmap.raw, big.heatmap.raw)
        exact = cv2.resize(big.heatmap.array, (250, 200), interpolation=cv2.INTER_AREA)
        assert np.abs(little.heatmap.array - exact).max() < 0.05
        assert (little.status, little.receipt, little.layers) == (big.status, big.receipt, big.layers)
    for big, little in zip(result.detections, small.detections, strict=True):
        assert little.confidence == big.confidence


def test_outlines_keypoints_evidence_and_the_box_asked_about_shrink_along(result):
    detection = Detection(
        np.float32([100, 100, 500, 300]), 0, "x", 0.5, 0, 8,
        asked=np.float32([80, 80, 400, 400]),
        polygons=(np.float32([[100, 100], [500, 300], [100, 300]]),),
        keypoints=np.float32([[200, 200, 0.7]]),
    )  # fmt: skip
    evidence = Evidence(np.array([[100, 200, 300, 400], [0, 0, 1, 1]]), None, 0.1, 0.9, 0.1, 0.8, 0.5)
    one = replace(result[0], detection=detection, evidence=evidence)
    (small,) = reduced(replace(result, explanations=(one,)), 250)
    assert small.detection.asked.tolist() == [20, 20, 100, 100]
    assert small.detection.polygons[0].tolist() == [[25, 25], [125, 75], [25, 75]]
    assert small.detection.keypoints == pytest.approx(np.float32([[50, 50, 0.7]]))
    assert small.evidence.patches.tolist() == [[25, 50, 75, 100], [0, 0, 1, 1]]
    assert (small.evidence.before, small.evidence.becomes) == (0.9, None)
    (large,) = resized(replace(result, explanations=(one,)), (1600, 2000))
    assert large.evidence.patches.tolist() == [[200, 400, 600, 800], [0, 0, 2, 2]]
    assert large.image.shape == (*large.heatmap.array.shape, 3) == (1600, 2000, 3)


def test_pictures_of_a_large_image_show_what_those_of_a_small_one_do(result, monkeypatch):
    whole = [zooms.zoom(one) for one in result], pages.panel(result)
    monkeypatch.setattr(zooms, "reduced", lambda given: reduced(given, 500))
    monkeypatch.setattr(pages, "MAP_SIDE_PX", 250)
    close, panel = [zooms.zoom(one) for one in result], pages.panel(result)
    for one, other in zip(close, whole[0], strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).mean() < 2
    assert panel.shape == whole[1].shape
    assert np.abs(panel.astype(int) - whole[1]).mean() < 3


@pytest.mark.slow
def test_an_image_of_400_megapixels_is_explained_in_a_few_gigabytes(scene_image, tmp_path):
    cv2.imwrite(str(tmp_path / "large.jpg"), cv2.resize(scene_image, (20_000, 20_000))[..., ::-1])
    command = [sys.executable, "-m", "detcam", "explain", str(tmp_path / "large.jpg"), "--weights", str(WEIGHTS)]
    command += ["--method", "layercam", "--out", str(tmp_path / "run")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert subprocess.run(command, check=False).returncode == 0
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    assert peak * 2**20 > before  # ours is the largest child
    print(f"{peak:.1f} GB at most")
    assert peak < 5
    sides = [cv2.imread(str(path)).shape[:2] for path in (tmp_path / "run" / "overlays").glob("*.png")]
    assert max(width for _, width in sides) == MOST_DRAWN_SIDE_PX
    assert MOST_DRAWN_SIDE_PX < max(height for height, _ in sides) < 2 * MOST_DRAWN_SIDE_PX  # a strip of words below
