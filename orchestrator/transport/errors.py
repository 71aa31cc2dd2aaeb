"""Errors of a control connection."""

from __future__ import annotations

from orchestrator.errors import NmError

__all__ = ["Disconnected", "RequestTimeout"]


class Disconnected(NmError):
    """The connection has ended; what was not acknowledged may or may not have arrived."""

    id = "control.disconnected"
    exit_code = 5


class RequestTimeout(NmError):
    """The peer did not answer a request in time."""

    id = "control.timeout"
    exit_code = 5
