"""The methods to start with, as docs/benchmark.md's figures choose them, and where they are shown."""

import json
import re
from pathlib import Path

import pytest

import detcam
from detcam.cli import main
from detcam.methods import METHODS, RECOMMENDED

BENCHMARK = Path(__file__).parents[1] / "docs" / "benchmark.md"
KNOWN = ("cause", "elsewhere", "box")
"""Rows of the tables that are no methods, or what methods are compared with."""


def tables(section):
    """The rows of each table of a section, as dictionaries."""
    text = BENCHMARK.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        head, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()]
        yield [dict(zip(head, row, strict=True)) for row in rows]


def interval(cell):
    return [float(end) for end in re.search(r"\[(.*), (.*)\]", cell).groups()]


def leading():
    """Methods that beat a Gaussian in the box somewhere, by intervals that do not meet."""
    for rows in tables("Planted causes"):
        (box,) = [row for row in rows if row["method"] == "box"]
        highest = interval(box["precision"])[1]
        yield from (row["method"] for row in rows if interval(row["precision"])[0] > highest)
    for rows in tables("Fills that no method uses"):
        yield from (
            row["method"] for row in rows if row["method"] != "box" and interval(row["on box: all three"])[0] > 0
        )


def test_the_figures_choose_the_methods_to_start_with():
    assert set(RECOMMENDED) == set(leading()) - set(KNOWN)
    assert len(list(tables("Planted causes"))) == 6


def test_methods_to_start_with_are_described_first_and_all_where_asked(capsys):
    def described():
        return re.findall(r"^│ (\S+) +│ (?:yes|no)", capsys.readouterr().out, re.M)

    assert main(["methods", "--all"]) == 0
    every = described()
    assert sorted(every) == sorted(METHODS)
    assert tuple(every[: len(RECOMMENDED)]) == RECOMMENDED
    assert main(["methods", "--json"]) == 0
    assert [json.loads(line)["method"] for line in capsys.readouterr().out.splitlines()] == every
    assert main(["methods"]) == 0
    page = capsys.readouterr().out
    assert tuple(re.findall(r"^│ (\S+) +│ (?:yes|no)", page, re.M)) == RECOMMENDED
    assert all(re.search(rf"(?<![\w+]){re.escape(name)}(?![\w+])", page) for name in METHODS)


def test_a_misspelt_name_is_looked_for_among_all_methods():
    with pytest.raises(detcam.UsageError, match="did you mean 'ablationcam'"):
        detcam.Explainer("gone.pt", "ablatoncam")
