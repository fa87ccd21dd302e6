"""The report: what a reader sees and does, in a browser, from disk."""

import pytest

from support.reports import HOSTILE, address, images, kept, missed, rows, run, shown, until, visit  # noqa: F401

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
