"""What the sentence of an explanation says, of each kind of finding."""

from dataclasses import replace

import numpy as np
import pytest

import detcam
from detcam.attribution import conclusion
from detcam.attribution.sentence import sentence_of
from detcam.demo import WEIGHTS, demo_scenes
from detcam.demo.scenes import render
from detcam.drawing.heat import shown_heat
from detcam.drawing.overlays import outlined
from detcam.geometry import Letterbox
from detcam.types import Detection, Evidence, Explanation, Heatmap, Receipt

SIZE = (96, 160)
BOX = (60, 30, 100, 70)
AROUND = [(50, 20, 110, 30), (50, 70, 110, 80), (50, 30, 60, 70), (100, 30, 110, 70)]


def told(removed=0.1, random=0.8, alone=0.88, hot=((30, 60, 40, 80),), supported=True):
    raw = np.zeros(SIZE, np.float32)
    for top, left, bottom, right in hot:
        raw[top:bottom, left:right] = 1
    heatmap = Heatmap(raw, Letterbox.fit(SIZE, SIZE, 32))
    context = max(1 - alone / 0.9, -1)
    receipt = Receipt(
        0.9, 0.0365, {"blur": removed}, {"blur": random}, {}, {}, {"blur": alone}, {}, context, supported, 6
    )
    image = np.zeros((*SIZE, 3), np.uint8)
    e = Explanation(Detection(BOX, 0, "cat", 0.9, 3, 8), heatmap, "effect", "class", ("input",), "ok", "", image)
    return replace(e, receipt=receipt)


def found(*patches, outside=0.0, control=0.8, becomes=None):
    return Evidence(np.array(patches), becomes, 0.05, 0.9, 0.05, control, outside)


@pytest.mark.parametrize(
    ("explanation", "words"),
    [
        (told(), "rests on 35% of the box's area, mostly its upper left; without it 0.10 (without a random 35%: 0.80)"),
        (told(removed=0.6), "rests in part on 35%"),
        (told(hot=((30, 60, 36, 66), (64, 94, 70, 100))), "in several places; without it"),
        (told(alone=0.89), "Surroundings matter little (1%)."),
        (told(alone=0.3), "Surroundings matter much (67%)."),
        (told(alone=1.0), "Its surroundings hold it down: alone it scores 1.00."),
        (replace(told(), evidence=found((60, 30, 70, 40))), "10 x 10 px patch in the box's upper left it is lost"),
        (replace(told(), evidence=found((95, 30, 110, 40), outside=0.6)), "right, across the box's edge, it is lost"),
        (replace(told(), evidence=found((20, 30, 30, 40), outside=1.0)), "outside the box, it is lost (0.05)."),
    ],
)  # fmt: skip
def test_a_sentence_says_what_was_measured(explanation, words):
    assert words in sentence_of(explanation)


def test_what_surrounds_a_box_is_told_once_and_outlined_where_it_ends():
    near = replace(told(alone=0.0), evidence=found(*AROUND, outside=1.0, control=None, becomes="dog"))
    assert sentence_of(near) == "cat 0.90: without its surroundings, up to the outline, it is a dog 0.05."
    assert outlined(near)[0].patches.tolist() == [[50, 20, 110, 80]]
    everywhere = [(0, 0, 160, 30), (0, 70, 160, 96), (0, 30, 60, 70), (100, 30, 160, 70)]
    far = replace(near, evidence=found(*everywhere, outside=1.0, control=None))
    assert sentence_of(far) == "cat 0.90: without all its surroundings it is lost (0.05)."
    assert outlined(far) == []


def test_a_map_that_is_the_box_again_is_left_out_beside_evidence(monkeypatch):
    made = detcam.explain(WEIGHTS, render(demo_scenes()["4-same-gem-mark-added"]), detection=[3])[0]
    assert made.evidence is not None
    assert made.heatmap.raw.any()
    monkeypatch.setattr(conclusion, "MAX_BOX_CORRELATION", -1.0)
    again = detcam.explain(WEIGHTS, render(demo_scenes()["4-same-gem-mark-added"]), detection=[3])[0]
    assert (again.status, again.reason) == ("ok", conclusion.BOX_AGAIN_REASON)
    assert not again.heatmap.raw.any()
    assert again.evidence.patches.tolist() == made.evidence.patches.tolist()


def test_of_a_map_that_is_the_box_again_what_lies_in_the_evidence_is_kept(monkeypatch):
    scene = render(demo_scenes()["4-same-gem-mark-added"])
    before = detcam.explain(WEIGHTS, scene, detection=[3])[0]
    monkeypatch.setattr(conclusion, "MAX_BOX_CORRELATION", 0.2)
    likeness = iter([0.95, 0.1])  # of the map, then of what is left of it
    monkeypatch.setattr(conclusion, "correlate_with_box", lambda *_: next(likeness))
    again = detcam.explain(WEIGHTS, scene, detection=[3])[0]
    x1, y1, x2, y2 = again.evidence.xyxy
    inside = np.zeros(scene.shape[:2], bool)
    inside[y1:y2, x1:x2] = True
    assert (again.status, again.reason) == ("ok", conclusion.BOX_AGAIN_REASON)
    assert again.heatmap.raw.any()
    assert again.heatmap.array[~inside].sum() < 0.05 * again.heatmap.array.sum()  # but for its blurred rim
    assert before.heatmap.array[~inside].sum() > 0.2 * before.heatmap.array.sum()


def test_a_map_that_failed_its_check_is_not_drawn_beside_evidence_that_passed():
    passed = replace(told(), evidence=found((60, 30, 70, 40)))
    assert shown_heat(passed).any()
    failed = replace(told(supported=False), evidence=found((60, 30, 70, 40)))
    assert not shown_heat(failed).any()
