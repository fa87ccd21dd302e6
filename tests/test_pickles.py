"""A pickle is read as records: nothing in it is imported, called, filled or hashed."""

import pickle
import sys

import pytest
import torch

from detcam.adapters.archives import Archive
from detcam.adapters.pickles import Made, Name, read_records


class Asks:
    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_what_pickle_gives(protocol):
    value = {"a": [1, 2.5, None, True, "é", (1, 2, 3, 4)], "b": {1: {"c": 2**70}}, "names": {0: "cat"}}
    assert read_records(pickle.dumps(value, protocol)).value == value


@pytest.mark.parametrize("protocol", [2, 4])
def test_calls_are_records(protocol):
    sys.modules.pop("this", None)
    data = pickle.dumps([Asks(print, ("a",), {"b": 1})], protocol).replace(b"print", b"quiet") + b"more"
    records = read_records(data)
    (made,) = records.value
    assert type(made) is Made
    assert type(made.maker) is Name
    assert (made.maker.dotted, made.arguments, made.states) == ("builtins.quiet", ("a",), [{"b": 1}])
    assert records.end == len(data) - 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"h\x05.", "damaged"),
        (b"\x82\x01.", "EXT1"),
        (b"Pa\n.", "PERSID"),
        (b"}]Ns.", "a list as a key"),
        (b"}\x8a\x08" + b"\x7f" * 8 + b"Ns.", "a int as a key"),
        (b"\x8a\x20" + b"\x7f" * 32 + b".", "255 bits"),
        (b"N)R.", "refused CALL"),
        (b"cos\n..\n.", "the name"),
        (b"", "damaged"),
        (b"]", "damaged"),
        (b"N}b.", "a state"),
    ],
)
def test_what_no_checkpoint_has(data, message):
    with pytest.raises(pickle.UnpicklingError, match=message):
        read_records(data)


@pytest.mark.parametrize("zipped", [True, False])
def test_memory_is_that_of_the_file(zipped, tmp_path):
    tensor = torch.arange(6.0)
    torch.save(tensor, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    archive = Archive(tmp_path / "w.pt")
    assert torch.equal(archive.memory_of(archive.records.stored[0]), tensor)
    (tmp_path / "w.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:-10])
    with pytest.raises(pickle.UnpicklingError, match=r"corrupt|truncated"):
        Archive(tmp_path / "w.pt")
