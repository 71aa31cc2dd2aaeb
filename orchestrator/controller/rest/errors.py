"""What is wrong with an HTTP request before it is a message, and the status of every error."""

from __future__ import annotations

from orchestrator.errors import NmError, UsageError

__all__ = ["RETRY_AFTER_S", "STATUSES", "RequestInvalid", "status_of"]

RETRY_AFTER_S = 1
"""What `Retry-After` says: Postgres and the controller's nodes are usually back within a second."""

STATUSES = {
    400: "The request makes no sense: a parameter, the body, or what it asks for.",
    401: "The token is missing or wrong.",
    404: "There is no such path, node, link, group or run.",
    405: "The path does not have this verb.",
    408: "The body did not arrive in time.",
    409: "What it asks for does not go with the state of the lab.",
    413: "The body is too large.",
    503: "Not now: Postgres is away, or nodes have not confirmed in time; repeat it after `Retry-After`.",
}
"""The statuses of errors, with what they mean."""


class RequestInvalid(UsageError):
    """A request to the REST API that cannot be read."""

    id = "rest.request"


_BY_ID = {
    "rest.token": 401,
    "rest.no-route": 404,
    "rest.method": 405,
    "rest.slow": 408,
    "rest.too-large": 413,
    "protocol.too-large": 413,
    "lab.backend": 409,
    "lab.busy": 503,
    "lab.in-use": 409,
    "link.exists": 409,
    "link.invalid": 400,
    "link.to-itself": 400,
    "node.backend": 409,
    "node.ambiguous": 400,
    "node.exists": 409,
    "node.last": 409,
    "node.name": 400,
    "node.number": 400,
    "node.external": 409,
    "node.fault": 409,
    "node.not-done": 503,
    "node.paused": 409,
    "node.stopped": 409,
    "run.taken": 409,
    "selector.invalid": 400,
    "topology.invalid": 400,
    "group.label-taken": 409,
    "metrics.table": 400,
    "control.internal": 500,
    "control.timeout": 503,
    "control.disconnected": 503,
}
_UNREADABLE = ("protocol.body", "protocol.unsendable")


def status_of(error: NmError) -> int:
    """Return the HTTP status (RFC 9110) of an error.

    Further messages need no entry here: ids of mistakes are 400, `….unknown` 404, `….not-stored`,
    `….not-applied`, `….not-ready` and those of the store 503, and whatever else it is refused for 409.
    """
    known = _BY_ID.get(error.id)
    if known is not None:
        return known
    area, _, what = error.id.partition(".")
    if what == "unknown":
        return 404
    if area == "store" or what in ("not-stored", "not-applied", "not-ready"):
        return 503
    return 400 if error.exit_code == UsageError.exit_code or error.id in _UNREADABLE else 409
