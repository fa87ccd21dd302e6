"""What a stranger's page, process or editor may send to the server that keeps verdicts, or leave where it looks."""

from __future__ import annotations

import itertools
import json
import os
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from detcam.runs.verdicts import LONGEST_NOTE
from hostile.judging import Input
from hostile.odd_values import DEEP, ODD_VALUES, damaged, dumped

KEY = "the-key-that-only-the-page-has"
HOST, ORIGIN, COOKIE = "HOST", "ORIGIN", "COOKIE"
"""Stand for the right ones, which depend on the port."""
GOOD = {"verdict": "ambiguous", "note": "a note"}


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        method, path, headers, body: as they are sent; headers may repeat.
        taken: whether it has to be obeyed; None where either is right.
        raw: instead of all that, what is written to the connection.
    """

    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str | bytes], ...] = (("Host", HOST), ("Cookie", COOKIE))
    body: bytes = b""
    taken: bool | None = False
    raw: bytes = b""


OWN = (("Host", HOST), ("Cookie", COOKIE), ("Origin", ORIGIN), ("Content-Type", "application/json"))


def patch(body: Any, taken: bool | None = False, headers: tuple[tuple[str, str | bytes], ...] = OWN) -> Call:
    """A change that is sent as the report's own page would."""
    data = body if isinstance(body, bytes) else dumped(body)
    return Call("PATCH", "/api/verdicts", headers, data, taken)


def inputs(calls: Iterator[tuple[str, Call]]) -> Iterator[Input]:
    """Each call as an input of the judge."""
    for words, call in calls:
        yield Input(words, lambda _folder, call=call: call)


def without(name: str) -> tuple[tuple[str, str | bytes], ...]:
    """The page's own headers but for one."""
    return tuple(header for header in OWN if header[0] != name)


def strangers(seed: int) -> Iterator[tuple[str, Call]]:
    """Requests of other pages, of other names, and without the key."""
    keys: list[str | bytes] = [
        *("", "detcam-PORT", "detcam-PORT=", "detcam-PORT=null", f"detcam={KEY}", f"detcam-1={KEY}", f"={KEY}", KEY),
        *(f"detcam-PORT={KEY[:-1]}", f"detcam-PORT={KEY}x", f"detcam-PORT={KEY.upper()}", f"detcam-PORT= {KEY[1:]}"),
        *("detcam-PORT=" + "a" * 4000, 'detcam-PORT="\\303\\251"', "detcam-PORT=\x80\xff".encode("latin-1"), ";" * 500),
        *(
            "a=b; " * 500,
            f"Detcam-PORT={KEY}",
            f"detcam-PORT%3D{KEY}",
            f"detcam-PORT={quote(KEY[:3])}%00",
            "[]=[]",
            '"',
        ),
        *("detcam-PORT=*", "detcam-PORT=None", "detcam-PORT=true", f"detcam-PORT=wrong; detcam-PORT={KEY[::-1]}"),
    ]
    targets = [("GET", "/"), ("GET", "/data.js"), ("GET", "/api/verdicts"), ("PATCH", "/api/verdicts")]
    for key, (method, path) in itertools.product(keys, targets):
        headers = (("Cookie", key), *without("Cookie"))
        body = json.dumps({"d00001": GOOD}).encode() if method == "PATCH" else b""
        yield f"{method} {path} with the cookie {key!r:.60}", Call(method, path, headers, body)
    for query in (
        "key=",
        "key",
        "key=wrong",
        f"key={KEY}x",
        f"Key={KEY}",
        f"key[]={KEY}",
        f"key={KEY}&key=a",
        f"%6bey{KEY}",
        "key=%FF%FE",
        "key=%00",
        "&" * 5000,
        "key=a&" * 5000,
        f";key={KEY}",
        "key=%C3%A9",
    ):
        yield f"the query {query!r:.60}", Call("GET", f"/?{query}", (("Host", HOST),))
    hosts = [
        *(
            "",
            "example.com",
            "example.com:PORT",
            "127.0.0.1.example.com:PORT",
            "127.0.0.1:PORT.example.com",
            "127.0.0.1",
        ),
        *(
            "127.0.0.1:1",
            "127.0.0.1:PORT:PORT",
            "127.1:PORT",
            "2130706433:PORT",
            "0x7f.1:PORT",
            "[::1]:PORT",
            "0.0.0.0:PORT",
        ),
        *(
            "localhost.:PORT",
            "localhost",
            "localhost:0",
            "a@127.0.0.1:PORT",
            "127.0.0.1:PORT@a",
            "127.0.0.1:PORT/",
            "*",
        ),
        *(
            "127.0.0.2:PORT",
            "127.0.0.1:PORT, example.com",
            "a" * 5000,
            "[::ffff:127.0.0.1]:PORT",
            "127.0.0.1:+PORT",
            "\t",
        ),
    ]
    for host in hosts:
        origin = (("Host", host), ("Origin", f"http://{host}".strip()))
        yield f"the host {host!r:.60}", Call(headers=(("Host", host), ("Cookie", COOKIE)))
        changed = (*origin, *(one for one in OWN if one[0] not in ("Host", "Origin")))
        yield f"a change by the host {host!r:.60}", patch({"d00001": GOOD}, headers=changed)
    yield "two hosts", Call(headers=(("Host", HOST), ("Host", "example.com"), ("Cookie", COOKIE)))
    yield "no host", Call(headers=(("Cookie", COOKIE),))
    origins = [
        *(
            "",
            "null",
            "http://example.com",
            "https://127.0.0.1:PORT",
            "http://127.0.0.1",
            "http://127.0.0.1:1",
            "file://",
        ),
        *(
            "http://localhost:PORT",
            "http://127.0.0.1:PORT/",
            "HTTP://127.0.0.1:PORT",
            "127.0.0.1:PORT",
            "http://a@127.0.0.1",
        ),
        *(
            "http://127.0.0.1:PORT.example.com",
            "http://127.0.0.1:PORT http://example.com",
            "chrome-extension://abc",
            "*",
        ),
        *("http://[::1]:PORT", "http://127.0.0.1:PORT,http://127.0.0.1:PORT", "a" * 3000, "http://127.0.0.1:0PORT"),
    ]
    for origin in origins:
        yield f"the origin {origin!r:.60}", patch({"d00001": GOOD}, headers=(("Origin", origin), *without("Origin")))
    yield "no origin", patch({"d00001": GOOD}, headers=without("Origin"))
    yield "two origins", patch({"d00001": GOOD}, headers=(*OWN, ("Origin", "http://example.com")))
    for kind in (
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
        "application",
        "application/jsonp",
        "json",
        "application/json2",
        "text/json",
        "a" * 3000,
        "application/x+json",
    ):
        headers = (*without("Content-Type"), ("Content-Type", kind))
        yield f"the type {kind!r:.40}", patch({"d00001": GOOD}, headers=headers)
    methods = [
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "get",
        "patch",
        "A" * 200,
        "PURGE",
        "LINK",
    ]
    for method, path in itertools.product(methods, ("/", "/api/verdicts", "/data.js", "/api/verdicts/")):
        yield f"{method:.20} {path}", Call(method, path, OWN, json.dumps({"d00001": GOOD}).encode())
    random = Random(seed)
    for number in range(40):
        odd = "".join(random.choices(string.ascii_letters + string.digits + "-_=;, \"'%", k=random.randrange(1, 60)))
        yield (
            f"a cookie of odd letters, number {number}",
            Call(headers=(("Host", HOST), ("Cookie", odd.strip() or "a"))),
        )


def bodies(seed: int) -> Iterator[tuple[str, Call]]:
    """Changes that are none."""
    for words, value in ODD_VALUES.items():
        entry = {"verdict": value, "note": ""}
        fine = value is None or value == "ambiguous"
        yield f"the verdict is {words}", patch({"d00001": entry}, None if fine else False)
        note = isinstance(value, str) and len(value) <= LONGEST_NOTE and words != DEEP
        yield f"the note is {words}", patch({"d00001": {"verdict": None, "note": value}}, None if note else False)
        yield f"the entry is {words}", patch({"d00001": value}, None if value is None else False)
        yield f"all of it is {words}", patch(value, None if value in ({}, []) else False)
        yield f"a key more is {words}", patch({"d00001": {**GOOD, "more": value}})
        key = value if isinstance(value, str) else words
        yield f"the case {key!r:.30}", patch({key: GOOD}, None if key == "d00001" else False)
    for length in (LONGEST_NOTE + 1, 10**6, 10**7):
        yield f"a note of {length:,} letters", patch({"d00001": {"verdict": None, "note": "a" * length}})
    yield "a note as long as may be", patch({"d00001": {"verdict": None, "note": "a" * LONGEST_NOTE}}, True)
    yield "a note of 50 MB", patch({"d00001": {"verdict": None, "note": "a" * 50_000_000}})
    yield "a hundred thousand cases", patch({f"d{number:05d}": GOOD for number in range(100_000)})
    yield "a good one among bad ones", patch({"d00001": GOOD, "d00002": {"verdict": "guilty", "note": ""}})
    for words, body in {
        "nothing": b"",
        "a space": b" ",
        "NUL": b"\0",
        "half": b'{"d00001": ',
        "UTF-16": '{"d00001": null}'.encode("utf-16"),
        "not UTF-8": b'{"d00001": {"verdict": null, "note": "\xff"}}',
        "NaN": b'{"d00001": NaN}',
        "twice": b'{"d00001": null,"d00001": {"verdict": "guilty"}}',
        "a surrogate": b'{"d00001": {"verdict": null, "note": "\\ud800"}}',
        "another": b'{"d00001": {"verdict": null, "note": "\\udfff\\ud800"}}',
        "a case of one": b'{"\\ud800": null}',
        "lists": b"[" * 10**6,
        "pairs of lists": b"[" * 50_000 + b"]" * 50_000,
        "objects": b'{"a":' * 10**5 + b"1" + b"}" * 10**5,
        "digits": b'{"d00001": ' + b"9" * 10**6 + b"}",
        "prototype": b'{"__proto__": {"verdict": "ambiguous", "note": ""}}',
        "a form": b"d00001=ambiguous",
        "two documents": b"{} {}",
        "a comment": b"{/* */}",
        "single quotes": b"{'d00001': null}",
    }.items():
        yield f"a body of {words}", patch(body)
    random = Random(seed)
    whole = json.dumps({"d00001": GOOD, "d00002": {"verdict": None, "note": "\u05d0 </script>"}}).encode()
    for words, data in damaged(whole, random, 80):
        yield f"a change, {words}", patch(data, None)


PATHS = (
    *(
        "/../run.json",
        "/..%2frun.json",
        "/%2e%2e/run.json",
        "/%2e%2e%2frun.json",
        "/..%5crun.json",
        "/..\\run.json",
        "/..",
    ),
    *(
        "/pictures/../../run.json",
        "/pictures/%2e%2e/%2e%2e/run.json",
        "/....//run.json",
        "/..;/run.json",
        "/.%2e/run.json",
    ),
    *(
        "/%252e%252e/run.json",
        "/%252e%252e%252frun.json",
        "/..%c0%afrun.json",
        "/%c0%ae%c0%ae/run.json",
        "/..%00/run.json",
    ),
    *(
        "/index.html%00",
        "/%00",
        "/index.html%00.jpg",
        "/data.js%0a",
        "/%0d%0aSet-Cookie:%20a=b",
        "/index.html%20",
        "/%7f",
    ),
    *(
        "//etc/passwd",
        "/%2fetc/passwd",
        "/%2f%2fetc/passwd",
        "///etc/passwd",
        "/file:///etc/passwd",
        "/C:/Windows/win.ini",
    ),
    *(
        "/run.json",
        "/verdicts.json",
        "/detections.parquet",
        "/report/index.html",
        "/.lock",
        "/.git/config",
        "/index.html~",
    ),
    *(
        "/stranger.html",
        "/stranger.js",
        "/linked.html",
        "/linkedfolder/run.json",
        "/pictures/images/linked.jpg",
        "/pipe.js",
    ),
    *(
        "/pictures",
        "/pictures/",
        "/pictures/images",
        "/pictures/images/",
        "/pictures/images/999999.jpg",
        "/pictures/x/0.jpg",
    ),
    *("/pictures/images/0.jpg/0.jpg", "/pictures/images/0.html", "/pictures/stranger.jpg"),
    *(
        "/" + "a" * 300,
        "/" + "a" * 5000,
        "/" + "a/" * 200,
        "/" + "%41" * 1000,
        "/" + "../" * 100 + "etc/passwd",
        "/\u007e",
    ),
    *(
        "/api",
        "/api/",
        "/api/verdicts/d00001",
        "/api/verdicts.json",
        "/api//verdicts",
        "/API/VERDICTS",
        "/api/verdicts%2f",
    ),
    *(
        "/%",
        "/%zz",
        "/%u0041",
        "/%ff%fe",
        "/%f0%9f%92%a9",
        "/%ed%a0%80",
        "/index.htm",
        "/INDEX.HTML",
        "/404.html",
        "/con",
    ),
)


def places(seed: int) -> Iterator[tuple[str, Call]]:
    """Paths that lead anywhere but to the report's own files."""
    for path in PATHS:
        yield f"{path:.60}", Call(path=path)
        yield f"{path:.60}, without the key", Call(path=path, headers=(("Host", HOST),))
    random = Random(seed)
    parts = [
        "..",
        "%2e%2e",
        "%2f",
        "/",
        "\\",
        "%5c",
        "run.json",
        "%00",
        ".",
        "pictures",
        "images",
        "etc",
        "%25",
        "~",
        "%c0%ae",
    ]
    for _ in range(80):
        path = "/" + "".join(random.choices(parts, k=random.randrange(1, 12)))
        yield f"{path:.60}", Call(path=path, taken=None)


def wires(seed: int) -> Iterator[tuple[str, Call]]:
    """What is no HTTP, or not all of it, or too much."""
    head = b"PATCH /api/verdicts HTTP/1.1\r\nHost: HOST\r\nCookie: COOKIE\r\nOrigin: ORIGIN\r\n"
    head += b"Content-Type: application/json\r\n"
    get = b"GET / HTTP/1.1\r\nHost: HOST\r\nCookie: COOKIE\r\n"
    body = json.dumps({"d00001": {"verdict": "guilty", "note": ""}}).encode()
    length = b"Content-Length: %d\r\n" % len(body)
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    cases = {
        "nothing": b"",
        "a line end": b"\r\n\r\n",
        "garbage": bytes(range(256)) * 10,
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01",
        "HTTP/0.9": b"GET /\r\n\r\n",
        "HTTP/1.0 without a host": b"GET / HTTP/1.0\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
        "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: HOST\r\n\r\n",
        "half a request": get,
        "half a line": b"GET / HT",
        "an absolute address": b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "no path": b"GET HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "a tunnel": b"CONNECT example.com:80 HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "letters beyond ASCII in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: HOST\r\nCookie: COOKIE\r\n\r\n",
        "a control letter in the path": b"GET /\x01 HTTP/1.1\r\nHost: HOST\r\nCookie: COOKIE\r\n\r\n",
        "a hundred thousand headers": b"GET / HTTP/1.1\r\nHost: HOST\r\n" + b"a: b\r\n" * 100_000 + b"\r\n",
        "a header of a megabyte": b"GET / HTTP/1.1\r\nHost: HOST\r\nA: " + b"a" * 10**6 + b"\r\n\r\n",
        "a path of a megabyte": b"GET /" + b"a" * 10**6 + b" HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "a header without a colon": get[:-2] + b"\r\nnothing\r\n\r\n",
        "a folded header": b"GET / HTTP/1.1\r\nHost: HOST\r\nA: b\r\n c\r\n\r\n",
        "NUL in a header": b"GET / HTTP/1.1\r\nHost: HOST\r\nA: \0\r\n\r\n",
        "bare line ends": b"GET / HTTP/1.1\nHost: example.com\n\n",
        "a space before the colon": b"GET / HTTP/1.1\r\nHost : HOST\r\n\r\n",
        "a negative length": head + b"Content-Length: -1\r\n\r\n" + body,
        "a length that is no number": head + b"Content-Length: abc\r\n\r\n" + body,
        "two lengths": head + length + b"Content-Length: 1\r\n\r\n" + body,
        "a length of 10^30": head + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n" + body,
        "a length and chunks": head + length + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n",
        "a shorter length": head + b"Content-Length: 5\r\n\r\n" + body,
        "a longer length": head + b"Content-Length: 5000\r\n\r\n" + body,
        "no length": head + b"\r\n" + body,
        "chunks": head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n",
        "chunks of a wrong size": head + b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + body + b"\r\n0\r\n\r\n",
        "chunks of no number": head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
        "a huge chunk": head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na",
        "a negative chunk": head + b"Transfer-Encoding: chunked\r\n\r\n-1\r\na",
        "chunks without an end": head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk,
        "gzip": head + length + b"Content-Encoding: gzip\r\n\r\n" + body,
        "an unknown encoding": head + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk,
        "a web socket": get + b"Connection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        "HTTP/2 by upgrade": get
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "expecting to be asked": head + length + b"Expect: 100-continue\r\n\r\n" + body,
        "another expectation": head + length + b"Expect: a miracle\r\n\r\n" + body,
        "a hundred requests at once": (get + b"\r\n") * 100,
        "a request behind a change": head + length + b"\r\n" + body + get + b"\r\n",
        "20 MB in chunks": head
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + (b"100000\r\n" + b"a" * 2**20 + b"\r\n") * 20
        + b"0\r\n\r\n",
        "a smuggled request": b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 40\r\n\r\n"
        b"PATCH /api/verdicts HTTP/1.1\r\nHost: HOST\r\n\r\n",
    }
    for words, raw in cases.items():
        yield words, Call(raw=raw, taken=None)
    for value in (
        "bytes=0-",
        "bytes=-1",
        "bytes=5-2",
        "bytes=0-0,0-0,0-0",
        "bytes=" + "0-1," * 2000,
        "bytes=99999999999-",
        "lines=1",
        "bytes=a-b",
        "bytes=-",
        "bytes=0-99999999999999999999999",
        "",
        "bytes",
        "bytes=" + "9" * 5000 + "-",
    ):
        headers = (("Host", HOST), ("Cookie", COOKIE), ("Range", value))
        for path in ("/data.js", "/pictures/images/0.jpg"):
            yield f"the range {value:.40} of {path}", Call(path=path, headers=headers, taken=None)
    for name, value in (
        ("If-None-Match", "*"),
        ("If-None-Match", '"' * 3000),
        ("If-Modified-Since", "never"),
        ("If-Range", "a"),
        ("If-Modified-Since", "Sun, 99 Nov 99999 99:99:99 GMT"),
        ("Accept-Encoding", "*;q=9"),
        ("X-Forwarded-For", "1"),
        ("X-Forwarded-Host", "example.com"),
        ("X-HTTP-Method-Override", "PATCH"),
        ("Forwarded", "host=a"),
    ):
        yield f"{name}: {value:.40}", Call(headers=(("Host", HOST), ("Cookie", COOKIE), (name, value)), taken=None)
    random = Random(seed)
    for words, data in damaged(head + length + b"\r\n" + body, random, 60):
        yield f"a request, {words}", Call(raw=data, taken=None)


@dataclass(frozen=True)
class OnDisk:
    """A run folder whose verdicts somebody else wrote.

    Attributes:
        data: of ``verdicts.json``; a function lays something else there.
        before: whether it was there when the server started; else it is changed under it.
    """

    data: bytes | Any
    before: bool = True


def files(seed: int) -> Iterator[Input]:
    """Verdict files that are none, when the server starts and when it runs."""
    contents: dict[str, bytes | Any] = {
        "nothing": b"",
        "half": b"{",
        "a list": b"[]",
        "null": b"null",
        "a number": b"5",
        "NUL": b"\0" * 100,
        "UTF-16": "{}".encode("utf-16"),
        "deep lists": b"[" * 10**5,
        "a foreign case": b'{"x": {"verdict": "ambiguous", "note": ""}}',
        "a list as verdict": b'{"d00001": {"verdict": [], "note": ""}}',
        "a surrogate": b'{"d00001": {"verdict": null, "note": "\\ud800"}}',
        "a key more": b'{"d00001": {"verdict": null, "note": "", "more": 1}}',
        "a note of 50 MB": json.dumps({"d00001": {"verdict": None, "note": "a" * 50_000_000}}).encode(),
        "a right one": json.dumps({"d00001": GOOD}).encode(),
        "an unknown verdict": b'{"d00001": {"verdict": "guilty", "note": ""}}',
        "a folder": Path.mkdir,
        "a link to itself": lambda path: path.symlink_to(path),
        "a link to a device": lambda path: path.symlink_to("/dev/zero"),
        "a link that leads nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
        "a pipe": _pipe,
    }
    for words, value in ODD_VALUES.items():
        contents[f"the entry is {words}"] = dumped({"d00001": value})
    for words, data in damaged(json.dumps({"d00001": GOOD}).encode(), Random(seed), 30):
        contents[words] = data
    for (words, data), before in itertools.product(contents.items(), (True, False)):
        name = f"verdicts.json: {words}, {'before' if before else 'after'} the start"
        yield Input(name, partial(_made, OnDisk(data, before)))


def _made(made: OnDisk, _folder: Path) -> OnDisk:
    return made


def _pipe(path: Path) -> None:
    os.mkfifo(path)
