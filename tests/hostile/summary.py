"""``pytest -m hostile`` ends with a table: family, inputs tried, wrong outcomes. And the fixture that tries them."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest


@pytest.fixture
def judge(tmp_path, record_property):
    """:func:`~hostile.judging.try_inputs`, which writes below the test's folder and is counted in the table."""
    from hostile.judging import try_inputs  # late: it starts to watch the process

    return partial(try_inputs, folder=tmp_path, record=record_property)


def pytest_addoption(parser):
    parser.addoption("--hostile-seed", type=int, default=0, help="other hostile inputs of the same kinds")


@pytest.fixture
def seed(request):
    """Which of the endless inputs of each kind are drawn; 0 unless ``--hostile-seed`` says otherwise."""
    return request.config.getoption("--hostile-seed")


def pytest_terminal_summary(terminalreporter):
    tried, wrong = Counter(), Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for family, inputs, mistakes in (value for name, value in report.user_properties if name == "hostile"):
                tried[family] += inputs
                wrong[family] += mistakes
    if not tried:
        return
    terminalreporter.section("hostile inputs")
    terminalreporter.write_line(f"{'family':24}{'inputs tried':>14}{'wrong outcomes':>16}")
    for family in sorted(tried):
        terminalreporter.write_line(f"{family:24}{tried[family]:>14,}{wrong[family]:>16,}")
    terminalreporter.write_line(f"{'all':24}{tried.total():>14,}{wrong.total():>16,}")
