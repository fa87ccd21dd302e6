import pytest
import torch
from torch import nn

from detcam.errors import UsageError
from detcam.tensors.hooks import capture


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.fixture
def model():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.ReLU(inplace=True), nn.Conv2d(2, 1, 3), nn.Flatten()
    )
    return layers.requires_grad_(False)


def test_the_graph_starts_at_the_first_captured_layer(model):
    with capture({"a": model[1], "b": model[3]}) as seen:
        score = model(torch.ones(1, 1, 9, 9)).sum()
    assert seen["a"].is_leaf
    assert not seen["b"].is_leaf
    gradient = torch.autograd.grad(score, list(seen.values()))
    assert all(g.any() for g in gradient)
    assert hooks(model) == 0


def test_what_is_recorded_is_what_the_layer_gave_even_if_changed_in_place(model):
    with torch.no_grad():
        expected = model[1](model[0](torch.ones(1, 1, 9, 9)))
    assert (expected < 0).any()
    with capture({"a": model[1]}) as seen:
        model(torch.ones(1, 1, 9, 9))
    assert torch.equal(seen["a"], expected)


def test_an_exception_leaves_no_hook_behind(model):
    with pytest.raises(RuntimeError), capture({"a": model[1], "b": model[3]}):
        model(torch.ones(1, 5, 9, 9))
    assert hooks(model) == 0


def test_a_layer_without_one_feature_map_is_refused(model):
    with (
        pytest.raises(UsageError, match=r"layer 'flat' \(Flatten\) gives a tensor of shape \(1, 9\)"),
        capture({"flat": model[4]}),
    ):
        model(torch.ones(1, 1, 9, 9))
    assert hooks(model) == 0


def test_a_layer_that_runs_twice_is_refused(model):
    with capture({"act": model[2]}):
        model(torch.ones(1, 1, 9, 9))
        with pytest.raises(UsageError, match="runs more than once"):
            model(torch.ones(1, 1, 9, 9))
