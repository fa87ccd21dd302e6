"""The local server: verdicts stay on disk, and only the report's own page changes them."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from urllib.request import urlopen

import pytest

from detcam.errors import UsageError
from detcam.report.kept import KeptVerdicts
from detcam.runs.verdicts import LONGEST_NOTE
from support.reports import detection, images, kept, until, visit, write_run  # noqa: F401

for name in ("starlette", "uvicorn"):
    pytest.importorskip(name, reason="the server's tests need the serve extra: pip install '.[serve]'")

import uvicorn  # noqa: E402

from detcam.report.serve import application, serve, server_settings  # noqa: E402

KEY = "the-key-of-this-test"
ENTRY = {"verdict": "ambiguous", "note": "\u05d0 </script>"}


@pytest.fixture
def reviewed(tmp_path, images):
    return write_run(tmp_path / "review", [detection(n, images[0]) for n in range(6)])


class Served:
    """The application on a port of its own, in a thread."""

    def __init__(self, run, port=0):
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.cookie = f"detcam-{self.port}={KEY}"
        self.server = uvicorn.Server(server_settings(application(run, KEY)))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.thread.start()

    def stop(self):
        self.server.should_exit = True
        self.thread.join()
        self.listener.close()

    def ask(self, method, path, content=None, **headers):
        """Send a request as the report's own page would, but for the headers given; status, headers and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        own = {"Host": f"127.0.0.1:{self.port}", "Origin": self.address, "Cookie": self.cookie}
        own["Content-Type"] = "application/json"
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {name: value.replace("PORT", str(self.port)) for name, value in (own | given).items()}
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, answer.headers, text


@pytest.fixture
def served(reviewed):
    server = Served(reviewed)
    yield server
    server.stop()


def on_disk(run):
    return json.loads((run / "verdicts.json").read_text(encoding="utf-8"))


def test_changes_are_merged_and_written(served, reviewed):
    assert served.ask("GET", "/api/verdicts")[2] == "{}"
    changes = [{"d00001": ENTRY, "d00002": ENTRY}, {"d00002": None}, {"d00003": {"verdict": None, "note": "later"}}]
    for change in changes:
        assert served.ask("PATCH", "/api/verdicts", json.dumps(change))[0] == 204
    expected = {"d00001": ENTRY, "d00003": {"verdict": None, "note": "later"}}
    assert on_disk(reviewed) == json.loads(served.ask("GET", "/api/verdicts")[2]) == expected
    assert not list(reviewed.glob(".*"))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://example.com"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://localhost:PORT"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Host": "rebound.example.com", "Origin": "http://rebound.example.com"}, 400),
        ({"Host": "127.0.0.1.example.com:PORT", "Origin": "http://127.0.0.1.example.com:PORT"}, 400),
        ({"Host": "", "Origin": "http://"}, 400),
        ({"Host": "localhost:PORT", "Origin": "http://localhost:PORT"}, 204),
    ],
)
def test_only_the_reports_own_page_changes_verdicts(served, reviewed, headers, status):
    assert served.ask("PATCH", "/api/verdicts", json.dumps({"d00001": ENTRY}), **headers)[0] == status
    assert (reviewed / "verdicts.json").exists() == (status == 204)


@pytest.mark.parametrize("cookie", ["", "detcam-PORT=", "detcam-PORT=another", f"detcam-1={KEY}", f"other={KEY}"])
def test_nobody_is_answered_without_the_key(served, reviewed, cookie):
    for method, path in (("GET", "/"), ("GET", "/data.js"), ("GET", "/api/verdicts"), ("PATCH", "/api/verdicts")):
        status, headers, text = served.ask(method, path, json.dumps({"d00001": ENTRY}), Cookie=cookie)
        assert (status, "Set-Cookie" in headers, "detcam printed" in text) == (403, False, True)
    assert served.ask("GET", "/?key=wrong", Cookie=cookie)[0] == 403
    assert not (reviewed / "verdicts.json").exists()


def test_the_printed_address_gives_the_page_its_cookie(served):
    status, headers, _ = served.ask("GET", f"/?key={KEY}", Cookie="")
    assert status == 200
    assert headers["Set-Cookie"] == f"{served.cookie}; Path=/; HttpOnly; SameSite=Strict"


def test_only_the_reports_own_files_are_served(served, reviewed):
    report = reviewed / "report"
    (report / "other.html").write_text("a stranger's")
    (report / "pictures" / "images" / "link.jpg").symlink_to(reviewed / "run.json")
    (report / "theme.js").unlink()
    (report / "theme.js").symlink_to(report / "app.js")
    for path in ("/other.html", "/pictures/images/link.jpg", "/theme.js"):
        assert served.ask("GET", path)[0] == 404
    assert served.ask("GET", "/app.js")[0] == served.ask("GET", "/pictures/images/0.jpg")[0] == 200


def test_what_others_write_meanwhile_is_kept(served, reviewed):
    other = KeptVerdicts(reviewed)
    served.ask("PATCH", "/api/verdicts", json.dumps({"d00001": ENTRY}))
    other.change({"d00002": ENTRY})
    assert set(json.loads(served.ask("GET", "/api/verdicts")[2])) == {"d00001", "d00002"}
    served.ask("PATCH", "/api/verdicts", json.dumps({"d00003": ENTRY}))
    assert set(on_disk(reviewed)) == {"d00001", "d00002", "d00003"}


def test_a_file_that_breaks_meanwhile_is_left_as_it_is(served, reviewed):
    served.ask("PATCH", "/api/verdicts", json.dumps({"d00001": ENTRY}))
    (reviewed / "verdicts.json").write_text("{")
    status, _, text = served.ask("PATCH", "/api/verdicts", json.dumps({"d00002": ENTRY}))
    assert (status, "mend or remove it" in text) == (409, True)
    assert (reviewed / "verdicts.json").read_text() == "{"
    assert json.loads(served.ask("GET", "/api/verdicts")[2]) == {"d00001": ENTRY}
    (reviewed / "verdicts.json").unlink()
    assert served.ask("PATCH", "/api/verdicts", json.dumps({"d00002": ENTRY}))[0] == 204
    assert on_disk(reviewed) == {"d00002": ENTRY}


def test_who_asks_for_nothing_is_hung_up_on(served, monkeypatch):
    monkeypatch.setattr("detcam.report.guard.PATIENCE", 0.2)
    for said in (b"", b"GET / HTTP/1.1\r\nHost: ", b"PATCH /api/verdicts HTTP/1.1\r\nContent-Length: 9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as slow:
            slow.sendall(said)
            while slow.recv(1000):
                pass
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(130)]
        for one in many[::-1]:  # the last at once, the others when their time is up
            one.settimeout(10)
            assert one.recv(1) == b""
        assert served.ask("GET", "/")[0] == 200


@pytest.mark.parametrize("path", ["/", "/data.js", "/api/verdicts"])
def test_nothing_is_read_under_a_foreign_name_or_by_other_pages(served, path):
    assert served.ask("GET", path, Host="rebound.example.com:PORT")[0] == 400
    status, headers, _ = served.ask("GET", path, Origin="https://example.com")
    assert status == 200
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize(
    "path", ["/run.json", "/../run.json", "/..%2frun.json", "/%2e%2e/run.json", "/pictures/../../run.json"]
)
def test_only_the_report_is_served(served, reviewed, path):
    assert (reviewed / "run.json").is_file()
    assert served.ask("GET", path)[0] == 404


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "broken JSON"),
        ("[]", "must be an object"),
        ('{"d99999": null}', "no case 'd99999'"),
        ('{"d00001": {"verdict": "guilty", "note": ""}}', "must be {'verdict'"),
        ('{"d00002": null, "d00001": {"verdict": "ambiguous", "note": 3}}', "must be {'verdict'"),
        ('{"d00001": {"verdict": ["ambiguous"], "note": ""}}', "must be {'verdict'"),
        ('{"d00001": {"verdict": {}, "note": ""}}', "must be {'verdict'"),
        ('{"d00001": {"verdict": null, "note": "\\ud800"}}', "lone surrogate"),
        ('{"d0000\\udfff": {"verdict": null, "note": ""}}', "no case"),
        (json.dumps({"d00001": {"verdict": None, "note": "a" * (LONGEST_NOTE + 1)}}), "10,001 characters"),
        ("[" * 100_000 + "]" * 100_000, "in one another"),
    ],
)
def test_what_is_no_verdict_is_refused_in_words(served, reviewed, content, said):
    status, _, text = served.ask("PATCH", "/api/verdicts", content)
    assert (status, said in text) == (400, True)
    assert not (reviewed / "verdicts.json").exists()


def test_a_full_disk_loses_nothing(served, reviewed, monkeypatch):
    served.ask("PATCH", "/api/verdicts", json.dumps({"d00001": ENTRY}))

    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("detcam.report.kept.write_whole", full)
    status, _, text = served.ask("PATCH", "/api/verdicts", json.dumps({"d00001": None}))
    assert (status, "No space left" in text) == (507, True)
    assert json.loads(served.ask("GET", "/api/verdicts")[2]) == on_disk(reviewed) == {"d00001": ENTRY}


def test_it_listens_on_the_loopback_until_interrupted(reviewed):
    script = (
        "import sys; from pathlib import Path; from detcam.report.serve import serve;"
        "serve(Path(sys.argv[1]), ready=lambda address: print(address, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(reviewed)], stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip()
            port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?key=[\w-]{32}", address)[1])
            assert urlopen(address).read() == (reviewed / "report" / "index.html").read_bytes()
            with socket.socket() as other, pytest.raises(OSError, match="refused"):
                other.connect(("127.0.0.2", port))  # a listener on all addresses would answer here
            with pytest.raises(UsageError, match=f"port {port} cannot be listened on"):
                serve(reviewed, port, ready=print)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_verdicts_stay_on_disk(served, reviewed, visit):
    page = visit(f"{served.address}/?key={KEY}#/case?id=d00001", allowed=served.address)
    page.keyboard.press("3")
    page.fill("#note", ENTRY["note"])
    until(page, "document.getElementById('kept').textContent.startsWith('Kept')")
    assert on_disk(reviewed) == {"d00001": ENTRY}
    page.reload()
    until(page, "document.getElementById('note').value !== ''")
    assert kept(page) == {"d00001": ENTRY}
    assert "verdicts.json" in page.text_content("#kept")
    assert page.evaluate("Object.keys(localStorage)") == []


def test_what_could_not_be_saved_is_saved_later(reviewed, browser):
    server = Served(reviewed)
    page = browser.new_page()
    page.goto(f"{server.address}/?key={KEY}#/gallery")
    until(page, "document.getElementById('kept').textContent !== ''")
    server.stop()
    page.keyboard.press("1")
    until(page, "!document.getElementById('notice').hidden")
    assert page.inner_text("#notice").startswith("Not saved yet")
    again = Served(reviewed, server.port)
    try:
        until(page, "document.getElementById('kept').textContent.startsWith('Kept')")
        assert [entry["verdict"] for entry in on_disk(reviewed).values()] == ["model_error"]
        page.close()
    finally:
        again.stop()


def test_a_broken_file_of_verdicts_is_not_overwritten(reviewed):
    (reviewed / "verdicts.json").write_text("{")
    with pytest.raises(UsageError, match=r"verdicts\.json: broken JSON"):
        application(reviewed, KEY)
    assert (reviewed / "verdicts.json").read_text() == "{"


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "detcam.report.serve")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UsageError, match=r"needs uvicorn: pip install starlette uvicorn"):
        import detcam.report.serve  # noqa: F401
