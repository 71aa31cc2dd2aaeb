"""The REST API as part of the controller; what HTTP needs is loaded with the first request.

A thread imports it, so that the controller's other connections are served meanwhile. The controller of a lab
that nobody asks over HTTP does not load it at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING

from orchestrator.controller.rest.table import METRICS, PREFIX
from orchestrator.transport import Connection

if TYPE_CHECKING:
    from orchestrator.controller.rest.connections import Connections

__all__ = ["RestApi"]


class RestApi:
    """Handles the HTTP connections of a controller; see `orchestrator.transport.HttpApi`.

    Args:
        open_operator: Returns a connection as operator; each request has one of its own.
        token: The operator's token.
    """

    def __init__(self, open_operator: Callable[[], Connection], token: str) -> None:
        self._open_operator = open_operator
        self._token = token
        self._loading: asyncio.Future[Connections] | None = None

    def takes(self, path: str) -> bool:
        """Tell whether requests with this path are for the API; `/control` and `/healthz` are not."""
        return path.startswith(f"{PREFIX}/") or path == METRICS

    async def protocol(self) -> asyncio.Protocol | None:
        """Return the protocol for a new connection, None when there are too many."""
        if self._loading is None:
            self._loading = asyncio.get_running_loop().run_in_executor(None, self._load)
        connections = await asyncio.shield(self._loading)
        return connections.protocol()

    async def close(self) -> None:
        """End all connections."""
        if self._loading is not None:
            await (await self._loading).close()

    def _load(self) -> Connections:
        from orchestrator.controller.rest.app import Parts, application
        from orchestrator.controller.rest.connections import Connections

        version = metadata.version("nm-testbed")
        return Connections(application(Parts(self._open_operator, self._token, version)))
