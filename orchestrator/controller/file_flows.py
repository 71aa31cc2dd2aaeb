"""Return the user-space flows that the lab's file asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from orchestrator.controller.core import Core
from orchestrator.controller.errors import RouteInvalid
from orchestrator.controller.explicit_routes import identity
from orchestrator.store import NewFlow

__all__ = ["flows_of_file", "no_route"]


def flows_of_file(core: Core) -> Iterator[NewFlow]:
    """Return the flows of the lab's file, one by one."""
    for entry in core.settings.flows:
        flow = NewFlow(
            src=entry.src,
            dst=entry.dst,
            size_bytes=entry.size_bytes,
            duration_ms=entry.duration_ms,
            rate_bps=entry.rate_bps,
            weight=entry.weight,
            transport=entry.transport,
            route_id=_route_number(core, entry.src, entry.dst, entry.route),
            origin="file",
        )
        yield from [flow] * entry.count


def _route_number(core: Core, src: int, dst: int, path: Sequence[int] | None) -> int | None:
    """Return the explicit route of the file with this path; None without a path.

    Raises:
        RouteInvalid: There is none.
    """
    if path is None:
        return None
    number = core.lab.explicit.of_file.get(identity(src, dst, pairwise(path)))
    if number is None:
        raise no_route(src, dst, path, "`routes:` of the topology file has them")
    return number


def no_route(src: int, dst: int, path: Sequence[int], hint: str) -> RouteInvalid:
    """Return the error that no explicit route has a path."""
    shown = " → ".join(map(str, path))
    text = f"there is no explicit route {shown} from node {src} to node {dst}"
    return RouteInvalid(text, id="flow.route", found=shown, hint=hint)
