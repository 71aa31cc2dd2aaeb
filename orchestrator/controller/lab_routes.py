"""Change explicit routes and pins of the lab, and go on with a change when its nodes have confirmed it."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.controller.explicit_routes import ExplicitRoutes
from orchestrator.controller.lab_nodes import LabNodes
from orchestrator.controller.reconcile import WantedRoutes
from orchestrator.controller.registry import Wanted
from orchestrator.store import PinRow, RouteRow

__all__ = ["LabRoutes"]


class LabRoutes(LabNodes):
    """The part of `Lab` for explicit routes."""

    explicit: ExplicitRoutes

    def change_routes(self, changed: Mapping[int, RouteRow | None]) -> None:
        """Add, replace or remove (None) explicit routes by number; nodes get the differences.

        One that is wrong is left out and named in `problems`.
        """
        self._routes_touched(self.explicit.change(changed, self.registry.links, self.problems))

    def change_pins(self, changed: Mapping[int, PinRow | None]) -> None:
        """Add, replace or remove (None) pins by number; the sources of their flows get the differences."""
        self._routes_touched(self.explicit.change_pins(changed))

    @property
    def routes_can_go_on(self) -> bool:
        """Whether nodes have confirmed what a change of a route waits for."""
        return any(not self._unconfirmed(node) for node in self.explicit.awaited)

    def _routes_touched(self, touched: set[int]) -> None:
        for node in touched:
            self.wanted_routes.pop(node, None)
        self._touch(*(node for node in touched if node in self.registry))

    def _answers(self, node_id: int) -> bool:
        """Tell whether a node confirms what it is sent, now or after it has connected again."""
        if node_id not in self.registry:
            return False
        node = self.registry.node(node_id)
        return node.wanted is Wanted.RUNNING and (node.peer is not None or node.expected_back)

    def _unconfirmed(self, node_id: int) -> bool:
        """Tell whether a node has still to confirm its routes."""
        if not self._answers(node_id):
            return False
        wanted, node = self.wanted_routes.get(node_id), self.registry.node(node_id)
        return wanted is None or node.sent_state.routes_confirmed != wanted.version

    def _go_on_with_routes(self) -> None:
        """Take the steps of changes for which nobody has to be waited any more."""
        while done := [node for node in self.explicit.awaited if not self._unconfirmed(node)]:
            self._routes_touched(self.explicit.confirmed(done))
            self._make_wanted()
        # What a controller finds when it begins is in force already; what changes from now on is confirmed.
        self.explicit.answers = self._answers

    def _make_wanted(self) -> None:
        if len(self.wanted_routes) < len(self._tables):
            for node_id, (table, digest) in self._tables.items():
                if node_id not in self.wanted_routes:
                    own, pins = self.explicit.of_node(node_id), self.explicit.pins_of_node(node_id)
                    self.wanted_routes[node_id] = WantedRoutes.make(table, digest, own, pins)
