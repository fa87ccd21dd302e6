"""What ``detcam explain`` says at its end: where the pictures are, or with ``--json`` rows with no JSON inside text."""

import json
import re
from pathlib import Path

import pytest

from detcam.cli import main
from detcam.commands.explain import JSON_COLUMNS
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.drawing.render import write_image
from detcam.runs.schema import read_detections
from support.images import SCENE_WITH_TWO_ALIKE


@pytest.fixture
def command(tmp_path):
    write_image(tmp_path / "scene.png", render(make_scene(SCENE_WITH_TWO_ALIKE)))
    return ["explain", str(tmp_path / "scene.png"), "--weights", str(WEIGHTS), "--out", str(tmp_path / "run")]


@pytest.mark.parametrize(("save", "ending"), [("overlay,panel", "-panel.png"), ("heatmap", "-heatmap.png")])
def test_the_end_names_a_picture_to_open(command, tmp_path, capsys, save, ending):
    assert main([*command, "--method", "box", "--save", save]) == 0
    output, errors = capsys.readouterr()
    assert output == ""
    (found,) = re.findall(r"pictures are in (\S+); open for example (\S+)", re.sub(r"\n(?!\w)", "", errors))
    assert Path(found[0]) == tmp_path / "run" / "overlays"
    assert Path(found[1]).parent == Path(found[0])
    assert found[1].endswith(ending)
    assert Path(found[1]).is_file()
    assert main([*command, "--method", "box", "--save", save]) == 0  # all of it was done before
    assert f"pictures are in {found[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--json"], ["--save", "none"]])
def test_no_picture_is_named_where_nobody_asked_for_one(command, capsys, options):
    assert main([*command, "--method", "box", *options]) == 0
    assert "pictures are in" not in capsys.readouterr().err


def test_rows_on_stdout_hold_objects_and_the_table_their_text(command, tmp_path, capsys):
    assert main([*command, "--verify", "--save", "none", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stored = read_detections(tmp_path / "run").to_dicts()
    assert len(rows) == len(stored) > 0
    for name in JSON_COLUMNS:
        assert [row[name] for row in rows] == [row[name] and json.loads(row[name]) for row in stored]
        assert any(isinstance(row[name], dict) for row in rows)
    for row in rows:
        assert not [name for name, value in row.items() if isinstance(value, str) and value.startswith(("{", "["))]
