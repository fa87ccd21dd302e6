"""The figures of an evaluation against those of other libraries, and against optima that are known.

Quantus 0.6 (``pip install --no-deps quantus pandas cachetools``), pytorch-grad-cam 1.5, captum, pycocotools and scipy
measure the same maps. Where a definition differs, a test maps one to the other:
- Quantus' curves begin after the first step and are not over the first score; its areas have steps of width 1. Its
  insertion is the deletion of the least relevant first read backwards, or a deletion from the fill to the image;
- pytorch-grad-cam's ROAD leaves out both ends of a curve; it and the confidence changes are differences, not shares;
- Quantus' pointing game is a hit if one of several equally hot pixels is in the region; ours tells their share. A
  region without a pixel is a hit to Quantus; ours is 0, and nan in ``plausibility``;
- Quantus' MPRT draws parameters anew, normalisation's too; ours shuffles those of convolutions and linear layers.
Without a counterpart here are Quantus' Sufficiency (alike maps, alike classes) and ROAD (whether the class stays),
captum's infidelity, and pytorch-grad-cam's Complexity, Coherency and ARCC.
"""

import copy

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import nn
from torchvision import transforms

import detcam
from detcam.adapters.classifier import Classifier
from detcam.evaluate import sanity
from detcam.explainer import Explainer
from detcam.metrics.faithfulness import STEPS, curves, faithfulness, ranking
from detcam.metrics.localization import energy_inside, mask_iou, pointing_game
from detcam.probing.probe import Probe
from detcam.targets import class_logit
from detcam.tensors.fills import FILLS

SIZE = HEIGHT, WIDTH = 12, 20
PIXELS = HEIGHT * WIDTH
INSIDE = torch.ones(SIZE, dtype=torch.bool)
WHOLE, PART = torch.tensor([0.0, 0, WIDTH, HEIGHT]), torch.tensor([3.0, 2, 15, 10])
PART_COUNTS = [0, 10, 19, 29, 38, 48, 58, 67, 77, 86, 96]  # tenths of its 96 pixels
PLAIN = {"normalise": False, "disable_warnings": True}


@pytest.fixture
def quantus(monkeypatch):
    """Quantus, whose areas call NumPy's ``trapz``, which NumPy 2.4 has under another name only."""
    why = "nothing to compare with: pip install --no-deps quantus pandas cachetools"
    found = pytest.importorskip("quantus", reason=why)
    monkeypatch.setattr(np, "trapz", scipy.integrate.trapezoid, raising=False)
    with torch.random.fork_rng():
        yield found


@pytest.fixture
def grad_cam():
    why = "nothing to compare with: pip install grad-cam ttach scikit-learn"
    return pytest.importorskip("pytorch_grad_cam", reason=why)


class Classified:
    """A seeded network of ten layers and what it says of an image, for detcam and for the others."""

    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            pairs = [(nn.Conv2d(6 if n else 3, 6, 3, padding=1), nn.SiLU()) for n in range(9)]
            self.network = nn.Sequential(*sum(pairs, ()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()
            for layer in self.network:
                if hasattr(layer, "weight"):
                    nn.init.normal_(layer.weight, std=(4 / layer.weight[0].numel()) ** 0.5)
            self.network[-1].weight.data *= 4  # sure of its class
        self.adapter = self.adapt(self.network)
        generator = np.random.default_rng(0)
        image = generator.integers(0, 256, (*SIZE, 3), np.uint8)
        session = detcam.open_image(self.adapter, image, conf=0.0, max_det=1)
        found, self.batch = session.detections, session.prepared.batch
        probe = Probe(session.prepared, [(found[0], class_logit)])
        self.score = lambda images: probe.scores_apart(images, 0)
        self.image, self.label = self.batch[0], found[0].class_id
        self.case = sanity.Case(session.prepared, found)
        self.all_before = self.score(self.batch)[0]
        self.before = float(self.all_before[0])

    @staticmethod
    def adapt(network):
        return Classifier(network, transforms=transforms.Compose([transforms.ToTensor()]))

    def figures(self, heat, box=WHOLE):
        return faithfulness(torch.tensor(heat), self.image, box, INSIDE, self.all_before, self.score)

    @torch.enable_grad()  # captum asks without
    def maps(self, explainer, batch):
        """The maps an explainer makes of the class in other images, (image, h, w)."""
        return np.stack([sanity.maps_of(explainer, explainer.model, self.case, one[None])[0] for one in batch])

    def by_quantus(self, metric, heat, start=None, **options):
        """What a metric tells of a map (h, w) of the image, or of another one."""
        batch, label = (self.image if start is None else start)[None].numpy(), np.array([self.label])
        return metric(self.network, batch, label, heat[None, None], channel_first=True, **options)

    def flipped(self, quantus, heat, start, end):
        """Quantus' pixel flipping, one pixel (three features, a channel each) at a time, from an image to another."""
        metric = quantus.PixelFlipping(3, perturb_func=replaced(end), **PLAIN)
        return np.array(self.by_quantus(metric, heat, start)[0])


@pytest.fixture(scope="module")
def classified():
    return Classified()


def heat_of(seed, cell=1):
    """A map (h, w) without ties among its square cells, float32."""
    cells = PIXELS // cell**2
    order = np.random.default_rng(seed).permutation(cells).reshape(HEIGHT // cell, WIDTH // cell)
    return np.kron((order + 1) / cells, np.ones((cell, cell))).astype(np.float32)


def replaced(by):
    """Quantus' perturbation of features (1, 3 h w) that makes some of them those of an image (3, h, w)."""
    return lambda arr, indices, **_: np.where(np.isin(np.arange(arr.size), indices), by.numpy().reshape(1, -1), arr)


@pytest.mark.parametrize("fill", FILLS)
def test_deletion_and_insertion_are_quantus_pixel_flipping(quantus, classified, fill):
    heat, image, other = heat_of(1), classified.image, FILLS[fill](classified.image, INSIDE)
    told = classified.figures(heat, PART)
    for name, start, end in (("deletion", image, other), ("insertion", other, image)):
        first = float(classified.score(start[None])[0, 0])
        curve = np.array([first, *classified.flipped(quantus, heat, start, end)])
        theirs = curve[PART_COUNTS] / classified.before
        assert np.ptp(theirs) > 0.1
        assert told[f"curve_{name}_{fill}"] == pytest.approx(theirs, abs=1e-6)
        area = quantus.helpers.utils.calculate_auc(theirs) / STEPS
        for part in ("", "anchor_", "class_"):  # a classifier's one box is the whole image: all three are the class
            assert told[f"{name}_{part}{fill}"] == pytest.approx(area, abs=1e-6)


def test_deletion_outside_the_box_is_pixel_flipping_with_the_box_last(quantus, classified):
    heat = heat_of(2)
    rest = heat.copy()
    rest[2:10, 3:15] -= 2  # PART
    curve = classified.flipped(quantus, rest, classified.image, FILLS["blur"](classified.image, INSIDE))
    curve = np.array([classified.before, *curve])[PART_COUNTS[::2]] / classified.before
    told = classified.figures(heat, PART)["outside_blur"]
    assert np.ptp(curve) > 0.05
    assert told == pytest.approx(quantus.helpers.utils.calculate_auc(curve) / 5, abs=1e-6)


@pytest.mark.parametrize("fill", FILLS)
def test_both_curves_are_quantus_region_perturbation(quantus, classified, fill):
    # It removes 60 squares of four pixels, so a tenth of the image is six; it tells how much is lost.
    heat, left = heat_of(3, cell=2), {}
    perturb = replaced(FILLS[fill](classified.image, INSIDE))
    for order in ("morf", "lerf"):
        metric = quantus.RegionPerturbation(2, order, 60, perturb_func=perturb, **PLAIN)
        left[order] = 1 - np.array([0, *classified.by_quantus(metric, heat)[0]])[::6] / classified.before
    told = classified.figures(heat)
    assert told[f"curve_deletion_{fill}"] == pytest.approx(left["morf"], abs=1e-6)
    assert told[f"curve_insertion_{fill}"] == pytest.approx(left["lerf"][::-1], abs=1e-6)
    assert np.ptp(left["morf"]) > 0.1
    between = quantus.helpers.utils.calculate_auc(left["lerf"] - left["morf"]) / STEPS
    assert told[f"faithfulness_{fill}"] == pytest.approx(between, abs=1e-6)


@pytest.mark.parametrize("fill", FILLS)
def test_faithfulness_is_grad_cams_road_with_our_fill(grad_cam, classified, fill, monkeypatch):
    heat, other, road = heat_of(4), FILLS[fill](classified.image, INSIDE), grad_cam.metrics.road
    monkeypatch.setattr(road, "NoisyLinearImputer", lambda: lambda image, kept: torch.where(kept > 0.5, image, other))
    target = grad_cam.utils.model_targets.ClassifierOutputSoftmaxTarget(classified.label)
    asked = classified.batch, heat[None], [target], classified.network
    told, before = classified.figures(heat), classified.before
    gone, shown = (  # at the percentile 10 n it leaves n tenths of the image: the coldest, or the hottest
        1 + np.array([float(kind(10 * n)(*asked)[0]) for n in range(1, STEPS)]) / before
        for kind in (road.ROADMostRelevantFirst, road.ROADLeastRelevantFirst)
    )
    assert told[f"curve_deletion_{fill}"][-2:0:-1] == pytest.approx(gone, abs=1e-6)
    assert told[f"curve_insertion_{fill}"][1:-1] == pytest.approx(shown, abs=1e-6)
    # Half the difference of two means of nine steps; an area's two ends, each with half the weight, cancel.
    combined = float(road.ROADCombined()(*asked)[0]) / before
    assert told[f"faithfulness_{fill}"] == pytest.approx(2 * combined * 9 / 10, abs=1e-6)


def test_steps_are_grad_cams_confidence_changes_of_a_map_of_zeros_and_ones(grad_cam, classified):
    # It multiplies the image with the map: one of zeros and ones shows a part before black.
    theirs, place = grad_cam.metrics.cam_mult_image, ranking(torch.tensor(heat_of(5)), INSIDE)
    counts, black = torch.arange(0, PIXELS + 1, PIXELS // STEPS), torch.zeros_like(classified.image)
    pair = curves(place, counts, classified.image, black, classified.score)
    targets = [grad_cam.utils.model_targets.ClassifierOutputSoftmaxTarget(classified.label)] * len(counts)
    gains = set()
    for curve, shown in zip(pair, (place >= counts[:, None, None], place < counts[:, None, None]), strict=True):
        change = curve[:, 0].numpy() - classified.before
        batch = classified.batch.expand(len(counts), -1, -1, -1)
        asked = batch, shown.float().numpy(), targets, classified.network
        assert change == pytest.approx(theirs.CamMultImageConfidenceChange()(*asked), abs=1e-6)
        assert np.maximum(-change, 0) == pytest.approx(theirs.DropInConfidence()(*asked), abs=1e-6)
        clear = np.abs(change) > 1e-6  # not where the whole image is shown
        assert ((change > 0) == theirs.IncreaseInConfidence()(*asked))[clear].all()
        gains |= set(change[clear] > 0)
    assert gains == {True, False}


def test_where_maps_lie_is_quantus_localisation(quantus):
    generator = np.random.default_rng(0)
    heats = np.stack([heat_of(seed) for seed in range(32)]).astype(np.float64)
    regions = generator.random(heats.shape) < generator.random(len(heats))[:, None, None]

    def theirs(name, heats=heats, **options):
        metric = getattr(quantus, name)(**PLAIN, **options)
        images = np.zeros((len(heats), 3, *SIZE))
        return np.array(metric(None, images, None, heats[:, None], regions[:, None], channel_first=True), np.float64)

    masses = [energy_inside(*pair) for pair in zip(heats, regions, strict=True)]
    assert masses == pytest.approx(theirs("RelevanceMassAccuracy"), abs=1e-12)
    assert masses == pytest.approx(theirs("AttributionLocalisation"), abs=1e-9)  # it adds 1e-9 to the whole
    hits = theirs("PointingGame")
    assert 0 < hits.sum() < len(hits)
    assert [pointing_game(*pair) for pair in zip(heats, regions, strict=True)] == hits.tolist()
    blunt = np.ceil(heats * 60)  # four pixels share the peak
    shares = np.array([pointing_game(*pair) for pair in zip(blunt, regions, strict=True)])
    assert ((shares > 0) == theirs("PointingGame", blunt)).all()

    # The hottest k pixels: as places of the ranking, and as what a threshold at the k-th of them cuts out.
    for told, counts in (
        (theirs("TopKIntersection", k=17), [17] * len(heats)),
        (theirs("RelevanceRankAccuracy"), regions.sum((1, 2))),
    ):
        for heat, region, share, count in zip(heats, regions, told, counts, strict=True):
            hottest = ranking(torch.tensor(heat), INSIDE).numpy() < count
            assert region[hottest].mean() == pytest.approx(share, abs=1e-12)
            cut = heat[hottest].min() / heat.max()
            iou = share * count / (count + region.sum() - share * count)
            assert mask_iou(heat, region, [cut]).best == pytest.approx(iou, abs=1e-12)


@pytest.mark.parametrize("oracle", ["captum", "quantus"])
@pytest.mark.parametrize("method", ["hirescam", "gradnorm"])
def test_sensitivity_is_that_of_others_with_the_same_noise(classified, method, oracle, request):
    explainer, generator = Explainer(classified.adapter, method), torch.Generator().manual_seed(5)
    (ours,) = sanity.max_sensitivity(explainer, classified.case, seed=5)
    scale = sanity.NOISE_SHARE * (classified.batch.amax() - classified.batch.amin())
    noise = [scale * torch.randn(classified.batch.shape, generator=generator) for _ in range(sanity.NOISE_TRIALS)]
    if oracle == "captum":
        captum = pytest.importorskip("captum.metrics", reason="nothing to compare with: pip install captum")
        explain = lambda batches: (torch.tensor(classified.maps(explainer, batches[0])),)  # noqa: E731
        perturb = lambda batch: (batch + torch.cat(noise),)  # noqa: E731
        theirs = captum.sensitivity_max(explain, (classified.batch,), perturb, n_perturb_samples=sanity.NOISE_TRIALS)
    else:
        own, left = classified.maps(explainer, classified.batch)[0], iter(noise)
        explain = lambda inputs, **_: classified.maps(explainer, torch.tensor(inputs))[:, None]  # noqa: E731
        perturb = lambda arr, **_: arr + next(left).numpy().reshape(arr.shape)  # noqa: E731
        quantus = request.getfixturevalue("quantus")
        metric = quantus.MaxSensitivity(nr_samples=sanity.NOISE_TRIALS, perturb_func=perturb, **PLAIN)
        theirs = classified.by_quantus(metric, own, explain_func=explain)
    assert ours > 0.01
    assert ours == pytest.approx(float(theirs[0]), rel=1e-5)


def test_the_cascade_is_quantus_parameter_randomisation(quantus, classified, monkeypatch):
    explainer = Explainer(classified.adapter, "gradnorm")
    wrapped = quantus.helpers.model.pytorch_model.PyTorchModel(classified.network, softmax=False, channel_first=True)
    steps = [(name, copy.deepcopy(model)) for name, model in wrapped.get_random_layer_generator("top_down", seed=42)]
    reached = {share: round(share * len(steps)) for share in sanity.CASCADE_SHARES}
    before = dict(classified.adapter.model.named_parameters())
    for share, count in reached.items():  # the same layers change, from the output backwards
        after = dict(sanity.randomised(classified.adapter, share, seed=0).model.named_parameters())
        changed = {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert changed == {name for name, _ in steps[:count]}

    def explain(model, inputs, targets, **_):
        return sanity.maps_of(explainer, classified.adapt(model), classified.case)[0][None, None]

    metric = quantus.MPRT(layer_order="top_down", seed=42, disable_warnings=True)
    told = classified.by_quantus(metric, classified.maps(explainer, classified.batch)[0], explain_func=explain)
    theirs = [told[steps[count - 1][0]][0] for count in reached.values()]
    drawn = {share: classified.adapt(steps[count - 1][1]) for share, count in reached.items()}
    monkeypatch.setattr(sanity, "randomised", lambda model, share, seed: drawn[share])  # the networks that Quantus drew
    (ours,) = sanity.randomisation(explainer, classified.case, seed=0)
    assert np.ptp(ours) > 0.1
    assert ours == pytest.approx(theirs, abs=1e-6)
