"""Run folders that grow by other sources, and those that belong to another run, refused before any work is done."""

import json

import pytest

import detcam
from detcam.cli import main
from detcam.commands import explain as explain_command
from detcam.demo import WEIGHTS
from detcam.runs import explained
from detcam.runs.schema import read_detections
from support.comparison import contents
from support.images import write_images

QUICK = ["--method", "box", "--save", "panel"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return sorted(write_images(tmp_path_factory.mktemp("growing") / "images", 3).iterdir())


@pytest.fixture
def explain(tmp_path, monkeypatch):
    """`detcam explain` of some sources into the folder that it takes where none is named."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, weights=WEIGHTS):
        return main(["explain", "--weights", str(weights), *QUICK, *map(str, arguments)])

    return run


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "explain"


def described(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_folder_grows_by_other_images(explain, images, folder, capsys):
    assert explain(images[0]) == 0
    capsys.readouterr()
    assert explain(images[1]) == 0
    assert "in 2 images explained (1 of them by an earlier run)" in capsys.readouterr().err
    assert set(read_detections(folder)["image"]) == {str(images[0]), str(images[1])}
    info = described(folder)
    assert info["configuration"]["source"] == [str(images[0]), str(images[1])]
    assert (info["state"], info["counts"]["images"]) == ("finished", 2)
    assert len(list(folder.glob("overlays/*-panel.png"))) == 2


def test_a_folder_that_grew_is_that_of_one_run(explain, images, folder, tmp_path):
    for image in images:
        assert explain(image) == 0
    assert explain(*images, "--out", tmp_path / "whole") == 0
    assert contents(folder) == contents(tmp_path / "whole")


def test_the_rows_of_the_new_sources_are_printed(explain, images, capsys):
    assert explain(images[0], "--json") == 0
    capsys.readouterr()
    assert explain(images[1], "--json") == 0
    printed = [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()]
    assert set(printed) == {str(images[1])}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--method", "layercam"], "method: box, now layercam"),
        (["--conf", "0.5"], "conf: 0.25, now 0.5"),
        (["--save", "none"], "save: panel, now none"),
        (["--imgsz", "64"], "imgsz: null, now 64"),
        (["--conf", "0.5", "--seed", "3"], "conf: 0.25, now 0.5; seed: 0, now 3"),
    ],
    ids=str,
)
def test_other_options_are_refused_before_the_detector_is_loaded(
    explain, images, folder, capsys, monkeypatch, options, named
):
    assert explain(images[0]) == 0
    before, info = contents(folder), described(folder)
    monkeypatch.setattr(explain_command, "build_explainer", lambda config: pytest.fail("the detector is loaded"))
    capsys.readouterr()
    assert explain(images[1], *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"with another configuration ({named}); choose another folder, or overwrite this one" in line
    assert (contents(folder), described(folder)) == (before, info)


def test_weights_are_told_by_their_content(explain, images, folder, tmp_path, capsys):
    copy = tmp_path / "copy.pt"
    copy.write_bytes(WEIGHTS.read_bytes())
    assert explain(images[0]) == 0
    assert explain(images[1], weights=copy) == 0
    copy.write_bytes(WEIGHTS.with_name("causes.pt").read_bytes())
    capsys.readouterr()
    assert explain(images[2], weights=copy) == 2
    assert "(weights_sha256: " in capsys.readouterr().err
    assert read_detections(folder)["image"].n_unique() == 2


def test_the_same_name_elsewhere_is_another_image(explain, images, tmp_path, monkeypatch, capsys):
    for place, image in zip(("one", "two"), images, strict=False):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.png").write_bytes(image.read_bytes())
    out = ["--out", str(tmp_path / "run")]
    monkeypatch.chdir(tmp_path / "one")
    assert explain("a.png", *out) == 0
    assert explain(images[2], *out) == 0  # a full name, from anywhere
    monkeypatch.chdir(tmp_path / "two")
    capsys.readouterr()
    assert explain("a.png", *out) == 2
    assert f"its names start from {tmp_path / 'one'}, now from {tmp_path / 'two'}" in capsys.readouterr().err
    assert explain(tmp_path / "two" / "a.png", *out) == 0
    assert read_detections(tmp_path / "run")["image"].n_unique() == 3


def test_failures_of_other_sources_stay_on_record(explain, images, folder, tmp_path):
    broken, gone = tmp_path / "broken.png", tmp_path / "gone.png"
    broken.write_bytes(b"no image")
    assert explain(broken, gone) == 1
    assert explain(images[0]) == 0  # this run has no failure
    run = detcam.open_run(folder)
    assert {failure.path for failure in run.errors()} == {str(broken), str(gone)}
    assert run.info["counts"]["failed"] == 2
    broken.write_bytes(images[1].read_bytes())
    assert explain(broken) == 0
    assert [failure.path for failure in detcam.open_run(folder).errors()] == [str(gone)]
    assert explain(broken, gone, images[0]) == 1  # all again: what it does not say is not so
    assert [failure.path for failure in detcam.open_run(folder).errors()] == [str(gone)]


def test_an_interrupted_run_stays_so_until_its_own_sources_are_done(explain, images, folder, monkeypatch):
    real = explained.run_here

    def stopped(*arguments):
        for outcome in real(*arguments):
            yield outcome
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(explained, "run_here", stopped)
        assert explain(images[0], images[1]) == 130
    assert described(folder)["state"] == "interrupted"
    assert explain(images[2]) == 0
    assert (described(folder)["state"], described(folder)["unfinished"]) == ("interrupted", list(map(str, images[:2])))
    assert explain(images[1], images[0]) == 0
    assert (described(folder)["state"], described(folder)["unfinished"]) == ("finished", [])
    assert read_detections(folder)["image"].n_unique() == 3


def test_overwriting_forgets_the_sources_before(explain, images, folder):
    assert explain(images[0]) == 0
    assert explain(images[1], "--overwrite", "--conf", "0.5") == 0
    assert described(folder)["configuration"]["source"] == [str(images[1])]
    assert set(read_detections(folder)["image"]) == {str(images[1])}


@pytest.mark.parametrize("command", ["review", "evaluate"])
def test_other_commands_refuse_before_the_detector_is_loaded(explain, images, command, folder, capsys):
    assert explain(images[0]) == 0
    capsys.readouterr()
    data = str(images[0].parent) if command == "evaluate" else "gone.json"
    assert main([command, "--weights", "gone.pt", "--data", data, "--out", str(folder)]) == 2
    assert "holds a run of detcam explain; choose another folder" in capsys.readouterr().err
