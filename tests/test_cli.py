"""The commands as people call them: results on stdout, one clear line for what is wrong, the documented exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import detcam
from detcam.cli import main
from detcam.demo import WEIGHTS
from detcam.demo.causes import KINDS
from detcam.demo.scenes import make_scene, render
from detcam.runs.schema import COLUMNS, read_detections, read_heatmap
from support.images import SCENE_WITH_TWO_ALIKE

QUICK = ("--method", "layercam")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for n, seed in enumerate([SCENE_WITH_TWO_ALIKE, 3, 5]):
        name = folder / "sub" / f"{seed}.png" if n == 2 else folder / f"{seed}.png"
        Image.fromarray(render(make_scene(seed))).save(name)
    return folder


def run(capsys, *arguments):
    """(exit code, stdout, stderr) of a command."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def test_explain_writes_the_run_folder(images, tmp_path, capsys):
    out = tmp_path / "run"
    code, stdout, stderr = run(capsys, "explain", images, "--weights", WEIGHTS, "--out", out)
    assert code == 0
    assert stdout == ""
    assert f"-> {out}" in stderr
    table = read_detections(out)
    assert dict(table.schema) == COLUMNS
    assert len(table["image"].unique()) == 3
    assert "ok" in set(table["status"]) <= {"ok", "no_evidence"}
    expected = detcam.explain(WEIGHTS, render(make_scene(SCENE_WITH_TWO_ALIKE)))
    rows = table.filter(table["image"].str.ends_with(f"{SCENE_WITH_TWO_ALIKE}.png")).rows(named=True)
    assert len(rows) == len(expected)
    for row, e in zip(rows, expected, strict=True):
        assert (row["class_name"], row["anchor"], row["stride"]) == (e.detection.class_name, e.detection.anchor, 8)
        assert [row[side] for side in ("x1", "y1", "x2", "y2")] == pytest.approx(e.detection.xyxy.tolist())
        raw = read_heatmap(out, row["heatmap"], row["scale"])
        assert np.abs(raw - e.heatmap.raw).max() <= 1e-3 * e.heatmap.peak
    described = json.loads((out / "run.json").read_text())
    assert described["schema"] == 2
    assert described["command"] == "explain"
    assert described["configuration"]["conf"] == 0.25
    assert len(described["weights"]["sha256"]) == 64
    assert described["versions"]["detcam"] == detcam.__version__
    assert described["counts"] == {
        "images": 3,
        "failed": 0,
        "detections": len(table),
        "no_signal": 0,
        "unsupported": 0,
        "no_evidence": int((table["status"] == "no_evidence").sum()),
    }
    overlays = sorted(path.name for path in (out / "overlays").iterdir())
    assert sum(name.endswith("-panel.png") for name in overlays) == 3
    assert not any("partial" in path.name for path in out.rglob("*"))


def test_json_is_one_object_per_detection_and_nothing_else(images, tmp_path, capsys):
    code, stdout, _ = run(
        capsys, "explain", images, *QUICK, "--weights", WEIGHTS, "--out", tmp_path / "run", "--json", "--save", "none"
    )
    assert code == 0
    rows = [json.loads(line) for line in stdout.splitlines()]
    assert [row["id"] for row in rows] == read_detections(tmp_path / "run")["id"].to_list()
    assert rows[0]["layers"] == ["model.4", "model.6", "model.9"]
    assert not (tmp_path / "run" / "overlays").exists()


def test_json_from_a_fresh_process_is_pure(images, tmp_path):
    """The first import of Ultralytics is the one that could print."""
    command = [sys.executable, "-m", "detcam", "explain", images, "--weights", WEIGHTS]
    command += ["--out", tmp_path / "r", "--json", "--save", "none"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"YOLO_CONFIG_DIR": str(tmp_path), **_env()}
    )
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["status"] for line in done.stdout.splitlines()} <= {"ok", "no_evidence"}


def _env():
    import os

    return dict(os.environ)


def test_inputs_that_fail_are_named_and_the_rest_is_done(images, tmp_path, capsys):
    (images / "text.png").write_text("not an image")
    (images / "empty.jpg").touch()
    (tmp_path / "nothing").mkdir()
    out = tmp_path / "run"
    code, _, stderr = run(
        capsys, "explain", images, tmp_path / "nothing", tmp_path / "gone.png", str(tmp_path / "*.bmp"),
        *QUICK, "--weights", WEIGHTS, "--out", out, "--batch", "4", "--save", "none",
    )  # fmt: skip
    assert code == 1
    failed = {
        Path(e["path"]).name: e["reason"] for e in map(json.loads, (out / "errors.jsonl").read_text().splitlines())
    }
    assert set(failed) == {"text.png", "empty.jpg", "nothing", "gone.png", "*.bmp"}
    assert "not an image that can be decoded" in failed["text.png"]
    assert "no images in this folder" in failed["nothing"]
    assert failed["gone.png"] == "no such file or folder"
    for name, reason in failed.items():
        assert any(name in line and reason in line for line in stderr.splitlines())
    assert len(read_detections(out)["image"].unique()) == 3


def test_an_empty_folder_alone(tmp_path, capsys):
    (tmp_path / "nothing").mkdir()
    code, _, stderr = run(
        capsys, "explain", tmp_path / "nothing", *QUICK, "--weights", WEIGHTS, "--out", tmp_path / "run"
    )
    assert code == 1
    assert "no images in this folder" in stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--method", "gradcamm"], 2, "no method 'gradcamm'; did you mean 'gradcam'"),
        (["--layers", "model.77"], 2, "no layer 'model.77'"),
        (["--layers", "model.22"], 2, "takes no part|gives"),
        (["--classes", "kyte"], 2, "no class 'kyte' in this model; did you mean 'kite'"),
        (["--target", "contrast:nope"], 2, "no class 'nope'"),
        (["--box", "1,2,3", "--class", "kite"], 2, "box must be x1,y1,x2,y2"),
        (["--box", "1,2,3,x", "--class", "kite"], 2, "--box takes numbers"),
        (["--box", "1,2,3,4"], 2, "give both"),
        (["--save", "movie"], 2, "cannot save 'movie'"),
        (["--colormap", "infernal"], 2, "no colour map 'infernal'; did you mean 'inferno'"),
        (["--conf", "7"], 2, "conf must lie in"),
        (["--conf", "much"], 2, "conf"),
        (["--wieghts", "x"], 2, "wieghts"),
        (["--device", "cuda:99"], 2, "device 'cuda:99' cannot be used"),
        (["--detection", "99"], 1, "no detection 99"),
        (["--weights", "gone.pt"], 3, "no such weights file: gone.pt"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(images, tmp_path, capsys, options, code, message):
    import re

    given = [
        "explain",
        images / f"{SCENE_WITH_TWO_ALIKE}.png",
        "--weights",
        WEIGHTS,
        "--out",
        tmp_path / "run",
        *options,
    ]
    found, stdout, stderr = run(capsys, *given)
    assert found == code
    assert stdout == ""
    assert [line for line in stderr.splitlines() if re.search(message, line)], stderr


def test_no_command_and_no_source(capsys):
    assert run(capsys)[0] == 2
    code, _, stderr = run(capsys, "explain", "--weights", WEIGHTS)
    assert code == 2
    assert "name an image, a folder" in stderr
    code, _, stderr = run(capsys, "explain", "x.png")
    assert code == 2
    assert "--weights" in stderr


def test_layers(capsys):
    code, stdout, _ = run(capsys, "layers", "--weights", WEIGHTS)
    assert code == 0
    assert "model.18" in stdout
    assert "96 x 16 x 16" in stdout
    code, stdout, _ = run(capsys, "layers", "--weights", WEIGHTS, "--json")
    rows = [json.loads(line) for line in stdout.splitlines()]
    assert [row["name"] for row in rows if "neck" in row["groups"]] == ["model.15", "model.18", "model.21"]


def test_a_box_the_detector_did_not_report(images, tmp_path, capsys):
    code, stdout, _ = run(
        capsys, "explain", images / "3.png", *QUICK, "--weights", WEIGHTS, "--out", tmp_path / "r", "--box",
        "40,40,120,110", "--class", "ball", "--json",
    )  # fmt: skip
    assert code == 0
    (row,) = map(json.loads, stdout.splitlines())
    assert row["class_name"] == "ball"


def test_options_from_a_yaml_file(images, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text(f"source: ['{images}']\nweights: {WEIGHTS}\nconf: 0.9\nsave: none\nlayers: [model.4, model.15]\n")
    code, stdout, _ = run(capsys, "explain", "--config", config, "--out", tmp_path / "r", "--json")
    assert code == 0
    rows = [json.loads(line) for line in stdout.splitlines()]
    assert rows
    assert min(row["confidence"] for row in rows) > 0.9
    assert rows[0]["layers"] == ["model.4", "model.15"]


def test_a_run_with_another_configuration_is_not_replaced_unasked(images, tmp_path, capsys):
    command = ["explain", images, *QUICK, "--weights", WEIGHTS, "--out", tmp_path / "r", "--save", "none"]
    assert run(capsys, *command)[0] == 0
    assert run(capsys, *command)[0] == 0
    code, _, stderr = run(capsys, *command, "--conf", "0.9")
    assert code == 2
    assert "with another configuration" in stderr
    before = len(read_detections(tmp_path / "r"))
    assert run(capsys, *command, "--conf", "0.97", "--overwrite")[0] == 0
    assert len(read_detections(tmp_path / "r")) < before


def test_a_folder_that_cannot_be_written(images, tmp_path, capsys):
    (tmp_path / "file").touch()
    code, _, stderr = run(capsys, "explain", images, *QUICK, "--weights", WEIGHTS, "--out", tmp_path / "file" / "run")
    assert code == 2
    assert "cannot write to" in stderr


def test_help_names_every_option_of_the_contract(capsys):
    code, stdout, _ = run(capsys, "explain", "--help")
    assert code == 0
    common = "conf iou imgsz classes device max-det batch half weights out json trust-weights"
    for option in f"{common} method layers target detection box class save".split():
        assert f"--{option} " in stdout


def test_a_file_says_what_it_is_for(images, tmp_path, capsys):
    job = tmp_path / "job.yaml"
    job.write_text(f"command: explain\nsource: [{images}]\nweights: {WEIGHTS}\nmethod: random\nsave: none\n")
    code, stdout, _ = run(capsys, "run", job, "--out", tmp_path / "r", "--json")
    assert code == 0
    assert {json.loads(line)["method"] for line in stdout.splitlines()} == {"random"}
    code, printed, _ = run(capsys, "run", job, "--conf", "0.4", "--print_config")
    assert code == 0
    (tmp_path / "again.yaml").write_text(printed)
    assert "command: explain" in printed
    code, stdout, _ = run(capsys, "run", tmp_path / "again.yaml", "--out", tmp_path / "r2", "--json")
    assert code == 0
    assert all(json.loads(line)["confidence"] >= 0.4 for line in stdout.splitlines())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source: [a.png]", "must say `command:`, got None; known: explain, evaluate,"),
        ("command: explian", "must say `command:`, got 'explian'; did you mean 'explain'?"),
        ("command: explain\nconff: 0.3", "detcam explain: no option 'conff'; did you mean 'conf'?"),
        ("command: explain\nconf: high", "detcam explain: conf must be a number, got high\n"),
        ("command: explain\nmax_det: 1.5", "detcam explain: max_det must be a whole number, got 1.5\n"),
        ("command: explain\nhalf: 3", "detcam explain: half must be true or false, got 3\n"),
        ("command: explain\nclass: [1]", "detcam explain: class must be text or null, got [1]\n"),
        (
            "command: explain\ndetection: [1, x]",
            "detection must be text or a whole number or a list of whole numbers or null, got [1, 'x']",
        ),
        ("command: explain\nsource: 3", "source must be text or a list of texts, got 3\n"),
        ("command: explain\nsource: {a: b}", "source must be text or a list of texts, got {'a': 'b'}\n"),
        ("command: explain\nsource: [1, 2]", "source must be text or a list of texts, got [1, 2]\n"),
        ("command: [explain]", "must say `command:`, got ['explain']"),
        ("command: explain\nconf: null", "detcam explain: conf must be a number, got null\n"),
        ("command: explain\nmethod: null", "detcam explain: method must be text, got null\n"),
        ("command: review\nout: null", "detcam review: out must be text, got null\n"),
        ("command: explain\nclass_name: x", "no option 'class_name'; did you mean 'class'?"),
        ("command: explain\nseed: 99999999999999999999", "seed must be a whole number from 0 to 4294967295, got 99"),
        ("command: explain\nclasses: {a: 1}", "classes must be text or a list of texts and whole numbers or null"),
        ("[", "broken YAML"),
    ],
)
def test_a_file_that_is_wrong_is_told_so(tmp_path, capsys, text, message):
    (tmp_path / "job.yaml").write_text(text)
    code, stdout, stderr = run(capsys, "run", tmp_path / "job.yaml")
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"command: review", "detcam explain: the file says `command: review`; detcam run takes what it says"),
        (b"command: [1]", "detcam explain: command must be text, got [1]"),
        (b"conf: \xff", "detcam explain: {file}: not UTF-8 text: byte 6 is 0xff"),
        (b"conf: [", "detcam explain: {file}: broken YAML: while parsing"),
        (b"", "detcam explain: {file} holds no options"),
    ],
)
def test_a_file_given_with_config_that_is_wrong_is_told_so(tmp_path, capsys, content, message):
    (tmp_path / "job.yaml").write_bytes(content)
    code, stdout, stderr = run(capsys, "explain", "--config", tmp_path / "job.yaml")
    assert (code, stdout) == (2, "")
    assert stderr.startswith(message.replace("{file}", str(tmp_path / "job.yaml")))
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "detcam: name a command: explain, evaluate, plant, review, report, export, layers, methods, bench, demo"),
        (["methods", "x"], "detcam methods: nothing is asked for by 'x'; switches take no value"),
        (["explain", "--overwrite=1"], "detcam explain: --overwrite is a switch and takes no value, got '1'"),
        (["explain", "--config", "/nowhere/job.yaml"], "detcam explain: /nowhere/job.yaml: no such file"),
        (["run", "/nowhere/job.yaml"], "detcam run: /nowhere/job.yaml: no such file"),
        (["explain", "a.jpg", "--weights", WEIGHTS, "--class", "kite"], "a class its box: give both"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(capsys, tmp_path, arguments, message):
    code, stdout, stderr = run(capsys, *arguments)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert stderr.count("\n") == 1


def test_weights_whose_name_is_too_long_for_any_file(capsys, tmp_path):
    code, _, stderr = run(capsys, "explain", "a.jpg", "--weights", "x" * 300 + ".pt", "--out", tmp_path / "r")
    assert code == 3
    assert "x.pt: " in stderr


def test_a_wrong_option_does_not_wait_for_torch():
    check = "import sys\nfrom detcam.cli import main\n"
    check += "try: main(['expain'])\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_one_source_in_a_file_needs_no_list(images, tmp_path, capsys):
    job = tmp_path / "job.yaml"
    job.write_text(f"command: explain\nsource: {images}\nweights: {WEIGHTS}\nmethod: random\nsave: none\n")
    code, _, stderr = run(capsys, "run", job, "--out", tmp_path / "r")
    assert (code, stderr.count("\n")) == (0, 1)


def test_an_unknown_command_is_told_the_nearest(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["explian"])
    assert capsys.readouterr().err.startswith("detcam: no command 'explian'; did you mean 'explain'?")


def test_methods_on_scenes_whose_cause_is_known(tmp_path, capsys):
    code, stdout, _ = run(
        capsys, "evaluate", "--planted", "--kind", "near", "--limit", "2", "--methods", "box,layercam",
        "--out", tmp_path / "p", "--json",
    )  # fmt: skip
    assert code == 0
    lines = {line["method"]: line for line in map(json.loads, stdout.splitlines())}
    assert {"box", "layercam", "cause", "elsewhere"} == set(lines)
    assert lines["cause"]["precision"] == 1
    assert lines["cause"]["peak"] > lines["layercam"]["peak"] > lines["elsewhere"]["peak"] == 0
    assert (tmp_path / "p" / "planted.csv").is_file()


def test_every_kind_of_cause_is_told_of_unless_one_is_named(tmp_path, capsys):
    code, stdout, _ = run(
        capsys, "evaluate", "--planted", "--limit", "6", "--methods", "box", "--out", tmp_path / "p",
    )  # fmt: skip
    assert code == 0
    assert {line.split()[0] for line in stdout.splitlines() if " box " in line} == set(KINDS)
    assert set(pl.read_csv(tmp_path / "p" / "planted.csv")["kind"]) == set(KINDS)
    code, _, stderr = run(capsys, "evaluate", "--planted", "--kind", "nera", "--out", tmp_path / "p")
    assert code == 2
    assert "no kind of cause 'nera'; did you mean 'near'" in stderr
