"""Options of other types and sizes than anybody means are refused in one line, soon, and before anything is reached."""

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detcam.attribution.options import choose_map
from detcam.cli import main
from detcam.errors import UsageError
from detcam.io.files import on_this_machine
from detcam.options import (
    check_layers,
    check_shares,
    check_smoothing,
    find_classes,
    is_index,
    several,
    split_contestant,
)
from detcam.runtime import check_port
from detcam.values import LONGEST_TEXT, MOST_VALUES, check_value, read_value

ODD = [True, -1, 1.5, float("nan"), 10**400, None, [], [None], [[1]], {}, {"a": 1}, "", "a\nb", "\ud800", "x" * 5000]
CHECKS = {
    "layers": check_layers,
    "smoothing": check_smoothing,
    "classes": lambda value: find_classes(several(value, "classes"), {0: "kite"}),
    "shares": lambda value: check_shares(conf=value),
    "port": check_port,
    "escalation": lambda value: choose_map("box", "auto", "class", escalation=value),
    "target": lambda value: choose_map("box", "auto", value),
    "fusion": lambda value: choose_map("box", "auto", "class", fusion=value),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_a_value_of_another_type_is_refused_or_taken(check, value):
    try:
        CHECKS[check](value)
    except UsageError as error:
        text = str(error)
    else:
        text = "taken"
    assert 0 < len(text) < 1600
    assert "\n" not in text


@pytest.mark.parametrize("value", ["²", "9" * 5000, "-1", "1.0", ""])
def test_an_index_is_a_short_whole_number(value):
    assert not is_index(value)
    with pytest.raises(UsageError):
        find_classes([value], {0: "kite"})
    if value:
        with pytest.raises(UsageError, match="must be a whole number"):
            split_contestant(f"guided:{value}")


@pytest.mark.parametrize("value", ["a" * (LONGEST_TEXT + 1), [0] * (MOST_VALUES + 1), "[" + "0," * 2001 + "]"])
def test_what_would_be_read_for_minutes_is_refused(value):
    with pytest.raises(UsageError, match="imgsz must be at most") as refusal:
        read_value("imgsz", int | str | list[int] | None, value)
    assert len(str(refusal.value)) < 1600


def test_numbers_beyond_a_float_are_none():
    with pytest.raises(UsageError, match="conf must be a number"):
        read_value("conf", float, "9" * 401)


def test_a_folder_elsewhere_is_refused_without_going_there(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("connects"))
    with pytest.raises(UsageError, match="a review keeps its folder on this machine, got ftp"):
        on_this_machine("ftp://127.0.0.1:9/a", "a review keeps its folder")


@pytest.mark.parametrize("word", ["a\nb\x1b[2J", "x" * 10**5, "[" * 10**4])
def test_the_command_line_answers_in_one_line(word, capsys):
    for words in ([word], ["methods", word], ["layers", f"--weights={word}"], ["explain", f"--conf={word}"]):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr().err
        assert code in (2, 3)
        assert said.count("\n") == 1
        assert said.strip().isprintable()
        assert len(said) < 1700


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["conf", "classes"]),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4),
)
def test_whatever_an_option_is_it_is_a_value_or_refused(key, value):
    hint = {"conf": float, "classes": str | list[str | int] | None}[key]
    try:
        read = read_value(key, hint, value)
        check_value(key, hint, read)
    except UsageError as error:
        assert key in str(error)  # noqa: PT017
    else:
        assert isinstance(read, float if key == "conf" else str | list | None)
