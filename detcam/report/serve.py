"""A report served to this machine alone, so that its verdicts are kept on disk.

Any page in the same browser can send requests to a local port. So the server listens on the loopback only, answers only
to its own names (a foreign name pointed at the loopback is another), takes changes from its own pages only, and lets
no other page embed what it serves.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from detcam.errors import UsageError
from detcam.io.files import write_whole
from detcam.report.build import build_report
from detcam.runs.reading import open_run
from detcam.runs.verdicts import check_verdict

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles
except ModuleNotFoundError as error:
    raise UsageError(f"serving a report needs {error.name}: pip install starlette uvicorn") from error

LOOPBACK = "127.0.0.1"
NAMES = [LOOPBACK, "localhost"]
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(run: Path, port: int = 0, *, ready: Callable[[str], object]) -> None:
    """Serve a review's report on the loopback until interrupted; verdicts go to ``verdicts.json`` in the run folder.

    Args:
        run: the run folder; its report is built where there is none.
        port: to listen on; 0 takes a free one.
        ready: called with the address once it is listened on.

    Raises:
        UsageError: not the run folder of a review, or the port is taken.
    """
    served = application(run)
    try:
        listener = socket.create_server((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        raise UsageError(f"port {port} cannot be listened on: {error}; 0 takes a free one") from error
    with listener:
        server = uvicorn.Server(uvicorn.Config(served, log_level="warning"))
        ready(f"http://{LOOPBACK}:{listener.getsockname()[1]}/")
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def application(run: Path) -> Starlette:
    """The server's application: the report's files, and ``api/verdicts`` to read (GET) and to change (PATCH).

    Args:
        run: the run folder of a review; its report is built where there is none.

    Raises:
        UsageError: not the run folder of a review.
    """
    verdicts = Verdicts(run)
    if not (run / "report" / "index.html").is_file():
        build_report(run)

    async def read(_: Request) -> Response:
        return JSONResponse(verdicts.entries)

    async def change(request: Request) -> Response:
        if request.headers.get("origin") != f"http://{request.headers['host']}":
            return PlainTextResponse("verdicts are changed by the report's own page only", 403)
        try:
            verdicts.change(json.loads(await request.body()))
        except (UsageError, ValueError) as error:  # no verdicts; no JSON
            return PlainTextResponse(str(error), 400)
        except OSError as error:
            return PlainTextResponse(f"{verdicts.path} cannot be written: {error.strerror}", 507)
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/api/verdicts", read),
            Route("/api/verdicts", change, methods=["PATCH"]),
            Mount("/", StaticFiles(directory=run / "report", html=True)),
        ],
        middleware=[
            Middleware(BaseHTTPMiddleware, dispatch=_guarded),
            Middleware(TrustedHostMiddleware, allowed_hosts=NAMES),
        ],
    )


class Verdicts:
    """A run's verdicts in memory and on disk, the same in both.

    Args:
        run: the run folder of a review.

    Raises:
        UsageError: not such a folder, or its ``verdicts.json`` is broken.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "verdicts.json"
        opened = open_run(run)
        self.entries = opened.verdicts()
        self._known = {row_id for name in ("detections", "misses") for row_id in opened.table(name)["id"]}

    def change(self, patch: Any) -> None:
        """Set or remove verdicts; nothing changes where one of them is wrong.

        Args:
            patch: entries by id, see :func:`detcam.runs.verdicts.check_verdict`; None removes one.

        Raises:
            UsageError: the patch is no object, has an id the run does not have, or an entry that is no verdict.
            OSError: the file cannot be written.
        """
        if not isinstance(patch, dict):
            raise UsageError(f"verdicts must be an object of ids, got {patch!r:.200}")
        for name, entry in patch.items():
            if name not in self._known:
                raise UsageError(f"the run has no case {name!r:.200}")
            if entry is not None:
                check_verdict(name, entry)
        entries = {name: entry for name, entry in (self.entries | patch).items() if entry is not None}
        text = json.dumps(entries, indent=1)
        write_whole(self.path, lambda file: file.write(text.encode("ascii")))
        self.entries = entries


async def _guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await answer(request)
    response.headers.update(HEADERS)
    return response
