"""The traffic of a run on the simulated network: which flows begin when, and the rows of what became of them.

The rows have the columns of those of a lab, and mean the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.traffic import ROLE, Flow, TrafficEntry, flows_of

if TYPE_CHECKING:
    from orchestrator.node.dataplane import Simulation

__all__ = ["SimulatedTraffic"]

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Planned:
    """A flow with its entry."""

    entry: TrafficEntry
    flow: Flow

    @property
    def node(self) -> int:
        """The node that reports it."""
        return self.flow.dst if self.entry.pulls else self.flow.src

    @property
    def order(self) -> tuple[Any, ...]:
        """The place of its row; that of a lab has the same order in each node."""
        flow = self.flow
        return self.node, self.entry.name, flow.src, flow.dst, flow.round, flow.start_s


class SimulatedTraffic:
    """The flows of a run.

    Args:
        entries: The traffic of the scenario.
        seed: From which the flows are drawn.
    """

    def __init__(self, entries: Sequence[TrafficEntry], seed: int) -> None:
        flows = (_Planned(entry, flow) for entry in entries for flow in flows_of(entry, seed))
        self._flows = dict(enumerate(flows, 1))
        self._rows: list[tuple[tuple[Any, ...], int, dict[str, Any]]] = []

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def ended(self) -> int:
        """How many flows have ended."""
        return len(self._rows)

    def add_to(self, simulation: Simulation) -> None:
        """Add all flows to a simulation.

        Flows in rounds wait for each other as in a lab: those of one client and one server with
        `request-response`, else those of one reporting node and entry.
        """
        chains: dict[tuple[str, int, int], int] = {}
        for number, planned in self._flows.items():
            entry, flow = planned.entry, planned.flow
            size, rate = flow.bytes, round(flow.rate_bps) or None
            if not flow.round:
                at = round(flow.start_s * NS)
                simulation.add_flow(number, flow.src, flow.dst, size, rate_bps=rate, at_ns=at)
                continue
            server = flow.src if entry.kind == "request-response" else 0
            key = (entry.name, planned.node, server)
            if key not in chains:
                chains[key] = simulation.add_chain(round(entry.start_s * NS))
            place = (chains[key], flow.round)
            simulation.add_flow(number, flow.src, flow.dst, size, rate_bps=rate, round=place)

    def take(self, simulation: Simulation) -> None:
        """Note the flows that have ended since the last call."""
        for number, due, began, ended, size, reason in simulation.take_ended():
            row = self._row(number, due)
            row["received"] = size
            if reason:
                row |= {"state": "failed", "error": reason, "given_up_s": round(ended / NS, 6)}
            else:
                row["seconds"] = round((ended - began) / NS, 6)
                row["state"] = "complete" if size >= row["bytes"] else "partial"
            self._keep(number, row)

    def give_up(self, simulation: Simulation) -> None:
        """Note the flows that have begun and not ended, when the time of the run is up."""
        for number, due, received in simulation.running():
            row = self._row(number, due)
            row |= {"received": received, "given_up_s": round(simulation.now_ns() / NS, 6)}
            self._keep(number, row)

    def rows(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the nodes that report and their rows; their order does not depend on the times of flows."""
        return [(order[0], row) for order, _, row in sorted(self._rows, key=lambda each: each[:2])]

    def _row(self, number: int, due: int) -> dict[str, Any]:
        planned = self._flows[number]
        flow = planned.flow
        return {
            "node": planned.node,
            "role": ROLE,
            "entry": planned.entry.name,
            "src": flow.src,
            "dst": flow.dst,
            "bytes": flow.bytes,
            "start": round(due / NS, 6),
            "seconds": None,
            "received": 0,
            "state": "unfinished",
            "late": None if flow.round > 1 else 0.0,
            "round": flow.round or None,
        }

    def _keep(self, number: int, row: dict[str, Any]) -> None:
        self._rows.append((self._flows[number].order, number, row))
