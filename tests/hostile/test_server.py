"""The server that keeps verdicts: whatever is sent to it, it answers with 4xx or hangs up, and goes on as before."""

import asyncio
import contextlib
import json
import logging
import re
import shutil
import socket
import threading
from dataclasses import replace

import pytest

from detcam.errors import UsageError
from hostile import server_inputs
from hostile.server_inputs import COOKIE, HOST, KEY, ORIGIN
from support.reports import detection, images, write_run  # noqa: F401

for name in ("starlette", "uvicorn"):
    pytest.importorskip(name, reason="the server's tests need the serve extra: pip install '.[serve]'")

import uvicorn  # noqa: E402

from detcam.report.serve import application, server_settings  # noqa: E402

pytestmark = pytest.mark.hostile


class Served:
    """A report on a port of its own, and what was logged meanwhile."""

    def __init__(self, run):
        self.run = run
        self.verdicts = run / "verdicts.json"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.names = {HOST: f"127.0.0.1:{self.port}", ORIGIN: f"http://127.0.0.1:{self.port}"}
        self.names |= {COOKIE: f"detcam-{self.port}={KEY}", "PORT": str(self.port)}
        self.server = uvicorn.Server(server_settings(application(run, KEY)))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.logged = []
        self.thread.start()

    def stop(self):
        self.server.should_exit = True
        self.thread.join()
        self.listener.close()

    def filled(self, data):
        for word, value in self.names.items():
            data = data.replace(word.encode(), value.encode())
        return data

    def bytes_of(self, call):
        if call.raw:
            return self.filled(call.raw)
        lines = [f"{call.method} {call.path} HTTP/1.1".encode("utf-8", "surrogateescape")]
        for header, value in (*call.headers, ("Content-Length", str(len(call.body)))):
            lines.append(header.encode() + b": " + (value if isinstance(value, bytes) else value.encode()))
        return self.filled(b"\r\n".join([*lines, b"Connection: close", b"", b""])) + call.body

    def send(self, data):
        """What is answered until the server hangs up."""
        answered = bytearray()
        with socket.create_connection(("127.0.0.1", self.port), timeout=15) as connection:
            writer = threading.Thread(target=self._write, args=(connection, data))
            writer.start()
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(2**16):
                    answered += part
            writer.join()
        return bytes(answered)

    @staticmethod
    def _write(connection, data):
        with contextlib.suppress(OSError):
            connection.sendall(data)

    def ask(self, call, out):
        """Send a call, and see that it is answered rightly and that everybody else's requests still are."""
        before = self.verdicts.read_bytes() if self.verdicts.exists() else None
        answered = self.send(self.bytes_of(call))
        status = int(answered[9:12]) if re.match(rb"HTTP/1\.1 \d{3} ", answered) else 0
        assert status or not answered, answered[:200]
        assert status < 500, answered[:300]
        after = self.verdicts.read_bytes() if self.verdicts.exists() else None
        if call.taken is False:
            assert not 200 <= status < 400, answered[:300]
            assert before == after
        if call.taken:
            assert 200 <= status < 300, answered[:300]
        for path in ("/", "/api/verdicts"):
            page = server_inputs.Call(path=path)
            good = self.send(self.bytes_of(page))
            assert good.startswith(b"HTTP/1.1 200 "), (path, good[:200])
        told = json.loads(good.partition(b"\r\n\r\n")[2])
        assert told == (json.loads(after) if after else {})
        assert not self.logged, self.logged[:3]


@pytest.fixture
def reviewed(tmp_path_factory, images):  # noqa: F811
    return write_run(tmp_path_factory.mktemp("served") / "review", [detection(n, images[0]) for n in range(6)])


@pytest.fixture
def served(reviewed, monkeypatch):
    monkeypatch.setattr("detcam.report.guard.PATIENCE", 0.5)
    server = Served(reviewed)
    report = reviewed / "report"
    (report / "stranger.html").write_text("<script src='stranger.js'></script>")
    (report / "stranger.js").write_text("fetch('/api/verdicts', {method: 'PATCH'})")
    (report / "pictures" / "stranger.jpg").write_bytes(b"\xff\xd8")
    (report / "linked.html").symlink_to(reviewed / "run.json")
    (report / "linkedfolder").symlink_to(reviewed)
    (report / "pictures" / "images" / "linked.jpg").symlink_to(reviewed / "run.json")
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: server.logged.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    yield server
    for logger in loggers:
        logger.removeHandler(handler)
    server.stop()


FAMILIES = {
    "strangers": server_inputs.strangers,
    "bodies": server_inputs.bodies,
    "places": server_inputs.places,
    "wires": server_inputs.wires,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_server(family, served, judge, seed):
    calls = server_inputs.inputs(FAMILIES[family](seed))
    judge("server", calls, served.ask, writes=(served.run,), reaches=(("127.0.0.1", served.port),))


def answer_of(served, method, path, body=b""):
    """Status and body of one request to an application, without a network."""
    sent, left = [], [{"type": "http.request", "body": body, "more_body": False}]
    headers = {"host": "127.0.0.1:1", "cookie": f"detcam-1={KEY}", "origin": "http://127.0.0.1:1"}
    headers["content-type"] = "application/json"
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "server": ("127.0.0.1", 1),
        "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 2),
    }  # fmt: skip

    async def receive():
        return left.pop() if left else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(served(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def test_files_of_verdicts(judge, seed, tmp_path_factory, images):  # noqa: F811
    run = write_run(tmp_path_factory.mktemp("kept") / "review", [detection(n, images[0]) for n in range(6)])
    path = run / "verdicts.json"
    application(run, KEY)

    def lay(data):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if data is not None:
            data(path) if callable(data) else path.write_bytes(data)

    def prepared(item):
        def make(folder):
            made = item.make(folder)
            lay(made.data if made.before else None)
            served = None if made.before else application(run, KEY)
            lay(made.data)
            return made, served

        return replace(item, make=make)

    def ask(given, out):
        made, served = given
        try:
            served = served or application(run, KEY)
        except UsageError:
            assert callable(made.data) or path.read_bytes() == made.data
            raise
        status, told = answer_of(served, "GET", "/api/verdicts")
        assert status == 200
        assert isinstance(json.loads(told), dict)
        change = json.dumps({"d00002": server_inputs.GOOD}).encode()
        status, told = answer_of(served, "PATCH", "/api/verdicts", change)
        assert status in (204, 409), (status, told)
        if status == 409:
            assert callable(made.data) or path.read_bytes() == made.data
        else:
            assert json.loads(path.read_text())["d00002"] == server_inputs.GOOD
        assert answer_of(served, "GET", "/api/verdicts")[0] == answer_of(served, "GET", "/")[0] == 200

    judge("server", map(prepared, server_inputs.files(seed)), ask, writes=(run,))
    lay(None)
