"""The evaluation from Python: what is returned, what is written, and what is measured anew."""

import json
from itertools import count

import numpy as np
import polars as pl
import pytest
from PIL import Image
from polars.testing import assert_frame_equal

import detcam
from detcam.data import LabelledImage, LabelledSet, Truth, read_data, read_images
from detcam.demo import WEIGHTS
from detcam.demo.causes import KINDS
from detcam.demo.scenes import make_scene, render
from detcam.errors import UsageError
from detcam.evaluate import bench, contest, evaluate, evaluate_planted, evaluation, speed
from detcam.evaluate.planted import measure
from detcam.metrics.recovery import FIGURES
from detcam.runs.evaluation import EvaluationFolder

METHODS = ["random", "box"]
SEEDS = (300_004, 300_025, 300_032)
OTHER = LabelledSet((LabelledImage("a.png", (9, 9), (Truth("a:1", [0, 0, 2, 2], 7, "zebra"),)),), {7: "zebra"})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed in SEEDS:
        Image.fromarray(render(make_scene(seed))).save(folder / f"{seed}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def without_times(rows):
    return rows.drop("seconds")


@pytest.fixture(scope="module")
def result(demo_detector, photos):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "SANITY_IMAGES", 1)
        return evaluate(demo_detector, photos, METHODS, limit=2, per_image=1, sanity=True)


def test_an_evaluation_returns_rows_the_summary_and_what_failed_and_writes_nothing(result, photos):
    assert result.folder is None
    assert {*photos.iterdir()} == {photos / "broken.png", *(photos / f"{seed}.png" for seed in SEEDS)}
    assert [(failure.path, bool(failure.reason)) for failure in result.failures] == [(str(photos / "broken.png"), True)]
    assert result.rows.group_by("image", "detection").len()["len"].to_list() == [2, 2]
    assert result.summary["method"].to_list() == ["box", "random"]
    for line in result.summary.to_dicts():
        own = result.rows.filter(method=line["method"])["faithfulness_blur"]
        assert line["faithfulness_blur"] == pytest.approx(own.mean())
        assert line["faithfulness_blur_low"] <= line["faithfulness_blur"] <= line["faithfulness_blur_high"]
    assert result.sanity["method"].to_list() == METHODS
    assert result.sanity["randomised_100%"].to_list() == pytest.approx([1, result.sanity["randomised_100%"][1]])


def test_the_result_is_a_value(result):
    with pytest.raises(AttributeError):
        result.folder = "elsewhere"


def test_paths_sets_and_folders_are_the_same_data(demo_detector, photos, result):
    paths = [str(photos / f"{seed}.png") for seed in SEEDS]
    several = evaluate(demo_detector, paths, METHODS, limit=2, per_image=1)
    assert not several.failures
    labelled = read_data(photos, names=demo_detector.names)
    again = evaluate(WEIGHTS, labelled, METHODS, limit=2, per_image=1)
    assert_frame_equal(without_times(several.rows), without_times(result.rows))
    assert_frame_equal(without_times(again.rows), without_times(result.rows))
    assert again.failures == result.failures


def test_a_folder_holds_what_is_returned_and_is_gone_on_with(demo_detector, photos, result, tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr(evaluation, "SANITY_IMAGES", 1)
    first = evaluate(demo_detector, photos, METHODS, out, limit=2, per_image=1, sanity=True)
    assert first.folder == out
    assert_frame_equal(without_times(first.rows), without_times(result.rows))
    run = detcam.open_run(out)
    assert_frame_equal(run.table("evaluation"), first.rows)
    assert_frame_equal(run.table("summary"), first.summary)
    assert run.table("sanity")["method"].to_list() == METHODS
    assert run.info["configuration"]["methods"] == METHODS
    assert len(run.info["configuration"]["sha256"]) == 64
    asked, advances = [], []
    monkeypatch.setattr(contest.Contest, "rows", lambda self, labelled, image, most: asked.append(labelled.path) or [])
    more = evaluate(demo_detector, photos, METHODS, out, limit=3, per_image=1, advance=advances.append)
    assert {str(path) for path in asked} == {str(photos / f"{seed}.png") for seed in SEEDS} - {*first.rows["image"]}
    assert len(asked) == 1
    assert advances == [1, 2, 2]
    assert_frame_equal(more.rows, first.rows)


def test_other_weights_or_choices_are_another_evaluation(demo_detector, photos, tmp_path):
    out = tmp_path / "run"
    evaluate(demo_detector, photos, ["box"], out, limit=1)
    other = detcam.load(WEIGHTS)
    next(other.model.parameters()).data.mul_(1.5)
    for model, choices in ((other, {}), (demo_detector, {"seed": 1})):
        with pytest.raises(UsageError, match=r"another configuration \(.*\); choose another folder, or"):
            evaluate(model, photos, ["box"], out, limit=1, **choices)
    assert len(evaluate(demo_detector, photos, ["box"], out, limit=1, seed=1, overwrite=True).rows) == 1


def test_a_folder_is_let_go_and_held_meanwhile(demo_detector, photos, tmp_path):
    out = tmp_path / "run"
    evaluate(demo_detector, photos, ["box"], out, limit=1)
    configuration = json.loads((out / "run.json").read_text())["configuration"]
    with (
        EvaluationFolder(out, configuration),
        pytest.raises(UsageError, match=r"another process is writing to .*; wait, or choose another folder"),
    ):
        evaluate(demo_detector, photos, ["box"], out, limit=1)
    evaluate(demo_detector, photos, ["box"], out, limit=1)


def test_a_folder_of_something_else_is_left_alone(demo_detector, photos, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else; choose another folder"):
        evaluate(demo_detector, photos, ["box"], tmp_path, limit=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_nothing_measured_is_an_empty_result(demo_detector, photos, tmp_path):
    result = evaluate(demo_detector, photos, ["box"], tmp_path / "run", conf=1.0)
    assert len(result.rows) == len(result.summary) == 0
    assert not (tmp_path / "run" / "summary.csv").exists()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"limit": 0}, "limit must be a whole number, at least 1, got 0"),
        ({"per_image": True}, "per_image must be a whole number, at least 1, got True"),
        ({"conf": 2}, r"conf must lie in \[0, 1\], got 2"),
        ({"methods": ["layercan"]}, "no method 'layercan'; did you mean 'layercam'"),
        ({"data": OTHER}, "has class 7, 'zebra', and the model has none of that number"),
        ({"data": "nowhere"}, "nowhere: no such file or folder"),
        ({"data": ["nowhere.png"]}, "the images that were given: no image that can be read: nowhere.png: "),
    ],
)
def test_wrong_choices_say_what_would_be_right_and_leave_no_folder(demo_detector, photos, tmp_path, choices, message):
    given = {"data": photos, "methods": ["box"], "out": tmp_path / "run", **choices}
    with pytest.raises(UsageError, match=message):
        evaluate(demo_detector, given.pop("data"), **given)
    assert not (tmp_path / "run").exists()


def test_paths_that_cannot_be_read_are_problems_of_the_set(photos):
    labelled = read_images([photos / "broken.png", photos / f"{SEEDS[0]}.png"], {0: "ball"})
    assert [image.path.name for image in labelled.images] == [f"{SEEDS[0]}.png"]
    assert [path.name for path, _ in labelled.problems] == ["broken.png"]


def test_planted_causes_are_told_as_tables_and_kept_where_asked(tmp_path, monkeypatch):
    base = {"image": "scene 1", "status": "ok", "forwards": 1.0, "evidence": False, "holds": False}
    made = [
        {**base, "kind": kind, "method": method, "detection": number, **dict.fromkeys(FIGURES, value)}
        | ({"right": True, "quick_right": False} if kind == "near" else {})
        for kind in ("near", "far") for method, value in (("box", 0.1), ("effect", 0.9)) for number in range(3)
    ]  # fmt: skip
    asked = []
    monkeypatch.setattr(measure, "measure_causes", lambda *given: asked.append(given) or made)
    result = evaluate_planted(["box", "effect"], tmp_path / "planted", kinds=["near", "far"], limit=3, seed=7)
    assert asked == [(["box", "effect"], 3, 7, True, ["near", "far"])]
    assert result.best == "effect"
    assert result.verdict.startswith("effect finds causes best: ")
    assert result.summary.select("kind", "method").rows() == [
        ("near", "effect"), ("near", "box"), ("far", "effect"), ("far", "box"),
    ]  # fmt: skip
    assert result.summary["right"].to_list() == [3, 3, None, None]
    assert len(pl.read_parquet(result.folder / "planted.parquet")) == len(result.rows) == 12
    assert pl.read_csv(result.folder / "planted.csv")["method"].to_list() == result.summary["method"].to_list()
    assert evaluate_planted(["box"], kinds=KINDS).folder is None
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write to .*; choose another folder"):
        evaluate_planted(["box"], tmp_path / "file")


def test_speed_is_told_as_values_and_memory_over_every_mask(demo_detector, scene_image, monkeypatch):
    masks = []

    def drise(subject, tolerance):
        masks.append((subject.budget, tolerance))
        return subject.image.new_zeros(len(subject.boxes), 4, 4)

    monkeypatch.setattr(speed, "drise", drise)
    monkeypatch.setattr(speed, "TIMED_METHODS", ("layercam",))
    monkeypatch.setattr(speed, "ROUNDS", 1)
    clock = count()
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    measurements = {one.name: one for one in bench(demo_detector, scene_image)}
    assert list(measurements) == ["plain forward", "drise", "drise memory", "layercam"]
    assert measurements["plain forward"].value == speed.MASKS  # in one tick of the clock
    assert masks == [(speed.MASKS, 0.0), (speed.MORE_MASKS, 0.0)]
    assert np.isfinite([one.value for one in measurements.values()]).all()
