"""The shape of `node-<n>.toml` and `controller.toml`: frozen classes, read once at the start of a program.

What `render` writes, this room reads back; the golden round trip in the tests holds the two together. The
node's file is read a second time by the packet core, which is as strict. Nothing deeper down reads files or
the environment.
"""

from __future__ import annotations

from orchestrator.settings.controller import (
    ControllerSettings,
    DatabaseSettings,
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
