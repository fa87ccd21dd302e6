"""The benchmark's page, from figures made up: it renders whatever planted causes tell, and every set's tables."""

import json
import math
import runpy
from pathlib import Path

import pytest

from detcam.evaluate.summary import RIVALS, UNSEEN_FIGURES

SCRIPT = Path(__file__).parents[1] / "docs" / "benchmark.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


def line_of(method, unseen, **more):
    figures = ("faithfulness_blur", "lead", "faithfulness_mean", "randomised", *UNSEEN_FIGURES,
               *(f"{figure}_over_{rival}" for figure in UNSEEN_FIGURES for rival in RIVALS))  # fmt: skip
    line = {f"{figure}{end}": 0.5 for figure in figures for end in ("", "_low", "_high")}
    line |= dict.fromkeys(("deletion_blur", "insertion_blur", "outside_blur", "seconds", "box_pearson"), 0.25)
    line |= {"unseen_sufficient_inpaint": 0.02, "unseen_sufficient_shuffle": 0.04, "unseen_sufficient_roll": 0.08}
    return {**line, "method": method, "unseen": unseen, "detections": 2, "forwards": 60.0, "judge_forwards": 99.0,
            "box_spearman": 0.95, "box_spearman_above": 1.0, "vanished": 1, **more}  # fmt: skip


def rows_of(text):
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("|")]


def test_every_table_says_what_it_should(script):
    lines = [
        line_of("guided:256", 0.1, unseen_low=-0.1, unseen_high=0.3),
        line_of("box", 0.2),
        line_of("layercam", 0.3),
    ]
    headings, _, *rows = rows_of(script["unseen_table"](lines))
    assert [row[0] for row in rows] == ["layercam", "box", "guided:256"]  # by the mean of the unseen fills
    assert rows[2][1] == "+0.100 [-0.10, +0.30]"
    assert [headings[place] for place, cell in enumerate(rows[1]) if cell == "-"] == [
        f"on box: {name}" for name in ("all three", "painted over", "shuffled", "rolled")
    ]
    assert {row[-1] for row in rows} == {"4.0%"}
    old = {row[0]: row[1] for row in rows_of(script["old_table"](lines))[2:]}
    assert old == {"guided:256": "ins - del, blur, box areas", "box": "none", "layercam": "none"}
    gone = line_of("box", 0.2, randomised=math.nan)
    assert rows_of(script["suspicion_table"]([gone]))[2] == ["box", "0.95", "100%", "0.25", "-", "1"]
    text = script["page"]("planted here\n", {"hogdetect": lines}, {})
    titles = [row for row in text.splitlines() if row.startswith("## ")]
    assert titles == ["## Planted causes", "## Fills that no method uses",
                      "## Blur and mean colour, in steps of the box's area", "## What a map should not be"]  # fmt: skip
    assert "2 detections (fewer than 30" in text
    assert "took 99 forward passes" in text


def test_planted_causes_are_told_by_whatever_columns_come_and_asked_once(script, tmp_path, monkeypatch):
    asked = []

    def imitation(command):
        asked.append(command)
        for kind in ("near", "far"):
            told = {"kind": kind, "method": "guided", "precision": 0.5, "precision_low": 0.25, "precision_high": 0.75}
            print(json.dumps({**told, "holds": 3, "peak": math.nan}))
        return 0

    monkeypatch.setitem(script["planted_tables"].__globals__, "main", imitation)
    out = tmp_path / "planted"
    out.mkdir()
    first, again = (script["planted_tables"](2, out) for _ in range(2))
    assert first == again
    assert len(asked) == 1
    assert "### near" in first
    assert "### far" in first
    assert rows_of(first)[:3:2] == [["method", "precision", "holds", "peak"],
                                    ["guided", "0.50 [+0.25, +0.75]", "3", "-"]]  # fmt: skip
    script["planted_tables"](3, out)
    assert len(asked) == 2
