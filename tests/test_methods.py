import numpy as np
import pytest
import torch
from fake import FakeDetector
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import detcam.explainer as core
from detcam.errors import UsageError
from detcam.maps import sum_maps
from detcam.methods import METHODS, cam, find_method

IMAGE = np.repeat(
    np.array([[0, 51, 102, 0], [0, 255, 204, 0], [0, 153, 51, 0], [0, 0, 0, 0]], np.uint8)[..., None], 3, 2
)
GREY = IMAGE[..., 0] / 255.0


def explained(method, anchor=5, target="class", layers="auto"):
    """The explanation of one anchor's detection on the fake detector."""
    results = core.Explainer(FakeDetector(), method, layers, target, conf=0)(IMAGE)
    return next(e for e in results[0] if e.detection.anchor == anchor)


def window(anchor):
    """1 on the 3x3 cells that the anchor's logit sums over, else 0."""
    row, column = divmod(anchor, 4)
    mask = np.zeros((4, 4))
    mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 1
    return mask


# Class 0 has gradients (2, 1) on its window and activations (x, -x): the products sum to x inside and 0 outside.
BY_HAND = {
    "hirescam": GREY * window(5),
    "odam": GREY * window(5),
    "layercam": GREY * window(5),
    "gradnorm": np.sqrt(5) * GREY * window(5),
    "gradcam": 9 / 16 * GREY,  # mean gradients 2 * 9/16 and 9/16
}


@pytest.mark.parametrize("method", BY_HAND)
def test_maps_worked_out_by_hand(method):
    explanation = explained(method)
    assert explanation.detection.class_name == "light"
    assert np.abs(explanation.heatmap.raw - BY_HAND[method]).max() < 1e-6
    assert explanation.layers == ("features",)


def test_gradcam_plus_plus_by_hand():
    gradients = np.stack([2 * window(5), window(5)])
    activations = np.stack([GREY, -GREY])
    alpha = np.zeros_like(gradients)
    for k in range(2):
        denominator = 2 * gradients[k] ** 2 + activations[k].sum() * gradients[k] ** 3
        alpha[k] = np.divide(gradients[k] ** 2, denominator, out=np.zeros((4, 4)), where=denominator != 0)
    expected = np.maximum(((alpha * np.maximum(gradients, 0)).sum((1, 2))[:, None, None] * activations).sum(0), 0)
    assert np.abs(explained("gradcam++").heatmap.raw - expected).max() < 1e-5


def test_eigencam_is_the_first_principal_component_whatever_is_asked():
    centred = np.stack([GREY, -GREY]).reshape(2, -1).T
    centred = centred - centred.mean(0)
    projection = centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1]
    projection *= np.sign(projection[np.abs(projection).argmax()])
    maps = [explained("eigencam", anchor).heatmap.raw for anchor in (5, 6)]
    assert np.allclose(maps[0], projection.reshape(4, 4), atol=1e-6)
    assert np.array_equal(maps[0], maps[1])


def test_random_is_seeded_and_differs_between_detections():
    first, again, other = (explained("random", anchor).heatmap.raw for anchor in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_contrast_is_the_difference_of_two_logits():
    # class 0 less class 1: gradients (2 + 1, 1 - 0.5) on the window, so the products sum to 2.5 x
    explanation = explained("hirescam", target="contrast:dark")
    assert np.abs(explanation.heatmap.raw - 2.5 * GREY * window(5)).max() < 1e-6


def test_a_layer_the_score_does_not_come_from_is_no_signal():
    explanation = explained("hirescam", layers="unused")
    assert explanation.status == "no_signal"
    assert "unused" in explanation.reason
    assert "'light' at anchor 5" in explanation.reason
    assert not explanation.heatmap.array.any()


def test_a_map_without_positive_evidence_is_no_signal_and_not_stretched():
    # class 1 has gradients (-1, 0.5): every product is -1.5 x, which ReLU makes zero
    explanation = core.Explainer(FakeDetector(), "hirescam", conf=0)(np.zeros((4, 4, 3), np.uint8))[0][0]
    assert explanation.status == "no_signal"
    assert "zero everywhere" in explanation.reason
    assert np.array_equal(explanation.heatmap.array, np.zeros((4, 4)))


GRADIENT_METHODS = [name for name, method in METHODS.items() if method.needs == "gradients"]
# Grad-CAM++ derives its weights for the exponential of the score: of all of these, its map alone does not scale.
LINEAR = [name for name in GRADIENT_METHODS if name != "gradcam++"]
tensors = arrays(np.float64, (3, 4, 5), elements=st.integers(-16, 16).map(lambda n: n / 8)).map(torch.from_numpy)


@pytest.mark.parametrize("name", LINEAR)
@given(activations=tensors, gradients=tensors, scale=st.sampled_from([2.0**-30, 0.5, 8.0, 2.0**20]))
def test_scaling_the_score_scales_the_map(name, activations, gradients, scale):
    function = METHODS[name].function
    small, large = function(activations, gradients), function(activations, scale * gradients)
    assert torch.allclose(large, scale * small, rtol=1e-5, atol=scale * 1e-7)
    assert torch.isfinite(large).all()
    assert (small >= 0).all()


@pytest.mark.parametrize("name", GRADIENT_METHODS)
@given(activations=tensors)
def test_no_gradient_no_map(name, activations):
    assert not METHODS[name].function(activations, torch.zeros_like(activations)).any()


@pytest.mark.parametrize("name", ["hirescam", "layercam", "gradnorm"])
@given(activations=tensors, row=st.integers(0, 3), column=st.integers(0, 4))
def test_element_wise_maps_live_where_the_gradient_does(name, activations, row, column):
    gradients = torch.zeros_like(activations)
    gradients[:, row, column] = 1
    made = METHODS[name].function(activations, gradients)
    made[row, column] = 0
    assert not made.any()


def test_functions_take_batches():
    activations, gradients = torch.randn(2, 3, 4, 5, dtype=torch.double), torch.randn(2, 3, 4, 5, dtype=torch.double)
    for name in [*GRADIENT_METHODS, "eigencam"]:
        extra = () if name == "eigencam" else (gradients,)
        single = () if name == "eigencam" else (gradients[1],)
        function = METHODS[name].function
        assert torch.allclose(function(activations, *extra)[1], function(activations[1], *single)), name


def test_layers_are_summed_unscaled_at_the_finest_resolution():
    fine, coarse = torch.zeros(4, 4), torch.full((2, 2), 3.0)
    fine[0, 0] = 5
    assert torch.equal(sum_maps([coarse, fine]), fine + 3)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(UsageError, match="no method 'grad-cam'; did you mean 'gradcam'"):
        find_method("grad-cam")


def test_every_method_says_what_it_can_say():
    assert "not detection-specific" in METHODS["eigencam"].label
    assert all(method.label for method in METHODS.values())
    assert cam.hirescam is METHODS["odam"].function
