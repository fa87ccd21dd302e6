"""The list of skips: what is on it passes, and what is not fails the run."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SKIPS = """
import pytest

@pytest.mark.skipif(True, reason="no such machine")
def test_by_a_mark(): pass

def test_by_a_package(): pytest.importorskip("none_such", reason="none_such is not installed: pip install it")

def test_that_runs(): pass
"""
LISTED = """
# a comment

*::test_by_a_mark | no such machine | there is one at home
*::test_by_a_package | none_such is * | it is heavy
*::test_that_runs | no time | there was none
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs tests with a list of skips, in so many processes, 0 for this one; the result."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(tests, listed, processes=0):
        pytester.makepyfile(tests)
        pytester.path.joinpath("skips.txt").write_text(listed)
        arguments = ["-p", "support.skips", "--skips", "skips.txt"]
        if processes:
            return pytester.runpytest_subprocess(*arguments, "-p", "xdist", "-n", str(processes))
        return pytester.runpytest_inprocess(*arguments)

    return run


def test_skips_that_are_listed_pass_and_what_is_listed_need_not_be_skipped(run):
    result = run(SKIPS, LISTED)
    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=2)


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("gone", ["test_by_a_mark", "test_by_a_package"])
def test_a_skip_that_is_not_listed_fails_the_run(run, gone, processes):
    result = run(SKIPS, "\n".join(line for line in LISTED.splitlines() if gone not in line), processes)
    assert result.ret == 1
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["*skips that are not on the list*", f"*::{gone}: n*"])


def test_another_reason_is_another_skip(run):
    assert run(SKIPS, LISTED.replace("no such machine", "no such place")).ret == 1


@pytest.mark.parametrize("processes", [0, 2])
def test_a_whole_file_that_is_skipped_counts(run, processes):
    result = run("import pytest\npytest.importorskip('none_such')\ndef test_one(): pass", "", processes)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*skips that are not on the list*", "*.py: could not import 'none_such'*"])


def test_what_is_expected_to_fail_is_no_skip(run):
    assert run("import pytest\n@pytest.mark.xfail\ndef test_one(): assert False", "").ret == 0


@pytest.mark.parametrize("line", ["test | reason", "test | | why", "test"])
def test_a_line_without_a_reason_is_refused(run, line):
    result = run(SKIPS, line)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*skips.txt: line 1: expected 'test | reason | why', got '{line}'"])
