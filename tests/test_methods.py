import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter

import detcam
import detcam.explainer as core
from detcam.errors import UsageError
from detcam.methods import METHODS, cam, find_method
from detcam.tensors.fusion import fuse_maps
from support.fake_detector import GREY, FakeDetector, explained


def window(anchor):
    """1 on the 3x3 cells that the anchor's logit sums over, else 0."""
    row, column = divmod(anchor, 4)
    mask = np.zeros((4, 4))
    mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 1
    return mask


# Class 0 has gradients (2, 1) on its window and activations (x, -x): the products sum to x inside and 0 outside.
BY_HAND = {
    "hirescam": GREY * window(5),
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


def positive_sum(weighted):
    return np.maximum(weighted.sum(0), 0)


# The fake detector's anchor 5 is the cell in row 1, column 1; its box covers two cells by two.
GRADIENTS, ACTIVATIONS = np.stack([2 * window(5), window(5)]), np.stack([GREY, -GREY])


def test_odam_smooths_the_gradients_by_an_eighth_of_the_box():
    smooth = [gaussian_filter(part, 2 / 8, mode="constant", radius=1) for part in GRADIENTS]
    assert np.abs(explained("odam").heatmap.raw - positive_sum(smooth * ACTIVATIONS)).max() < 1e-6


def test_ssgradcam_by_hand():
    sensitivity = np.stack([window(5), window(5)])  # each channel's gradient over its largest
    expected = positive_sum(GRADIENTS.mean((1, 2))[:, None, None] * ACTIVATIONS * sensitivity)
    assert np.abs(explained("ssgradcam").heatmap.raw - expected).max() < 1e-6


def test_ssgradcam_plus_plus_takes_the_activation_of_the_boxs_own_cell():
    weights = []
    for gradient, activation in zip((2.0, 1.0), (1.0, -1.0), strict=True):  # GREY is 1 at the anchor's cell
        own = gradient**2 / (2 * gradient**2 + activation * gradient**3)
        others = gradient**2 / (activation * gradient**3)  # the curvature term is masked to the cell
        weights.append(gradient * (own + 8 * others))
    expected = positive_sum(np.array(weights)[:, None, None] * ACTIVATIONS * window(5))
    assert np.abs(explained("ssgradcam++").heatmap.raw - expected).max() < 1e-5


def test_gcame_is_gradcam_under_a_gaussian_at_the_anchor():
    sides, stride = 16, 8
    gradients = torch.zeros(2, sides, sides, dtype=torch.double)
    gradients[0, 5, 7], gradients[1, 5, 8] = 0.5, -2.0
    activations = torch.rand(2, sides, sides, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    expected = np.zeros((sides, sides))
    rows, columns = np.mgrid[:sides, :sides] + 0.5
    for channel, weight in enumerate((0.5 / 256, -2 / 256)):
        sigma = abs(np.log(abs(weight))) * np.log(stride) / (7 / 3)  # (16 - 1) / 2 rounds down to 7
        gaussian = np.exp(-((rows - 5.5) ** 2 + (columns - 7.5) ** 2) / (2 * sigma**2))
        expected += weight * activations[channel].numpy() * gaussian
    made = cam.gcame(activations, gradients, torch.tensor([7.5, 5.5]), float(stride))
    assert np.abs(made.numpy() - np.maximum(expected, 0)).max() < 1e-12
    assert expected.max() > 0


def test_cam_is_the_classifiers_row_and_refuses_what_has_none():
    activations, row = torch.rand(3, 4, 5), torch.tensor([1.0, -2.0, 0.5])
    gradients = (row / 20)[:, None, None].expand(3, 4, 5)
    assert torch.allclose(cam.cam(activations, gradients), (row[:, None, None] * activations).sum(0), atol=1e-6)
    with pytest.raises(UsageError, match="gradients differ from cell to cell"):
        cam.cam(activations, torch.rand(3, 4, 5))
    with pytest.raises(UsageError, match="'cam' needs a layer that only global average pooling"):
        explained("cam")


def test_combined_is_the_largest_of_the_class_and_the_sides_each_over_its_peak(all_levels):
    model, image, choices = all_levels
    choices = {**choices, "layers": "backbone", "detection": 0}
    names = ("class", "left", "top", "right", "bottom")
    parts = [detcam.explain(model, image, method="hirescam", target=name, **choices)[0].heatmap.raw for name in names]
    combined = detcam.explain(model, image, method="hirescam", target="combined", **choices)[0].heatmap.raw
    assert all(part.max() > 0 for part in parts)
    assert np.abs(combined - np.max([part / part.max() for part in parts], 0)).max() < 1e-5  # five went together


def test_eigen_smoothing_has_the_sign_of_the_sum():
    weighted = torch.randn(4, 6, 7, generator=torch.Generator().manual_seed(1)) + torch.linspace(0, 3, 7)
    for sign in (1, -1):
        flat = (sign * weighted).flatten(1).T.numpy()
        centred = flat - flat.mean(0)
        projection = (centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1]).reshape(6, 7)
        projection *= np.sign((projection * (sign * weighted).sum(0).numpy()).sum())
        assert np.allclose(cam.positive_component(sign * weighted).numpy(), np.maximum(projection, 0), atol=1e-4)


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


GRADIENT_METHODS = [
    name
    for name, method in METHODS.items()
    if name != "cam" and method.on == "layer" and {*method.takes} - {"reduce"} == {"activations", "gradients"}
]
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


@pytest.mark.parametrize("name", ["hirescam", "layercam", "gradnorm", "ssgradcam"])
@given(activations=tensors, row=st.integers(0, 3), column=st.integers(0, 4))
def test_element_wise_maps_live_where_the_gradient_does(name, activations, row, column):
    gradients = torch.zeros_like(activations)
    gradients[:, row, column] = 1
    made = METHODS[name].function(activations, gradients)
    made[row, column] = 0
    assert not made.any()


def test_xgradcam_weighs_each_cell_by_its_share_of_the_channel():
    activations = torch.tensor([[[1.0, 3.0, 0.0]], [[2.0, -2.0, 5.0]], [[1.0, -1.0, 0.0]]])
    gradients = torch.tensor([[[2.0, 4.0, 9.0]], [[1.0, 1.0, 2.0]], [[3.0, 1.0, 7.0]]])
    weights = (2 + 12) / 4, (2 - 2 + 10) / 5, 0  # the last channel's activations sum to zero
    expected = sum(weight * channel for weight, channel in zip(weights, activations, strict=True)).relu()
    assert torch.allclose(cam.xgradcam(activations, gradients), expected)
    assert expected.count_nonzero() == 3


@pytest.mark.parametrize(("spread", "refused"), [(0, False), (0.9e-4, False), (1.1e-4, True)])
@pytest.mark.parametrize("scale", [1.0, -3.0, 1e-12])
def test_cam_allows_for_rounding_and_no_more(spread, refused, scale):
    gradients = torch.full((2, 3, 4), scale, dtype=torch.double)
    gradients[1] /= 2
    gradients[1, 2, 3] += spread * abs(scale)
    activations = torch.ones(2, 3, 4, dtype=torch.double)
    if refused:
        with pytest.raises(UsageError, match="gradients differ from cell to cell"):
            cam.cam(activations, gradients)
    else:
        assert torch.allclose(cam.cam(activations, gradients), torch.full((3, 4), 18 * scale).double(), rtol=1e-4)


def test_cam_of_gradients_that_are_all_zero_is_zero():
    assert not cam.cam(torch.ones(2, 3, 4), torch.zeros(2, 3, 4)).any()


@pytest.mark.parametrize(
    ("box", "sigma"), [((1, 2, 9, 20), 12 / 8), ((0, 0, 32, 2), 1), ((3, 3, 3, 9), 0), ((9, 3, 1, 9), 0)]
)
def test_odam_smooths_by_the_geometric_mean_of_the_boxs_sides(box, sigma):
    generator = torch.Generator().manual_seed(3)
    activations, gradients = (torch.rand(2, 12, 15, generator=generator, dtype=torch.double) for _ in range(2))
    smooth = gaussian_filter(gradients.numpy(), (0, sigma, sigma), mode="constant", radius=int(np.ceil(3 * sigma)))
    made = cam.odam(activations, gradients, torch.tensor(box, dtype=torch.double))
    assert np.abs(made.numpy() - positive_sum(smooth * activations.numpy())).max() < 1e-12


@pytest.mark.parametrize(
    ("anchor", "cell"),
    [((1.5, 0.5), (0, 1)), ((3.9, 2.1), (2, 3)), ((-0.5, 1.5), (1, 0)), ((4.5, 1.5), (1, 4)), ((9, 1), (1, 4)),
     ((2, -3), (0, 2)), ((2, 2.9), (2, 2)), ((2, 7), (2, 2))],
)  # fmt: skip
def test_ssgradcam_plus_plus_reads_the_anchors_cell_or_the_nearest(anchor, cell):
    activations = torch.arange(1.0, 16).reshape(1, 3, 5)
    gradients = torch.full((1, 3, 5), 0.5)
    row, column = cell
    own = 0.25 / (2 * 0.25 + activations[0, row, column] * 0.125)
    others = 0.25 / (activations[0, row, column] * 0.125)
    expected = 0.5 * (own + 14 * others) * activations[0]
    made = cam.ssgradcam_plus_plus(activations, gradients, torch.tensor(anchor, dtype=torch.float))
    assert torch.allclose(made, expected)


def test_ssgradcam_counts_a_cell_by_its_share_of_the_channels_largest_gradient():
    activations = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])
    gradients = torch.tensor([[[4.0, -2.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    expected = 0.75 * torch.tensor([[1.0, 2.0 / 2], [3.0 / 4, 0.0]])
    assert torch.allclose(cam.ssgradcam(activations, gradients), expected)


@pytest.mark.parametrize(
    ("shape", "stride", "sigma"),
    [
        ((4, 16), 8.0, np.log(8) * np.log(64) / 1),  # the mean side is 8: radius 3
        ((2, 2), 4.0, np.log(4) * np.log(4) / (1 / 3)),  # no radius is less than 1
        ((16, 16), 1.0, 1),  # nor any deviation
        ((16, 16), 0.5, 1),
        ((5, 5), 2.0, max(np.log(2) * np.log(25) / (2 / 3), 1)),
    ],
)
def test_gcames_gaussian_follows_the_layers_size_and_stride(shape, stride, sigma):
    height, width = shape
    gradients = torch.zeros(1, *shape, dtype=torch.double)
    gradients[0, 1, 0] = 1.0  # the mean gradient is one over the cells
    anchor = torch.tensor([1.25, 0.75])
    rows, columns = np.mgrid[:height, :width] + 0.5
    expected = np.exp(-((rows - 0.75) ** 2 + (columns - 1.25) ** 2) / (2 * sigma**2)) / (height * width)
    made = cam.gcame(torch.ones_like(gradients), gradients, anchor, stride)
    assert np.abs(made.numpy() - expected).max() < 1e-9
    assert not cam.gcame(torch.ones_like(gradients), 0 * gradients, anchor, stride).any()


def test_eigencam_has_its_largest_magnitude_positive_and_eigengradcam_the_sign_of_the_sum():
    activations = torch.zeros(2, 3, 4)
    activations[0, 1, 2], activations[1, 0, 0] = -6.0, 1.0
    for sign in (1, -1):
        made = cam.eigencam(sign * activations)
        assert made.flatten()[made.abs().argmax()] > 0
        assert made.abs().argmax() == 6
        assert made.sum().abs() < 1e-5, "of cells less their mean"
    gradients = torch.ones_like(activations)
    assert cam.eigengradcam(activations, -gradients).argmax() == 6
    assert cam.eigengradcam(activations, gradients)[1, 2] == 0
    assert torch.equal(cam.eigengradcam(2 * activations, gradients), cam.positive_component(2 * activations))


def test_random_maps_are_uniform_noise_of_a_layers_size():
    noise = cam.random(torch.zeros(2, 3, 40, 50, dtype=torch.double), 3)
    assert (noise.shape, noise.dtype) == ((2, 40, 50), torch.double)
    assert 0 <= noise.min() < 0.01
    assert 0.99 < noise.max() <= 1
    assert noise.mean() == pytest.approx(0.5, abs=0.02)


def test_a_component_as_strong_in_both_directions_is_kept_as_it_is():
    """Where the sum does not say which sign is meant, one of the two is shown and not neither."""
    assert cam.positive_component(torch.tensor([[[1.0, -1.0]], [[-1.0, 1.0]]])).sum() > 0


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
    assert torch.equal(fuse_maps([coarse, fine]), fine + 3)
    assert torch.equal(fuse_maps([coarse, fine], "mean"), (fine + 3) / 2)
    assert torch.equal(fuse_maps([coarse, fine], "max"), torch.maximum(fine, torch.full((4, 4), 3.0)))


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(UsageError, match="no method 'grad-cam'; did you mean 'gradcam'"):
        find_method("grad-cam")


def test_every_method_says_what_it_can_say():
    assert "not detection-specific" in METHODS["eigencam"].label
    assert all(method.label for method in METHODS.values())
    assert "Gaussian at the anchor by construction" in METHODS["gcame"].label
    assert "repaints similar objects" in METHODS["gradcam"].label


def test_the_documented_table_is_the_one_the_code_makes():
    root = Path(__file__).parents[1]
    sys.path.insert(0, str(root / "docs"))
    try:
        from methods_table import OUT, table
    finally:
        sys.path.pop(0)
    assert OUT.read_text(encoding="utf-8") == table(), "run: python docs/methods_table.py"
