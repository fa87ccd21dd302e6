"""Values that no field expects, and ways to damage bytes: what every family of inputs is made from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from random import Random
from typing import Any

HUGE = "a whole number of 5,000 digits"
"""Stands in a document for what ``json.dumps`` does not write; :func:`dumped` puts it in."""


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


ODD_VALUES: dict[str, Any] = {
    "nothing": None,
    "true": True,
    "false": False,
    "zero": 0,
    "minus one": -1,
    "a half": 0.5,
    "minus zero": -0.0,
    "a tenth of nothing": 5e-324,
    "beyond float32": 1e39,
    "the largest float": 1.7e308,
    "minus the largest float": -1.7e308,
    "2^31": 2**31,
    "2^63": 2**63,
    "2^64": 2**64,
    "a thousand million": 10**9,
    "401 digits": 10**400,
    "minus 401 digits": -(10**400),
    "5,000 digits": HUGE,
    "NaN": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "empty text": "",
    "a space": " ",
    "a letter": "a",
    "a number as text": "1",
    "a large number as text": "1e39",
    "NaN as text": "nan",
    "5,000 digits as text": "9" * 5000,
    "Arabic digits": "٣",
    "a superscript": "²",
    "hexadecimal text": "0x10",
    "5,000 letters": "a" * 5000,
    "100,000 letters": "b" * 100_000,
    "a lone surrogate": "\ud800",
    "a byte that is no UTF-8": "\udcff.png",
    "a null byte": "a\0b.png",
    "several lines": "a\nb\r\ndetcam explain: done",
    "terminal escapes": "\x1b[2J\x1b]0;a\x07",
    "right to left": "\u202egnp.a",
    "a folder above": "../" * 12 + "etc/passwd",
    "a file of the system": "/etc/passwd",
    "the root": "/",
    "a device": "/dev/zero",
    "an endless device": "/dev/stdin",
    "a process's memory": "/proc/self/mem",
    "an address": "http://127.0.0.1:9/a.png",
    "an FTP address": "ftp://127.0.0.1:9/a.png",
    "a bucket": "s3://bucket/a.png",
    "a file's address": "file:///etc/passwd",
    "a chain of file systems": "simplecache::http://127.0.0.1:9/a.png",
    "a camera": "camera:0",
    "a stream": "rtsp://127.0.0.1:9/a",
    "home": "~",
    "an environment variable": "${HOME}/a.png",
    "a command": "$(touch touched)`touch touched`; touch touched",
    "a format": "%s%n{0.__class__}",
    "markup": "<script>alert(1)</script>[bold]",
    "a pattern": "**/*",
    "a broken pattern": "[",
    "a share": "\\\\server\\share\\a.png",
    "another system's path": "C:\\images\\a.png",
    "dots": "..",
    "an empty list": [],
    "a list of nothing": [None],
    "a list in a list": [[]],
    "four numbers": [1, 2, 3, 4],
    "numbers and truth values": [True, False, 1.0, 2],
    "a long list": [0] * 20_000,
    "90 levels": _nested(90),
    "2,000 levels": _nested(2000),
    "an empty object": {},
    "an object": {"a": 1},
    "run lengths": {"size": [10**9, 10**9], "counts": [10**18]},
    "a mapping of everything": {"__class__": "a", "<<": {"a": 1}, "": None, "0": [1]},
}
"""By what they are in words."""
DEEP = "2,000 levels"
"""The one of them that no document can hold."""
SURROGATES = ("a lone surrogate", "a byte that is no UTF-8")
"""Those of them that no YAML can hold."""

BROKEN_TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "a null byte": b"\0",
    "only null bytes": b"\0" * 10_000,
    "every byte": bytes(range(256)) * 20,
    "a picture": b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
    "a pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    "an archive": b"PK\x03\x04" + b"\0" * 100,
    "UTF-16": '{"images": []}'.encode("utf-16"),
    "UTF-32": '{"images": []}'.encode("utf-32"),
    "only a byte-order mark": b"\xef\xbb\xbf",
    "two byte-order marks": b"\xef\xbb\xbf\xef\xbb\xbf{}",
    "cut-off UTF-8": b'{"a": "\xe2\x82',
    "overlong UTF-8": b'{"a": "\xc0\xaf"}',
    "surrogates as UTF-8": b'{"a": "\xed\xa0\x80"}',
    "an open list": b"[",
    "a million lists": b"[" * 10**6,
    "a million closed lists": b"[" * 10**6 + b"]" * 10**6,
    "a million objects": b'{"a":' * 10**6,
    "lists behind text": b'["\\\\", "]]]]\\"]", ' + b"[" * 5000,
    "101 levels": b"[" * 101 + b"]" * 101,
    "a thousand dashes": b"- " * 1000 + b"a",
    "a hundred thousand question marks": b"? " * 100_000,
    "a hundred thousand colons": b"a: " * 100_000,
    "aliases": b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 10)) for i in range(12)),
    "aliases of a long text": b"a: &a " + b"x" * 100_000 + b"\nb: [" + b"*a, " * 10_000 + b"]",
    "merge keys": b"a: &a {k: v}\n"
    + b"".join(b"%c: &%c {<<: [%s]}\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 10)) for i in range(12)),
    "an alias of itself": b"a: &a [*a]",
    "a mapping of itself": b"&a {a: *a}",
    "a merge of itself": b"&a {<<: *a}",
    "an unknown alias": b"a: *b",
    "Python's system": b'!!python/object/apply:os.system ["touch touched"]',
    "a new Python object": b"!!python/object/new:os.system [touch touched]",
    "a Python module": b"!!python/module:os",
    "a Python name": b"val: !!python/name:os.system",
    "a file to include": b"!include /etc/passwd",
    "a tag of another kind": b"val: !!timestamp a",
    "a whole number that is none": b"nc: !!int a",
    "a truth value that is none": b"nc: !!bool a",
    "bytes": b"val: !!binary aaa",
    "a day that is none": b"val: 2020-99-99",
    "the year nought": b"val: 0000-00-00",
    "sixties": b"nc: " + b"1:" * 50_000 + b"1",
    "sixties of a fraction": b"nc: " + b"1:" * 50_000 + b"1.5",
    "hexadecimal digits": b"nc: 0x" + b"f" * 100_000,
    "a million digits": b"9" * 10**6,
    "two documents": b"a: 1\n---\nb: 2\n",
    "a key twice": b"val: a\nval: b\n",
    "a key twice in JSON": b'{"images": [], "images": [], "annotations": [], "categories": []}',
    "a list as a key": b"? [a]\n: b",
    "a mapping as a key": b"{{a: b}: c}",
    "a version to come": b"%YAML 9.9\n---\na: 1",
    "a long directive": b"%" + b"a" * 10_000,
    "tabs": b"a:\n\t- b",
    "a long line": b"a" * 10**6,
    "a million lines": b"\n" * 10**6,
    "a million comments": b"# a\n" * 250_000,
    "a million values": b"[" + b"a, " * 10**6 + b"]",
    "text that ends nowhere": b'{"a": "' + b"\\u0041" * 10_000,
    "a bad escape": b'{"a": "\\q"}',
    "a single quote": b"{'a': 1}",
    "a comment in JSON": b"// a\n{}",
    "a comma too many": b'{"a": 1,}',
    "two values": b"{}{}",
    "a number": b"1",
    "a text": b'"a"',
    "nothing as a word": b"null",
    "an empty list": b"[]",
    "an empty object": b"{}",
    "infinity": b"Infinity",
}
"""Files that are no document, or a bad one, by what they are in words."""


def dumped(document: Any) -> bytes:
    """JSON of a document in which :data:`HUGE` stands for such a number."""
    return _dump(document).replace(json.dumps(HUGE), "9" * 5000).encode("utf-8", "surrogatepass")


def _dump(value: Any) -> str:
    """As ``json.dumps``, which gives up at 2,000 levels."""
    if isinstance(value, list) and len(value) == 1:
        levels = 0
        while isinstance(value, list) and len(value) == 1:
            value, levels = value[0], levels + 1
        return "[" * levels + _dump(value) + "]" * levels
    if isinstance(value, list):
        return f"[{', '.join(map(_dump, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(name))}: {_dump(one)}" for name, one in value.items()) + "}"
    return json.dumps(value)


def damaged(data: bytes, random: Random, count: int) -> Iterator[tuple[str, bytes]]:
    """A file with bytes changed, taken out, put in, repeated and cut off.

    Args:
        data: of a right file.
        random: decides where.
        count: how many files.
    """
    for number in range(count):
        changed = bytearray(data)
        kind = ("cut off", "changed", "taken out", "put in", "repeated", "swapped")[number % 6]
        for _ in range(1 if kind == "cut off" else random.choice((1, 1, 2, 5))):
            at, length = random.randrange(len(changed)), random.choice((1, 1, 4, 30))
            if kind == "cut off":
                del changed[at:]
            elif kind == "changed":
                changed[at] = random.randrange(256)
            elif kind == "taken out":
                del changed[at : at + length]
            elif kind == "put in":
                changed[at:at] = random.choice((b"\0", b'"', b"[", b"{", b"}", b",", b":", b"\n", b"-", b"&a ", b"*a"))
            elif kind == "repeated":
                changed[at:at] = changed[at : at + length] * random.choice((1, 3))
            else:
                other = random.randrange(len(changed))
                changed[at], changed[other] = changed[other], changed[at]
            changed = changed or bytearray(b" ")
        yield f"{kind}, number {number}", bytes(changed)
