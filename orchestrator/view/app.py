"""The addresses of the page: its files, the stream of changes, details, changes of links and reports."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.errors import (
    ControllerUnreachable,
    FileInvalid,
    InternalError,
    LabNotFound,
    NmError,
    UsageError,
)
from orchestrator.protocol import BadRequest
from orchestrator.view import details
from orchestrator.view.access import RequestRefused
from orchestrator.view.actions import change_link
from orchestrator.view.feed import Feed
from orchestrator.view.folders import MOST_BYTES, ResultFolders
from orchestrator.view.source import Source

__all__ = ["View", "make_app"]

KEEP_ALIVE_S = 15.0
"""A stream on which nothing happens says so this often, so that the browser knows that it lasts."""

MOST_REQUEST = 64 * 1024
"""Bytes of a request."""

KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

# A report is a page of its own with its styles in it, and without scripts. In a sandbox it has no origin, so
# that nothing in it can ask for anything of the lab.
REPORT_POLICY = (
    "sandbox; default-src 'none'; script-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "font-src data:; frame-ancestors 'none'"
)

Handler = Callable[[Request], Awaitable[Response]]


class View:
    """Answers requests.

    Args:
        feed: What follows the lab.
        source: The lab's controller.
        lab: The lab, for logs and services.
        folders: The results folders of runs.
    """

    def __init__(self, feed: Feed, source: Source, lab: details.Lab, folders: ResultFolders) -> None:
        self._feed = feed
        self._source = source
        self._lab = lab
        self._folders = folders

    async def page(self, request: Request) -> Response:
        """Return the page."""
        return _asset("index.html")

    async def asset(self, request: Request) -> Response:
        """Return a file of the page."""
        return _asset(request.path_params["name"])

    async def stream(self, request: Request) -> Response:
        """Return the state, and then its changes, as server-sent events."""
        return StreamingResponse(self._frames(), media_type="text/event-stream")

    async def node(self, request: Request) -> Response:
        """Return what a node shows when it is chosen."""
        node = self._node(request)
        names = {int(key): entry["name"] for key, entry in self._feed.board.section("nodes").items()}
        return JSONResponse(
            {
                "id": node,
                "counters": details.counters(self._feed.sample(node)),
                "routes": await details.routes_of(self._source, node, names),
                "services": await self._lab.services_of(node),
                "logs": [f"node-{node}", "controller"],
            }
        )

    async def log(self, request: Request) -> Response:
        """Return the last lines of a log."""
        part = request.path_params["part"]
        if not await self._has_log(part):
            raise RequestRefused(f"there is no log `{part}`", status=404, id="view.not-found")
        return JSONResponse(await details.log_lines(self._lab, part))

    async def link(self, request: Request) -> Response:
        """Return the keys of a link that can be changed."""
        a, b = request.path_params["a"], request.path_params["b"]
        keys = details.link_keys(await self._source.status(), a, b)
        if keys is None:
            raise RequestRefused(f"there is no link {a}–{b}", status=404, id="view.not-found")
        return JSONResponse({"a": a, "b": b, "keys": keys})

    async def change(self, request: Request) -> Response:
        """Change a link."""
        a, b = request.path_params["a"], request.path_params["b"]
        try:
            return JSONResponse(await change_link(self._source, a, b, await _body(request)))
        finally:
            self._feed.changed()

    async def report(self, request: Request) -> Response:
        """Return the report of a run."""
        name = request.path_params["folder"]
        path = self._folders.report(name)
        if path is None or path.stat().st_size > MOST_BYTES:
            raise RequestRefused(f"there is no report in `{name}`", status=404, id="view.not-found")
        headers = {"content-security-policy": REPORT_POLICY}
        return Response(path.read_bytes(), media_type="text/html", headers=headers)

    async def _has_log(self, part: str) -> bool:
        """Return whether this is the controller, a node (`node-3`) or a service (`3/redis`)."""
        nodes = self._feed.board.section("nodes")
        if part == "controller" or (part.startswith("node-") and part.removeprefix("node-") in nodes):
            return True
        node, _, service = part.partition("/")
        known = await self._lab.services_of(int(node)) if node in nodes else []
        return any(each["service"] == service for each in known)

    async def _frames(self) -> AsyncIterator[bytes]:
        async for data in self._feed.board.subscribe(KEEP_ALIVE_S):
            yield data

    def _node(self, request: Request) -> int:
        node: int = request.path_params["node"]
        if str(node) not in self._feed.board.section("nodes"):
            raise RequestRefused(f"there is no node {node} in this lab", status=404, id="view.not-found")
        return node


def make_app(view: View) -> Starlette:
    """Return the application."""
    routes = [
        Route("/", view.page),
        Route("/assets/{name:path}", view.asset),
        Route("/api/stream", view.stream),
        Route("/api/nodes/{node:int}", view.node),
        Route("/api/logs/{part:path}", view.log),
        Route("/api/links/{a:int}/{b:int}", view.link, methods=["GET"]),
        Route("/api/links/{a:int}/{b:int}", view.change, methods=["POST"]),
        Route("/reports/{folder}", view.report),
    ]
    return Starlette(routes=routes, exception_handlers={NmError: _failed, Exception: _crashed})


async def _failed(request: Request, error: Exception) -> Response:
    """Answer with an error of ours, as `-o json` shows it."""
    assert isinstance(error, NmError)
    return JSONResponse(error.as_json(), status_code=_status_of(error))


async def _crashed(request: Request, error: Exception) -> Response:
    bug = InternalError(f"{type(error).__name__}: {error}")
    return JSONResponse(bug.as_json(), status_code=500)


def _status_of(error: NmError) -> int:
    if isinstance(error, RequestRefused):
        return error.status
    if isinstance(error, LabNotFound | ControllerUnreachable):
        return 503
    return 400 if isinstance(error, UsageError | FileInvalid | BadRequest) else 409


def _asset(name: str) -> Response:
    """Return a file of the page; nothing else is below its folder."""
    root = files("orchestrator.view") / "assets"
    parts = name.split("/")
    suffix = name[name.rfind(".") :]
    if suffix not in KINDS or any(part in ("", ".", "..") for part in parts):
        raise RequestRefused(f"there is no file `{name}`", status=404, id="view.not-found")
    file = root.joinpath(*parts)
    if not file.is_file():
        raise RequestRefused(f"there is no file `{name}`", status=404, id="view.not-found")
    return Response(file.read_bytes(), media_type=KINDS[suffix])


async def _body(request: Request) -> object:
    """Return the JSON of a request.

    Raises:
        RequestRefused: It is too long, or no JSON.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_REQUEST:
            raise RequestRefused(f"a request has at most {MOST_REQUEST} bytes", status=413, id="view.request")
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError):
        raise RequestRefused("the request is no JSON", status=400, id="view.request") from None
