"""Methods that mask the image, on scorers whose answer is known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import detcam
from detcam.adapters.base import SoftmaxOutput
from detcam.adapters.scoring import similarities
from detcam.demo import WEIGHTS
from detcam.methods import METHODS, perturb
from detcam.methods.perturb import RunningMap
from detcam.methods.regions import superpixels
from support.fake_detector import GREY, explained
from support.known_subject import KnownSubject

MASKING = [name for name, method in METHODS.items() if method.explains == "detection"]


def share_of(subject, made, area=None):
    """How much of the cause lies in the map's hottest pixels, as many as the cause has."""
    heat = F.interpolate(made[None], subject.image.shape[1:], mode="bilinear")[0, 0]
    count = int((subject.cause > 0).sum()) if area is None else area
    return float(subject.cause.flatten()[heat.flatten().topk(count).indices].sum())


@pytest.mark.parametrize("name", MASKING)
def test_a_known_cause_is_found_and_the_padding_is_never_touched(name):
    subject = KnownSubject()
    made = METHODS[name].function(subject)
    assert made.shape[0] == 1
    assert torch.isfinite(made).all()
    found = share_of(subject, made)
    print(f"{name}: {found:.0%} of the cause in as many of the hottest pixels")
    assert found > 0.55  # chance would be 4 %
    for images in subject.seen:
        assert (images[:, :, :, :8] == subject.image[:, :, :8]).all()


@pytest.mark.parametrize("name", MASKING)
def test_one_seed_one_map_bit_for_bit(name):
    first, again = (METHODS[name].function(KnownSubject(seed=3, budget=48)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("name", ["drise", "dcrisp"])
def test_another_seed_gives_other_masks(name):
    assert not torch.equal(*(METHODS[name].function(KnownSubject(seed=seed, budget=48)) for seed in (0, 1)))


def test_masks_stop_at_the_budget_or_when_the_map_is_stable():
    subject = KnownSubject(budget=200)
    perturb.drise(subject)
    assert subject.forwards == 200
    subject = KnownSubject(budget=100_000)
    perturb.drise(subject, tolerance=0.2)
    assert perturb.MIN_MASKS <= subject.forwards < 2_000


def test_the_running_map_and_its_error_are_those_of_all_masks_at_once():
    generator = torch.Generator().manual_seed(0)
    weights, masks = torch.rand(96, 2, generator=generator).double(), torch.rand(96, 5, 6, generator=generator).double()
    running = RunningMap()
    for start in range(0, 96, 32):
        running.add(weights[start : start + 32], masks[start : start + 32])
    terms = (weights - weights.mean(0))[:, :, None, None] * masks[:, None]
    assert torch.allclose(running.maps(), terms.mean(0))
    assert torch.allclose(running.errors(), terms.std(0, correction=0) / np.sqrt(96))


def test_the_standard_error_halves_as_masks_quadruple():
    errors = []
    for count in (400, 1600):
        generator = torch.Generator().manual_seed(1)
        running, subject = RunningMap(), KnownSubject()
        for _ in range(count // 16):
            masks = perturb.grid_masks(16, subject.image, 0.5, generator)
            running.add(subject._kept(subject.image * masks[:, None]), masks)
        errors.append(float(running.errors().mean()))
    print(f"standard error at 400 and 1600 masks: {errors[0]:.2e}, {errors[1]:.2e}, ratio {errors[1] / errors[0]:.3f}")
    assert 0.45 < errors[1] / errors[0] < 0.55


def test_grid_masks_are_half_on_and_differ():
    masks = perturb.grid_masks(64, torch.zeros(3, 50, 70), 0.5, torch.Generator().manual_seed(0))
    assert masks.shape == (64, 50, 70)
    assert 0.47 < float(masks.mean()) < 0.53
    assert len({mask.numpy().tobytes() for mask in masks}) == 64


def test_the_search_takes_regions_in_the_order_of_what_they_weigh():
    plain = KnownSubject()
    labels = superpixels(plain.image, plain.boxes[0], plain.inside, 48)
    weights = torch.zeros(int(labels.max()) + 2)
    best = [3, 11, 20]
    weights[best] = torch.tensor([4.0, 2.0, 1.0])
    subject = KnownSubject(cause=weights[labels])
    made = METHODS["vps"].function(subject)[0]
    means = torch.tensor([float(made[labels == region].mean()) for region in range(int(labels.max()) + 1)])
    values = torch.tensor([float(subject.cause[labels == region].sum()) for region in best])
    assert means.argsort(descending=True)[:3].tolist() == [best[i] for i in values.argsort(descending=True)]


def test_the_pruned_search_asks_far_fewer_questions():
    subjects = [KnownSubject(), KnownSubject()]
    for name, subject in zip(("vps", "phasewin"), subjects, strict=True):
        METHODS[name].function(subject)
    print(f"forward passes: search {subjects[0].forwards}, pruned {subjects[1].forwards}")
    assert subjects[1].forwards < 0.6 * subjects[0].forwards


def test_ablation_cam_by_hand():
    # Without the first channel (x) the logit turns from s to -s, without the second (-x) to 2 s: weights 2 and -1.
    assert np.abs(explained("ablationcam").heatmap.raw - 3 * GREY).max() < 1e-5


def test_score_cam_by_hand():
    window = np.zeros((4, 4))
    window[:3, :3] = 1
    masks = np.stack([GREY, 1 - GREY])  # the channels x and -x scaled to [0, 1]
    values = (GREY * masks * window).sum((1, 2))  # class light: 2 x - x, summed over the window
    weights = np.exp(values) / np.exp(values).sum()
    expected = np.maximum(weights[0] * GREY - weights[1] * GREY, 0)
    assert np.abs(explained("scorecam").heatmap.raw - expected).max() < 1e-5


def test_recipro_cam_by_hand():
    around = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    values = np.zeros((4, 4))
    for row in range(4):
        for column in range(4):
            spread = np.zeros((6, 6))
            spread[row : row + 3, column : column + 3] = around
            values[row, column] = GREY[row, column] * spread[1:5, 1:5][:3, :3].sum()  # class light: 2 x - x
    assert np.abs(explained("reciprocam").heatmap.raw - (values - values.min())).max() < 1e-5


def test_recipro_cam_takes_the_coarsest_layer_in_whatever_order_they_run(scene_image):
    layers = ["model.9", "model.15"]  # strides 32 and 8, in the order they run
    e = detcam.explain(WEIGHTS, scene_image, method="reciprocam", layers=layers, detection=0, imgsz=128)[0]
    assert e.heatmap.raw.shape == (4, 4)


def test_detections_share_masked_images_and_what_is_asked_together_is_what_is_asked_alone(scene_image):
    choices = {"method": "drise", "budget": 32, "imgsz": 128}
    together = detcam.explain(WEIGHTS, scene_image, **choices)
    alone = detcam.explain(WEIGHTS, scene_image, detection=1, **choices)[0]
    assert len(together) > 2
    assert np.abs(together[1].heatmap.raw - alone.heatmap.raw).max() < 1e-6


def test_similarity_by_hand_and_a_background_is_no_class():
    # Two anchors, three columns; the second box overlaps the one asked about by half.
    boxes = torch.tensor([[[0.0, 0, 2, 2], [0.0, 0, 2, 1]]])
    probabilities = torch.tensor([[[0.1, 0.8, 0.1], [0.6, 0.3, 0.1]]])
    asked, classes = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.1, 0.8, 0.1]])
    for first in (0, 1):
        raw = SoftmaxOutput(probabilities.log(), boxes, boxes, torch.ones(2), first_class=first)
        expected = []
        for iou, row in zip((1.0, 0.5), probabilities[0], strict=True):
            own, other = classes[0, first:].numpy(), row[first:].numpy()
            cosine = own @ other / np.linalg.norm(own) / np.linalg.norm(other)
            expected.append(iou * cosine * other.max())
        assert similarities(raw, asked, classes, [1]).item() == pytest.approx(max(expected), rel=1e-5)


def test_erasing_an_object_never_makes_it_more_alike_to_itself():
    box = torch.tensor([[0.0, 0, 2, 2]])
    for present in (0.3, 0.5, 0.9):
        seen = torch.tensor([[1 - present, present, 0.0]]).clamp(min=1e-9)
        found = []
        for now in (seen, torch.tensor([[1.0, 1e-9, 1e-9]])):
            raw = SoftmaxOutput(now[None].log(), box[None], box[None], torch.ones(1), first_class=1)
            found.append(similarities(raw, box, seen, [1]).item())
        assert found[0] > 10 * found[1]


@pytest.mark.parametrize("method", ["drise", "guided", "saliency"])
def test_maps_and_receipts_do_not_depend_on_the_batch(method):
    from detcam.demo.scenes import make_scene, render

    images = [render(make_scene(seed)) for seed in (300_004, 300_025)]
    budget = {} if method == "saliency" else {"budget": 16}
    choices = {"method": method, "imgsz": 128, "detection": 0, "verify": True, **budget}
    alone = [detcam.explain(WEIGHTS, image, **choices)[0] for image in images]
    together = [result[0] for result in detcam.Explainer(WEIGHTS, batch=2, **choices)(images)]
    for one, two in zip(alone, together, strict=True):
        assert one.method == two.method
        assert np.abs(one.heatmap.raw - two.heatmap.raw).max() <= 1e-5 * one.heatmap.raw.max()
        assert one.receipt.score == pytest.approx(two.receipt.score, abs=1e-5)
        assert one.receipt.removed == pytest.approx(two.receipt.removed, abs=1e-4)


def planted_shares(name, seeds):
    """The strict precision of the map of each gem that its planted mark turns into a kite, and of the box alone."""
    from detcam.demo import explanation_over, mark_precision
    from detcam.demo.scenes import GEM, KITE, make_scene, render

    explainer = detcam.Explainer(WEIGHTS, name)
    for seed in seeds:
        scene = make_scene(seed).with_marks(True, GEM)
        image = render(scene)
        found = detcam.explain(explainer.model, image, method="box")
        for gem in (thing for thing in scene.things if thing.class_id == GEM):
            over = explanation_over(found, gem)
            if over is None or over.detection.class_id != KITE:
                continue
            own = explainer(image, detection=found.explanations.index(over))[0][0]
            yield mark_precision(own, gem), mark_precision(over, gem)


def check_planted(name, seeds, least):
    own, boxes = np.array(list(planted_shares(name, seeds))).T
    told = f"median {np.median(own):.0%}, mean {own.mean():.0%}; the box's {boxes.mean():.0%}"
    print(f"{name}: precision outside the box on {len(own)} marks: {told}")
    assert len(own) >= least
    assert own.mean() - boxes.mean() > 0.1


def test_guided_shows_the_planted_mark_better_than_the_box_does():
    check_planted("guided", range(440_000, 440_024), 8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["guided", "dcrisp", "vps"])
def test_masking_methods_show_the_planted_mark_better_than_the_box_does(name):
    check_planted(name, range(440_000, 440_040), 15)
