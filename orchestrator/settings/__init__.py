"""Read `node-<n>.toml` and `controller.toml` into frozen classes, once at the start of a program.

`render` writes these files; a golden round trip in the tests compares the two. The packet core reads the
node's file as well, equally strictly. No other code reads files or the environment for settings.
"""

from __future__ import annotations

from orchestrator.settings.controller import (
    ControllerSettings,
    DatabaseSettings,
    FlowEntry,
    LinkEntry,
    NodeEntry,
    RouteEntry,
    load_controller,
    loads_controller,
)
from orchestrator.settings.node import LosslessSettings, NodeSettings, load_node, loads_node

__all__ = [
    "ControllerSettings",
    "DatabaseSettings",
    "FlowEntry",
    "LinkEntry",
    "LosslessSettings",
    "NodeEntry",
    "NodeSettings",
    "RouteEntry",
    "load_controller",
    "load_node",
    "loads_controller",
    "loads_node",
]
