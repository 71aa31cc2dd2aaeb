"""Generated traffic: flow sizes, which flows an entry has, and what became of them. All of it is pure.

`sizes` has the distributions of flow sizes, `entry` what an entry of `traffic:` means in a topology, `flows`
draws its flows from the seed, and `summary` computes completion times and loads from the rows of a run.
Sending is the business of `node.traffic`.
"""

from __future__ import annotations

from orchestrator.traffic.entry import (
    FILE,
    KINDS,
    MOST_FLOWS,
    ROLE,
    TRANSPORTS,
    TrafficEntry,
    from_bytes,
    to_bytes,
)
from orchestrator.traffic.flows import Flow, TooManyFlows, expected, flows_of
from orchestrator.traffic.sizes import PUBLISHED, Sizes, SizesInvalid, fixed, from_table
from orchestrator.traffic.summary import COLUMNS, cells, summarise

__all__ = [
    "COLUMNS",
    "FILE",
    "KINDS",
    "MOST_FLOWS",
    "PUBLISHED",
    "ROLE",
    "TRANSPORTS",
    "Flow",
    "Sizes",
    "SizesInvalid",
    "TooManyFlows",
    "TrafficEntry",
    "cells",
    "expected",
    "fixed",
    "flows_of",
    "from_bytes",
    "from_table",
    "summarise",
    "to_bytes",
]
