"""Compare a node's wanted state with the state last sent to it, and build the messages for the difference.

Each function covers one kind of state of one node, returns the messages, and records in `node.sent_state`
what was sent; `confirmed` and `refused` record the node's replies. Only differences are sent: a node that
reconnects with up-to-date state gets no message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from orchestrator.controller.digests import link_base, link_version, routes_version, trees_version
from orchestrator.controller.registry import Node, Registry
from orchestrator.protocol.messages import (
    AddNode,
    GroupRoute,
    Have,
    InstallGroupRoutes,
    InstallRoutes,
    Message,
    Pin,
    RemoveNode,
    Route,
    SetLink,
)

__all__ = [
    "WantedRoutes",
    "about",
    "confirmed",
    "links",
    "refused",
    "remember",
    "routes",
    "trees",
    "wanted_links",
]


@dataclass(frozen=True, slots=True)
class WantedRoutes:
    """The wanted routes of a node."""

    table: bytes
    table_digest: int
    explicit: Mapping[int, Route]
    pins: Mapping[int, Pin]
    version: int

    @classmethod
    def make(
        cls,
        table: bytes,
        table_digest: int,
        explicit: Mapping[int, Route],
        pins: Mapping[int, Pin] = MappingProxyType({}),
    ) -> WantedRoutes:
        """Return them with their version."""
        ordered, pins = dict(sorted(explicit.items())), dict(sorted(pins.items()))
        version = routes_version(table_digest, ordered.values(), pins.values())
        return cls(table, table_digest, ordered, pins, version)


@dataclass(frozen=True, slots=True)
class WantedLink:
    """One end of a link, as the node there should know it."""

    message: AddNode
    base: int

    @property
    def version(self) -> int:
        """Its version."""
        return self.message.version


def remember(node: Node, have: Have, wanted: WantedRoutes, registry: Registry) -> None:
    """Record the state that a reconnecting node reports; what matches counts as sent and confirmed."""
    sent = node.sent_state
    if have.routes is not None and have.routes == wanted.version:
        sent.table = wanted.table_digest
        sent.routes, sent.pins = dict(wanted.explicit), dict(wanted.pins)
        sent.routes_version = sent.routes_confirmed = wanted.version
    should = wanted_links(node, registry)
    for remote, version in have.links.items():
        want = should.get(remote)
        if want is not None and want.version == version:
            sent.links[remote] = (want.base, version)
            sent.links_confirmed[remote] = version
        else:
            sent.links[remote] = (0, 0)  # it has something there, but not what it should
    sent.trees = dict(have.trees)


def routes(node: Node, wanted: WantedRoutes) -> list[Message]:
    """Return the messages that bring a node's routes up to date."""
    sent = node.sent_state
    if sent.routes_version == wanted.version:
        return []
    fresh = sent.routes_version is None
    table = None if sent.table == wanted.table_digest else wanted.table
    changed = [route for route_id, route in wanted.explicit.items() if sent.routes.get(route_id) != route]
    gone = [] if fresh else [route_id for route_id in sent.routes if route_id not in wanted.explicit]
    pins = [pin for pin_id, pin in wanted.pins.items() if sent.pins.get(pin_id) != pin]
    unpinned = [] if fresh else [pin_id for pin_id in sent.pins if pin_id not in wanted.pins]
    sent.table = wanted.table_digest
    sent.routes, sent.pins = dict(wanted.explicit), dict(wanted.pins)
    sent.routes_version = wanted.version
    sent.routes_confirmed = None
    change = (tuple(changed), tuple(sorted(gone)), fresh, tuple(pins), tuple(sorted(unpinned)))
    message = InstallRoutes(wanted.version, table, *change)
    sent.latest[about(message)] = message
    return [message]


def confirmed(node: Node, message: Message) -> None:
    """Record that a node executed a command, unless a newer one was sent since.

    Versions are digests, so the same one may be sent again after others: only the last command itself counts.
    """
    sent = node.sent_state
    node.problems.pop(about(message), None)
    if isinstance(message, RemoveNode):
        _removal_answered(node, message.remote_node_id)
    elif sent.latest.get(about(message)) is not message:
        return
    elif isinstance(message, InstallRoutes):
        if sent.routes_version == message.version:
            sent.routes_confirmed = message.version
    elif isinstance(message, AddNode | SetLink):
        _, version = sent.links.get(message.remote_node_id, (0, 0))
        if version == message.version:
            sent.links_confirmed[message.remote_node_id] = version


def refused(node: Node, message: Message, why: str) -> bool:
    """Record that a node refused a command; return whether the problem is new.

    It is then believed to have nothing of it: the next look at the node tells it again, whole. Only a link
    whose change was refused is still there, and traffic over it continues.
    """
    sent = node.sent_state
    problem = f"{message.type} was refused: {why}"
    changed = node.problems.get(about(message)) != problem
    node.problems[about(message)] = problem
    if isinstance(message, InstallRoutes):
        sent.table = sent.routes_version = sent.routes_confirmed = None
        sent.routes, sent.pins = {}, {}
    elif isinstance(message, AddNode):
        # Changes that were sent since have no link to change: they will be refused as well.
        if message.remote_node_id in sent.links:
            sent.links[message.remote_node_id] = (0, 0)
            sent.links_confirmed.pop(message.remote_node_id, None)
    elif isinstance(message, SetLink):
        base, version = sent.links.get(message.remote_node_id, (0, 0))
        if version == message.version:
            sent.links[message.remote_node_id] = (base, 0)
            sent.links_confirmed.pop(message.remote_node_id, None)
    elif isinstance(message, RemoveNode):
        sent.links.setdefault(message.remote_node_id, (0, 0))
        _removal_answered(node, message.remote_node_id)
    elif isinstance(message, InstallGroupRoutes) and (
        not message.routes or sent.trees.get(message.group_id) == message.version
    ):
        sent.trees[message.group_id] = 0
    return changed


def _removal_answered(node: Node, remote: int) -> None:
    """Count one removal of a link less: of several that were sent, the last is the one that counts."""
    removing = node.sent_state.removing
    left = removing.pop(remote, 0) - 1
    if left > 0:
        removing[remote] = left


def about(message: Message) -> str:
    """Return what a message is about, so that a later one about the same can take its problem away."""
    if isinstance(message, AddNode | SetLink | RemoveNode):
        return f"link {message.remote_node_id}"
    if isinstance(message, InstallGroupRoutes):
        return f"group {message.group_id}"
    return message.type


def wanted_links(node: Node, registry: Registry) -> dict[int, WantedLink]:
    """Return the links that a node should have: to every neighbour that has ever registered.

    A link that was taken down in both directions is no link of its nodes: it is removed there. So is one to a
    node that is stopped by request.
    """
    found = {}
    for remote_id in registry.connected(node.id):
        remote = registry.node(remote_id)
        if remote.known:
            found[remote_id] = _wanted_link(node, remote, registry)
    return found


def links(node: Node, registry: Registry) -> list[Message]:
    """Return the messages that bring a node's links up to date."""
    sent = node.sent_state.links
    wanted = wanted_links(node, registry)
    found: list[Message] = [RemoveNode(remote) for remote in sorted(sent) if remote not in wanted]
    for message in found:
        if isinstance(message, RemoveNode):
            del sent[message.remote_node_id]
            removing = node.sent_state.removing
            removing[message.remote_node_id] = removing.get(message.remote_node_id, 0) + 1
            node.sent_state.links_confirmed.pop(message.remote_node_id, None)
            node.links_up.pop(message.remote_node_id, None)
            node.links_down.pop(message.remote_node_id, None)
    for remote, want in wanted.items():
        base, version = sent.get(remote, (None, None))
        if version == want.version:
            continue
        if base == want.base:
            found.append(SetLink(remote, want.message.link, want.version, want.message.down))
        else:
            found.append(want.message)
            node.links_up.pop(remote, None)  # the link is created again
            node.links_down.pop(remote, None)
        sent[remote] = (want.base, want.version)
        node.sent_state.latest[about(found[-1])] = found[-1]
        node.sent_state.links_confirmed.pop(remote, None)
    return found


def trees(node: Node, wanted: Mapping[int, tuple[int, tuple[GroupRoute, ...]]]) -> list[Message]:
    """Return the messages that bring a node's group routes up to date.

    Args:
        node: The node.
        wanted: By group, its source and this node's routes.
    """
    sent = node.sent_state.trees
    found: list[Message] = []
    for group_id, (source, group_routes) in wanted.items():
        version = trees_version(group_routes)
        if sent.get(group_id) != version:
            found.append(InstallGroupRoutes(group_id, source, version, group_routes))
            sent[group_id] = version
    for group_id in [each for each in sent if each not in wanted]:
        found.append(InstallGroupRoutes(group_id, 0, trees_version(()), ()))
        del sent[group_id]
    return found


def _wanted_link(node: Node, remote: Node, registry: Registry) -> WantedLink:
    link = registry.link(node.id, remote.id)
    same = node.process == remote.process != 0 and not node.external and not remote.external
    dial = not same and _dials(node, remote)
    addr = _address_for(node, remote) if dial else ""
    base = link_base(remote.id, addr, remote.process, same, dial)
    spec, down = link.spec_from(node.id), not link.carries_from(node.id)
    version = link_version(base, spec, down=down)
    # On one network they may be on one machine; the dialler finds out by trying.
    socket_path = remote.link_socket if dial and node.private_name == remote.private_name else ""
    key = b"" if same else registry.link_key(node.id, remote.id)
    message = AddNode(
        remote.id, remote.name, addr, remote.process, same, dial, spec, version, socket_path, key, down
    )
    return WantedLink(message, base)


def _dials(node: Node, remote: Node) -> bool:
    """Tell which end dials: the external one, which may not be reachable itself, else the greater id.

    The choice does not depend on the order of registration, which differs after a restart of the controller:
    a change would tear the link down.
    """
    if node.external != remote.external:
        return node.external
    return node.id > remote.id


def _address_for(node: Node, remote: Node) -> str:
    if node.private_name == remote.private_name and remote.private_addr:
        return remote.private_addr
    return remote.public_addr or remote.private_addr
