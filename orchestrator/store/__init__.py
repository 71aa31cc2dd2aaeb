"""Access to Postgres; no other package uses it.

    store      open, read once, write in the background, listen for changes made by SQL
    lab        SQL for nodes, links, routes, groups
    sql_changes  SQL for what others change, and for what is refused of it
    runs       SQL for runs and results
    flows      SQL for user-space flows
    probes     SQL for probes of links
    max_flows  SQL for flows of nodes in max mode
    history    SQL for events, measurements and flows
    writer     writes in order, in batches, and through an outage
    migrate    numbered files under an advisory lock
    embedded   a server of our own from a PyPI wheel

The SQL is next to the function that runs it; rows become frozen classes at once. psycopg is imported with the
first connection, so that importing this package is cheap.
"""

from __future__ import annotations

from orchestrator.store.errors import RowRefused, SchemaTooNew, StoreUnavailable
from orchestrator.store.flows import FlowChange, FlowRow, NewFlow
from orchestrator.store.link_specs import preload
from orchestrator.store.max_flows import MaxFlowRow
from orchestrator.store.probes import ProbeRow
from orchestrator.store.rows import (
    EventRow,
    GroupRow,
    LabRow,
    LinkRow,
    NodeRow,
    PinRow,
    RoleRow,
    RouteRow,
    RunRow,
    Snapshot,
    TreeRow,
    WantedRow,
)
from orchestrator.store.sql_changes import Changed, SqlChange
from orchestrator.store.store import Store

__all__ = [
    "Changed",
    "EventRow",
    "FlowChange",
    "FlowRow",
    "GroupRow",
    "LabRow",
    "LinkRow",
    "MaxFlowRow",
    "NewFlow",
    "NodeRow",
    "PinRow",
    "ProbeRow",
    "RoleRow",
    "RouteRow",
    "RowRefused",
    "RunRow",
    "SchemaTooNew",
    "Snapshot",
    "SqlChange",
    "Store",
    "StoreUnavailable",
    "TreeRow",
    "WantedRow",
    "preload",
]
