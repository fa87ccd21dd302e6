"""The report's verdicts: given by keyboard, kept, exported and read back."""

import csv
import io
import json
import shutil

import pytest

from detcam.report.build import build_report
from support.reports import HOSTILE, RTL, address, images, kept, rows, run, until, visit, write_run  # noqa: F401

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
