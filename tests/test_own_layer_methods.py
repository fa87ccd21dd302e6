"""Functions from outside that work at layers: what they are given, and what is said of those that cannot work."""

import numpy as np
import pytest
import torch

import detcam
from support.fake_detector import IMAGE, FakeDetector


def explain(function):
    method = detcam.Method(function, on="layer", name="odd")
    return detcam.explain(FakeDetector(), IMAGE, method=method, detection=0)[0]


def test_boxes_and_anchors_are_in_cells_of_the_layer_and_its_tensors_have_no_batch():
    given = {}

    def keep(activations, gradients, box, anchor, stride, seed):
        given.update(locals())
        return activations[0]

    one = explain(keep)
    assert given["activations"].shape == given["gradients"].shape == (2, 4, 4)
    np.testing.assert_allclose(given["box"], one.detection.xyxy)  # the layer's cells are the image's pixels here
    assert given["anchor"].shape == (2,)
    assert (given["stride"], given["seed"]) == (1.0, 0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda activations, boxx: activations[0],
            "'odd' asks for 'boxx', which no layer has; .* gradients, box, anchor",
        ),
        (lambda layer: layer[0], "asks for 'layer'"),
    ],
)
def test_a_misspelt_argument_is_told_before_weights_are_loaded(function, message):
    with pytest.raises(detcam.UsageError, match=message):
        detcam.Method(function, on="layer", name="odd")


def test_arguments_with_a_default_are_the_functions_own():
    assert explain(lambda activations, power=2: activations[0] ** power).status == "ok"
    assert explain(lambda **given: given["activations"][0] if given else torch.ones(4, 4)).status == "ok"


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda activations: activations, r"a tensor \(2, 4, 4\)"),
        (lambda activations: activations.sum(), r"a tensor \(\)"),
        (lambda activations: activations[0].numpy(), "a ndarray"),
        (lambda activations: None, "a NoneType"),
    ],
)
def test_what_is_no_map_of_a_layer_is_told_so(function, what):
    with pytest.raises(detcam.UsageError, match=rf"'odd' has to give one map \(h, w\) .* \(2, 4, 4\), and gave {what}"):
        explain(function)


@pytest.mark.parametrize(
    "function", [lambda activations: activations[0], lambda activations, box: activations[0], lambda: None]
)
def test_a_function_at_layers_that_is_given_as_it_is_hears_how_to_give_it(function):
    with pytest.raises(detcam.UsageError, match=r"detcam\.Subject alone; .* detcam\.Method\(function, on='layer'\)"):
        detcam.explain("missing.pt", IMAGE, method=function)


def test_a_method_works_on_a_layer_or_on_the_image():
    with pytest.raises(detcam.UsageError, match="works on 'layer' or on 'image', got on='layers'"):
        detcam.Method(lambda activations: activations[0], on="layers")
