"""Measuring maps: hand-worked cases, known optima, and the command."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.errors import UsageError
from detcam.evaluate.contestants import Contestant
from detcam.evaluate.summary import summarise
from detcam.methods.baselines import edges
from detcam.metrics.faithfulness import (
    STEPS,
    area_under,
    areas,
    curves,
    faithfulness,
    interval,
    outside,
    ranking,
    sufficient,
)
from support.known_subject import KnownSubject


def test_curves_by_hand():
    # Four pixels worth 4, 3, 2 and 1 tenths; the box covers all four, so a step is two fifths of a pixel.
    worth = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
    image, fill = torch.ones(3, 2, 2), torch.zeros(3, 2, 2)
    inside = torch.ones(2, 2, dtype=torch.bool)
    counts = areas(torch.tensor([0.0, 0, 2, 2]), inside)
    assert counts.tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4]
    score = lambda images: (images[:, 0] * worth).sum((1, 2))[:, None]  # noqa: E731
    deletion, insertion = curves(ranking(worth, inside), counts, image, fill, score)
    assert torch.allclose(deletion[:, 0], torch.tensor([1, 1, 0.6, 0.6, 0.3, 0.3, 0.3, 0.1, 0.1, 0, 0]))
    assert torch.allclose(insertion, 1 - deletion)


def test_deletion_outside_the_box_by_hand():
    # A row of six pixels, all of one worth; the box holds the first two, which are the hottest and stay.
    image, fill = torch.ones(3, 1, 6), torch.zeros(3, 1, 6)
    place = torch.tensor([[0, 1, 5, 4, 3, 2]])
    box, seen = torch.tensor([0.0, 0, 2, 1]), []

    def score(images):
        seen.append(images[:, 0, 0])
        return images[:, 0].sum((1, 2))[:, None]

    told = outside(place, torch.tensor([1, 2, 9]), box, image, fill, score)
    assert told[:, 0].tolist() == [5, 4, 2]
    assert seen[0].tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]


def test_known_ends_save_two_images_and_change_nothing():
    subject = KnownSubject()
    counts = areas(subject.boxes[0], subject.inside)
    fill, asked = torch.zeros_like(subject.image), []

    def score(images):
        asked.append(len(images))
        return subject.scores(images)

    place = ranking(subject.cause, subject.inside)
    ends = tuple(subject.scores(torch.stack([subject.image, fill])))
    both = [curves(place, counts, subject.image, fill, score, known) for known in (None, ends)]
    assert torch.equal(torch.stack(both[0]), torch.stack(both[1]))
    assert asked == [2, 2 * STEPS, 2 * STEPS]


def test_area_and_sufficiency_by_hand():
    assert area_under([0, 1]) == 0.5
    assert area_under([1, 1, 0]) == pytest.approx(0.75)
    assert sufficient([0, 0.5, 0.95, 1.0]) == pytest.approx(2 / 3)
    assert np.isnan(sufficient([0, 0.5, 0.8]))


def test_ties_fall_at_random_with_the_seed_and_padding_is_last():
    heat, inside = torch.zeros(4, 6), torch.ones(4, 6, dtype=torch.bool)
    inside[:, :2] = False
    heat[:, :2] = 5
    first, again, other = (ranking(heat, inside, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first[inside].max() < first[~inside].min()


def figures(heat, subject, seed=0):
    score = lambda images: subject.scores(images)  # noqa: E731
    return faithfulness(heat, subject.image, subject.boxes[0], subject.inside, torch.ones(1), score, seed)


def test_a_perfect_map_is_the_optimum_its_inverse_the_worst_and_random_between(monkeypatch):
    monkeypatch.setattr("detcam.metrics.faithfulness.PARTS", ("tracked",))
    subject = KnownSubject()
    perfect, worst, chance = (
        figures(heat, subject)["faithfulness_blur"]
        for heat in (subject.cause, -subject.cause, torch.rand(48, 64, generator=torch.Generator().manual_seed(0)))
    )
    counts = areas(subject.boxes[0], subject.inside)
    cause = int((subject.cause > 0).sum())
    filled = float(figures(subject.cause, subject)["curve_deletion_blur"][-1])  # what a blur leaves of the cause
    share = (counts / cause).clamp(max=1).numpy()
    best = area_under(filled + (1 - filled) * share) - area_under(1 - (1 - filled) * share)
    assert perfect == pytest.approx(best, abs=0.02)
    assert worst == pytest.approx(filled - 1, abs=1e-5)  # the cause stays out, and stays in, throughout
    assert worst + 0.01 < chance < perfect - 0.5


def test_an_interval_holds_the_mean_and_shrinks_with_more_values():
    generator = np.random.default_rng(0)
    few, many = generator.normal(1, 1, 20), generator.normal(1, 1, 2000)
    (mean, low, high), (_, lower, upper) = interval(few), interval(many)
    assert low < mean < high
    assert upper - lower < (high - low) / 4
    assert interval(np.array([np.nan, 2.0, 2.0])) == (2.0, 2.0, 2.0)


def test_edges_are_where_the_image_changes_and_not_in_the_padding():
    subject = KnownSubject()
    subject.image[:] = 0.5
    subject.image[:, 20:, :] = 0.9
    made = edges(subject)[0]
    assert made[19:21, 8:].min() > 0
    assert max(made[:18].max(), made[22:].max(), made[:, :8].max()) < 1e-6


def test_contestants_are_read_with_layers_and_budget():
    assert Contestant.parse("guided:256") == Contestant("guided:256", "guided", "auto", 256)
    assert Contestant.parse("layercam@neck") == Contestant("layercam@neck", "layercam", "neck", None)
    assert Contestant.parse("gradcam@model.4+model.6").layers == "model.4,model.6"
    with pytest.raises(UsageError, match="must be a whole number, as in guided:64"):
        Contestant.parse("guided:many")


def test_the_lead_is_paired_with_the_box_on_the_same_detections():
    table = pl.DataFrame(
        [
            {"image": image, "detection": 0, "method": method, "size": "small", "status": "ok", "seconds": 1.0,
             "forwards": 2.0, "faithfulness_blur": value, "faithfulness_mean": value, "faithfulness_anchor_blur": value}
            for method, values in (("box", (0.1, 0.5)), ("other", (0.3, 0.7)))
            for image, value in zip("ab", values, strict=True)
        ]
    )  # fmt: skip
    best, reference = summarise(table)
    assert best["method"] == "other"
    assert best["lead"] == pytest.approx(0.2)
    assert best["lead_low"] == pytest.approx(0.2)
    assert reference["lead"] == 0


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in (300_004, 300_025, 300_032):
        Image.fromarray(render(make_scene(seed))).save(folder / f"{seed}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_evaluate_measures_every_method_on_the_same_detections_and_goes_on_where_it_stopped(photos, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["evaluate", "--weights", str(WEIGHTS), "--data", str(photos), "--methods", "random,box,layercam",
               "--out", str(out), "--per-image", "1", "--json"]  # fmt: skip
    assert main([*command, "--limit", "2"]) == 1  # one image is broken
    captured = capsys.readouterr()
    assert "broken.png" in captured.err
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert {line["method"] for line in lines} == {"random", "box", "layercam"}
    assert all(line["detections"] == 2 for line in lines)
    first = pl.read_parquet(out / "evaluation.parquet")
    assert first.group_by("image", "detection").len()["len"].to_list() == [3, 3]
    assert len(first["curve_deletion_blur"][0]) == STEPS + 1
    assert main([*command, "--limit", "3"]) == 1
    again = pl.read_parquet(out / "evaluation.parquet")
    kept = again.join(first.select("image", "detection", "method"), on=["image", "detection", "method"], how="semi")
    order = ["image", "detection", "method"]
    assert kept.sort(order).drop("seconds").equals(first.sort(order).drop("seconds"))
    assert kept.sort(order)["seconds"].equals(first.sort(order)["seconds"])  # not measured anew
    assert len(again) == 9
    for name in ("summary.csv", "summary.json", "curves.png", "ranking.png"):
        assert (out / name).stat().st_size > 0
    assert main([*command, "--seed", "1"]) == 2
    assert "another configuration" in capsys.readouterr().err


def test_sanity_checks_are_told_beside_the_table(photos, tmp_path, capsys):
    (photos / "broken.png").unlink()
    out = tmp_path / "run"
    command = ["evaluate", "--weights", str(WEIGHTS), "--data", str(photos), "--methods", "eigencam,hirescam",
               "--out", str(out), "--limit", "1", "--sanity"]  # fmt: skip
    assert main(command) == 0
    assert "rank correlations: lower is better" in " ".join(capsys.readouterr().out.split())
    figures = {row["method"]: row for row in pl.read_csv(out / "sanity.csv").to_dicts()}
    assert figures["eigencam"]["class_swap"] == pytest.approx(1)
    assert figures["hirescam"]["class_swap"] < 1
    assert figures["hirescam"]["randomised_100%"] < figures["hirescam"]["randomised_10%"]


def test_unseen_fills_are_judged_where_asked_and_told(photos, tmp_path, capsys):
    (photos / "broken.png").unlink()
    out = tmp_path / "run"
    command = ["evaluate", "--weights", str(WEIGHTS), "--data", str(photos), "--methods", "edges,box,layercam",
               "--out", str(out), "--limit", "2", "--per-image", "1", "--unseen"]  # fmt: skip
    assert main(command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "leads over box" in printed
    assert "leads over layercam" in printed
    assert "99 forward passes to judge a map" in printed  # 20 and 20 and 5, and 18 for each of three fills
    table = pl.read_parquet(out / "evaluation.parquet")
    assert table["judge_forwards"].to_list() == [99] * 6
    lines = {line["method"]: line for line in json.loads((out / "summary.json").read_text())}
    assert lines["edges"]["randomised"] == pytest.approx(1)  # they do not depend on any weight
    assert lines["layercam"]["randomised"] < 0.9
    assert lines["box"]["box_spearman_above"] == 1
    paired = table.filter(pl.col("method") != "edges").pivot("method", index=["image", "detection"], values="unseen")
    gain = float((paired["layercam"] - paired["box"]).mean())
    assert lines["layercam"]["unseen_over_box"] == pytest.approx(gain)
    assert "Judged under fills that no method uses" in (out / "evaluation.html").read_text()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--methods", "layercan"], "no method 'layercan'; did you mean 'layercam'"),
        (["--methods", "box,box"], "'box' is named twice"),
        (["--limit", "0"], "limit must be a whole number"),
        (["--data", ""], "name labelled data or images with --data"),
    ],
)
def test_wrong_choices_say_what_would_be_right(photos, tmp_path, capsys, extra, message):
    command = ["evaluate", "--weights", str(WEIGHTS), "--data", str(photos), "--out", str(tmp_path / "run"), *extra]
    assert main(command) == 2
    assert message in capsys.readouterr().err
