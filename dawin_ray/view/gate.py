"""Who is let in: one browser, by a token that is used once, under our own host name.

The token stands in the address that the terminal shows. The first page that is asked for with it
gets a cookie in exchange, which no script can read and no other site can send; a second one is told
no. What is answered may not be framed, may load nothing from elsewhere, and is in no cache.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"

HOSTS = ("127.0.0.1", "localhost", "[::1]")  # with any port, as tunnels have others

CSP = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # an address holds names of the data
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

METHODS = ("GET", "HEAD")

# A strict cookie does not come with a link on another site's page, but does with one on this.
AGAIN = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>401</title>'
    "<p>401: this page wants the address that dawin-ray view printed, which works once, in one "
    "browser. Start it again for another one."
    '<p>Where a link of another page led here, <a href="">open this page again</a>.'
)


class Gate:
    """ASGI middleware: host, method, origin and cookie are checked before a page is made."""

    def __init__(self, app: ASGIApp, token: str, port: int):
        """`token` opens it once; the cookie's name has the `port`, as cookies do not tell ports."""
        self.app, self.cookie = app, f"dawin_ray_view_{port}"
        self._token: str | None = token
        self._secret = secrets.token_urlsafe(32)
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request, or the start and end of the server."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no sockets

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _with_headers(message["headers"])
            await send(message)

        answer = self._refusal(Request(scope))
        await (answer or self.app)(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        """What is answered in place of a page; None lets the request in."""
        if request.headers.get("host", "").lower().rpartition(":")[0] not in HOSTS:
            return PlainTextResponse("403: not under this host name", 403)
        if request.method not in METHODS:
            return PlainTextResponse("405: this server only shows", 405)
        site, mode = (request.headers.get(f"sec-fetch-{name}") for name in ("site", "mode"))
        if site not in (None, "none", "same-origin") and mode != "navigate":
            return PlainTextResponse("403: not for another page", 403)
        if secrets.compare_digest(
            request.cookies.get(self.cookie, "").encode(), self._secret.encode()
        ):
            return None
        asked = request.method == "GET" and request.url.path == "/"
        if asked and self._takes(request.query_params.get(TOKEN, "")):
            answer = RedirectResponse("/", 303)  # the token is in no page's address
            answer.set_cookie(self.cookie, self._secret, httponly=True, samesite="strict", path="/")
            return answer
        return HTMLResponse(AGAIN, 401)

    def _takes(self, token: str) -> bool:
        """Whether it is the token, which is none afterwards."""
        with self._lock:
            if self._token is None or not secrets.compare_digest(
                token.encode(), self._token.encode()
            ):
                return False
            self._token = None
            return True


def _with_headers(given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    found = list(given)
    names = {name.lower() for name, _ in found}
    return found + [
        (name.encode(), value.encode())
        for name, value in HEADERS.items()
        if name.encode() not in names
    ]
