"""The page of an evaluation: its verdict, its pictures, and that it is one safe file."""

import base64
import json
import math
import re
from html.parser import HTMLParser
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from PIL import Image

from detcam.demo.scenes import make_scene, render
from detcam.errors import UsageError
from detcam.evaluate.charts import charts
from detcam.evaluate.examples import KEPT_CELLS as SIDE
from detcam.evaluate.examples import examples, kept_map
from detcam.evaluate.summary import BASELINES, is_baseline, lead, standing, summarise, verdict
from detcam.explainer import Explainer
from detcam.methods import METHODS
from detcam.metrics.faithfulness import STEPS
from detcam.report.evaluation import write_page
from detcam.runs.evaluation import write_tables

HOSTILE = "<img src=x onerror=alert(1)>&$\\frac{$"
IMAGES = 6


def rows_of(figures, detections=40, image="{}.png", class_name="gem", seed=0, maps=False, noise=0.1):
    """Rows as an evaluation makes them: each method's figure varies about its mean, with what the detection adds."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(0, 0.1, detections)
    down = np.linspace(1, 0, STEPS + 1)
    for place, (method, mean) in enumerate(figures.items()):
        for number in range(detections):
            value = mean + shared[number] + generator.normal(0, noise)
            row = {
                "image": image.format(number % IMAGES), "detection": number // IMAGES, "method": method,
                "class_name": class_name, "confidence": 0.4 + 0.5 * (number % 2), "status": "ok", "seconds": 0.5,
                "size": ("small", "medium", "large")[number % 3], "sure": ("unsure", "sure")[number % 2],
                "forwards": float(3**place), "energy_box": 0.5, "outside_blur": 0.9, "sufficient_blur": math.nan,
                "faithfulness_blur": value, "faithfulness_mean": value / 2, "faithfulness_anchor_blur": value,
                "insertion_blur": 0.5 + value / 2, "deletion_blur": 0.5 - value / 2,
                "curve_insertion_blur": ((1 - down) * (0.5 + value / 2)).tolist(),
                "curve_deletion_blur": (down ** max(1 + value, 0.1)).tolist(),
            }  # fmt: skip
            if maps:
                heat = generator.integers(0, 256, (SIDE, SIDE)) if number == 0 else np.arange(SIDE * SIDE) // 9 % 256
                row |= {"box": [20.0, 20.0, 50.0, 60.0], "window": [0, 0, 90, 80]}
                row["map"] = np.uint8(heat).tobytes()
            yield row


def write_evaluation(out, figures, **how):
    """A folder as an evaluation leaves it, and its page's text."""
    out.mkdir(exist_ok=True)
    table = pl.DataFrame(list(rows_of(figures, **how)))
    described = {"weights": f"{HOSTILE}.pt", "sha256": "ab" * 32, "data": "photos", "split": "val", "seed": 7}
    described |= {"imgsz": None, "conf": 0.25, "per_image": 2}
    run = {"schema": 1, "command": "evaluate", "configuration": described, "versions": {"detcam": "9.8.7"}}
    (out / "run.json").write_text(json.dumps(run))
    write_tables(out, table, pl.DataFrame(summarise(table)))
    return table


class Page(HTMLParser):
    """What a browser would make of a page: tags with attributes, text, and the table's rows by their first cell."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.rows, self._cell = [], [], [], None
        self.feed(text)
        self.table = {row[0]: row[1:] for row in self.rows if row}

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = tag
        elif tag == "small":
            self._cell = None

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        self.text.append(data)
        if self._cell:
            self.rows[-1][-1] += data


FIGURES = {"good": 0.5, "fair": 0.1, "poor": -0.6, "box": 0.1, "edges": -0.4, "random": -0.9}


def test_the_baselines_are_those_the_methods_call_so():
    assert {name for name, method in METHODS.items() if method.label.startswith("a baseline")} == set(BASELINES)
    assert is_baseline("random@neck")
    assert not is_baseline("boxes")


def said(figures, **how):
    table = pl.DataFrame(list(rows_of(figures, **how)))
    return verdict(table, summarise(table))


def test_the_verdict_names_a_clear_winner_and_what_does_not_beat_the_box():
    first, *rest = said(FIGURES)
    assert re.match(r"good leads with insertion minus deletion \+0\.\d+ \[", first)
    assert first.endswith("above the Gaussian in the box, and the interval excludes zero.")
    assert "Not told apart from the box: fair." in rest
    assert "Below the box: poor." in rest
    assert any(re.fullmatch(r"The next is fair, 0\.\d+ \[.*\] behind\.", one) for one in rest)
    assert any(re.fullmatch(r"Baselines: box \S+, edges \S+, random \S+\.", one) for one in rest)
    assert not any("too narrow" in one for one in rest)


def test_the_verdict_says_that_none_beats_the_box():
    first, *rest = said({"fair": 0.11, "also": 0.1, "box": 0.1}, detections=12)
    assert first.startswith("None of the methods beats the Gaussian in the box.")
    assert first.endswith("which may be nothing.")
    assert any("cannot be told apart" in one for one in rest)
    assert rest[-1] == "Few detections were measured (12): intervals from so few are too narrow."
    assert said({"poor": -0.6, "box": 0.1})[0].endswith("below zero.")


def test_the_verdict_without_the_box_leaves_the_question_open():
    told = said({"good": 0.5, "fair": 0.1, "random": -0.9})
    assert told[0].startswith("good is first with insertion minus deletion +0.")
    assert told[0].endswith("the Gaussian in the box (box) was not measured.")
    assert not any("the box:" in one for one in told)
    assert said({"box": 0.1, "random": -0.9}) == ["Only baselines were measured."]


def test_the_highest_mean_is_no_winner_while_its_lead_may_be_nothing():
    rows = list(rows_of({"steady": 0.3, "wild": 0.3, "box": 0.1}, noise=0.01))
    wild = [row for row in rows if row["method"] == "wild"]
    for number, row in enumerate(wild):  # one detection in forty carries the mean
        row["faithfulness_blur"] = 20.0 if number == 0 else 0.0
    table = pl.DataFrame(rows)
    first, *rest = verdict(table, summarise(table))
    assert first.startswith("No method but steady beats the Gaussian in the box. The highest mean is that of wild,")
    assert not any(one.startswith("Also above") for one in rest)


def test_standing_follows_the_interval_of_the_lead():
    places = {(0.1, 0.3): "above", (-0.1, 0.3): "level", (-0.3, -0.1): "below", (math.nan, math.nan): "unknown"}
    for (low, high), place in places.items():
        line = {"method": "m", "lead": (low + high) / 2, "lead_low": low, "lead_high": high}
        assert standing(line) == place
        assert standing({**line, "method": "edges"}) == "baseline"


def test_the_figures_are_on_the_page(tmp_path):
    table = write_evaluation(tmp_path, FIGURES)
    checked = {"method": ["good", "poor"], "class_swap": [0.123, None], "randomised_10%": [0.456, 0.789]}
    pl.DataFrame(checked).write_csv(tmp_path / "sanity.csv")
    page = Page(write_page(tmp_path).read_text(encoding="utf-8"))
    headings = page.table["method"]
    for heading, key in (("insertion - deletion", "faithfulness_blur"), ("mean fill", "faithfulness_mean")):
        for name, mean in table.group_by("method").agg(pl.col(key).mean()).rows():
            assert page.table[name][headings.index(heading)] == f"{mean:+.3f}"
    box = table.filter(pl.col("method") == "box")["faithfulness_blur"].mean()
    good = table.filter(pl.col("method") == "good")["faithfulness_blur"].mean()
    place = headings.index("lead on the box")
    assert page.table["good"][place] == f"{good - box:+.3f}"
    assert page.table["box"][place] == "-"
    assert page.table["good"][headings.index("class swap")] == "0.123"
    assert page.table["poor"][headings.index("class swap")] == "-"
    assert page.table["box"][headings.index("10 % shuffled")] == "-"
    assert page.table["fair"][headings.index("in the box")] == "50%"
    assert not {"in the mask", "sufficient", "instance swap"} & set(headings)  # nothing was measured
    assert list(page.table)[2:] == [line["method"] for line in summarise(table)]
    text = " ".join(page.text)
    for known in ("6 methods on 40 detections in 6 images", "14 small, 13 medium, 13 large", "seed 7", "detcam 9.8.7"):
        assert known in text
    assert "kept no maps" in text


def test_names_stay_text_and_the_page_needs_nothing_else(tmp_path):
    folder = tmp_path / "<b>photos"
    folder.mkdir()
    for number in range(IMAGES):
        Image.fromarray(render(make_scene(number))).save(folder / f"{number}.png")
    figures = {HOSTILE: 0.5, "other": 0.2, "box": 0.1}
    write_evaluation(tmp_path / "run", figures, image=f"{folder}/{{}}.png", class_name=f"{HOSTILE} class", maps=True)
    text = write_page(tmp_path / "run").read_text(encoding="utf-8")
    page = Page(text)
    read = " ".join(page.text)
    for name in (f"{HOSTILE}.pt", f"{HOSTILE} class", "<b>photos", f"{HOSTILE} leads"):
        assert name in read
    assert HOSTILE in page.table
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "srcset"):
            assert attributes.get(name, "#").startswith(("data:", "#")), (tag, attributes)
    assert not re.search(r"https?:|url\(|@import", text)
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    drawings = [base64.b64decode(one.partition(",")[2]) for one in sources if one.startswith("data:image/svg+xml;")]
    assert len(drawings) == 4
    for drawing in drawings:
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawing).iter()}
        assert "path" in tags
        assert not tags & {"script", "image", "text", "foreignObject"}
    for name in ("ranking", "curves", "cost", "strata"):
        assert (tmp_path / "run" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(sources) == 4 + 4 * (1 + len(figures))


def test_a_folder_without_an_evaluation_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"holds no evaluation that can be read: .*; run detcam evaluate first"):
        write_page(tmp_path)


def drawn(axes, marker):
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == marker]


def test_the_ranking_draws_every_mean_and_marks_the_baselines():
    table = pl.DataFrame(list(rows_of(FIGURES)))
    lines = summarise(table)
    left, right = charts(table, lines)["ranking"].axes
    assert [label.get_text() for label in left.get_yticklabels()] == [line["method"] for line in lines]
    kinds = {"o": [n for n in FIGURES if n not in BASELINES], "D": list(BASELINES)}
    for marker, names in kinds.items():
        means = [table.filter(pl.col("method") == name)["faithfulness_blur"].mean() for name in names]
        assert sorted(drawn(left, marker)) == pytest.approx(sorted(means))
    assert sorted(drawn(right, "o")) == pytest.approx(sorted(lead(table, name, "box")[0] for name in kinds["o"]))
    assert len(drawn(right, "D")) == 2  # the box has no lead on itself
    table = table.filter(pl.col("method") != "box")
    assert len(charts(table, summarise(table))["ranking"].axes) == 1


def test_the_band_of_costs_joins_what_nothing_cheaper_equals():
    table = pl.DataFrame(list(rows_of({"random": -0.9, "fair": 0.1, "worse": -0.2, "good": 0.5, "dear": 0.4})))
    axes = charts(table, summarise(table))["cost"].axes[0]
    assert axes.lines[0].get_xdata().tolist() == [1, 3, 27]
    bold = {text.get_text() for text in axes.texts if text.get_fontweight() == "bold"}
    assert bold == {"random", "fair", "good"}
    assert {text.get_text() for text in axes.texts} == {"random", "fair", "worse", "good", "dear"}


def test_the_curves_name_the_best_three_and_leave_the_others_grey():
    figures = {f"m{n}": 0.1 * n for n in range(6)} | {"box": 0, "random": -0.9}
    table = pl.DataFrame(list(rows_of(figures)))
    for axes in charts(table, summarise(table))["curves"].axes:
        assert {text.get_text() for text in axes.texts} == {"m5", "m4", "m3", "box", "random"}
        assert len(axes.lines) == len(figures)
        heights = sorted(text.xyann[1] for text in axes.texts)
        low, high = axes.get_ylim()
        assert min(np.diff(heights)) > 0.05 * (high - low)  # names are not written over each other


def test_examples_are_what_the_best_maps_agree_on_least(tmp_path):
    for number in range(1, IMAGES):
        Image.fromarray(render(make_scene(number))).save(tmp_path / f"{number}.png")
    rows = list(rows_of(FIGURES, image=f"{tmp_path}/{{}}.png", maps=True))
    generator = np.random.default_rng(1)
    for row in rows:  # of the sixth image one detection is disputed and another half so; the first image is gone
        if row["image"].endswith("5.png") and row["detection"] in (1, 2):
            noise = np.uint8(generator.integers(0, 256, (SIDE, SIDE))).tobytes()
            row["map"] = noise if row["detection"] == 1 else noise[: SIDE * SIDE // 2] + row["map"][SIDE * SIDE // 2 :]
    table = pl.DataFrame(rows)
    lines = summarise(table)
    first, *rest = examples(table, lines)
    assert first.image == str(tmp_path / "5.png")
    assert abs(first.agreement) < 0.1
    assert [one.agreement for one in rest] == pytest.approx([1, 1, 1])
    assert len({one.image for one in [first, *rest]}) == 4
    assert [name for name, *_ in first.maps] == [line["method"] for line in lines]
    own = {r["method"]: r["faithfulness_blur"] for r in rows if r["image"] == first.image and r["detection"] == 1}
    assert {name: figure for name, figure, _ in first.maps} == own
    whole = render(make_scene(5))[:80, :90].astype(float)
    photograph = Image.open(BytesIO(first.photograph))
    assert photograph.size == (200, 178)
    away = np.asarray(photograph.resize((90, 80), Image.Resampling.BOX), float)[65:, 55:] - whole[65:, 55:]
    assert np.abs(away).mean() < 6  # the photograph itself, apart from the box drawn into it
    assert not list(examples(table.drop("map"), lines))


def test_a_kept_map_is_the_window_of_the_map_in_few_cells(demo_detector, scene_image):
    explanation = Explainer(demo_detector, "layercam")(scene_image)[0][0]
    row = kept_map(explanation)
    x1, y1, x2, y2 = row["window"]
    bx1, by1, bx2, by2 = row["box"]
    assert x1 <= bx1 < bx2 <= x2
    assert y1 <= by1 < by2 <= y2

    def shares(count):
        """How much of each pixel lies in each cell, over the cell."""
        size = count / SIDE
        ends = [np.clip(np.arange(1, SIDE + 1)[:, None] * size - np.arange(count), 0, 1),
                np.clip(np.arange(SIDE)[:, None] * size - np.arange(count), 0, 1)]  # fmt: skip
        return (ends[0] - ends[1]) / size

    expected = shares(y2 - y1) @ explanation.heatmap.array[y1:y2, x1:x2] @ shares(x2 - x1).T
    cells = np.frombuffer(row["map"], np.uint8).reshape(SIDE, SIDE) / 255
    assert cells.max() > 0.8
    assert np.abs(cells - expected).max() < 0.6 / 255


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_page_without_a_complaint(browser, tmp_path, scheme):
    long_name = "x" * 120
    for number in range(IMAGES):
        Image.fromarray(render(make_scene(number))).save(tmp_path / f"{number}.png")
    write_evaluation(tmp_path / "run", FIGURES, image=f"{tmp_path}/{{}}.png", class_name=long_name, maps=True)
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    address = write_page(tmp_path / "run").as_uri()
    page.goto(address)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (scheme == "light")
    page.close()
