"""``--help``: a screen, examples that work first, every option told of somewhere, quickly."""

import re
import resource
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from detcam.cli import build_parser, check_options, main, to_config
from detcam.config import COMMANDS, keys_of
from detcam.help_pages import EXAMPLES, RUN_EXAMPLES

NAMES = [*COMMANDS, "run"]
ALWAYS_SHOWN = (
    "conf iou imgsz classes device max-det batch half weights out json method layers target detection box class save"
)
ROOT = Path(__file__).parents[1]


def help_of(capsys, *arguments):
    assert main(list(arguments)) == 0
    page, errors = capsys.readouterr()
    assert errors == ""
    return page


@pytest.mark.parametrize(
    "command", [[], *([name] for name in NAMES)], ids=lambda given: given[0] if given else "detcam"
)
def test_help_is_a_screen_that_begins_with_a_sentence_and_examples(capsys, command):
    page = help_of(capsys, *command, "--help")
    lines = page.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    sentence, *examples = page.split("\n\n")[0], *page.split("\n\n")[1].splitlines()
    assert re.fullmatch(r"[A-Z][^.]*\.", " ".join(sentence.split()))
    assert 1 <= len(examples) <= 2
    assert all(line.startswith("  detcam ") for line in examples)
    assert help_of(capsys, *command, "-h") == page


@pytest.mark.parametrize(
    "line", [*EXAMPLES, *RUN_EXAMPLES, *(line for one in COMMANDS.values() for line in one.examples)]
)
def test_examples_are_understood(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    program, command, *given = shlex.split(line.partition(" > ")[0])
    assert program == "detcam"
    if command == "run":
        command, given = "explain", ["--config", *given]
    given = [argument for argument in given if argument != "--print_config"]
    check_options(command, given)
    assert to_config(COMMANDS[command], build_parser().parse_args([command, *given])[command])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_in_one_of_the_two_pages(capsys, command):
    short, full = help_of(capsys, command, "--help"), help_of(capsys, command, "--help-all")
    for item in fields(COMMANDS[command]):
        flag = "--" + keys_of(COMMANDS[command])[item.name].replace("_", "-")
        if item.name in ("source", "run"):
            flag = item.metadata["takes"]
        assert re.search(rf"^  {flag}( |$)", full, re.M)
        assert bool(re.search(rf"^  {flag}( |$)", short, re.M)) is not item.metadata["advanced"]
        assert re.search(rf"{flag}\b", short)
    assert max(map(len, full.splitlines())) <= 100


def test_the_options_of_the_contract_are_on_the_first_page(capsys):
    page = help_of(capsys, "explain", "--help")
    assert all(f"\n  --{name} " in page for name in ALWAYS_SHOWN.split())
    assert re.search(r"--conf SHARE +least confidence of a detection, 0 to 1 \(default 0\.25\)", page)


def test_all_commands_are_on_detcams_own_page(capsys):
    page = help_of(capsys, "--help")
    assert [line.split()[0] for line in re.findall(r"^  \w+ {3,}.*", page, re.M)] == NAMES


@pytest.mark.parametrize("arguments", [["explian", "--help"], ["help", "explian"], ["--help", "explian"]])
def test_help_of_what_is_no_command_is_refused(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "no command 'explian'; did you mean 'explain'" in capsys.readouterr().err


def test_help_can_be_asked_for_in_other_ways(capsys):
    overview = help_of(capsys, "--help")
    assert all(help_of(capsys, *given) == overview for given in (["help"], ["--help-all"], ["-h"], ["help", "--help"]))
    for command in NAMES:
        page = help_of(capsys, command, "--help")
        assert help_of(capsys, "help", command) == help_of(capsys, "--help", command) == page
    full = help_of(capsys, "explain", "--help-all")
    assert help_of(capsys, "help", "explain", "--help-all") == help_of(capsys, "--help-all", "explain") == full


def test_help_of_a_file_is_that_of_its_command(capsys, tmp_path):
    (tmp_path / "job.yaml").write_text("command: review\nconf: 0.3\n")
    job = str(tmp_path / "job.yaml")
    assert help_of(capsys, "run", job, "--help") == help_of(capsys, "review", "--help")
    assert help_of(capsys, "run", job, "--conf", "0.5", "--help-all") == help_of(capsys, "review", "--help-all")
    for text in ("conf: 0.3", "command: nothing", "command: [1]", "- a", "["):
        (tmp_path / "job.yaml").write_text(text)
        assert help_of(capsys, "run", job, "--help") == help_of(capsys, "run", "--help")
    assert help_of(capsys, "run", "gone.yaml", "--help") == help_of(capsys, "run", "--help")


@pytest.mark.parametrize("command", [[], ["explain"]])
def test_help_takes_less_than_half_a_second_and_no_torch(command):
    script = "import sys; from detcam.cli import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"

    def seconds():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def measured():
        before = seconds()
        subprocess.run([sys.executable, "-c", script, *command, "--help"], check=True, capture_output=True)
        return seconds() - before

    assert min(measured() for _ in range(3)) < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "--co", "1"], "--co can be short for --conf or --colormap or --config: write it out"),
        (["explain", "--imgsz", "wide", "--nms", "maybe"], "nms must be true or false or null, got maybe"),
        (["review", "--max-det=2.5"], "max_det must be a whole number, got 2.5"),
        (["explain", "--config", "."], "detcam explain: .: a folder, not a file"),
        (["explain", "--weights"], "--weights: expected one argument"),
        (["--hlep"], "detcam: no option --hlep; did you mean '--help'"),
    ],
)
def test_wrong_values_are_told_in_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_options_are_shortened_and_files_may_write_dashes(tmp_path, capsys):
    (tmp_path / "job.yaml").write_text("max-det: 7\nsource: a.jpg\nimgsz: [64, 96]\n")
    parser = build_parser()
    parsed = parser.parse_args(["explain", "--config", str(tmp_path / "job.yaml"), "--overw", "--device", "0"])
    config = to_config(COMMANDS["explain"], parsed.explain)
    assert (config.max_det, config.source, config.imgsz, config.overwrite) == (7, ["a.jpg"], [64, 96], True)
