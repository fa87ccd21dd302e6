"""What runs say of themselves: progress where nobody watches, failures and summaries as log records."""

import logging
import re

import pytest
from PIL import Image

from detcam.cli import main
from detcam.commands import progress
from detcam.commands.explain import _on_workers
from detcam.config import ExplainConfig
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.errors import UsageError


@pytest.fixture
def run(tmp_path):
    for seed in range(3):
        Image.fromarray(render(make_scene(seed))).save(tmp_path / f"{seed}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    return ["explain", str(tmp_path), "--weights", str(WEIGHTS), "--method", "random", "--save", "none"]


def test_a_line_about_the_progress_without_a_terminal(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LOG_INTERVAL_S", 0.0)
    assert main([*run, "--out", str(tmp_path / "r")]) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("explaining: ")]
    assert re.fullmatch(r"explaining: 4(/4)? in 0:00:0\d, [\d.]+ images/s(, 0:00:00 left)?, 1 failed", told[-1])
    assert len(told) >= 4


def test_nothing_is_said_in_the_first_minute(run, tmp_path, capsys):
    assert main([*run, "--out", str(tmp_path / "r")]) == 1
    assert "explaining: " not in capsys.readouterr().err


def test_failures_and_the_summary_are_log_records(run, tmp_path, caplog, capsys):
    before = (list(progress.logger.handlers), progress.logger.level)
    assert main([*run, "--out", str(tmp_path / "r")]) == 1
    assert (progress.logger.handlers, progress.logger.level) == before
    said = [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "detcam"]
    assert [level for level, _ in said] == [logging.WARNING, logging.INFO]
    assert said[0][1].startswith(f"{tmp_path / 'broken.png'}: not an image that can be decoded")
    assert "in 3 images explained" in said[1][1]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"detcam: {said[0][1]}", said[1][1]]


def test_the_configuration_of_workers(tmp_path, monkeypatch):
    """A worker of Ray's sees one GPU, whatever its number on the machine, and runs elsewhere than we do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.pt").touch()
    config = ExplainConfig(weights="best.pt", source=["a.jpg"])
    assert _on_workers(config, 0).device is None
    assert _on_workers(config, 4).device == "cuda:0"
    assert _on_workers(ExplainConfig(weights="best.pt", device="cuda:3"), 4).device == "cuda:0"
    assert _on_workers(ExplainConfig(weights="best.pt", device="1"), 4).device == "cuda:0"
    assert _on_workers(ExplainConfig(weights="best.pt", device="cpu"), 4).device == "cpu"
    with pytest.raises(UsageError, match="--device cuda:3: the cluster has no GPU"):
        _on_workers(ExplainConfig(weights="best.pt", device="cuda:3"), 0)
    with pytest.raises(UsageError, match="memory://x/run is the memory of one process"):
        ExplainConfig(weights="best.pt", out="memory://x/run", engine="ray")
    with pytest.raises(UsageError, match="half precision needs a GPU, and the cluster has none"):
        _on_workers(ExplainConfig(weights="best.pt", engine="ray", half=True), 0)
    assert _on_workers(ExplainConfig(weights="best.pt", engine="ray", half=True), 1).device == "cuda:0"
    assert _on_workers(config, 0).weights == str(tmp_path / "best.pt")
    assert _on_workers(ExplainConfig(weights="yolo26n.pt"), 0).weights == "yolo26n.pt"
