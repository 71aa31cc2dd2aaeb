"""Move protocol frames between a peer and the controller, without interpreting them.

connect       a client's authenticated websocket connection
reconnecting  the same, reconnecting with growing pauses
serve, admit  the controller's side, with plain HTTP on the same port
memory_pair   two ends without a socket, for tests and for nodes in the controller's own process
"""

from __future__ import annotations

from orchestrator.transport.client import connect, introduce, reconnecting
from orchestrator.transport.connection import Connection, OnReply
from orchestrator.transport.errors import Disconnected, RequestTimeout
from orchestrator.transport.first_line import HttpApi
from orchestrator.transport.pipes import MemoryPipe, Pipe, WebSocketPipe
from orchestrator.transport.server import CONTROL_PATH, Handler, HttpHandler, Server, admit, serve
from orchestrator.transport.tls import server_context

__all__ = [
    "CONTROL_PATH",
    "Connection",
    "Disconnected",
    "Handler",
    "HttpApi",
    "HttpHandler",
    "MemoryPipe",
    "OnReply",
    "Pipe",
    "RequestTimeout",
    "Server",
    "WebSocketPipe",
    "admit",
    "connect",
    "introduce",
    "memory_pair",
    "reconnecting",
    "serve",
    "server_context",
]


def memory_pair() -> tuple[Connection, Connection]:
    """Return both ends of a connection in memory; neither has introduced itself yet."""
    one, other = MemoryPipe.pair()
    return Connection(one), Connection(other)
