"""Read the controller file of a request, and say in what it differs from the one in force."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields, replace

from orchestrator.controller import restore
from orchestrator.controller.errors import LabChangeInvalid
from orchestrator.controller.explicit_routes import Identity
from orchestrator.controller.registry import Link, pair
from orchestrator.settings.controller import (
    ControllerSettings,
    LinkEntry,
    NodeEntry,
    RouteEntry,
    loads_controller,
)

__all__ = ["Ends", "FileDifference", "settings_of"]

MAX_FILE = 64 * 2**20
"""Bytes of a controller file: a hundred times that of a lab of 1,000 nodes, with space for traces."""

_LIVE = frozenset({"nodes", "links", "routes", "flows", "n_nodes", "path"})
"""What of the file may differ while the lab runs."""

Ends = tuple[int, int]
"""The nodes of a link, the smaller number first."""


@dataclass(frozen=True, slots=True)
class FileDifference:
    """The difference between two controller files.

    Attributes:
        added: Nodes that are new.
        removed: Nodes that are no more.
        labels: Nodes whose labels are others, with them.
        links: Links that are new or others, None for those that are no more.
        new_links: Those of them that are new.
        routes: Likewise, by what tells them apart.
        flows: Whether the flows of the file are others.
    """

    added: tuple[NodeEntry, ...]
    removed: frozenset[int]
    labels: dict[int, dict[str, str]]
    links: dict[Ends, Link | None]
    new_links: frozenset[Ends]
    routes: dict[Identity, RouteEntry | None]
    flows: bool

    @classmethod
    def between(cls, old: ControllerSettings, new: ControllerSettings) -> FileDifference:
        """Compare them.

        Raises:
            LabChangeInvalid: They differ in what cannot change while the lab runs.
        """
        for key in (each.name for each in fields(old)):
            if key not in _LIVE and getattr(old, key) != getattr(new, key):
                text = f"`{key}` cannot change while the lab runs"
                raise LabChangeInvalid(text, hint="take the lab down, and bring it up from the new file")
        before, after = ({each.node_id: each for each in file.nodes} for file in (old, new))
        for node_id in before.keys() & after.keys():
            if replace(before[node_id], labels={}) != replace(after[node_id], labels={}):
                text = f"node {node_id} cannot change while it runs, except for its labels"
                raise LabChangeInvalid(text, hint="remove the node, and add it again")
        was, now = (_declared_links(file) for file in (old, new))
        links, made = restore.declared_links(new), now.keys() - was.keys()
        differ = [ends for ends in was.keys() | now.keys() if was.get(ends) != now.get(ends)]
        routes, known = restore.declared_routes(new), restore.declared_routes(old)
        return cls(
            tuple(after[node_id] for node_id in sorted(after.keys() - before.keys())),
            frozenset(before.keys() - after.keys()),
            {
                node_id: dict(after[node_id].labels)
                for node_id in before.keys() & after.keys()
                if dict(before[node_id].labels) != dict(after[node_id].labels)
            },
            {ends: links.get(ends) for ends in sorted(differ)},
            frozenset(made),
            {
                route: routes.get(route)
                for route in (*known, *(each for each in routes if each not in known))
                if known.get(route) != routes.get(route)
            },
            old.flows != new.flows,
        )


def settings_of(data: bytes) -> ControllerSettings:
    """Read the controller file of a request.

    Raises:
        LabChangeInvalid: It is not compressed, or too large.
        SettingsInvalid: It is no controller file.
    """
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(data, MAX_FILE).decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise LabChangeInvalid(f"the controller file cannot be read: {error}") from None
    if not reader.eof:
        raise LabChangeInvalid(f"the controller file is cut off, or has more than {MAX_FILE} bytes")
    return loads_controller(text)


def _declared_links(settings: ControllerSettings) -> dict[Ends, LinkEntry]:
    return {pair(entry.a, entry.b): entry for entry in settings.links}
