"""What a node or a link shows when it is chosen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.clock import Clock, SystemClock
from orchestrator.errors import NmError, ProtocolError
from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages import NodeSample, Routes, Status
from orchestrator.topology.link_keys import LINK_FIELDS, LIVE_FIELDS
from orchestrator.topology.link_words import written
from orchestrator.view.source import Source

if TYPE_CHECKING:
    from orchestrator.lab import AsyncLab

__all__ = ["Lab", "LocalLab", "counters", "link_keys", "log_lines", "routes", "routes_of"]

MOST_ROUTES = 2_000
"""Routes of a node that are shown."""

TAIL = 200
"""Lines of a log that are shown."""

MOST_CHARACTERS = 2_000
"""Characters of a line that are shown."""

SERVICES_S = 5.0
"""Services are asked for so often at most: that looks at every part of the lab."""

_COUNTERS = ("packets_out", "bytes_out", "packets_in", "bytes_in", "overload_drops")


class Lab(Protocol):
    """What is asked of a lab besides what its controller knows."""

    def logs(self, part: str, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[str]:
        """The log of a part, line by line."""

    async def services_of(self, node: int) -> list[dict[str, Any]]:
        """The services of a node, as `nm status -o json` shows them."""


class LocalLab:
    """A lab of this machine."""

    def __init__(self, lab: AsyncLab, clock: Clock | None = None) -> None:
        self._lab = lab
        self._clock = clock or SystemClock()
        self._services: list[dict[str, Any]] = []
        self._asked_at = float("-inf")

    def logs(self, part: str, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[str]:
        """The log of a part, line by line."""
        return self._lab.logs(part, follow=follow, tail=tail)

    async def services_of(self, node: int) -> list[dict[str, Any]]:
        """The services of a node; none where labs have no services."""
        now = self._clock.monotonic()
        if now - self._asked_at >= SERVICES_S:
            self._asked_at = now
            self._services = list((await self._lab.status()).as_json().get("services", ()))
        return [each for each in self._services if each.get("node") == node]


async def log_lines(lab: Lab, part: str) -> dict[str, Any]:
    """Return the last lines of a log, and why there are none."""
    try:
        lines = [line[:MOST_CHARACTERS] async for line in lab.logs(part, tail=TAIL)]
    except NmError as error:
        return {"part": part, "lines": [], "note": error.message}
    return {"part": part, "lines": lines, "note": "" if lines else "nothing was logged"}


def counters(sample: NodeSample | None) -> dict[str, Any]:
    """Return the counters of a node, by name."""
    if sample is None:
        return {}
    own = {name: getattr(sample, name) for name in _COUNTERS}
    return {**own, **{f"dropped: {cause}": count for cause, count in sample.drops.items()}}


async def routes_of(source: Source, node: int, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return the routes of a node; none from a controller that is older than the request for them."""
    try:
        return routes(await source.routes(node), names)
    except ProtocolError as error:
        if error.id != "protocol.unknown-type":
            raise
        return []


def routes(found: Routes, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return the routes of a node: destinations with their next hops, explicit ones first."""
    explicit = [
        {"to": each.dst_node_id, "from": each.src_node_id, "via": list(each.next_hops), "explicit": True}
        for each in found.explicit
    ]
    table = [int.from_bytes(found.table[i : i + 4], "little") for i in range(0, len(found.table), 4)]
    computed = [
        {"to": node, "from": 0, "via": [hop], "explicit": False}
        for node, hop in enumerate(table)
        if hop and node in names
    ]
    return (explicit + computed)[:MOST_ROUTES]


def link_keys(status: Status, a: int, b: int) -> list[dict[str, Any]] | None:
    """Return the keys of a link that can be changed, with what is in force; None if there is no such link."""
    link = next((each for each in status.links if {each.a, each.b} == {a, b}), None)
    if link is None:
        return None
    ways = (link.forward, link.backward) if link.a == a else (link.backward, link.forward)
    there, back = (_texts(spec) for spec in ways)
    return [
        {
            "key": key,
            "help": LINK_FIELDS[key].help,
            "expected": LINK_FIELDS[key].kind.expected,
            "forward": there.get(key, ""),
            "backward": back.get(key, ""),
        }
        for key in LIVE_FIELDS
    ]


def _texts(spec: LinkSpec) -> dict[str, str]:
    return {key: _text(value) for key, value in written(spec).items()}


def _text(value: Any) -> str:
    """Return a value of the file as YAML writes it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
