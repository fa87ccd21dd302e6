"""Smoothing over changed copies: the target moves with the image."""

import numpy as np
import pytest
import torch

import detcam
import detcam.explainer as core
from detcam.attribution.augmentation import mirror
from detcam.errors import UsageError
from detcam.targets import TARGETS
from support.fake_detector import IMAGE, FakeDetector, explained
from support.images import photograph
from support.torchvision_detectors import made


def mirrored_cell(anchor, height, width, strides):
    """The anchor in the mirrored cell, by counting through the levels."""
    for stride in strides:
        rows, columns = height // stride, width // stride
        if anchor < rows * columns:
            row, column = divmod(anchor, columns)
            return row * columns + columns - 1 - column - anchor
        anchor -= rows * columns
    raise AssertionError("no such anchor")


def test_the_mirrored_anchor_is_in_the_mirrored_cell_of_its_level(all_levels):
    model, image, choices = all_levels
    batch, _ = model.prepare([image])
    with torch.no_grad():
        raw, flipped = model.forward(batch), model.forward(batch.flip(-1))
    detections = detcam.explain(model, image, method="random", **choices).detections
    assert {d.stride for d in detections} == {8, 16, 32}
    for detection in detections:
        moved = mirror(detection, 0, raw, flipped)
        assert moved.anchor == detection.anchor + mirrored_cell(detection.anchor, *raw.size, (8, 16, 32))


def test_several_anchors_of_a_cell_keep_their_rank():
    model = detcam.load(made("retina"))
    batch, _ = model.prepare([photograph(200, 220, 7)])
    with torch.no_grad():
        raw, flipped = model.forward(batch), model.forward(batch.flip(-1))
    found = detcam.explain(model, photograph(200, 220, 7), method="random", conf=0.05).detections[0]
    moved = mirror(found, 0, raw, flipped)
    width = raw.size[1]
    place, other = raw.places(0)[found.anchor], flipped.places(0)[moved.anchor]
    assert torch.allclose(other, torch.stack([width - place[0], place[1]]), atol=1e-3)
    assert raw.strides[found.anchor] == flipped.strides[moved.anchor]
    assert found.anchor % 9 == moved.anchor % 9  # nine anchors to a cell, in the same order in every cell


def test_a_mirror_symmetric_detector_has_the_same_map_with_and_without_the_flip():
    plain = explained("hirescam", anchor=4)
    smooth = next(
        e
        for e in core.Explainer(FakeDetector(), "hirescam", smoothing="aug", conf=0)(IMAGE)[0]
        if e.detection.anchor == 4
    )
    assert plain.heatmap.raw.max() > 0
    assert np.abs(plain.heatmap.raw - smooth.heatmap.raw).max() < 1e-6


@pytest.mark.parametrize(("target", "flipped_target"), [("class", "class"), ("left", "right")])
def test_augmentation_is_the_mean_of_plain_maps_of_the_moved_target(all_levels, target, flipped_target):
    model, image, choices = all_levels
    layer = model.resolve("backbone")[1]
    explanation = detcam.explain(
        model, image, method="hirescam", layers=layer, target=target, smoothing="aug", detection=1, **choices
    )[0]
    batch, _ = model.prepare([image])
    detection = explanation.detection
    maps = []
    for turned in (False, True):
        for gain in (0.9, 1.0, 1.1):
            raw = model.quick_at([layer]).forward((batch.flip(-1) if turned else batch) * gain, (layer,))
            anchor = detection.anchor
            if turned:
                anchor += mirrored_cell(anchor, *raw.size, (8, 16, 32))
            asked = TARGETS[flipped_target if turned else target]
            moved = mirror(detection, 0, raw, raw) if turned else detection
            assert moved.anchor == anchor
            tensor = raw.activations[layer]
            (gradient,) = torch.autograd.grad(asked(raw, 0, moved), tensor)
            one = (gradient * tensor)[0].sum(0).relu().detach()
            maps.append(one.flip(-1) if turned else one)
    expected = torch.stack(maps).mean(0).numpy()
    assert np.abs(explanation.heatmap.raw - expected).max() <= 1e-5 * expected.max()


def test_noise_is_seeded_and_averages_to_a_map_near_the_plain_one(all_levels):
    model, image, choices = all_levels
    choices = {**choices, "method": "hirescam", "layers": "backbone", "detection": 0}
    first, again, other = (
        detcam.explain(model, image, smoothing="noise", seed=seed, **choices)[0].heatmap.raw for seed in (0, 0, 1)
    )
    plain = detcam.explain(model, image, **choices)[0].heatmap.raw
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.corrcoef(first.ravel(), plain.ravel())[0, 1] > 0.5


def test_what_cannot_be_smoothed_is_refused():
    for choices, message in [
        ({"method": "gradnorm", "smoothing": "eigen"}, "does not sum weighted channels"),
        ({"method": "saliency", "smoothing": "aug"}, "works on the image"),
        ({"method": "eigencam", "smoothing": "noise"}, "takes no gradient"),
        ({"smoothing": "blur"}, "no smoothing 'blur'"),
        ({"method": "saliency", "layers": "features"}, "works on the image, without layers"),
        ({"method": "layercam", "budget": 16}, "takes a fixed number of forward passes"),
        ({"fusion": "median"}, "no fusion 'median'"),
        ({"smoothing": "aug", "target": "keypoint:1"}, "cannot be averaged over flipped images"),
    ]:
        with pytest.raises(UsageError, match=message):
            core.Explainer(FakeDetector(), **choices)


def test_proposals_are_found_again_by_their_box_in_the_flipped_image():
    result = detcam.explain(
        made("faster"), photograph(200, 220, 7), smoothing="aug", conf=0.05, max_det=2, method="layercam"
    )
    assert len(result) >= 1
    assert all(e.status == "ok" for e in result)


def test_noise_does_not_depend_on_the_batch():
    bright, dim = np.zeros((4, 4, 3), np.uint8), IMAGE // 8
    bright[1, 1] = 255
    explainer = core.Explainer(FakeDetector(), "hirescam", smoothing="noise", conf=0, batch=2)
    together = explainer([dim, bright])[0]
    alone = core.Explainer(FakeDetector(), "hirescam", smoothing="noise", conf=0)(dim)[0]
    for one, two in zip(together, alone, strict=True):
        assert np.abs(one.heatmap.raw - two.heatmap.raw).max() < 1e-6
