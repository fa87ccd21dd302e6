"""A run fails on a skip that is not on a written list: ``pytest --skips tests/skips.txt``.

Each line of the list is ``test | reason | why it may be skipped``; the first two are patterns of ``fnmatch``, compared
with a test's id and with the reason that the test gives. What is on the list and was not skipped is no failure.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--skips", metavar="FILE", help="fail on every skip that is not on this list")


def pytest_configure(config):
    listed = config.getoption("skips")
    if listed and not hasattr(config, "workerinput"):  # of several processes the one that gathers reports
        config.pluginmanager.register(SkipList(read_skips(config.rootpath / listed)))


def read_skips(path: Path) -> list[tuple[str, str]]:
    """(test, reason): the patterns of a list."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    entries = []
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            parts = [part.strip() for part in line.split(" | ")]
            if len(parts) != 3 or not all(parts):
                raise pytest.UsageError(f"{path}: line {number}: expected 'test | reason | why', got {line!r}")
            entries.append((parts[0], parts[1]))
    return entries


class SkipList:
    """Gathers the skips of a run and fails it on those that are not listed."""

    def __init__(self, entries: list[tuple[str, str]]) -> None:
        self.entries = entries
        self.unlisted: list[str] = []

    def pytest_runtest_logreport(self, report):
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report):
        if report.skipped:
            self._note(report)

    def _note(self, report):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not any(fnmatchcase(report.nodeid, test) and fnmatchcase(reason, known) for test, known in self.entries):
            self.unlisted.append(f"{report.nodeid}: {reason}")

    def pytest_sessionfinish(self, session, exitstatus):
        if self.unlisted and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        if self.unlisted:
            terminalreporter.section("skips that are not on the list", red=True)
            for line in self.unlisted:
                terminalreporter.write_line(line)
