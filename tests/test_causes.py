"""Scenes with causes of every kind: what a cause changes is its own pixels, and the detector hangs on it."""

import numpy as np
import pytest

from detcam.demo import CAUSES_WEIGHTS
from detcam.demo.causes import CLASSES, EXPERIMENTS, KINDS, make_scene, render, write_dataset
from detcam.demo.measure import measure_flips, measure_map50
from detcam.demo.scenes import SIZE

UNSEEN = range(500_000, 500_260, 2)  # the things of an odd seed are those of the even one before it


def things(kind, seeds=range(60)):
    for scene in map(make_scene, seeds):
        yield from ((scene, thing) for thing in scene.things if thing.kind == kind)


def test_scenes_are_drawn_from_their_seed_alone():
    assert np.array_equal(render(make_scene(7)), render(make_scene(7)))
    assert not np.array_equal(render(make_scene(7)), render(make_scene(9)))


def test_things_are_inside_apart_and_of_different_kinds():
    for scene in map(make_scene, range(200)):
        assert 1 <= len({thing.kind for thing in scene.things}) == len(scene.things) <= 5
        painted = np.zeros((SIZE, SIZE), int)
        for thing in scene.things:
            outside = [mark.xyxy for mark in thing.marks if thing.kind != "part"]
            for x1, y1, x2, y2 in (thing.xyxy, *outside):
                assert min(x1, y1) >= 0
                assert max(x2, y2) <= SIZE
                painted[y1:y2, x1:x2] += 1
        assert painted.max() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_cause_changes_its_own_pixels_and_no_others(kind):
    checked = 0
    for scene, thing in things(kind):
        with_it, without = scene.with_cause(kind, True), scene.with_cause(kind, False)
        assert with_it.has_cause(thing_of(with_it, kind))
        assert not without.has_cause(thing_of(without, kind))
        cause = np.logical_or.reduce(with_it.causes(thing_of(with_it, kind)))
        changed = (render(with_it) != render(without)).any(-1)
        assert not (changed & ~cause).any()
        assert changed[cause].mean() > (0.1 if kind == "texture" else 0.9)  # dots have gaps between them
        assert {thing.xyxy for thing in with_it.things} == {thing.xyxy for thing in without.things}
        checked += 1
    assert checked >= 20


def thing_of(scene, kind):
    return next(thing for thing in scene.things if thing.kind == kind)


def test_where_a_kinds_cause_lies():
    for kind in KINDS:
        for scene, thing in things(kind):
            x1, y1, x2, y2 = thing.xyxy
            for mark, cause in zip(thing.marks, scene.causes(thing), strict=False):
                inside = cause[y1:y2, x1:x2].sum()
                assert inside == (cause.sum() if kind == "part" else 0)
                if kind == "far":
                    a, b, c, d = mark.xyxy
                    away = np.hypot((a + c) / 2 - thing.x, (b + d) / 2 - thing.y) / (x2 - x1)
                    assert 2.9 < away < 6.1


def test_with_one_mark_of_two():
    for kind, stays in (("either", True), ("both", False)):
        scene, _ = next(things(kind))
        for present in ((True, False), (False, True)):
            one = scene.with_cause(kind, *present)
            assert [mark.present for mark in thing_of(one, kind).marks] == list(present)
            assert one.has_cause(thing_of(one, kind)) == stays
            assert (present, stays) in EXPERIMENTS[kind]


def test_neighbouring_seeds_differ_in_their_causes_alone_and_in_every_one():
    for seed in range(0, 60, 2):
        even, odd = make_scene(seed), make_scene(seed + 1)
        assert [thing.xyxy for thing in even.things] == [thing.xyxy for thing in odd.things]
        for one, two in zip(even.things, odd.things, strict=True):
            assert {even.class_of(one), odd.class_of(two)} == {n := 2 * KINDS.index(one.kind), n + 1}


def test_causes_do_not_stand_for_one_another():
    scenes = [make_scene(seed) for seed in range(0, 4000, 2)]
    for kind in KINDS:
        for other in KINDS[: KINDS.index(kind)]:
            pairs = [
                [scene.has_cause(thing_of(scene, k)) for k in (kind, other)]
                for scene in scenes
                if {kind, other} <= {thing.kind for thing in scene.things}
            ]
            assert abs(np.corrcoef(np.array(pairs).T)[0, 1]) < 4 / np.sqrt(len(pairs))


def test_the_causes_detector_detects():
    map50 = measure_map50(CAUSES_WEIGHTS, UNSEEN[:60], write_dataset)
    print(f"mAP50 on 60 scenes it was not trained on: {map50:.3f}")
    assert map50 >= 0.9
    assert CAUSES_WEIGHTS.stat().st_size <= 3_000_000


def test_every_kind_hangs_on_its_cause():
    told = measure_flips(CAUSES_WEIGHTS, UNSEEN)
    assert tuple(told) == KINDS
    for kind, flips in told.items():
        print(f"{kind:8} {flips.things} things: {flips.found:.1%} found, {flips.flipped:.1%} flipped by their cause")
    assert len(CLASSES) == 2 * len(KINDS)
    for flips in told.values():
        assert flips.things >= 60
        assert flips.flipped >= 0.85
