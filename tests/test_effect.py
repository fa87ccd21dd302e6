"""The default method on scores whose causes are known, by hand and in the bundled detector."""

import numpy as np
import pytest
import torch

import detcam
from detcam.demo import WEIGHTS, demo_scenes, explanation_over
from detcam.demo.scenes import GEM, KITE, render
from detcam.methods.effect import (
    FEWER_WINDOWS_PER_SIDE,
    IMAGE_BUDGET_PASSES,
    RING_BOX_SIDES,
    effect,
    learn_effects,
    measure_references,
    min_passes,
)
from detcam.methods.outlook import OutsideSearch, PassBudget, search_outside
from detcam.metrics.localization import box_mask
from detcam.metrics.recovery import holds, precision
from detcam.probing.frames import CROP_SIZES, SCORE_TARGETS, Frame, choose_frame, crop_frame, crop_size
from detcam.probing.probe import Probe
from detcam.targets import class_logit, find_target

SIZE = (96, 128)
BOX = (40.0, 30.0, 72.0, 62.0)


class KnownFrame(Frame):
    """A frame whose value is made of how much of each of some causes, rectangles xyxy, is still there."""

    def set(self, causes, combine):
        object.__setattr__(self, "causes", causes)
        object.__setattr__(self, "combine", combine)
        object.__setattr__(self, "spent", 0)
        return self

    def values(self, images):
        object.__setattr__(self, "spent", self.spent + len(images))
        same = (-30 * (images - self.image).abs().mean(1)).exp()
        shares = [same[:, y1:y2, x1:x2].mean((1, 2)) for x1, y1, x2, y2 in self.causes]
        return self.combine(*shares)


def known_frame(causes, combine=lambda share: share):
    """A noisy image in which each cause is a bright tile, and a frame that knows them."""
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(3, *SIZE, generator=generator) * 0.2 + 0.2
    for number, (x1, y1, x2, y2) in enumerate(causes):
        image[:, y1:y2, x1:x2] = torch.tensor([0.9, 0.1 + 0.5 * number, 0.7])[:, None, None]
    inside = torch.ones(SIZE, dtype=torch.bool)
    blurred = torch.full_like(image, 0.3)
    fills = {"blur": blurred, "mean": blurred + 0.02}
    frame = KnownFrame(
        None, image, inside, fills, torch.tensor(BOX), None, class_logit, (0, 0, 128, 96), 1.0, image.dtype, None
    )
    return frame.set(causes, combine)


def found(frame, causes, where):
    """The precision of a frame's map on its causes, among the pixels in the box or outside it."""
    heat = learn_effects(frame).numpy()
    mask = np.logical_or.reduce([box_mask(cause, SIZE) for cause in causes])
    box = box_mask(BOX, SIZE)
    judged = box if where == "inside" else ~box
    return precision(np.where(judged, heat, 0)[judged], mask[judged]), heat


@pytest.mark.parametrize(
    ("causes", "combine", "where", "least"),
    [
        ([(46, 34, 56, 44)], lambda a: a, "inside", 0.6),
        ([(76, 18, 90, 32)], lambda a: a, "outside", 0.7),
        ([(4, 78, 18, 92)], lambda a: a, "outside", 0.7),
        ([(4, 72, 24, 92)], lambda a: torch.sigmoid(30 * (a - 0.6)), "outside", 0.7),
        ([(4, 4, 18, 18), (104, 70, 118, 84)], torch.maximum, "outside", 0.5),
        ([(4, 4, 18, 18), (104, 70, 118, 84)], torch.minimum, "outside", 0.5),
    ],
    ids=["part", "near", "far", "far, no part alone", "either of two", "both of two"],
)
def test_a_known_cause_is_found(causes, combine, where, least):
    share, heat = found(known_frame(causes, combine), causes, where)
    print(f"precision {share:.2f}")
    assert share >= least
    for x1, y1, x2, y2 in causes:
        assert heat[y1:y2, x1:x2].max() > 0.1 * heat.max(), "each mark is shown"


def test_parts_that_stand_in_for_each_other_are_found_together():
    parts = [(41, 31, 53, 43), (59, 49, 71, 61)]
    frame = known_frame(parts, torch.maximum)  # no window costs anything: the other part is enough
    heat = learn_effects(frame)
    within = torch.from_numpy(box_mask(BOX, SIZE))
    causes = torch.from_numpy(np.logical_or.reduce([box_mask(part, SIZE) for part in parts]))
    ratio = float(heat[causes].mean() / heat[within & ~causes].mean().clamp(min=1e-9))
    print(f"{frame.spent} passes, the parts {ratio:.1f} times as hot as the rest of the box")
    assert ratio > 2


def test_what_was_not_found_is_not_painted():
    frame = known_frame([(46, 34, 56, 44)], lambda a: torch.full_like(a, 0.7))
    assert not learn_effects(frame).any()


@pytest.mark.parametrize(("score", "painted"), [(0.02, True), (0.009, False)])
def test_a_score_too_small_to_explain_has_no_map(score, painted):
    frame = known_frame([(46, 34, 56, 44)], lambda share: score * share)
    assert bool(learn_effects(frame).any()) == painted


def test_nothing_outside_is_painted_where_the_box_alone_keeps_the_score():
    frame = known_frame([(46, 34, 56, 44)])
    heat = learn_effects(frame).numpy()
    assert heat.max() > 0
    outside = ~box_mask((38, 28, 74, 64), SIZE)
    assert not heat[outside].any()


def test_the_passes_spent_are_few():
    frame = known_frame([(46, 34, 56, 44)])
    learn_effects(frame)
    print(f"{frame.spent} passes over the frame")
    assert frame.spent <= 5 + 2 + 32 + 16


def test_a_place_that_carries_little_is_shown_as_one_tile_and_not_narrowed():
    spots = [(x, y, x + 14, y + 14) for x in (4, 54, 104) for y in (4, 78)]
    # Each spot has a sixth of the log-odds.
    frame = known_frame(spots, lambda *shares: torch.sigmoid(8 * sum(shares) / len(shares) - 4))
    heat = learn_effects(frame)
    outside = heat[torch.from_numpy(~box_mask((38, 28, 74, 64), SIZE))]
    print(f"{frame.spent} passes over the frame, {float((outside > 0).float().mean()):.0%} shown")
    values, pixels = outside[outside > 0].unique(return_counts=True)
    assert int(pixels[-1]) >= 20 * 20, "what is hottest is one tile of one heat"
    assert len(values) <= 1 + len(RING_BOX_SIDES), "and all else the rings around the box"
    assert frame.spent <= 5 + 2 + 32 + 16 + 70


class Crowd:
    """A subject of many detections, each of its own frame."""

    seed, budget, has_layers = 0, IMAGE_BUDGET_PASSES, False

    def __init__(self, frames):
        self.frames, self.before = frames, torch.full((len(frames),), 0.9)
        self.boxes = torch.stack([frame.box for frame in frames])

    def frame(self, number):
        return self.frames[number]


@pytest.mark.parametrize("count", [1, 4, 12])
def test_an_images_detections_share_a_budget(count):
    cause = (100, 70, 116, 86)
    frames = [known_frame([cause]) for _ in range(count)]
    maps = effect(Crowd(frames))
    spent = [frame.spent for frame in frames]
    mask = torch.from_numpy(box_mask(cause, SIZE))
    beyond = torch.from_numpy(~box_mask((38, 28, 74, 64), SIZE)) & ~mask
    ratio = float(maps[0][mask].mean() / maps[0][beyond].mean().clamp(min=1e-9))
    print(f"{sum(spent)} passes for {count}, the first one's cause {ratio:.1f} times as hot as what else surrounds it")
    least = min_passes(FEWER_WINDOWS_PER_SIDE)  # what is asked of each however many there are
    assert sum(spent) <= max(IMAGE_BUDGET_PASSES, count * least) + 2 * count
    if count <= 4:
        assert ratio > 4


def test_a_search_outside_stops_where_its_allowance_ends():
    frame = known_frame([(100, 70, 116, 86)])
    question = measure_references(frame)
    asked = frame.spent
    for passes in (0, 20, 60):
        allowance = PassBudget(passes)
        object.__setattr__(frame, "spent", asked)
        places = search_outside(
            OutsideSearch(frame, question.near, question.fill, question.other, question.full, question.alone,
                    torch.zeros_like(question.near), allowance)
        )  # fmt: skip
        print(f"{passes} allowed, {allowance.spent:.0f} spent, {len(places)} found")
        assert allowance.spent <= passes
        assert frame.spent - asked == allowance.spent
        assert bool(places) == (passes > 0)


def demo_explanation(name, **choices):
    """The explanation of the demo's kite or gem in one of its scenes, and the thing."""
    scene = demo_scenes()[name]
    thing = next(one for one in scene.things if one.class_id in (KITE, GEM))
    return explanation_over(detcam.explain(WEIGHTS, render(scene), **choices), thing), thing


@pytest.mark.parametrize("name", ["1-kite-with-its-mark", "4-same-gem-mark-added"])
def test_the_demos_mark_is_shown_outlined_and_named(name):
    e, thing = demo_explanation(name)
    heat = e.heatmap.array
    mark = box_mask(thing.mark_xyxy, heat.shape)
    box = box_mask(thing.xyxy, heat.shape) | box_mask(e.detection.xyxy + np.array([-2, -2, 2, 2]), heat.shape)
    share = precision(heat[~box], mark[~box])
    print(f"precision {share:.2f}; {e.sentence}")
    assert e.status == "ok"
    assert share >= 0.5
    assert heat[~box].max() == heat[mark].max(), "the mark is the hottest place outside the object"
    assert e.evidence is not None
    assert holds("near", e.evidence.patches, [mark & ~box], box)
    assert e.evidence.outside >= 0.5
    assert e.evidence.becomes == "gem"
    assert "above right, outside the box, it is a gem" in e.sentence
    assert e.evidence.control > e.evidence.after
    assert e.receipt.context_dependence > 0.5


def test_without_the_mark_surroundings_matter_little():
    e, _ = demo_explanation("3-gem-as-it-is")
    assert abs(e.receipt.context_dependence) < 0.15
    assert "Surroundings matter little" in e.sentence


def test_a_contrast_is_answered_by_the_same_search():
    e, thing = demo_explanation("4-same-gem-mark-added", target="contrast:gem")
    heat = e.heatmap.array
    mark, box = (box_mask(xyxy, heat.shape) for xyxy in (thing.mark_xyxy, thing.xyxy))
    assert e.method == "effect"
    assert e.status == "ok"
    assert heat[~box].max() == heat[mark].max()
    assert "contrast:gem" in e.sentence


@pytest.mark.parametrize("target", ["left", "top", "box", "iou", "probability", "against"])
def test_other_targets_are_answered(target):
    e, _ = demo_explanation("3-gem-as-it-is", target=target)
    assert e.method == "effect"
    assert e.status in ("ok", "no_evidence")
    assert e.sentence.endswith(".")
    assert np.isfinite(e.heatmap.array).all()


def test_a_box_that_scores_nothing_gets_the_answer_to_why_not():
    scene = demo_scenes()["5-no-kite-no-gem"]
    (e,) = detcam.explain(WEIGHTS, render(scene), box=[4, 4, 40, 40], class_name="kite")
    print(e.sentence)
    assert e.target == "against"
    assert e.sentence.startswith("no kite here: it scores 0.")
    assert "of the 0.25 it would need" in e.sentence
    assert e.status in ("ok", "no_evidence")
    if e.status == "no_evidence":
        assert not e.heatmap.array.any()


def test_what_speaks_against_a_class_is_found():
    scene = demo_scenes()["4-same-gem-mark-added"]
    thing = next(one for one in scene.things if one.class_id == GEM)
    (e,) = detcam.explain(WEIGHTS, render(scene), box=list(thing.xyxy), class_name="gem")
    print(e.sentence)
    heat = e.heatmap.array
    assert e.status == "ok"
    assert heat.max() == heat[box_mask(thing.mark_xyxy, heat.shape)].max(), "the mark is what speaks against a gem"
    assert "the detector sees kite 0.9" in e.sentence


def test_a_crop_has_the_boxs_score(scene_image, demo_detector):
    session = detcam.open_image(demo_detector, scene_image)
    cropped = 0
    for detection in session.detections:
        probe = Probe(session.prepared, [(detection, SCORE_TARGETS[0])])
        whole = probe.frame(0)
        frame = choose_frame(whole, float(probe.before[0]))
        before = float(frame.scores(frame.image[None])[0])
        assert before >= 0.9 * float(probe.before[0])
        for growth, longest in CROP_SIZES:
            other = crop_frame(whole, *crop_size(whole, growth, longest))
            if other.price < frame.price:
                assert float(other.scores(other.image[None])[0]) < 0.9 * float(probe.before[0]), (
                    "a cheaper one would do"
                )
        cropped += frame.price < 1
        x1, y1, x2, y2 = frame.box_to_input(frame.box.tolist())
        assert np.allclose([x1, y1, x2, y2], whole.box.tolist(), atol=1e-3)
    assert cropped >= 1


def test_a_crop_is_looked_at_once_for_an_images_explanations(scene_image, demo_detector, monkeypatch):
    looked, forward = [], Frame.forward

    def watched(frame, images):
        if len(images) == 1 and torch.equal(images[0], frame.image):
            looked.append((frame.window, frame.image.shape))
        return forward(frame, images)

    monkeypatch.setattr(Frame, "forward", watched)
    session = detcam.open_image(demo_detector, scene_image)
    explained = session.explain()
    assert len(looked) == len(set(looked)) > 1
    assert any(one.evidence is not None for one in explained)
    looked.clear()
    again = session.explain()  # another question pays for itself, so that its price does not hang on the first
    assert [one.forwards for one in again] == [one.forwards for one in explained]
    assert looked
    assert not session.prepared.crop_outputs


def test_a_quicker_copy_gives_the_same_scores(scene_image, demo_detector):
    batch, _ = demo_detector.prepare([scene_image])
    quick = demo_detector.for_scoring
    assert quick is not demo_detector
    with torch.no_grad():
        own, other = demo_detector.forward(batch), quick.forward(batch)
    assert float((own.logits - other.logits).abs().max()) < 1e-3
    assert float((own.boxes - other.boxes).abs().max()) < 1e-2
    assert find_target("class", demo_detector.names) in SCORE_TARGETS
