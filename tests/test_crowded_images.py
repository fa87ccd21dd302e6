"""Images of many detections are explained in pieces: each is kept as it is made, and what it costs is said."""

import json
import re

import polars as pl
import pytest
from PIL import Image

import detcam
from detcam import explainer as explainer_module
from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.methods import METHODS
from detcam.runs import engine
from detcam.runs.schema import read_detections
from support.comparison import contents
from support.images import SCENE_WITH_TWO_ALIKE


@pytest.fixture
def crowded(monkeypatch):
    """Four detections are a crowd, explained one or two at a time."""
    monkeypatch.setattr(explainer_module, "WHOLE_IMAGE_DETECTIONS", 3)
    for module in (explainer_module, engine):
        monkeypatch.setattr(module, "PIECE_DETECTIONS", 1)


@pytest.fixture
def explain(tmp_path):
    Image.fromarray(render(make_scene(SCENE_WITH_TWO_ALIKE))).save(tmp_path / "scene.png")
    command = ["explain", str(tmp_path / "scene.png"), "--weights", str(WEIGHTS), "--save", "overlay,panel"]
    return lambda out, *options: main([*command, "--out", str(tmp_path / out), *options])


def interrupt(monkeypatch, after):
    """End the run when so many pieces are written."""
    written, real = [], engine.write_piece

    def write(*arguments):
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(arguments)
        real(*arguments)

    monkeypatch.setattr(engine, "write_piece", write)


def test_pieces_are_kept_and_not_made_again(crowded, explain, tmp_path, monkeypatch, capsys):
    assert explain("whole") == 0
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        assert explain("run") == 130
    kept = read_detections(tmp_path / "run")
    assert len(kept) == 2
    run = detcam.open_run(tmp_path / "run")
    assert all(run.heatmap(row).raw.any() for row in run.rows())
    assert (run.info["state"], run.info["counts"]["images"]) == ("interrupted", 0)
    assert len(list((tmp_path / "run" / "overlays").glob("*.png"))) >= 2

    made, real = [], detcam.Explainer.explain_piece
    monkeypatch.setattr(
        detcam.Explainer,
        "explain_piece",
        lambda self, name, image, start: made.append(start) or real(self, name, image, start),
    )
    capsys.readouterr()
    assert explain("run") == 0
    assert made == [2, 3]
    assert "4 detections, 2 of them explained before" in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_interrupted_twice(crowded, explain, tmp_path, monkeypatch):
    assert explain("whole", "--method", "layercam") == 0
    for count in (1, 2, 3):
        with monkeypatch.context() as patch:
            interrupt(patch, 1)
            assert explain("run", "--method", "layercam") == 130
        assert len(read_detections(tmp_path / "run")) == count
    assert explain("run", "--method", "layercam") == 0
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert explain("run", "--method", "layercam", "--overwrite") == 0
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_what_it_costs_is_said_first(crowded, explain, capsys):
    assert explain("run") == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "scene.png: 4 detections; explained 1 at a time and kept as they are made" in said
    assert "--max-det, --conf or --detection; quicker with --method layercam" in said
    assert re.search(r"scene\.png: about [\d,]+ more forward passes, \d+ (seconds|minutes)", said)


def test_rows_are_those_of_the_whole_image(explain, tmp_path, monkeypatch, capsys):
    assert explain("whole", "--method", "layercam", "--json") == 0
    whole = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    monkeypatch.setattr(explainer_module, "WHOLE_IMAGE_DETECTIONS", 3)
    for module in (explainer_module, engine):
        monkeypatch.setattr(module, "PIECE_DETECTIONS", 3)
    assert explain("run", "--method", "layercam", "--json") == 0
    pieces = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in pieces] == [row["id"] for row in whole]
    assert [row["anchor"] for row in pieces] == [row["anchor"] for row in whole]
    assert pl.read_parquet(tmp_path / "run" / "images.parquet")["detections"].to_list() == [4]
    for one, other in zip(
        detcam.open_run(tmp_path / "run").rows(), detcam.open_run(tmp_path / "whole").rows(), strict=True
    ):
        assert detcam.open_run(tmp_path / "run").heatmap(one).raw == pytest.approx(
            detcam.open_run(tmp_path / "whole").heatmap(other).raw, abs=1e-3 * other.scale
        )


@pytest.mark.parametrize("options", [["--method", "drise", "--budget", "8"], ["--detection", "0,1,2,3"]], ids=str)
def test_what_shares_its_passes_or_is_asked_for_stays_whole(crowded, explain, monkeypatch, capsys, options):
    monkeypatch.setattr(engine, "write_piece", lambda *_: pytest.fail("a piece is written"))
    assert explain("run", *options) == 0
    assert "at a time" not in capsys.readouterr().err


def test_a_budget_of_the_image_is_shared_by_its_pieces(crowded, demo_detector):
    maker = detcam.Explainer(demo_detector)._maker
    assert maker.at(0.25, 0.1).options.budget == METHODS["effect"].budget // 10
    assert detcam.Explainer(demo_detector, method="guided")._maker.at(0.25, 0.1).options.budget == 64
