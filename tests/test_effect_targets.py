"""Every target on a detector wired by hand: what its number hangs on is known, found, and told in numbers."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import detcam
from detcam.attribution.conclusion import conclude
from detcam.methods.regions import box_gaussian
from detcam.metrics.localization import box_mask
from detcam.metrics.recovery import precision
from detcam.probing.prepared_image import prepare_images
from detcam.probing.probe import Probe
from detcam.targets import TARGETS, find_target
from detcam.types import Heatmap
from support.wired_detector import BOX, PATCHES, SIZE, WiredDetector, wired_image

SIDES = ("left", "top", "right", "bottom")
LEAST = 0.7
"""Of as many of a map's hottest pixels as its causes have, the share on them."""

# target, with objectness, the patches its number hangs on; the number, without them, and how far off that may be: a
# blur leaves a third of a patch
CASES = [
    ("contrast:truck", False, ("class", "rival"), 7, -8, 5),
    ("against", False, ("against",), -3, -6, 1.5),
    ("probability", True, ("class",), 0.95, 0, 0.1),
    ("objectness", True, ("objectness",), 3, -3, 2),
    *((side, False, (side,), 48, 24, 9) for side in SIDES),
    ("box", False, SIDES, 192, 96, 36),
    ("iou", False, SIDES, 1, 0.25, 0.2),
    ("mask", False, ("mask",), 2, 0, 0.7),
    ("keypoint:0", False, ("visible",), 2, -2, 1.4),
    ("keypoint:0:x", False, ("x",), 70, 40, 11),
    ("keypoint:0:y", False, ("y",), 70, 40, 11),
]
SCORES = [
    ("class", False, ("class",)),
    ("probability", False, ("class",)),
    ("score", False, ("class",)),
    ("class", True, ("class", "objectness")),
    ("score", True, ("class", "objectness")),
]
BY_NAME = [(target, objectness, causes) for target, objectness, causes, *_ in CASES] + SCORES


def explained(target, objectness=False, **choices):
    """The explanation of the bus by the default method."""
    (e,) = detcam.explain(WiredDetector(objectness), wired_image(), target=target, **choices)
    return e


def region(names):
    """Bool (SIZE, SIZE): these patches together."""
    return np.logical_or.reduce([box_mask(PATCHES[name], (SIZE, SIZE)) for name in names])


def found(heat, causes):
    """The precision of a map, inside the box and outside it apart where there are causes on both sides; the worse."""
    box = box_mask(BOX, heat.shape)
    cause = region(causes)
    apart = [box, ~box] if (cause & box).any() and (cause & ~box).any() else [np.ones_like(box)]
    return min(precision(heat[part], cause[part]) for part in apart)


def check_map(heat, causes, least=0.4):
    """A map's hottest pixels lie on the causes, each of which has this share of the peak; no other patch has any."""
    assert found(heat, causes) >= LEAST
    for name in causes:
        assert heat[region([name])].max() > least * heat.max(), name
    others = region(set(PATCHES) - set(causes))
    hottest = heat >= np.partition(heat, -region(causes).sum(), axis=None)[-region(causes).sum()]
    assert not (hottest & others & (heat > 0)).any()


def check_numbers(sentence, caption, target, numbers):
    """The sentence names the target, what it is, what it becomes without its causes, and that other parts cost less."""
    before, without, spare = numbers
    told = re.fullmatch(
        rf"{caption}, {target}: (-?[\d.]+) becomes (-?[\d.]+) without the hottest part "
        r"\(without a random part as large: (-?[\d.]+)\)\.", sentence,
    )  # fmt: skip
    assert told, sentence
    was, became, random = map(float, told.groups())
    assert was == pytest.approx(before, abs=0.35 if abs(before) > 1 else 0.01)
    assert became == pytest.approx(without, abs=spare)
    assert abs(random - was) < 0.3 * (was - became)


def useless_maps():
    """What knows the box alone, a constant, and none at all: float32 (SIZE, SIZE)."""
    gaussian = box_gaussian(torch.tensor(BOX, dtype=torch.float32), (SIZE, SIZE)).numpy()
    return gaussian, np.ones_like(gaussian), np.zeros_like(gaussian)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_what_a_target_hangs_on_is_found_and_its_numbers_are_told(case):
    target, objectness, causes, *numbers = case
    e = explained(target, objectness)
    print(f"precision {found(e.heatmap.array, causes):.2f}, {e.forwards:.0f} passes; {e.sentence}")
    assert (e.method, e.status, e.target) == ("effect", "ok", target)
    check_map(e.heatmap.array, causes)
    check_numbers(e.sentence, e.detection.caption, target, numbers)


@pytest.mark.parametrize("case", SCORES, ids=lambda case: f"{case[0]}{' with objectness' * case[1]}")
def test_what_the_score_hangs_on_is_found_and_what_becomes_of_it_is_told(case):
    target, objectness, causes = case
    e = explained(target, objectness)
    print(f"precision {found(e.heatmap.array, causes):.2f}, {e.forwards:.0f} passes; {e.sentence}")
    assert (e.method, e.status, e.target) == ("effect", "ok", target)
    check_map(e.heatmap.array, causes, 0.05)  # what is inside is told more cautiously than a place outside
    score = "0.91" if objectness else "0.95"
    where = r"(in the box's upper left|above left, across the box's edge,)"
    told = rf"bus {score}: without the outlined \d+ x \d+ px patch {where} it is lost \(0\.0\d\)\. Surr"
    assert re.match(told, e.sentence)
    assert f"matter {'much' if objectness else 'little'}" in e.sentence
    x1, y1, x2, y2 = e.evidence.xyxy
    held = region(["class"])
    assert held[y1:y2, x1:x2].sum() >= 0.5 * held.sum()


def test_every_target_has_a_case():
    assert {target for target, *_ in BY_NAME} >= set(TARGETS)


@pytest.mark.parametrize("case", BY_NAME, ids=lambda case: f"{case[0]}{' with objectness' * case[1]}")
def test_a_useless_map_finds_nothing_and_is_not_borne_out(case):
    target, objectness, causes = case
    for heat in useless_maps():
        assert found(heat, causes) < 0.1
        with pytest.raises(AssertionError):
            check_map(heat, causes)
    model, e = WiredDetector(objectness), explained(target, objectness)
    (prepared,) = prepare_images(model, [wired_image()])
    for heat in useless_maps():
        made = replace(e, heatmap=Heatmap(heat, prepared.letterbox), receipt=None, evidence=None, sentence="")
        told = conclude(prepared, [made], [find_target(target, model.names)], 0.25, 0)[0]
        assert told.status == "no_evidence"
        with pytest.raises(AssertionError):
            check_numbers(told.sentence, e.detection.caption, target, (0, 0, 1e9))


@pytest.mark.parametrize("target", ["keypoint:1", "keypoint:1:x", "keypoint:1:y"])
def test_a_number_that_hangs_on_nothing_is_told_to(target):
    e = explained(target)
    assert e.status == "no_evidence"
    assert not e.heatmap.array.any()
    assert e.sentence.endswith("no part found that matters more than any other.")


def test_combined_shows_the_class_and_the_sides():
    e = explained("combined", method="effect")
    assert e.status == "ok"
    check_map(e.heatmap.array, ("class", *SIDES))
    assert "it is lost" in e.sentence


def test_where_predictions_lie_on_no_grid_they_are_found_again_in_every_image():
    (e,) = detcam.explain(WiredDetector(proposals=True), wired_image(), target="left")
    assert e.detection.stride == 0
    assert e.status == "ok"
    check_map(e.heatmap.array, ["left"])
    check_numbers(e.sentence, e.detection.caption, "left", (48, 24, 9))


@pytest.mark.parametrize(("target", "causes", "without"), [("iou", SIDES, 0.25), ("mask", ("mask",), 0)])
def test_other_methods_compare_changed_images_with_the_image_as_it_was_too(target, causes, without):
    """The IoU of a changed box with itself is 1, and the cells that a mask has lost are no part of its own mean."""
    model = WiredDetector()
    session = detcam.open_image(model, wired_image(), max_det=9)
    (bus,), batch = session.detections, session.prepared.batch
    probe = Probe(session.prepared, [(bus, find_target(target, model.names))])
    changed = torch.where(torch.from_numpy(region(causes)), 0.3, batch)
    before, after = probe.values(torch.cat([batch, changed]))[:, 0].tolist()
    assert before == pytest.approx(1 if target == "iou" else 2, abs=0.05)
    assert after == pytest.approx(without, abs=0.05)


def test_why_not_shows_what_speaks_against_the_class_and_tells_its_logits():
    class Shy(WiredDetector):
        """The bus is four logits and a half further away."""

        def forward(self, batch, layers=(), instead=None):
            raw = super().forward(batch, layers, instead)
            return replace(raw, logits=raw.logits - torch.tensor([4.5, 0.0]))

    (e,) = detcam.explain(Shy(), wired_image(), box=list(BOX), class_name="bus")
    print(e.sentence)
    assert (e.status, e.target) == ("ok", "against")
    check_map(e.heatmap.array, ["against"])
    told = re.fullmatch(
        r"no bus here: it scores 0\.19 of the 0\.25 it would need; the map .* logit rises from (\S+) to (\S+) "
        r"\(without a random part as large: (\S+)\)\.", e.sentence,
    )  # fmt: skip
    assert told, e.sentence
    was, became, random = map(float, told.groups())
    assert was == pytest.approx(-1.5, abs=0.2)
    assert became == pytest.approx(1.5, abs=1.2)
    assert abs(random - was) < 1
