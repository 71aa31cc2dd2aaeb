"""The application behind the REST API: the token, the routes of the table, and the websocket of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.routing import Route as HttpRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from orchestrator.controller.rest.document import openapi
from orchestrator.controller.rest.errors import RETRY_AFTER_S, RequestInvalid, status_of
from orchestrator.controller.rest.prometheus import CONTENT_TYPE, exposition
from orchestrator.controller.rest.requests import message_of, parameter
from orchestrator.controller.rest.schema import as_json
from orchestrator.controller.rest.table import ANSWER_S, METRICS, PREFIX, ROUTES, STREAM, Route
from orchestrator.errors import NmError
from orchestrator.protocol import messages as m
from orchestrator.protocol.schema import U64
from orchestrator.protocol.tokens import token_matches
from orchestrator.transport import Connection

__all__ = ["Parts", "application"]

MAX_BODY = 1024 * 1024
"""Bytes of a body; the largest that makes sense, a partition of thousands of nodes, has a tenth of it."""

MAX_DISCARDED = 32 * 1024 * 1024
"""Bytes of a body that is too large which are read and discarded, so that the sender reads the answer."""

BODY_S = 10.0
"""Seconds that a body may take to arrive: a megabyte over any network that is fit for a lab."""

DOCUMENT = f"{PREFIX}/openapi.json"
"""The path of the OpenAPI document; it says nothing about the lab, and needs no token."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is built from.

    Attributes:
        open_operator: Returns a connection as operator; each request has its own.
        token: The operator's token.
        version: Of nm, for the OpenAPI document.
    """

    open_operator: Callable[[], Connection]
    token: str = field(repr=False)
    version: str


def application(parts: Parts) -> ASGIApp:
    """Return the application."""
    routes: list[BaseRoute] = [
        HttpRoute(PREFIX + each.path, _endpoint(parts, each), methods=[each.verb]) for each in ROUTES
    ]
    document = json.dumps(openapi(parts.version)).encode()

    async def show_document(request: Request) -> Response:
        return Response(document, media_type="application/json")

    routes.append(HttpRoute(DOCUMENT, show_document, methods=["GET"]))
    routes.append(HttpRoute(METRICS, _metrics(parts), methods=["GET"]))
    routes.append(WebSocketRoute(STREAM, _stream(parts)))
    handlers = {HTTPException: _no_route, NmError: _refused, ClientDisconnect: _left}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return _Authenticated(app, parts.token)


class _Authenticated:
    """Lets requests with the token pass, and those for the document."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == DOCUMENT or self._shown(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        error = RequestInvalid(
            "the operator's token is missing or wrong",
            id="rest.token",
            expected="the header `Authorization: Bearer TOKEN`",
            hint="`nm inspect -o json` names its file as `token_file`",
        )
        if scope["type"] == "http":
            await _read_body(Request(scope, receive), discard=True)
            await _response(error)(scope, receive, send)
        else:
            await WebSocket(scope, receive, send).send_denial_response(_response(error))

    def _shown(self, headers: Headers) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and token_matches(token.strip(), self._token)


def _endpoint(parts: Parts, route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        body = await _read_body(request) if route.body else b""
        message, params = message_of(route, request.path_params, request.query_params.multi_items(), body)
        connection = parts.open_operator()
        try:
            reply = await connection.request(message, within=route.within)
            made = route.answer.make(reply, connection.take(), params)
        finally:
            await connection.close(grace=0)
        return _json(as_json(made))

    return answer


def _metrics(parts: Parts) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        connection = parts.open_operator()
        try:
            state = await connection.request(m.GetMetrics(), within=ANSWER_S)
            frames = connection.take()
        finally:
            await connection.close(grace=0)
        assert isinstance(state, m.MetricsState), "the controller answers a request with its reply"
        nodes = [(each.node, each.message) for each in frames if isinstance(each.message, m.NodeMetrics)]
        # In a thread: the text of a thousand nodes takes some 100 ms, in which messages would wait.
        text = await asyncio.to_thread(exposition, nodes, state)
        return Response(text, media_type=CONTENT_TYPE)

    return answer


def _stream(parts: Parts) -> Callable[[WebSocket], Awaitable[None]]:
    async def stream(socket: WebSocket) -> None:
        try:
            after = parameter("after", socket.query_params.get("after", "0"), U64)
        except RequestInvalid as error:
            await socket.send_denial_response(_response(error))
            return
        connection = parts.open_operator()
        try:
            await connection.request(m.WatchEvents(after), within=ANSWER_S)
            await socket.accept()
            tasks = [
                asyncio.create_task(_send_events(connection, socket)),
                asyncio.create_task(_wait_end(socket)),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await connection.close(grace=0)

    return stream


async def _send_events(connection: Connection, socket: WebSocket) -> None:
    """Send each event as a text message of one JSON object."""
    async for frame in connection:
        if isinstance(frame.message, m.Events):
            for event in frame.message.events:
                await socket.send_text(json.dumps(as_json(event)))
    await socket.close(1001, "the controller is stopped")


async def _wait_end(socket: WebSocket) -> None:
    """Wait until the client has left; what it says is ignored."""
    try:
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass
    except WebSocketDisconnect:
        pass


async def _read_body(request: Request, *, discard: bool = False) -> bytes:
    """Return the body of a request.

    Args:
        request: The request.
        discard: Return nothing, and keep nothing.

    Raises:
        RequestInvalid: It is too large, or too slow.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > MAX_DISCARDED:
                    break
                if size <= MAX_BODY and not discard:
                    parts.append(part)
    except TimeoutError:
        raise RequestInvalid(
            f"the body did not arrive within {BODY_S:g} s", id="rest.slow", found=f"{size} bytes"
        ) from None
    if size > MAX_BODY and not discard:
        raise RequestInvalid(
            f"the body has more than {MAX_BODY} bytes",
            id="rest.too-large",
            expected=f"at most {MAX_BODY} bytes",
        )
    return b"".join(parts)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(value, ensure_ascii=False).encode(errors="replace") + b"\n"
    return Response(body, status, headers, media_type="application/json")


def _response(error: NmError) -> Response:
    status = status_of(error)
    headers = {}
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    elif status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    elif status in (408, 413):
        headers["Connection"] = "close"
    return _json(error.as_json(), status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, NmError), "registered for this class"
    return _response(error)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for this class"
    if error.status_code == 405:
        allow = dict(error.headers or {}).get("Allow", "")
        refused = RequestInvalid(
            f"{request.url.path} does not have {request.method}", id="rest.method", expected=allow
        )
        response = _response(refused)
        response.headers["Allow"] = allow
        return response
    refused = RequestInvalid(
        f"there is no {request.url.path[:200]}", id="rest.no-route", hint=f"{DOCUMENT} lists all paths"
    )
    return _response(refused)


async def _left(request: Request, error: Exception) -> Response:
    """Answer nobody: the client has closed the connection while its body was read."""
    return Response(status_code=400)
