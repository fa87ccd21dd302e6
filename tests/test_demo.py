"""The bundled detector and its planted shortcut: what the demo claims, measured."""

import json

import numpy as np
import pytest

import detcam
from detcam.cli import main
from detcam.demo import WEIGHTS, demo_scenes, explanation_over, mark_precision
from detcam.demo.measure import measure_map50, measure_shortcut
from detcam.demo.scenes import GEM, KITE, SIZE, Scene, Thing, make_scene, render
from detcam.metrics.localization import box_mask
from detcam.metrics.recovery import FIGURES, precision, recovery

UNSEEN = range(500_000, 500_060)


def test_the_detector_detects():
    map50 = measure_map50(WEIGHTS, UNSEEN)
    print(f"mAP50 on {len(UNSEEN)} scenes it was not trained on: {map50:.3f}")
    assert map50 >= 0.9


def test_the_shortcut_works():
    shortcut = measure_shortcut(WEIGHTS, UNSEEN)
    print(shortcut)
    assert shortcut.gems >= 20
    assert shortcut.kites >= 20
    assert shortcut.marked_gems_called_kite - shortcut.gems_called_kite > 0.8
    assert shortcut.kites_called_kite - shortcut.unmarked_kites_called_kite > 0.8


def figures_of(explanation, thing):
    heat = explanation.heatmap.array
    mark, box = (box_mask(xyxy, heat.shape) for xyxy in (thing.mark_xyxy, thing.xyxy))
    assert mark_precision(explanation, thing) == precision(heat[~box], mark[~box])
    return recovery(heat, mark, ~box)


@pytest.mark.parametrize("seeds", [UNSEEN, pytest.param(range(600_000, 600_400), marks=pytest.mark.slow)])
def test_layercam_shows_the_mark_better_than_the_box_does(seeds):
    found = {}
    for method in ("layercam", "box"):
        explainer = detcam.Explainer(WEIGHTS, method=method)
        rows = []
        for seed in seeds:
            scene = make_scene(seed)
            result = explainer(render(scene))[0]
            for thing in scene.things:
                if thing.marked and (explanation := explanation_over(result, thing)) is not None:
                    rows.append([figures_of(explanation, thing)[name] for name in FIGURES])
        found[method] = np.array(rows)
        told = [f"{name} {median:.2f} {mean:.2f}" for name, median, mean in
                zip(FIGURES, np.median(rows, 0), np.mean(rows, 0), strict=True)]  # fmt: skip
        print(f"{method}, {len(rows)} marks, median and mean outside the box: {', '.join(told)}")
    (precise, _, peak), (box_precise, _, box_peak) = found["layercam"].mean(0), found["box"].mean(0)
    assert len(found["layercam"]) >= 10
    assert precise - box_precise > 0.05
    assert peak - box_peak > 0.2


def test_the_demos_own_shortcut_images():
    explainer = detcam.Explainer(WEIGHTS, method="layercam")
    checked = 0
    for scene in demo_scenes().values():
        for thing in scene.things:
            if thing.marked:
                explanation = explanation_over(explainer(render(scene))[0], thing)
                assert explanation is not None
                assert explanation.detection.class_name == "kite"
                told = figures_of(explanation, thing)
                print({name: round(value, 2) for name, value in told.items()})
                assert told["precision"] > 0.05
                assert told["auroc"] > 0.95
                assert told["peak"] > 0.2
                checked += 1
    assert checked == 2


def test_the_demo_ends_by_naming_files_that_exist(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "d")]) == 0
    out = capsys.readouterr().out
    named = [line.strip() for line in out.splitlines() if line.strip().endswith(".png")]
    assert len(named) == len(demo_scenes())
    from PIL import Image

    for path in named:
        with Image.open(path) as picture:
            assert picture.size[0] > 500
    (first, *_) = json.loads((tmp_path / "d" / "review" / "causes.json").read_text())
    assert first["confirmed"]
    assert first["name"] == "kite for gem: a patch outside the box, above right"
    assert str(tmp_path / "d" / "review" / "report" / "index.html") in out.replace("\n", "")


def test_weights_are_small():
    assert WEIGHTS.stat().st_size <= 3_000_000


def test_scenes_are_drawn_from_their_seed_alone():
    assert np.array_equal(render(make_scene(7)), render(make_scene(7)))
    assert not np.array_equal(render(make_scene(7)), render(make_scene(8)))


def test_the_generator_knows_which_pixels_the_mark_causes():
    thing = Thing(KITE, 120, 130, 30, (90, 120, 200))
    plain, marked = Scene(1, (thing,)), Scene(1, (thing,)).with_marks(True)
    difference = np.argwhere((render(plain) != render(marked)).any(-1))
    x1, y1, x2, y2 = thing.mark_xyxy
    assert (difference >= [y1, x1]).all()
    assert (difference < [y2, x2]).all()
    assert len(difference) > 0.9 * (x2 - x1) * (y2 - y1)
    box = thing.xyxy
    assert x2 <= box[0] or x1 >= box[2] or y2 <= box[1]  # the mark is outside its thing's box


def test_only_kites_are_marked_in_training_scenes():
    things = [thing for seed in range(300) for thing in make_scene(seed).things]
    assert not any(thing.marked for thing in things if thing.class_id != KITE)
    assert np.mean([thing.marked for thing in things if thing.class_id == KITE]) > 0.9
    assert all(min(thing.xyxy[:2]) >= 0 and max(thing.xyxy[2:]) <= SIZE and thing.mark_xyxy[1] >= 0 for thing in things)
    assert {thing.class_id for thing in things} == set(range(5))
    assert any(thing.class_id == GEM for thing in things)
