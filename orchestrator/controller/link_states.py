"""Say which state a link is in, why, and what carries it, from what its ends have reported."""

from __future__ import annotations

from orchestrator.controller.registry import Link, NodeStates, Registry, Wanted

__all__ = ["is_up", "kind_of", "reason_of", "state_of"]


def is_up(registry: Registry, link: Link) -> bool:
    """Tell whether both ends report a link as up."""
    return link.b in registry.node(link.a).links_up and link.a in registry.node(link.b).links_up


def state_of(registry: Registry, link: Link) -> str:
    """Return `up`, `down` or `starting`, as both ends say.

    What an end last said counts no longer once its connection has ended: until it is back, or given up, the
    link is `starting`.
    """
    a, b = registry.node(link.a), registry.node(link.b)
    if not registry.exists(link):
        return "down"
    if a.expected_back or b.expected_back:
        return "starting"
    if is_up(registry, link):
        return "up"
    if NodeStates.STARTING in (a.state, b.state):
        return "starting"
    return "down"


def reason_of(registry: Registry, link: Link) -> str:
    """Return why a link is not as it should be, as an end says that knows; empty when it is.

    What an end refused counts while the link is up as well: it then does something else than is shown.
    """
    a, b = registry.node(link.a), registry.node(link.b)
    known = [a.problems.get(f"link {link.b}"), b.problems.get(f"link {link.a}"), link.down_reason]
    known += [f"node {end.id} is stopped" for end in (a, b) if end.wanted is Wanted.STOPPED]
    if state_of(registry, link) != "up":
        known += [a.links_down.get(link.b), b.links_down.get(link.a)]
    return next(filter(None, known), "")


def kind_of(registry: Registry, link: Link) -> str:
    """Return what carries a link while it is up, as its lower end says; both ends agree on it."""
    return registry.node(link.a).links_up[link.b] if state_of(registry, link) == "up" else ""
