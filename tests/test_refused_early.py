"""What a model does not have is told before a run begins: exit code 2, and nothing is done."""

import numpy as np
import pytest

import detcam
from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.targets import class_logit
from support.fake_detector import IMAGE, FakeDetector

CANNOT = {
    "contrast:nosuchclass": "no class 'nosuchclass' in this model",
    "contrast:99": "no class 99",
    "mask": "gives no masks",
    "objectness": "no objectness score",
    "keypoint:0": "gives no keypoints",
    "keypoint:3:x": "gives no keypoints",
}


@pytest.mark.parametrize("method", ["auto", "layercam"])
@pytest.mark.parametrize("target", CANNOT)
def test_a_target_that_the_model_does_not_have(target, method, tmp_path, capsys):
    image = tmp_path / "gone.png"  # even without any image
    command = ["explain", str(image), "--weights", str(WEIGHTS), "--out", str(tmp_path / "run")]
    assert main([*command, "--target", target, "--method", method]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert CANNOT[target] in line
    assert not (tmp_path / "run").exists()


def test_a_layer_that_cannot_be_explained(tmp_path, capsys, demo_detector):
    (head,) = [name for name, module in demo_detector.model.named_modules() if type(module).__name__ == "Detect"]
    command = ["explain", "gone.png", "--weights", str(WEIGHTS), "--out", str(tmp_path / "run")]
    assert main([*command, "--layers", head]) == 2
    assert head in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_target_from_outside_that_gives_no_scalar():
    with pytest.raises(detcam.UsageError, match="has to give a scalar tensor"):
        detcam.Explainer(FakeDetector(), target=lambda raw, index, detection: raw.logits)


def test_a_target_that_needs_more_than_a_blank_image_has_is_let_through():
    def asks(raw, index, detection):
        assert detection.confidence > 0
        return class_logit(raw, index, detection)

    assert len(detcam.explain(FakeDetector(), IMAGE, method="layercam", target=asks, conf=0)) > 1


def test_a_black_box_is_not_called_for_it():
    calls = []

    def predict(images):
        calls.append(len(images))
        return [(np.zeros((0, 4)), np.zeros((0, 1)))] * len(images)

    for target, message in {"mask": "no masks", "objectness": "no objectness", "keypoint:1": "no keypoints"}.items():
        with pytest.raises(detcam.UsageError, match=message):
            detcam.Explainer(detcam.BlackBox(predict, ["a"]), target=target)
    detcam.Explainer(detcam.BlackBox(predict, ["a"]), target="left")
    assert calls == []


@pytest.mark.parametrize("target", ["class", "contrast:gem", "score", "left", "iou", "combined"])
def test_what_it_has_costs_no_pass_or_one(target, demo_detector, monkeypatch):
    passes, forward = [], type(demo_detector).forward
    monkeypatch.setattr(
        type(demo_detector), "forward", lambda self, *args, **named: passes.append(1) or forward(self, *args, **named)
    )
    detcam.Explainer(demo_detector, target=target)
    assert len(passes) == (target in ("left", "iou", "combined"))
