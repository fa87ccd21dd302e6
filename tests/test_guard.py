"""What nobody foresaw: one line, a file that says where, and an exit code of its own."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from detcam import cli
from detcam.cli import main
from detcam.commands import guard


def fail(error):
    def action(config, stdout):
        raise error

    return lambda command: action


def test_a_bug_is_one_line_with_a_file_that_says_where(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cli, "_action", fail(ZeroDivisionError("a\nb")))
    assert main(["methods"]) == 70
    line = capsys.readouterr().err
    assert re.fullmatch(r"detcam methods: this is a bug in detcam \(ZeroDivisionError: a b\); .*: (\S+)\n", line)
    (written,) = tmp_path.iterdir()
    assert line.rstrip().endswith(str(written))
    text = written.read_text()
    assert "Traceback" in text
    assert "in action" in text


def test_a_bug_is_told_where_no_file_can_be_written(monkeypatch, capsys):
    def full(**names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(guard.tempfile, "mkstemp", full)
    monkeypatch.setattr(cli, "_action", fail(ZeroDivisionError()))
    assert main(["methods"]) == 70
    assert "in action" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), 2, "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), 2, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "out of memory"),
        (RecursionError("deep"), 70, "a bug in detcam (RecursionError: deep)"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "a.png"), 2, "No space left on device: a.png"),
    ],
)
def test_what_ends_a_command_has_its_code(monkeypatch, capsys, tmp_path, error, code, words):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cli, "_action", fail(error))
    assert main(["methods"]) == code
    line = capsys.readouterr().err
    assert words in line
    assert line.count("\n") == 1


def test_ctrl_c_is_heard_before_a_command_runs(monkeypatch, capsys):
    monkeypatch.setattr(cli, "build_parser", lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert main(["methods"]) == 130
    assert capsys.readouterr().err == "detcam methods: interrupted; what was finished is kept\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_results_that_cannot_be_written_are_told():
    command = [sys.executable, "-m", "detcam", "methods"]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 2
    assert ran.stderr == "detcam methods: No space left on device; what was finished is kept\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_closed_streams_are_no_error(closed):
    ran = subprocess.run(["sh", "-c", f'"{sys.executable}" -m detcam methods {closed}'], capture_output=True, text=True)
    assert ran.returncode == 0
    assert "Traceback" not in ran.stderr
