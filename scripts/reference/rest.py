"""Generate the page of the REST API from its table of routes."""

from __future__ import annotations

from orchestrator.controller.rest.errors import STATUSES
from orchestrator.controller.rest.table import PREFIX, ROUTES, STREAM
from scripts.reference.text import code, table

INTRODUCTION = """# REST API

The controller of a lab answers HTTP on the port of its control connections, on the loopback address unless
its
file says otherwise ([TLS](../how-to/tls.md)). `nm inspect -o json` gives the address as `api_url`, the
OpenAPI document as `openapi_url`,
as `token_file` the file whose content goes into the header `Authorization: Bearer`, and with TLS as `ca_file`
the certificate authority. The document alone needs no token.
How to use it: [Change a lab over HTTP](../how-to/rest.md).

Bodies and answers are JSON. A body has at most 1 MiB. Unknown parameters and fields are refused. Settings
of links
are those of [node and controller files](settings.md), with units in their names.
"""

STREAMING = f"""
## Events as they happen

The websocket `{STREAM}?after=N` sends the events behind number N and then each new one, one JSON object a
message,
as `nm events -f -o json` prints them. Only events that Postgres has stored are sent, so that their
numbers hold after a restart of the controller: connect again with the last number seen, and no event is
missed or sent twice.

## Errors

An error has the JSON of `-o json`, with the same ids:
`{{"error": {{"id", "message", "found", "expected", "hint"}}}}`.
"""

REPEATING = """
Every change is a wanted state, so a request whose answer was lost is repeated: it is applied once, and
answered
in the same way. An error `….not-stored` or `….not-applied` says that the change is made and what is still
missing.
"""


def page() -> str:
    """Return the page."""
    rows = [
        (each.verb, code(PREFIX + each.path), each.summary, code(each.cli), code(each.sdk)) for each in ROUTES
    ]
    statuses = [(str(status), text) for status, text in STATUSES.items()]
    return "\n".join(
        (
            INTRODUCTION,
            table(("Verb", "Path", "What", "Command", "SDK"), rows),
            STREAMING,
            table(("Status", "When"), statuses),
            REPEATING,
        )
    )
