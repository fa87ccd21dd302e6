"""Documents from anywhere: read as what they hold, or refused in one line and soon."""

import json
import math
import os
import threading
import time

import pytest

from detcam.errors import InputError, UsageError
from detcam.io import documents
from detcam.io.documents import DEEPEST, parse_json, parse_yaml, read_bytes, read_json, read_text, read_yaml


def bomb(innermost, level):
    """YAML of ten levels, each of which names the one before ten times."""
    lines = [f"a: &a {innermost}"]
    for number in range(10):
        aliases = ",".join(["*" + chr(97 + number)] * 10)
        lines.append(f"{chr(98 + number)}: &{chr(98 + number)} {level(aliases)}")
    return "\n".join(lines)


ALIASES = bomb("x", lambda aliases: f"[{aliases}]")
MERGES = bomb("{k: v}", lambda aliases: f"{{<<: [{aliases}]}}")

BROKEN_JSON = {
    "[" * 10**6: "more than 100 lists and objects",
    "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1): "more than 100 lists and objects",
    '{"a":' * 500: "more than 100 lists and objects",
    '["\\\\", "]]]\\"]", ' + "[" * 200: "more than 100 lists and objects",
    '{"a": 1, "a": 2}': "'a' stands twice",
    "": "broken JSON at line 1, column 1",
    "[1,\n]": "broken JSON at line 2",
    b"\xff\xfe[\0]\0": "not UTF-8 text: UTF-16",
    b"[\xe4]": "byte 1 is 0xe4",
}
BROKEN_YAML = {
    ALIASES: "aliases that stand for too much",
    MERGES: "aliases that stand for too much",
    "[" * 10**6: "broken YAML|more than 100",
    "- " * 200 + "a": "more than 100 lists and mappings",
    "a: &x [*x]": r"an alias inside what it stands for: \*x",
    "a: 1\nb: 2\na: 3": "'a' stands twice in one mapping, again at line 3",
    "!!python/object/apply:os.system [true]": "could not determine a constructor",
    "!!timestamp x": "broken YAML: AttributeError",
    "2020-99-99": "broken YAML: ValueError: month",
    "--- a\n--- b": "a single document",
    "a\0b": "broken YAML",
    "[" + "a, " * 2**19 + "]": "more than 524,288 values",
    b"\xff\xfea\0": "UTF-16",
}


@pytest.mark.parametrize(("text", "why"), BROKEN_JSON.items(), ids=range(len(BROKEN_JSON)))
def test_json_that_cannot_be_is_refused_in_one_line(text, why):
    with pytest.raises(UsageError, match=why) as refusal:
        parse_json(text)
    assert len(str(refusal.value)) < 400
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("text", "why"), BROKEN_YAML.items(), ids=range(len(BROKEN_YAML)))
def test_yaml_that_cannot_be_is_refused_in_one_line(text, why):
    with pytest.raises(UsageError, match=why) as refusal:
        parse_yaml(text)
    assert len(str(refusal.value)) < 400
    assert "\n" not in str(refusal.value)


def test_what_can_be_is_read_as_other_readers_read_it():
    value = {"a": [1, -2.5, None, True, {"b": '[["[{\\'}], "ü": {}}
    assert (
        parse_json(json.dumps(value))
        == parse_json(json.dumps(value).encode())
        == parse_yaml(json.dumps(value))
        == value
    )
    assert parse_json(b"\xef\xbb\xbf[1]") == parse_yaml(b"\xef\xbb\xbf[1]") == [1]
    assert parse_json("[" * DEEPEST + "]" * DEEPEST) == parse_yaml("[" * DEEPEST + "]" * DEEPEST)
    assert parse_yaml("a: &b {x: 1}\nc: *b\nd: {<<: *b, y: 2}") == {"a": {"x": 1}, "c": {"x": 1}, "d": {"x": 1, "y": 2}}
    assert parse_yaml("") is None


def test_whole_numbers_too_long_for_python_are_infinite_and_spoil_nothing_beside_them():
    long = "9" * 5000
    assert parse_json(f"[1, {long}, -{long}, {'9' * 401}]") == [1, math.inf, -math.inf, int("9" * 401)]
    assert parse_yaml(f"[1, {long}, 0x{'f' * 5000}, {'1:' * 5000}1]") == [1, math.inf, math.inf, math.inf]


def test_a_file_is_named_and_only_files_are_read(tmp_path):
    (tmp_path / "a.json").write_text("[1")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"a\.json: broken JSON"):
        read_json(tmp_path / "a.json")
    for place, why in (
        (tmp_path / "pipe", "no regular file"),
        ("/dev/zero", "no regular file"),
        (tmp_path, "a folder, not a file"),
        (tmp_path / "none", "no such file"),
        (tmp_path / ("a" * 5000), "cannot be read"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(UsageError, match=why):
            read_yaml(place)
    with pytest.raises(InputError, match="larger than 1 bytes"):
        read_bytes(tmp_path / "a.json", 1)
    assert read_text(tmp_path / "a.json") == "[1"
    os.truncate(tmp_path / "a.json", 10**10)
    started = time.process_time()
    with pytest.raises(UsageError, match="larger than 2,147,483,648 bytes"):
        read_json(tmp_path / "a.json")
    assert time.process_time() - started < 0.5


def test_a_pipe_is_read_to_its_end_where_it_is_asked_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert read_yaml(tmp_path / "pipe", pipes=True) is None  # nobody writes
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(tmp_path / "pipe", os.O_WRONLY)

    def write_late():
        time.sleep(0.1)
        os.write(writing, b"command: demo")
        os.close(writing)

    writer = threading.Thread(target=write_late)
    writer.start()
    assert read_yaml(tmp_path / "pipe", pipes=True) == {"command": "demo"}
    writer.join()
    os.close(reading)


def test_depth_is_told_of_the_structure_alone():
    for text in ('"[[[["', '["\\"", [[]]]', '[{"]": [[]]}]', "[]]]]]"):
        assert not documents._is_deep(text.encode())
