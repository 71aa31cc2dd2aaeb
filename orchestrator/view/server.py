"""Serve the page on loopback until the command ends."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import HostNotFit

if TYPE_CHECKING:
    from orchestrator.deploy.home import LabDirectory
    from orchestrator.lab import AsyncLab

__all__ = ["Address", "serve"]

END_S = 1
"""How long open requests may take when the command ends."""


@dataclass(frozen=True)
class Address:
    """Where the page is.

    Attributes:
        port: Of loopback.
        token: What a request has to show.
    """

    port: int
    token: str

    @property
    def url(self) -> str:
        """What to open in a browser; only the first visit needs the token."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"


async def serve(
    lab: AsyncLab, directory: LabDirectory, *, port: int, results: Path, ready: Callable[[Address], None]
) -> None:
    """Serve the page of a lab until cancelled.

    Args:
        lab: The lab.
        directory: Where it is.
        port: Where to listen; 0 for a free port.
        results: The folder in which runs get their results folders.
        ready: Told where the page is, once it can be opened.

    Raises:
        HostNotFit: The extra `view` is not installed (`view.not-installed`), or the port is taken
            (`view.port`).
    """
    try:
        import uvicorn

        from orchestrator.view.app import View, make_app
    except ModuleNotFoundError as error:
        raise HostNotFit(
            f"the page needs the module `{error.name}`, which is not installed",
            id="view.not-installed",
            hint="pip install 'nm-testbed[view]'",
        ) from error
    from orchestrator.view import picture
    from orchestrator.view.access import Guard
    from orchestrator.view.details import LocalLab
    from orchestrator.view.feed import Feed
    from orchestrator.view.folders import ResultFolders
    from orchestrator.view.source import LabSource

    with contextlib.closing(_listen(port)) as listener:
        address = Address(listener.getsockname()[1], secrets.token_urlsafe(32))
        source = LabSource(directory)
        folders = ResultFolders(results)
        file = lab.note.topology
        feed = Feed(source, folders, lambda: picture.positions(picture.with_generator(lab.topology, file)))
        app = Guard(make_app(View(feed, source, LocalLab(lab), folders)), address.port, address.token)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=END_S,
        )
        server = uvicorn.Server(config)
        try:
            await feed.prepare()
            async with asyncio.TaskGroup() as group:
                following = group.create_task(feed.run())
                serving = group.create_task(server.serve(sockets=[listener]))
                ready(address)
                serving.add_done_callback(lambda _: following.cancel())
        finally:
            server.should_exit = True
            await source.close()


def _listen(port: int) -> socket.socket:
    """Return a socket that listens on loopback.

    Raises:
        HostNotFit: The port is taken, or not ours to take.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise HostNotFit(
            f"port {port} of loopback cannot be used: {error.strerror}",
            id="view.port",
            found=str(port),
            hint="`--port` names another; without it a free one is taken",
        ) from error
    listener.setblocking(False)
    return listener
