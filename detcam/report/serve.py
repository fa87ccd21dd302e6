"""A report served to this machine alone, so that its verdicts are kept on disk.

It listens on the loopback only, serves the report's own files and nothing else that lies beside them, and takes changes
from its own pages only; :mod:`detcam.report.guard` says who may ask.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detcam.errors import UsageError
from detcam.io.documents import parse_json
from detcam.report.build import STATIC, build_report
from detcam.report.kept import BrokenVerdictsError, KeptVerdicts

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles
    from starlette.types import ASGIApp, Scope

    from detcam.report.guard import Guard, ImpatientProtocol
except ModuleNotFoundError as error:
    raise UsageError(f"serving a report needs {error.name}: pip install starlette uvicorn") from error

LOOPBACK = "127.0.0.1"
NAMES = [LOOPBACK, "localhost"]
LARGEST_CHANGE = 2**24
"""Bytes of a request: all verdicts of a large review, read back from a file, are one."""
PAGES = ("index.html", "data.js", *STATIC)
PICTURES = ("images", "thumbs", "heat", "causes")


def serve(run: Path, port: int = 0, *, ready: Callable[[str], object]) -> None:
    """Serve a review's report on the loopback until interrupted; verdicts go to ``verdicts.json`` in the run folder.

    Args:
        run: the run folder; its report is built where there is none.
        port: to listen on; 0 takes a free one.
        ready: called with the address once it is listened on. The key in it is new each time; without it nothing is
            answered.

    Raises:
        UsageError: not the run folder of a review, or the port is taken.
    """
    key = secrets.token_urlsafe(24)
    served = application(run, key)
    try:
        listener = socket.create_server((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        raise UsageError(f"port {port} cannot be listened on: {error}; 0 takes a free one") from error
    with listener:
        server = uvicorn.Server(server_settings(served))
        ready(f"http://{LOOPBACK}:{listener.getsockname()[1]}/?key={key}")
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def server_settings(served: ASGIApp) -> uvicorn.Config:
    """How an application is served: plain HTTP, and no more of it than a report needs.

    Args:
        served: :func:`application`.
    """
    return uvicorn.Config(
        served, log_level="error", http=ImpatientProtocol, ws="none", lifespan="off", proxy_headers=False,
        server_header=False, timeout_keep_alive=5, timeout_graceful_shutdown=2,
    )  # fmt: skip


def application(run: Path, key: str) -> ASGIApp:
    """The server's application: the report's files, and ``api/verdicts`` to read (GET) and to change (PATCH).

    Args:
        run: the run folder of a review; its report is built where there is none.
        key: what a request has to know: ``?key=`` in the first one's address, a cookie in those that follow.

    Raises:
        UsageError: not the run folder of a review.
    """
    verdicts = KeptVerdicts(run)
    if not (run / "report" / "index.html").is_file():
        build_report(run)

    async def read(_: Request) -> Response:
        return Response(json.dumps(verdicts.entries()), media_type="application/json")

    async def change(request: Request) -> Response:
        if request.headers.getlist("origin") != [f"http://{request.headers['host']}"]:
            return PlainTextResponse("verdicts are changed by the report's own page only", 403)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return PlainTextResponse("verdicts are sent as application/json", 415)
        try:
            verdicts.change(parse_json(await _body(request)))
        except BrokenVerdictsError as error:
            return PlainTextResponse(_words(error), 409)
        except UsageError as error:  # no verdicts; no JSON
            return PlainTextResponse(_words(error), 400)
        except OSError as error:
            return PlainTextResponse(f"{verdicts.path} cannot be written: {error.strerror}", 507)
        return Response(status_code=204)

    routes = [
        Route("/api/verdicts", read),
        Route("/api/verdicts", change, methods=["PATCH"]),
        Mount("/", _ReportFiles(directory=run / "report", html=True)),
    ]
    return Guard(Starlette(routes=routes), key, NAMES)


async def _body(request: Request) -> bytes:
    """The whole of a request, however its length was declared.

    Raises:
        HTTPException: 413 where it is larger than :data:`LARGEST_CHANGE`; 400 where it breaks off.
    """
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_CHANGE:
                raise HTTPException(413, f"more than {LARGEST_CHANGE:,} bytes", {"Connection": "close"})
    except ClientDisconnect as error:
        raise HTTPException(400, "the request broke off") from error
    return bytes(body)


def _words(error: Exception) -> str:
    """A message that may quote what was sent, as text that can be sent back."""
    return str(error).encode("utf-8", "backslashreplace").decode()


class _ReportFiles(StaticFiles):
    """The files that a report is made of; others that lie in its folder, and links, are not there."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """See :class:`starlette.staticfiles.StaticFiles`."""
        parts = Path(path).parts
        picture = len(parts) == 3 and parts[0] == "pictures" and parts[1] in PICTURES
        if not (path in (".", *PAGES) or (picture and Path(path).suffix in (".jpg", ".png"))):
            raise HTTPException(404)
        try:
            return await super().get_response(path, scope)
        except OSError as error:
            raise HTTPException(404) from error

    def lookup_path(self, path: str) -> tuple[str, Any]:
        """See :class:`starlette.staticfiles.StaticFiles`."""
        found, status = super().lookup_path(path)
        linked = any((Path(str(self.directory), part)).is_symlink() for part in (path, *map(str, Path(path).parents)))
        return ("", None) if linked else (found, status)
