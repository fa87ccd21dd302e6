"""Gradients that go through the graph together, in windows, against autograd's own, one scalar at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detcam.tensors import gradients
from detcam.tensors.gradients import gradients_of
from support.models import snapshot


class Mixed(nn.Module):
    """Side branches of every kind that YOLO networks have; sizes that no stride divides."""

    def __init__(self, middle):
        super().__init__()
        self.start = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm, self.middle = nn.BatchNorm2d(8), middle
        self.end = nn.Conv2d(8, 5, 1)

    def forward(self, x, kept):
        kept.append(x)
        x = F.silu(self.norm(self.start(x)))
        kept.append(x)
        return self.end(self.middle(x.clone()))


class Split(nn.Module):
    def forward(self, x):
        one, other = x.chunk(2, 1)
        first, second, third = x.split([3, 4, 1], 1)
        return torch.cat([torch.cat([second, one], 1).add(torch.cat([third, other, first], 1)[:, :8])], 1)


class Half(nn.Module):
    """Only some channels have gradients, and what stands beside them has none."""

    def forward(self, x):
        return torch.cat([x[:, 2:6], x[:, :4].detach() * 2], 1)


class Smaller(nn.Module):
    def forward(self, x):
        low = F.max_pool2d(x, 2, 2)
        return x[..., : 2 * low.shape[2], : 2 * low.shape[3]] + F.interpolate(low, scale_factor=2)


class Attention(nn.Module):
    def forward(self, x):
        flat = x.flatten(2)
        return x + (flat @ (flat.transpose(1, 2) @ flat / 9).softmax(-1)).view_as(x)


class Scaled(nn.Module):
    def forward(self, x):
        factor = torch.linspace(-1, 1, x.shape[-1])
        return (x * factor * 0.3 - x.permute(0, 1, 3, 2).transpose(2, 3).sigmoid()) / 2 + 1


def convolution(*arguments, **keywords):
    return nn.Conv2d(8, 8, *arguments, **keywords)


MIDDLES = {
    "3 x 3": lambda: convolution(3, 1, 1),
    "no padding": lambda: convolution(3),
    "stride": lambda: convolution(3, 2, 1),
    "stride over its kernel": lambda: convolution(2, 3),
    "uneven": lambda: convolution((1, 5), (2, 1), (0, 2)),
    "dilated": lambda: convolution(3, padding=2, dilation=2),
    "groups": lambda: convolution(3, padding=1, groups=4),
    "depthwise": lambda: convolution(5, padding=2, groups=8),
    "circular padding": lambda: convolution(3, padding=1, padding_mode="circular"),
    "deep": lambda: nn.Sequential(*[nn.Sequential(convolution(3, 1, 1), nn.SiLU()) for _ in range(4)]),
    "relu": lambda: nn.Sequential(convolution(3, 1, 1), nn.ReLU(inplace=True), nn.LeakyReLU(0.1)),
    "hardswish": lambda: nn.Sequential(convolution(3, 1, 1), nn.Hardswish(), nn.GELU()),
    "transposed": lambda: nn.ConvTranspose2d(8, 8, 2, 2),
    "pools": lambda: nn.Sequential(nn.MaxPool2d(5, 1, 2), nn.MaxPool2d(3, 2, 1, dilation=1), nn.AvgPool2d(2)),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "enlarged thrice": lambda: nn.Upsample(scale_factor=3),
    "enlarged by a part": lambda: nn.Upsample(scale_factor=1.5),
    "split": Split,
    "half": Half,
    "smaller": Smaller,
    "attention": Attention,
    "scaled": Scaled,
    "group norm": lambda: nn.GroupNorm(2, 8),
}


WITHOUT_RULE = {
    "attention", "bilinear", "circular padding", "enlarged by a part", "group norm", "hardswish", "pools", "scaled",
    "transposed",
}  # fmt: skip


def compare(scalars, tensors, groups=None):
    """The largest difference from autograd, over each gradient's own largest."""
    worst, seen = 0.0, set()
    for number, windows in gradients_of(scalars, tensors, groups or [0] * len(scalars)):
        seen.add(number)
        plain = [None] * len(tensors)
        if scalars[number].requires_grad:
            plain = torch.autograd.grad(scalars[number], tensors, retain_graph=True, allow_unused=True)
        for window, gradient, tensor in zip(windows, plain, tensors, strict=True):
            ours = torch.zeros_like(tensor) if window is None else window.dense(0, tensor.shape)
            theirs = torch.zeros_like(tensor) if gradient is None else gradient
            worst = max(worst, float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12)))
    assert seen == set(range(len(scalars)))
    return worst


@pytest.mark.parametrize("middle", MIDDLES)
@pytest.mark.parametrize("share", [-1.0, 1.0])
def test_every_operation(middle, share, monkeypatch):
    monkeypatch.setattr(gradients, "MOST_WITHOUT_RULE", share)
    torch.manual_seed(0)
    network = Mixed(MIDDLES[middle]()).eval().requires_grad_(False)
    network.norm.running_var.uniform_(0.5, 2)
    before, kept = snapshot(network), []
    out = network(torch.randn(3, 3, 37, 22, requires_grad=True), kept)
    height, width = out.shape[2:]
    places = [(0, 0), (height - 1, width - 1), (height // 2, 0), (height // 2, width // 2), (0, width - 1)]
    scalars = [out[image, channel, y, x] for image, channel in ((0, 1), (2, 4)) for y, x in places]
    scalars += [out[1].sum(), out[0, 0, 1] @ out[2, 0, 1], torch.tensor(1.0), -out[1, 1, 1, 1] * 2 + 1]
    assert compare(scalars, kept, [0, 1] * (len(scalars) // 2)) < 1e-5
    assert compare(scalars, kept[:1]) < 1e-5
    assert snapshot(network) == before


@pytest.mark.parametrize("middle", sorted(set(MIDDLES) - WITHOUT_RULE))
def test_what_has_a_rule_goes_by_it(middle, monkeypatch):
    asked = []

    def ask(node, windows, output):
        asked.append(node.name())
        return by_node(node, windows, output)

    by_node = gradients._by_node
    monkeypatch.setattr(gradients, "_by_node", ask)
    monkeypatch.setattr(gradients, "MOST_WITHOUT_RULE", 1.0)
    network, kept = Mixed(MIDDLES[middle]()).eval().requires_grad_(False), []
    out = network(torch.randn(1, 3, 36, 24, requires_grad=True), kept)
    assert compare([out[0, 1, 2, 3], out[0, 1, -1, 0]], kept) < 1e-5
    assert not asked


@pytest.mark.parametrize("share", [-1.0, 1.0])
def test_what_a_scalar_does_not_depend_on_has_no_window(share, monkeypatch):
    one, other = torch.randn(1, 2, 4, 4, requires_grad=True), torch.randn(1, 2, 4, 4, requires_grad=True)
    monkeypatch.setattr(gradients, "MOST_WITHOUT_RULE", share)
    ((_, windows),) = gradients_of([(one * 2)[0, 0, 3, 1]], [one, other, torch.randn(3)], [8])
    assert [window is not None for window in windows] == [True, False, False]
    assert windows[0].offsets == ((0, 0, 3, 1),)
    assert windows[0].values.flatten().tolist() == [2.0]


def test_a_prediction_reaches_few_cells_near_the_head(all_levels):
    detector, image, _ = all_levels
    batch, _ = detector.prepare([image])
    raw = detector.forward(batch, detector.resolve("neck"))
    scalars = [raw.logits[0, anchor, 1] for anchor in (0, 40, len(raw.strides) - 1)]
    strides = [int(raw.strides[anchor]) for anchor in (0, 40, len(raw.strides) - 1)]
    assert compare(scalars, list(raw.activations.values()), strides) < 1e-5
    (_, windows), *_ = gradients_of(scalars[:1], list(raw.activations.values()), [8])
    assert windows[0].sizes[2:] == (5, 5)


@pytest.mark.parametrize("target", ["logits", "boxes", "sides"])
def test_of_a_detector_at_every_level(all_levels, target):
    detector, image, _ = all_levels
    batch = detector.prepare([image])[0]
    raw = detector.forward(torch.cat([batch, batch.flip(-1)]), [*detector.resolve("auto"), *detector.resolve("neck")])
    anchors = [int((raw.strides == stride).nonzero()[place]) for stride in raw.strides.unique() for place in (0, 7, -1)]
    scalars = [getattr(raw, target)[image, anchor, 1] for image in (0, 1) for anchor in anchors]
    assert compare(scalars, list(raw.activations.values()), [int(raw.strides[a]) for a in anchors] * 2) < 1e-5


def test_memory_does_not_grow_with_the_number_of_scalars(all_levels):
    detector, image, _ = all_levels
    raw = detector.forward(detector.prepare([image])[0], detector.resolve("auto"))
    asked = [raw.logits[0, anchor, 0] for anchor in range(40)]
    held = []
    for _, windows in gradients_of(asked, list(raw.activations.values()), [8] * 40):
        held.append(max(len(window.values.untyped_storage()) for window in windows if window))
    assert max(held) <= 2 * held[0]
