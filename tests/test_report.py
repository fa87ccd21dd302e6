"""The report: what a reader sees and does, in a browser, from disk."""

import csv
import io
import json
import re
import shutil
import time
from dataclasses import asdict, replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from detcam.drawing.render import BOX_COLOUR
from detcam.errors import UsageError
from detcam.geometry import Letterbox
from detcam.report.build import as_script, build_report, context_figures
from detcam.report.pictures import heat_values, thumbnail
from detcam.runs.schema import COLUMNS, image_key, write_maps
from detcam.types import Heatmap
from support.images import photograph

LETTERBOX = Letterbox((120, 200), (160, 256), (154, 256), (3, 0))
REVIEWED = {
    "error_type": pl.String, "truth_id": pl.Int64, "truth_class": pl.String, "iou": pl.Float32,
    "explanation": pl.String, "cause": pl.String, "evidence_inside": pl.Float32,
}  # fmt: skip
TRUTH = {
    "id": pl.Int64, "image": pl.String, "class_id": pl.Int32, "class_name": pl.String, "x1": pl.Float32,
    "y1": pl.Float32, "x2": pl.Float32, "y2": pl.Float32, "crowd": pl.Boolean, "found_by": pl.String,
}  # fmt: skip
MISS = {
    "id": pl.String, "image": pl.String, "truth_id": pl.Int64, "class_id": pl.Int32, "class_name": pl.String,
    "x1": pl.Float32, "y1": pl.Float32, "x2": pl.Float32, "y2": pl.Float32, "where_it_died": pl.String,
    "suppressor": pl.String, "anchor": pl.Int32, "stride": pl.Int32, "raw_confidence": pl.Float32,
    "raw_x1": pl.Float32, "raw_y1": pl.Float32, "raw_x2": pl.Float32, "raw_y2": pl.Float32, "explanation": pl.String,
    "method": pl.String, "layers": pl.String, "target": pl.String, "status": pl.String, "heatmap": pl.String,
    "scale": pl.Float32, "letterbox": pl.String, "receipt": pl.String, "supported": pl.Boolean,
    "context_dependence": pl.Float32,
}  # fmt: skip
FILLS = {"blur": 0.2, "mean": 0.3}
RECEIPT = {
    "score": 0.8, "hot_share": 0.05, "removed": FILLS, "removed_random": FILLS, "kept": FILLS, "kept_random": FILLS,
    "box_only": FILLS, "box_random": FILLS, "context_dependence": 0.4, "supported": True, "forwards": 16,
}  # fmt: skip
HOSTILE = "<img src=x onerror=alert(1)>"
LONG = "a_class_whose_name_" + "goes_on_" * 7 + "eighty"
RTL = "\u05db\u05dc\u05d1 \u05d2\u05d3\u05d5\u05dc"
CLASSES = ("cat", "dog", LONG[:80], RTL, HOSTILE)
TYPES = ("Cls", "Loc", "Both", "Dupe", "Bkg")


def detection(number, image, **facts):
    """A row of a review's detections; what is not said differs from row to row."""
    name, size = f"d{number:05d}", 12 + 9 * (number % 12)
    return {
        "id": name, "image": str(image), "class_id": number % 5, "class_name": CLASSES[number % 5],
        "confidence": (number * 37 % 100) / 100, "x1": 10.0, "y1": 12.0, "x2": 10.0 + size, "y2": 12.0 + min(size, 100),
        "anchor": number, "stride": 8, "method": "layercam", "layers": "model.4,model.6", "target": "class",
        "status": "ok", "reason": "", "heatmap": f"{image_key(str(image))}.npz#{name}", "scale": 1.0,
        "letterbox": json.dumps(asdict(LETTERBOX)), "receipt": json.dumps(RECEIPT) if number % 3 else None,
        "supported": True if number % 3 else None,
        "context_dependence": (number * 13 % 100) / 100 if number % 3 else None, "error_type": TYPES[number % 5],
        "truth_id": None if number % 5 == 4 else number % 8, "truth_class": None if number % 5 == 4 else "dog",
        "iou": 0.4, "explanation": f"sentence {number}", "cause": "cause-1" if number % 4 == 0 else None,
        "evidence_inside": 0.7,
    } | facts  # fmt: skip


def missed(number, image, **facts):
    """A row of a review's misses."""
    name = f"m{number:05d}"
    return {
        "id": name, "image": str(image), "truth_id": number, "class_id": 1, "class_name": "dog", "x1": 100.0,
        "y1": 40.0, "x2": 180.0, "y2": 110.0, "where_it_died": "suppressed", "suppressor": "d00000", "anchor": 3,
        "stride": 16, "raw_confidence": 0.31, "raw_x1": 95.0, "raw_y1": 44.0, "raw_x2": 170.0, "raw_y2": 115.0,
        "explanation": "a word of its own", "method": "layercam", "layers": "model.4", "target": "class",
        "status": "no_signal", "heatmap": f"{image_key(str(image))}.npz#{name}", "scale": 0.0,
        "letterbox": json.dumps(asdict(LETTERBOX)),
    } | facts  # fmt: skip


def write_run(path, detections, misses=(), cause="dry grass", **configuration):
    """A review's run folder, its maps random; images are those of the rows that are there."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "heatmaps").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    images = sorted({row["image"] for row in (*detections, *misses)})
    for image in images[:4]:
        own = [row["id"] for row in detections if row["image"] == image]
        write_maps(path, image, {name: rng.normal(size=(10, 16)).astype(np.float32) for name in own})
    box = {"x1": 20.0, "y1": 20.0, "x2": 90.0, "y2": 100.0}
    truths = [
        {"id": n, "image": images[0], "class_id": 1, "class_name": "dog", "crowd": n == 7, "found_by": "d00000"} | box
        for n in range(8)
    ]
    pl.DataFrame(detections, schema=COLUMNS | REVIEWED).write_parquet(path / "detections.parquet")
    pl.DataFrame(truths, schema=TRUTH).write_parquet(path / "truths.parquet")
    pl.DataFrame(list(misses), schema=MISS).write_parquet(path / "misses.parquet")
    names = sorted({row["class_name"] for row in detections})
    counts = {kind: sum(row["error_type"] == kind for row in detections) for kind in ("TP", *TYPES)}
    per_class = [{"class_name": name, "truths": 9, "ap50": 0.5, "Miss": 0} | counts for name in names]
    members = [row["id"] for row in detections if row["cause"] == "cause-1"]
    files = {
        "run": {"schema": 1, "command": "review", "configuration": {"weights": "w.pt", "data": "d.yaml", "conf": 0.1}
                | configuration},
        "summary": {"images": len(images), "counts": counts | {"Miss": len(misses)}, "dap": {"Cls": 0.012},
                    "map50": 0.5, "map": None, "per_class": per_class,
                    "unmapped": [{"class_name": HOSTILE, "truths": 5}],
                    "problems": [{"path": HOSTILE, "reason": "five numbers expected, got 4"}],
                    "confusions": [{"predicted": LONG[:80], "truth": HOSTILE, "count": 3}]},
        "causes": [{"id": "cause-1", "name": cause, "members": members, "tried": 9, "flipped": 7, "pasted": 5,
                    "appeared": 4, "confirmed": True, "text": f"{len(members)} share it", "patches": ["patch.png"]}],
    }  # fmt: skip
    Image.fromarray(photograph(20, 30)).save(path / "patch.png")
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three photographs, one with a name that is HTML, and the path of one that is not there."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / name for name in ("first.jpg", f"{HOSTILE}.jpg", "third.png", "gone.jpg")]
    for seed, path in enumerate(paths[:3]):
        Image.fromarray(photograph(120, 200, seed)).save(path)
    return paths


@pytest.fixture(scope="module")
def rows(images):
    return [detection(n, images[n % 4]) for n in range(40)] + [detection(40, images[0], error_type="TP")]


@pytest.fixture(scope="module")
def run(tmp_path_factory, images, rows):
    path = write_run(tmp_path_factory.mktemp("runs") / "review", rows, [missed(n, images[0]) for n in range(3)])
    build_report(path)
    return path


@pytest.fixture
def visit(browser):
    """Open an address in a new browser; at the end nothing was complained of, and nothing asked of the network."""
    contexts, wrong = [], []

    def open_page(address, allowed="file:", **settings):
        context = browser.new_context(**{"viewport": {"width": 1366, "height": 768}} | settings)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message) or dialog.dismiss())
        page.on("requestfailed", lambda request: request.failure == "net::ERR_ABORTED" or wrong.append(request.url))
        page.on(
            "request", lambda request: request.url.startswith((allowed, "blob:", "data:")) or wrong.append(request.url)
        )
        contexts.append(context)
        page.goto(address)
        until(page, "document.getElementById('kept').textContent !== ''")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def address(run, route=""):
    return (run / "report" / "index.html").as_uri() + route


def until(page, condition, arg=None):
    """Wait for an expression to hold; asked from outside, as the page's policy forbids evaluating text within it."""
    end = time.monotonic() + 20
    while not page.evaluate(condition, arg):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def shown(page):
    return page.evaluate("Gallery.shown.map((number) => DETCAM.cases[number].id)")


def kept(page):
    return json.loads(page.evaluate("Verdicts.toJson()"))


# What is written


def test_only_a_whole_review_is_reported(tmp_path, run):
    with pytest.raises(UsageError, match=r"has no run\.json"):
        build_report(tmp_path)
    shutil.copytree(run, tmp_path / "copy", dirs_exist_ok=True)
    (tmp_path / "copy" / "misses.parquet").unlink()
    with pytest.raises(UsageError, match=r"misses\.parquet"):
        build_report(tmp_path / "copy")
    (tmp_path / "copy" / "run.json").write_text('{"schema": 1, "command": "explain"}')
    with pytest.raises(UsageError, match="holds a run of detcam explain"):
        build_report(tmp_path / "copy")


@pytest.mark.parametrize("entry", [{"verdict": "guilty", "note": ""}, {"verdict": "ambiguous"}, "ambiguous"])
def test_broken_verdicts_are_refused(tmp_path, run, entry):
    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy" / "verdicts.json").write_text(json.dumps({"d00001": entry}))
    with pytest.raises(UsageError, match="verdict on 'd00001' must be"):
        build_report(tmp_path / "copy")


def test_no_name_of_the_users_is_a_files(run):
    files = [path.relative_to(run / "report") for path in (run / "report").rglob("*") if path.is_file()]
    pictures = [path.as_posix() for path in files if path.parts[0] == "pictures"]
    assert pictures
    assert all(re.fullmatch(r"pictures/(images|thumbs|heat|causes)/[0-9-]+\.(jpg|png)", name) for name in pictures)
    assert {str(path) for path in files if path.parts[0] != "pictures"} == {
        "index.html", "data.js", "report.css", "theme.js", "verdicts.js", "gallery.js", "detail.js", "app.js",
    }  # fmt: skip


def test_a_second_build_replaces_pictures_and_nothing_else(tmp_path, run):
    shutil.copytree(run, tmp_path / "copy")
    report = tmp_path / "copy" / "report"
    (report / "pictures" / "thumbs" / "99999.jpg").write_bytes(b"left over")
    (report / "mine.txt").write_text("mine")
    build_report(tmp_path / "copy")
    assert not (report / "pictures" / "thumbs" / "99999.jpg").exists()
    assert (report / "mine.txt").read_text() == "mine"
    assert not list(report.glob(".*"))


def test_data_is_a_script_that_nothing_in_it_ends():
    data = {"name": "</script><!-- \u2028\u2029 \ud800", "share": float("nan"), "cases": [1, 0.123456789, None]}
    script = as_script(data)
    assert script.isascii()
    assert "<" not in script
    body = json.loads(script.removeprefix("window.DETCAM = ").removesuffix(";\n"))
    assert body == {"name": data["name"], "share": None, "cases": [1, 0.12346, None]}


def test_images_that_cannot_be_read_are_named(tmp_path, images, run, caplog):
    shutil.copytree(run, tmp_path / "copy")
    build_report(tmp_path / "copy")
    assert f"1 of 4 images cannot be shown: {images[3]}: no such file" in caplog.text
    assert f"{images[3]}: no such file" in (tmp_path / "copy" / "report" / "index.html").read_text()


def test_context_dependence_is_counted_by_tenths_and_types():
    shares = [("Cls", -0.4), ("Cls", 0.05), ("Cls", 0.95), ("Bkg", 1.0), ("Bkg", 0.55)]
    cases = [{"type": kind, "context_dependence": share} for kind, share in shares] + [{"type": "Loc"}]
    figures = context_figures(cases)
    assert figures["bins"] == [2, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert figures["count"] == 5
    assert figures["types"] == [
        {"type": "Cls", "count": 3, "median": 0.05, "high": 1 / 3},
        {"type": "Bkg", "count": 2, "median": 0.775, "high": 1.0},
    ]


# What is drawn


def test_a_map_is_cut_to_its_image_at_its_own_resolution():
    raw = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
    letterbox = Letterbox((120, 240), (128, 128), (64, 128), (32, 0))  # the image fills the middle eight rows of cells
    inside = np.maximum(raw[4:12], 0)
    np.testing.assert_array_equal(heat_values(raw, letterbox), np.rint(inside / inside.max() * 255))


def test_a_stored_map_is_the_map_that_plots_show():
    import cv2

    raw = cv2.resize(np.random.default_rng(2).normal(size=(5, 8)).astype(np.float32), (64, 40))
    values = heat_values(raw, LETTERBOX)
    whole = cv2.resize(values, LETTERBOX.original[::-1], interpolation=cv2.INTER_LINEAR) / 255
    assert np.abs(whole - Heatmap(raw, LETTERBOX).array).max() < 0.05
    assert heat_values(np.repeat(np.repeat(raw, 16, 0), 16, 1), replace(LETTERBOX)).shape[1] == 160
    assert not heat_values(-np.abs(raw), LETTERBOX).any()


def test_a_map_is_written_as_colour_over_transparency(run, rows):
    script = (run / "report" / "data.js").read_text()
    cases = json.loads(script.removeprefix("window.DETCAM = ").removesuffix(";\n"))["cases"]
    number = next(n for n, case in enumerate(cases) if case["id"] == rows[0]["id"])
    file, _, name = rows[0]["heatmap"].partition("#")
    with np.load(run / "heatmaps" / file) as maps:
        values = heat_values(maps[name].astype(np.float32), LETTERBOX)
    with Image.open(run / "report" / "pictures" / "heat" / f"{number}.png") as picture:
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(alpha, np.rint(255 * np.sqrt(values / 255)))
    assert not any("heat" in case for case in cases if case["type"] == "Miss")  # the run has no map of these


@pytest.mark.parametrize("box", [(40, 30, 80, 60), (80, 60, 40, 30)])
def test_a_thumbnail_shows_the_box_in_the_middle(box):
    picture = thumbnail(np.zeros((120, 200, 3), np.uint8), box, None)
    lines = np.argwhere((picture == BOX_COLOUR).all(-1))
    centre = (lines.min(0) + lines.max(0)) / 2
    assert max(picture.shape) == 160
    assert np.abs(centre - (np.array(picture.shape[:2]) - 1) / 2).max() <= 2
    assert np.ptp(lines, 0).tolist() == pytest.approx([160 * 30 / 80, 160 * 40 / 80], abs=2)


def test_a_thumbnail_at_the_edge_stays_in_the_image():
    picture = thumbnail(np.zeros((120, 200, 3), np.uint8), (0, 0, 12, 12), None)
    lines = np.argwhere((picture == BOX_COLOUR).all(-1))
    assert picture.shape == (160, 160, 3)
    assert lines.min(0).tolist() == [0, 0]
    assert thumbnail(np.zeros((30, 40, 3), np.uint8), (-5, -5, 400, 12), (25, 25, 40, 40)).shape == (120, 160, 3)


# What a reader does


def area(row):
    return (row["x2"] - row["x1"]) * (row["y2"] - row["y1"])


FILTERS = {
    "type": (lambda f: (f.check("[value=Loc]"), f.check("[value=Bkg]")), lambda r: r["error_type"] in ("Loc", "Bkg")),
    "class": (lambda f: f.select_option("[name=class]", HOSTILE), lambda r: r["class_name"] == HOSTILE),
    "truth": (lambda f: f.select_option("[name=truth]", "dog"), lambda r: r["truth_class"] == "dog"),
    "confidence": (lambda f: (f.fill("[name=from]", "0.3"), f.fill("[name=to]", "0.6")),
                   lambda r: 0.3 <= round(r["confidence"], 2) <= 0.6),
    "small": (lambda f: f.select_option("[name=size]", "small"), lambda r: area(r) < 32**2),
    "large": (lambda f: f.select_option("[name=size]", "large"), lambda r: area(r) >= 96**2),
    "context": (lambda f: f.select_option("[name=context]", "high"), lambda r: (r["context_dependence"] or 0) > 0.5),
    "unknown": (lambda f: f.select_option("[name=context]", "unknown"), lambda r: r["context_dependence"] is None),
    "cause": (lambda f: f.select_option("[name=cause]", "cause-1"), lambda r: r["cause"] == "cause-1"),
    "text": (lambda f: f.fill("[name=q]", "FIRST.jpg sentence"), lambda r: "first.jpg" in r["image"]),
    "note": (lambda f: f.fill("[name=q]", "remarkable"), lambda r: r["id"] == "d00007"),
    "verdict": (lambda f: f.select_option("[name=verdict]", "ambiguous"), lambda r: r["id"] == "d00007"),
    "two": (lambda f: (f.check("[value=Loc]"), f.select_option("[name=cause]", "cause-1")),
            lambda r: r["error_type"] == "Loc" and r["cause"] == "cause-1"),
}  # fmt: skip


def test_filters_leave_what_they_say(visit, run, rows, images):
    page = visit(address(run, "#/gallery"))
    page.evaluate("Verdicts.set('d00007', { verdict: 'ambiguous', note: 'A Remarkable case' })")
    misses = [missed(n, images[0]) | {"error_type": "Miss", "confidence": 0.31, "truth_class": "dog", "cause": None,
                                      "context_dependence": None} for n in range(3)]  # fmt: skip
    cases = [row for row in rows if row["error_type"] != "TP"] + misses
    assert sorted(shown(page)) == sorted(row["id"] for row in cases)
    for name, (use, keep) in FILTERS.items():
        use(page)
        expected = sorted(
            row["id"] for row in cases if keep(row) and not (name == "text" and row["error_type"] == "Miss")
        )
        assert sorted(shown(page)) == expected, name
        assert 0 < len(expected) < len(cases), name
        assert page.inner_text("#found") == f"{len(expected)} of {len(cases)} cases"
        assert page.locator(".tile").count() == len(expected) or len(expected) > 20
        page.click("#filters [type=reset]")
        until(page, f"Gallery.shown.length === {len(cases)}")
    page.fill("[name=q]", "nothing has this")
    assert page.is_visible("#nothing")


def test_filters_are_in_the_address(visit, run):
    page = visit(address(run, "#/overview"))
    page.click("#view-overview th a:text-is('Loc')")
    until(page, "Gallery.shown.length === 8")
    page.fill("[name=from]", "0.2")
    until(page, "location.hash === '#/gallery?type=Loc&from=0.2'")
    found = shown(page)
    page.reload()
    assert shown(page) == found
    assert page.input_value("[name=from]") == "0.2"
    assert page.is_checked("[value=Loc]")


def test_cases_are_ordered_as_asked(visit, run, rows):
    page = visit(address(run, "#/gallery"))
    by_id = {row["id"]: row for row in rows}
    page.check("[value=Cls]")
    assert [by_id[i]["confidence"] for i in shown(page)] == sorted(
        (by_id[i]["confidence"] for i in shown(page)), reverse=True
    )
    page.select_option("[name=sort]", "size")
    assert [area(by_id[i]) for i in shown(page)] == sorted(area(by_id[i]) for i in shown(page))


def test_everything_is_done_by_keyboard(visit, run):
    page = visit(address(run, "#/gallery"))
    current = "DETCAM.cases[Gallery.current].id"
    order = shown(page)
    for key, place in [("j", 1), ("ArrowRight", 2), ("k", 1), ("ArrowLeft", 0), ("ArrowLeft", 0)]:
        page.keyboard.press(key)
        assert page.evaluate(current) == order[place]
    page.keyboard.press("ArrowDown")
    assert page.evaluate(current) == order[page.evaluate("Gallery.columns")]
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.wait_for_selector("#view-case:not([hidden])")
    judged = page.evaluate(current)
    assert page.get_attribute("[data-verdict=label_error]", "aria-pressed") == "true"
    page.keyboard.press("n")
    page.keyboard.type("j is text here, 1 too")
    page.keyboard.press("Escape")
    assert kept(page) == {judged: {"verdict": "label_error", "note": "j is text here, 1 too"}}
    page.keyboard.press("0")
    assert kept(page)[judged]["verdict"] is None
    for key, selector in (("h", "#heat-map"), ("b", "#boxes")):
        assert page.is_visible(selector)
        page.keyboard.press(key)
        assert page.is_hidden(selector)
        page.keyboard.press(key)
    page.keyboard.press("ArrowDown")
    assert page.evaluate(current) == order[order.index(judged) + 1]
    until(page, f"location.hash.includes('{order[order.index(judged) + 1]}')")
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    assert page.is_hidden("#help")
    page.keyboard.press("/")
    until(page, "document.activeElement.id === 'search'")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.wait_for_selector("#view-overview:not([hidden])")


def test_one_case_is_shown_whole(visit, run, rows):
    row = next(row for row in rows if row["error_type"] == "Dupe" and row["image"].endswith("first.jpg"))
    page = visit(address(run, f"#/case?id={row['id']}"))
    until(page, "document.getElementById('photograph').complete && document.getElementById('heat-map').complete")
    natural = page.evaluate("['photograph', 'heat-map'].map((id) => document.getElementById(id).naturalWidth)")
    assert natural == [200, 16]
    photo, heat = page.locator("#photograph").bounding_box(), page.locator("#heat-map").bounding_box()
    assert photo == heat
    drawn, gain = page.locator(".box.prediction").bounding_box(), photo["width"] / 200
    assert drawn["x"] - photo["x"] == pytest.approx(row["x1"] * gain, abs=0.6)
    assert drawn["y"] - photo["y"] == pytest.approx(row["y1"] * gain, abs=0.6)
    assert drawn["width"] == pytest.approx((row["x2"] - row["x1"]) * gain, abs=0.6)
    assert page.locator(".box.truth").count() == 1
    assert page.locator(".box.rival").count() == 1
    assert page.inner_text(".key.rival") == "first box on it"
    compared = page.inner_text("#compare")
    assert "dog" in compared
    assert "0.400" in compared
    assert page.inner_text("#explanation") == row["explanation"]
    page.fill("#opacity", "25")
    assert page.eval_on_selector("#heat-map", "(map) => getComputedStyle(map).opacity") == "0.25"


def test_zoom_makes_the_box_half_the_picture(visit, run, rows):
    assert area(rows[24]) == 12**2  # of an image 120 pixels high
    page = visit(address(run, "#/case?id=d00024"))
    before = page.locator(".box.prediction").bounding_box()
    page.keyboard.press("z")
    after, stage = page.locator(".box.prediction").bounding_box(), page.locator("#stage").bounding_box()
    assert after["width"] / before["width"] == pytest.approx(5, abs=0.3)
    assert after["height"] / stage["height"] == pytest.approx(0.5, abs=0.03)
    assert stage["y"] <= after["y"] <= stage["y"] + stage["height"] - after["height"]


def test_a_miss_says_where_it_died(visit, run):
    page = visit(address(run, "#/case?id=m00001"))
    assert "suppressed by another box" in page.inner_text("#explanation")
    assert page.locator(".box.rival").count() == 1
    assert page.inner_text(".key.rival") == "box that suppressed it"
    assert page.is_visible("#no-heat")
    assert page.inner_text("#receipt-text") == "None was made."


def test_similar_cases_share_the_cause(visit, run, rows):
    page = visit(address(run, "#/case?id=d00004"))
    members = {row["id"] for row in rows if row["cause"] == "cause-1" and row["error_type"] != "TP"}
    targets = page.eval_on_selector_all(
        "#similar a", "(links) => links.map((link) => new URLSearchParams(link.hash.split('?')[1]).get('id'))"
    )
    assert set(targets) == members - {"d00004"}
    page.click("#similar a >> nth=0")
    until(page, "Gallery.shown.length === " + str(len(members)))


def test_a_receipt_is_a_table(visit, run):
    page = visit(address(run, "#/case?id=d00001"))
    cells = page.eval_on_selector_all("#receipt tbody tr:nth-child(2) td", "(cells) => cells.map((c) => c.textContent)")
    assert cells == ["0.20", "0.30", "0.25"]
    assert page.inner_text("#receipt-text").startswith("Supported: the hottest 5.0")


def test_classes_are_sorted_by_any_column(visit, run):
    page = visit(address(run))
    names = "[...document.querySelectorAll('.sortable tbody th')].map((cell) => cell.textContent.trim())"
    page.click(".sortable thead button:text-is('Class')")
    ordered = page.evaluate(names)
    assert ordered == page.evaluate(f"{names}.sort((a, b) => a.localeCompare(b))")
    assert page.get_attribute(".sortable th >> nth=0", "aria-sort") == "ascending"


# Verdicts

NOTES = ['plain, with "quotes"', "two\nlines; and more", "=1+1", "'=x", "-", "", f"{RTL} \U0001f43e", HOSTILE]


def judge(page):
    expected = {}
    for n, note in enumerate(NOTES):
        kind = ("model_error", "label_error", "ambiguous", None)[n % 4] if note else "ambiguous"
        page.evaluate("([id, entry]) => Verdicts.set(id, entry)", [f"d{n:05d}", {"verdict": kind, "note": note}])
        expected[f"d{n:05d}"] = {"verdict": kind, "note": note}
    return expected


def test_verdicts_outlast_the_page_and_belong_to_their_run(visit, run, tmp_path, rows):
    page = visit(address(run, "#/gallery"))
    expected = judge(page)
    page.evaluate("Verdicts.set('d00001', { verdict: null, note: '' })")
    expected.pop("d00001")
    page.reload()
    assert kept(page) == expected
    judged = sum(entry["verdict"] is not None for entry in expected.values())
    assert page.inner_text("#progress").startswith(f"{judged} / ")
    other = write_run(tmp_path / "other", rows, conf=0.3)
    page.goto(address(build_report(other).parents[1]))
    assert kept(page) == {}


def test_a_reports_own_verdicts_are_shown_and_can_be_cleared(visit, run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy" / "verdicts.json").write_text('{"d00003": {"verdict": "ambiguous", "note": ""}}')
    build_report(tmp_path / "copy")
    page = visit(address(tmp_path / "copy", "#/case?id=d00003"))
    assert page.get_attribute("[data-verdict=ambiguous]", "aria-pressed") == "true"
    page.keyboard.press("0")
    page.reload()
    assert kept(page) == {}


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_exported_verdicts_come_back(visit, run, tmp_path, kind):
    page = visit(address(run, "#/gallery"))
    expected = judge(page)
    page.click("#open-verdicts")
    with page.expect_download() as download:
        page.click(f"#export-{kind}")
    saved = tmp_path / download.value.suggested_filename
    download.value.save_as(saved)
    assert saved.name == f"verdicts.{kind}"
    if kind == "csv":
        text = saved.read_text(encoding="utf-8-sig")
        table = {row["id"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
        assert table["d00000"]["note"] == NOTES[0]
        assert not any(cell.startswith(("=", "-", "+", "@")) for row in table.values() for cell in row.values())
    else:
        assert json.loads(saved.read_text()) == expected
    fresh = visit(address(run, "#/gallery"))
    assert kept(fresh) == {}
    fresh.click("#open-verdicts")
    fresh.set_input_files("#import-file", saved)
    until(fresh, "document.getElementById('imported').textContent")
    assert fresh.inner_text("#imported") == f"Read: {len(expected)}."
    assert kept(fresh) == expected
    fresh.reload()
    assert kept(fresh) == expected


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("v.json", "{", "was not read"),
        ("v.json", '{"d00001": {"verdict": "guilty"}}', "must be one of"),
        ("v.csv", "name,verdict\nd00001,ambiguous\n", "must name the columns"),
        ("v.csv", 'id,verdict,note\nd00001,ambiguous,"open\n', "not closed"),
        (
            "v.csv",
            "id;verdict;note\r\nd00001;ambiguous;fine\r\nd99999;ambiguous;\r\n",
            "Read: 1; of cases this report does not have: 1.",
        ),
    ],
)
def test_other_files_are_read_or_refused_in_words(visit, run, tmp_path, name, content, said):
    page = visit(address(run))
    (tmp_path / name).write_text(content)
    page.set_input_files("#import-file", tmp_path / name)
    until(page, "document.getElementById('imported').textContent")
    assert said in page.text_content("#imported")
    assert kept(page) == ({"d00001": {"verdict": "ambiguous", "note": "fine"}} if said.startswith("Read") else {})


# What it has to bear


def test_names_that_are_html_stay_text(visit, tmp_path, images):
    # Even an id: the script must put all of it in as text.
    rows = [detection(n, images[1], class_name=HOSTILE, truth_class=HOSTILE, explanation=HOSTILE, reason=HOSTILE,
                      cause="cause-1", id=f"{HOSTILE}{n}", layers=HOSTILE) for n in range(3)]  # fmt: skip
    run = write_run(tmp_path / HOSTILE, rows, cause=HOSTILE, weights=HOSTILE)
    build_report(run)
    page = visit(address(run))
    expected = page.evaluate("document.querySelectorAll('img').length")
    for route in ("#/overview", "#/causes", "#/gallery", f"#/case?id={HOSTILE}0"):
        page.evaluate("(hash) => { location.hash = hash; }", route)
        page.wait_for_selector(f"#view-{route[2:].split('?')[0]}:not([hidden])")
        page.wait_for_timeout(50)
        assert page.locator("[onerror], [src=x]").count() == 0
        assert HOSTILE in page.inner_text("main")
    page.fill("#note", HOSTILE)
    page.keyboard.press("Escape")
    assert page.locator("[onerror], [src=x]").count() == 0
    pictures = "img:not(.tile img, #similar img)"
    assert page.locator(pictures).count() == expected


def test_twenty_thousand_cases_stay_fast(visit, tmp_path, images):
    many = [images[0].with_name(f"{n}.jpg") for n in range(200)]
    rows = [detection(n, images[1] if n % 20 == 0 else many[n % 200]) for n in range(20_000)]
    run = write_run(tmp_path / "many", rows)
    build_report(run)
    page = visit(address(run))
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.click("nav >> text=Gallery")
    page.wait_for_selector(".tile")
    timed = """(change) => {
      const form = document.getElementById("filters");
      let least = Infinity;
      for (let turn = 0; turn < 5; turn += 1) {
        form.reset();
        for (const [name, value] of Object.entries(change)) form.elements[name].value = value;
        const start = performance.now();
        form.elements.q.dispatchEvent(new Event("input", { bubbles: true }));
        document.body.getBoundingClientRect();
        least = Math.min(least, performance.now() - start);
      }
      return [least, Gallery.shown.length];
    }"""
    changes = [{"q": "sentence 19"}, {"class": "cat", "from": "0.5"}, {"size": "small"}, {"sort": "context"}, {}]
    for change in changes:
        took, left = page.evaluate(timed, change)
        assert took < 100, change
        assert left > 1000
    for _ in range(20):
        page.mouse.wheel(0, 5000)
        assert page.locator(".tile").count() < 150
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    last = shown(page)[-1]
    until(page, "(id) => [...document.querySelectorAll('.tile')].some((tile) => tile.href.includes(id))", last)
    assert len([url for url in asked if "/thumbs/" in url]) < 300
    judge_one = """() => {
      const start = performance.now();
      Verdicts.set("d00005", { note: "n" });
      return performance.now() - start;
    }"""
    assert min(page.evaluate(judge_one) for _ in range(5)) < 100


MODES = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True},
}


@pytest.mark.parametrize("mode", MODES)
def test_nothing_runs_over_the_edge(visit, run, mode):
    page = visit(address(run), **MODES[mode])
    for number, route in enumerate(["#/overview", "#/causes", "#/gallery", *(f"#/case?id=d0000{n}" for n in range(6))]):
        page.goto("about:blank")
        page.goto(address(run, route))
        page.wait_for_timeout(50)
        over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(over) <= 0, route
        if number:
            continue
        for dialog in ("verdicts", "help"):
            page.click(f"#open-{dialog}")
            assert page.eval_on_selector(f"#{dialog}", "(item) => item.scrollWidth - item.clientWidth") <= 0
            page.keyboard.press("Escape")


def luminance(colour):
    """WCAG's relative luminance of ``rgb(r, g, b)``."""
    parts = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(visit, run, scheme):
    page = visit(address(run), color_scheme=scheme)
    probe = """(name) => {
      const made = document.createElement("p");
      made.style.color = `var(--${name})`;
      document.body.append(made);
      const colour = getComputedStyle(made).color;
      made.remove();
      return colour;
    }"""
    light = {name: luminance(page.evaluate(probe, name)) for name in
             ("paper", "panel", "ink", "muted", "accent", "on-accent", "alert")}  # fmt: skip
    assert (light["paper"] > light["ink"]) == (scheme == "light")
    pairs = [(text, ground) for text in ("ink", "muted", "accent", "alert") for ground in ("paper", "panel")]
    for text, ground in [*pairs, ("on-accent", "accent")]:
        low, high = sorted((light[text], light[ground]))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_the_theme_is_chosen_and_kept(visit, run):
    page = visit(address(run), color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click("#theme")
    assert page.evaluate(ground) == light
    page.click("#theme")
    dark = page.evaluate(ground)
    assert luminance(dark) < luminance(light)
    page.reload()
    assert page.evaluate(ground) == dark
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: auto"
    assert page.evaluate(ground) == light


def test_every_control_has_a_name(visit, run):
    page = visit(address(run, "#/case?id=d00001"))
    nameless = page.evaluate("""[...document.querySelectorAll("button, input, select, textarea, a")].filter((item) =>
        !(item.textContent.trim() || item.ariaLabel || [...item.labels ?? []].some((label) => label.textContent.trim())
          || item.querySelector("img[alt]:not([alt=''])"))).map((item) => item.outerHTML)""")
    assert nameless == []
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
