"""Who may ask the report's server, and for what: looked at before a request reaches anything else.

Any page in the same browser, and any process of this machine, can send requests to a local port. So the server answers
to its own names only (a foreign name pointed at the loopback is another), and to those who know its key: a word that is
new at each start and part of the address that is printed. The page which that address opens gets it as a cookie.
Reading needs it too, because the pictures and the paths in a report are readable by their owner's processes alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

import h11
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 100
"""At once; a browser opens six."""
PATIENCE = 10.0
"""Seconds in which a request has to be there as a whole."""
LONGEST_PATH = 500
"""Characters; the report's own are shorter than 40."""
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Hands on what may be asked, and refuses the rest in a line of plain text.

    Args:
        inner: what answers.
        key: what a request has to know.
        names: what the server is called, without a port.
    """

    def __init__(self, inner: ASGIApp, key: str, names: Sequence[str]) -> None:
        self._inner, self._key, self._names = inner, key, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        port = (scope.get("server") or ("", 0))[1]
        cookie = f"detcam-{port}"  # browsers tell cookies apart by their host, and not by its port
        named = parse_qs(scope["query_string"].decode("latin-1")).get("key", [])
        first = len(named) == 1 and self._fits(named[0])

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if first:
                    headers["Set-Cookie"] = f"{cookie}={self._key}; Path=/; HttpOnly; SameSite=Strict"
            await send(message)

        refusal = self._refusal(request, first or self._fits(_cookie(request, cookie)))
        await (refusal or self._inner)(scope, receive, answer)

    def _refusal(self, request: Request, known: bool) -> PlainTextResponse | None:
        hosts = request.headers.getlist("host")
        port = (request.scope.get("server") or ("", 0))[1]
        if len(hosts) != 1 or hosts[0].lower() not in [f"{name}:{port}" for name in self._names]:
            return PlainTextResponse("not the name of this server", 400)
        if not known:
            return PlainTextResponse("open the address that detcam printed: it holds the key to this report", 403)
        path = request.scope["path"]
        if len(path) > LONGEST_PATH:
            return PlainTextResponse("no such page", 414)
        if any(letter < " " or letter in "\\\x7f" for letter in path) or ".." in path.split("/"):
            return PlainTextResponse("no such page", 404)
        return None

    def _fits(self, given: str) -> bool:
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._key.encode())


def _cookie(request: Request, name: str) -> str:
    cookies: SimpleCookie = SimpleCookie()
    for line in request.headers.getlist("cookie"):
        try:
            cookies.load(line)
        except CookieError:
            return ""
    return cookies[name].value if name in cookies else ""


class ImpatientProtocol(H11Protocol):
    """Hangs up on those who open connections and do not ask, or never come to an end; uvicorn waits for ever."""

    def connection_made(self, transport: Any) -> None:
        """See :class:`asyncio.Protocol`."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.close()
            return
        self.loop.call_later(PATIENCE, self._look, None)

    def _look(self, before: Any) -> None:
        if self.transport.is_closing():
            return
        waiting = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if waiting and self.cycle is before:
            self.transport.close()
            return
        self.loop.call_later(PATIENCE, self._look, self.cycle)
