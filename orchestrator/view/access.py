"""Check who asks for the page, and state what a browser may do with the answer.

Whoever has the token may change the lab. The token is in the address that `nm view` prints; the first visit
puts it into a cookie that scripts cannot read. Three attacks are refused besides requests without it: a page
of another site whose name was made to point to loopback (the `Host` header names that site), a page of
another site that sends a form or a script's request (its `Origin` is not ours), and text from the lab that
contains a script (no script runs that is not a file of ours).
"""

from __future__ import annotations

import json
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from orchestrator.errors import NmError
from orchestrator.protocol.tokens import token_matches

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADERS", "Guard", "RequestRefused"]

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every answer that does not state its own."""

_READS = ("GET", "HEAD")


class RequestRefused(NmError):
    """A request to the page that is refused."""

    id = "view.refused"
    exit_code = 2

    def __init__(self, message: str, *, status: int, id: str, hint: str | None = None) -> None:
        super().__init__(message, id=id, hint=hint)
        self.status = status


class Guard:
    """Lets requests pass that show the token, and adds headers to the answers.

    Args:
        app: What answers.
        port: Where it listens on loopback.
        token: What a request has to show.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self._app = app
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self._token = token
        self._cookie = f"nm-view-{port}"  # cookies are shared by all ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                stated = {name.lower() for name, _ in message.get("headers", [])}
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                kept = [pair for pair in added if pair[0] not in stated]
                message["headers"] = [*message.get("headers", []), *kept]
            await send(message)

        try:
            if self._is_first_visit(scope):
                await self._answer(
                    with_headers, 303, [("location", "/"), ("set-cookie", self._cookie_line())]
                )
                return
            self.check(scope)
        except RequestRefused as error:
            text = json.dumps(error.as_json()) if scope["path"].startswith("/api/") else error.render() + "\n"
            kind = "application/json" if text.startswith("{") else "text/plain; charset=utf-8"
            await self._answer(with_headers, error.status, [("content-type", kind)], text)
            return
        await self._app(scope, receive, with_headers)

    def check(self, scope: Scope) -> None:
        """Check a request.

        Raises:
            RequestRefused: It may not be answered.
        """
        headers = _headers(scope)
        self._check_host(headers)
        shown = self._shown(headers)
        if shown is None:
            raise RequestRefused(
                "this page needs the token of `nm view`",
                status=401,
                id="view.no-token",
                hint="open the address that `nm view` prints",
            )
        self._check_token(shown)
        if scope["method"] in _READS:
            return
        origin = headers.get("origin")
        if origin is not None and origin not in [f"http://{host}" for host in self._hosts]:
            raise RequestRefused(f"a page of {origin} may not change the lab", status=403, id="view.origin")
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise RequestRefused("a change is sent as application/json", status=415, id="view.content-type")

    def _is_first_visit(self, scope: Scope) -> bool:
        """Return whether this is the address that `nm view` prints, with the right token."""
        words = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if scope["path"] != "/" or "token" not in words:
            return False
        self._check_host(_headers(scope))
        self._check_token(words["token"][0])
        return True

    def _check_host(self, headers: dict[str, str]) -> None:
        if headers.get("host") not in self._hosts:
            raise RequestRefused(
                "this page is served on loopback only",
                status=403,
                id="view.host",
                hint=f"http://{self._hosts[0]}/",
            )

    def _check_token(self, shown: str) -> None:
        if not token_matches(shown, self._token):
            raise RequestRefused(
                "the token is not that of this `nm view`",
                status=403,
                id="view.token",
                hint="each `nm view` has a token of its own; open the address that it prints",
            )

    def _shown(self, headers: dict[str, str]) -> str | None:
        """Return the token that a request shows, None for none."""
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return rest.strip()
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return None
        return None if cookie is None else cookie.value

    def _cookie_line(self) -> str:
        return f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"

    async def _answer(self, send: Send, status: int, headers: list[tuple[str, str]], text: str = "") -> None:
        body = text.encode()
        pairs = [*headers, ("content-length", str(len(body)))]
        encoded = [(name.encode(), value.encode()) for name, value in pairs]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
