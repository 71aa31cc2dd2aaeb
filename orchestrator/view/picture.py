"""Turn what the controller says of a lab into entries of the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.errors import NmError
from orchestrator.impairment import LinkSpec
from orchestrator.protocol.messages import Event, LinkStatus, NodeStatus, RunStatus, Status
from orchestrator.topology import Topology, load
from orchestrator.topology.link_words import describe

__all__ = ["Links", "event", "lab", "nodes", "positions", "runs", "specs", "with_generator"]


def with_generator(meant: Topology, file: str) -> Topology:
    """Return the topology with its generator, by which known shapes are placed.

    A lab keeps its topology as plain links; its file names the generator, if it still has the same nodes and
    links.
    """
    try:
        written = load(file)
    except NmError:
        return meant
    pairs = [{(link.a, link.b) for link in each.links} for each in (written, meant)]
    same = pairs[0] == pairs[1] and written.nodes.keys() == meant.nodes.keys()
    return written if same else meant


def positions(topology: Topology) -> dict[str, tuple[float, float]]:
    """Return where each node is in the picture."""
    from orchestrator.topology.drawing.layout import place_nodes

    placed = place_nodes(topology)
    return {str(node): (round(x, 3), round(y, 3)) for node, (x, y) in placed.items()}


def lab(status: Status, backend: str) -> dict[str, Any]:
    """Return the section of the lab as a whole."""
    return {
        "name": status.lab,
        "backend": backend,
        "state": status.state,
        "problems": list(status.problems),
    }


def nodes(status: Iterable[NodeStatus]) -> dict[str, Any]:
    """Return the section of nodes."""
    return {
        str(node.id): {
            "id": node.id,
            "name": node.name,
            "state": node.state,
            "address": node.address,
            "external": node.external,
            "why": node.why,
        }
        for node in status
    }


class Links:
    """Makes the section of links; entries of links that did not change are kept."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[LinkStatus, dict[str, Any]]] = {}

    def section(self, status: Iterable[LinkStatus]) -> dict[str, Any]:
        """Return the section."""
        made: dict[str, tuple[LinkStatus, dict[str, Any]]] = {}
        for link in status:
            key = f"{link.a}-{link.b}"
            known = self._known.get(key)
            made[key] = known if known is not None and known[0] == link else (link, _link(link))
        self._known = made
        return {key: entry for key, (_, entry) in made.items()}


def _link(link: LinkStatus) -> dict[str, Any]:
    return {
        "a": link.a,
        "b": link.b,
        "state": link.state,
        "kind": link.kind,
        "reason": link.reason,
        "down": link.down,
        "forward": _way(link.forward),
        "backward": _way(link.backward),
    }


def _way(spec: LinkSpec) -> dict[str, Any]:
    return {
        "words": describe(spec),
        "rate_bps": spec.trace_rate_bps or spec.rate_bps,
        "limit_bytes": spec.queue_limit_bytes,
        "delay_ms": spec.delay_us / 1000 if spec.delay_us is not None else None,
        "loss": spec.loss,
    }


def specs(status: Iterable[LinkStatus]) -> dict[tuple[int, int], LinkSpec]:
    """Return what is requested of each direction."""
    found: dict[tuple[int, int], LinkSpec] = {}
    for link in status:
        found[link.a, link.b] = link.forward
        found[link.b, link.a] = link.backward
    return found


def runs(
    status: Iterable[RunStatus],
    progress: Mapping[str, tuple[int, int]],
    folders: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the section of runs: those that the controller knows, and those that have a results folder.

    Args:
        status: What the controller knows.
        progress: Of runs under way, what is done and how much there is to do.
        folders: By run, as `ResultFolders.find` returns them.
    """
    found: dict[str, Any] = {
        run: {"run": run, "state": folder["verdict"], "reason": "", **folder}
        for run, folder in folders.items()
    }
    for run in status:
        known = found.get(run.run, {"run": run.run, "verdict": "", "folder": "", "report": False})
        done, total = progress.get(run.run, (0, 0))
        now = {"scenario": run.scenario, "state": run.state, "reason": run.reason}
        found[run.run] = {**known, **now, "done": done, "total": total}
    return found


def event(happened: Event) -> dict[str, Any]:
    """Return an event as the page shows it."""
    return {
        "seq": happened.seq,
        "time_ms": happened.time_ms,
        "name": happened.name,
        "node": happened.node,
        "detail": happened.detail,
    }
