"""The judge: fills that leave the rest alone, curves worked by hand, maps that must score what they are worth."""

import math

import numpy as np
import polars as pl
import pytest
import torch

import detcam
from detcam.demo import WEIGHTS
from detcam.evaluate.judge import STEP_SHARES, Judge, judge_maps, judged_curves, likeness_to_box, sufficient_share
from detcam.evaluate.sanity import remaining
from detcam.evaluate.summary import UNSEEN_FIGURES, leads, summarise
from detcam.methods.regions import box_gaussian
from detcam.metrics.faithfulness import area_under
from detcam.metrics.unseen import UNSEEN
from support.known_subject import KnownSubject


@pytest.fixture(scope="module")
def padded():
    """An image with padding below and on the right, and what of it is removed in two ways."""
    generator = torch.Generator().manual_seed(0)
    inside = torch.zeros(80, 120, dtype=torch.bool)
    inside[:70, :110] = True
    image = torch.rand(3, 80, 120, generator=generator).masked_fill(~inside, 114 / 255)
    part = torch.zeros_like(inside)
    part[20:60, 30:115] = True
    return image, inside, torch.stack([part & inside, (torch.rand(80, 120, generator=generator) < 0.9) & inside])


@pytest.mark.parametrize("name", UNSEEN)
def test_a_fill_changes_what_is_removed_and_nothing_else_and_is_the_same_again(padded, name):
    image, inside, removed = padded
    made, again = (UNSEEN[name](image, inside, 3)(removed) for _ in range(2))
    assert torch.equal(made, again)
    for one, gone in zip(made, removed, strict=True):
        assert torch.equal(one[:, ~gone], image[:, ~gone])
        assert (one != image)[:, gone].any(0).float().mean() > 0.99
    assert made.min() >= 0
    assert made.max() <= 1


def test_nothing_of_what_is_removed_shows_where_it_is_painted_over(padded):
    image, inside, removed = padded
    for gone in removed:
        other = torch.where(gone, 1 - image, image)
        first, second = (UNSEEN["inpaint"](one, inside, 0)(gone[None]) for one in (image, other))
        assert torch.equal(first, second)


def test_a_hole_in_an_even_image_is_painted_in_its_colour_and_padding_does_not_leak_in(padded):
    _, inside, removed = padded
    colour = torch.tensor([0.2, 0.6, 0.8])[:, None, None]
    image = torch.where(inside, colour, torch.tensor(114 / 255))
    filled = UNSEEN["inpaint"](image, inside, 0)(torch.cat([removed, inside[None]]))
    assert torch.allclose(filled, image.expand_as(filled), atol=6 / 255)  # Telea's method rounds as it goes


def test_a_shuffled_image_is_made_of_its_own_blocks_none_in_its_place():
    image = torch.arange(3 * 66 * 96, dtype=torch.float32).view(3, 66, 96)  # 11 by 16 blocks
    inside = torch.ones(66, 96, dtype=torch.bool)
    made = [UNSEEN["shuffle"](image, inside, seed)(inside[None])[0] for seed in range(12)]
    assert not torch.equal(made[0], made[1])
    own, *moved = (one.unfold(1, 6, 6).unfold(2, 6, 6).permute(1, 2, 0, 3, 4) for one in (image, *made))
    for one in moved:
        assert not (one == own).any()
        order = one[..., 0, 0, 0].flatten().argsort()
        assert torch.equal(one.flatten(0, 1)[order], own.flatten(0, 1))


def test_a_rolled_image_is_half_its_sides_away_without_its_padding():
    image, inside = torch.full((3, 4, 8), -1.0), torch.zeros(4, 8, dtype=torch.bool)
    image[:, :, 2:6] = torch.arange(16.0).view(4, 4)
    inside[:, 2:6] = True
    rolled = UNSEEN["roll"](image, inside, 0)(inside[None])[0, 0]
    assert rolled[:, 2:6].tolist() == [[10, 11, 8, 9], [14, 15, 12, 13], [2, 3, 0, 1], [6, 7, 4, 5]]
    assert (rolled[:, :2] == -1).all()
    assert (rolled[:, 6:] == -1).all()


def test_curves_by_hand():
    # Ten by ten cells of one pixel; the score is the share of the top row that is there.
    heat, inside = torch.arange(100.0, 0, -1).view(10, 10), torch.ones(10, 10, dtype=torch.bool)
    image = torch.ones(3, 10, 10)
    fill = lambda removed: torch.where(removed[:, None], 0.0, image)  # noqa: E731
    score = lambda images: images[:, 0, 0].mean(1)  # noqa: E731
    deletion, insertion = judged_curves(heat, inside, fill, score, (1.0, 0.0))
    shown = [0, 0.1, 0.1, 0.1, 0.2, 0.4, 0.8, 1, 1, 1]  # 0, 1, 1, 1, 2, 4, 8, 16, 32, 64 cells
    assert insertion == pytest.approx(shown)
    assert deletion == pytest.approx(1 - np.array(shown))
    assert sufficient_share(insertion) == 0.16
    assert sufficient_share(np.full(len(STEP_SHARES), 0.89)) == 1


class Known(KnownSubject):
    """A known cause behind a probe's questions; the cause is large enough to be many cells."""

    def __init__(self):
        cause = torch.zeros(96, 128)
        cause[32:48, 56:80] = 1
        super().__init__(cause, (40.0, 24.0, 88.0, 72.0), size=(96, 128))


def test_a_perfect_map_is_near_the_optimum_its_inverse_the_worst_and_an_empty_one_is_chance():
    known = Known()
    judge = Judge(known)
    box = box_gaussian(known.boxes[0], (96, 128))
    chances = [judge.figures(torch.rand(96, 128, generator=torch.Generator().manual_seed(s)), 0) for s in range(8)]
    perfect, gaussian, empty, worst = (
        judge.figures(heat, 0)["unseen"] for heat in (known.cause, box, torch.zeros(96, 128), 1 - known.cause)
    )
    # Cells: 36 by 45 of the 96 by 120 image pixels; the cause is 54 of those 1620.
    share = np.array([max(round(s * 1620), 1) / 54 if s else 0 for s in STEP_SHARES]).clip(max=1)
    assert perfect == pytest.approx(2 * area_under(share) - 1, abs=0.1)
    chance, spread = np.mean([c["unseen"] for c in chances]), np.std([c["unseen"] for c in chances])
    assert abs(empty - chance) < 4 * spread + 0.01
    assert worst < empty < gaussian < perfect


def test_every_figure_is_under_its_own_fill():
    known = Known()
    told = Judge(known, seed=2).figures(known.cause, 0)
    for name, make in UNSEEN.items():
        fill = make(known.image, known.inside, 2)
        blank = float(known.scores(fill(known.inside[None]))[0, 0])
        pair = judged_curves(known.cause, known.inside, fill, lambda x: known.scores(x)[:, 0], (1.0, blank), 2)
        for kind, curve in zip(("deletion", "insertion"), pair, strict=True):
            assert told[f"curve_unseen_{kind}_{name}"] == pytest.approx(curve)
    blanks = [told[f"curve_unseen_insertion_{name}"][0] for name in UNSEEN]
    assert len(set(blanks)) == len(UNSEEN)


def test_a_judge_counts_what_it_asks():
    known = Known()
    judge = Judge(known)
    assert judge.forwards == len(UNSEEN)
    judge.figures(known.cause, 0)
    assert judge.forwards == len(UNSEEN) * (1 + 2 * (len(STEP_SHARES) - 1)) == known.forwards


def test_the_box_is_the_box_again_and_an_empty_map_is_unlike_anything():
    known = Known()
    box = box_gaussian(known.boxes[0], (96, 128))
    assert likeness_to_box(box, known.boxes[0], known.inside) == pytest.approx({"box_spearman": 1, "box_pearson": 1})
    told = likeness_to_box(box.pow(3), known.boxes[0], known.inside)  # another map in the same order, but for zeros
    assert told["box_spearman"] > 0.99 > told["box_pearson"]
    noise = torch.rand(96, 128, generator=torch.Generator().manual_seed(0))
    assert abs(likeness_to_box(noise, known.boxes[0], known.inside)["box_spearman"]) < 0.1
    assert all(map(math.isnan, likeness_to_box(torch.zeros(3, 4), known.boxes[0], known.inside).values()))


def test_what_randomising_leaves_by_hand():
    inside = torch.ones(6, 8, dtype=torch.bool)
    heat = torch.arange(48.0).view(6, 8)
    assert remaining(heat, heat**2, inside) == pytest.approx({"randomised": 1, "vanished": 0})
    assert remaining(heat, -heat, inside) == pytest.approx({"randomised": -1, "vanished": 0})
    for nothing in (torch.zeros(6, 8), torch.full((3, 4), torch.nan)):
        assert remaining(heat, nothing, inside) == {"randomised": 0, "vanished": 1}
    assert all(map(math.isnan, remaining(torch.zeros(6, 8), heat, inside).values()))


def test_maps_from_anywhere_are_judged_in_order(scene_image):
    model = detcam.load(WEIGHTS)
    told = detcam.explain(model, scene_image, method="box")
    found = told.explanations
    other = scene_image[:, ::-1].copy()
    known = detcam.explain(model, other, method="box").explanations[0]
    maps = [(found[1].heatmap.raw, found[1].detection, scene_image), (known.heatmap.raw, known.detection, other),
            (found[0].heatmap.raw, found[0].detection, scene_image)]  # fmt: skip
    lines = judge_maps(model, maps)
    assert [line["box_pearson"] for line in lines] == pytest.approx([1, 1, 1], abs=1e-3)
    alone = [judge_maps(model, [one])[0] for one in maps]
    for line, same in zip(lines, alone, strict=True):
        assert line["unseen"] == pytest.approx(same["unseen"], abs=1e-4)
        assert line["unseen"] == pytest.approx(np.mean([line[f"unseen_{name}"] for name in UNSEEN]))
        for name in UNSEEN:
            curves = [line[f"curve_unseen_{kind}_{name}"] for kind in ("insertion", "deletion")]
            assert line[f"unseen_{name}"] == pytest.approx(area_under(curves[0]) - area_under(curves[1]))
            assert curves[1][0] == pytest.approx(1)
    assert lines[0]["unseen"] != lines[2]["unseen"]


def rows_by(figures):
    """A table in which methods differ in a figure by what is given, on detections that vary far more than that."""
    for method, mean in figures.items():
        for number, level in enumerate((-0.5, 0.0, 0.7)):
            value = mean + level
            yield {
                "image": "a", "detection": number, "method": method, "size": "small", "status": "ok",
                **dict.fromkeys(("faithfulness_blur", "faithfulness_mean", "faithfulness_anchor_blur"), 0.0),
                **dict.fromkeys(UNSEEN_FIGURES, value), "box_spearman": (math.nan, 0.95, 0.5)[number],
                **{f"unseen_{kind}_{name}": 0.5 for kind in ("insertion", "deletion") for name in UNSEEN},
                **{f"unseen_sufficient_{name}": (0.01, 0.04, 0.16)[number] for name in UNSEEN},
                "randomised": (0.0, 0.3, math.nan)[number], "vanished": (1.0, 0.0, math.nan)[number],
            }  # fmt: skip


def test_leads_are_paired_and_gaps_are_left_out():
    table = pl.DataFrame(list(rows_by({"box": 0.1, "own": 0.3})))
    line = next(line for line in summarise(table) if line["method"] == "own")
    for figure in UNSEEN_FIGURES:
        told = [line[f"{figure}_over_box{end}"] for end in ("", "_low", "_high")]
        assert told == pytest.approx([0.2] * 3)
        assert math.isnan(line[f"{figure}_over_layercam"])
    assert line["unseen"] == pytest.approx(0.3 + 0.2 / 3)
    assert line["unseen_sufficient_roll"] == pytest.approx(0.04)
    assert line["box_spearman_above"] == 0.5
    assert line["randomised"] == pytest.approx(0.15)
    assert line["vanished"] == 1
    frame = leads(table, ["own", "box"])
    assert frame["method"].to_list() == ["own"] * len(UNSEEN_FIGURES)
    assert frame["over"].unique().to_list() == ["box"]
    assert frame["lead"].to_list() == pytest.approx([0.2] * len(UNSEEN_FIGURES))
    assert frame["pairs"].to_list() == [3] * len(UNSEEN_FIGURES)
