"""The control messages, one frozen class per type, grouped by sender.

    connection   everybody: Hello, Welcome, Ack, Error, Goodbye
    node         dataplanes report: registration, link states, groups, flows, measurements
    node_commands  to dataplanes: links, routes, groups, readiness
    agent        processes that run roles: runs, barriers, published values
    operator     the command line: status, runs, live links, events
    flows        user-space flows, for operators and roles
    groups       groups, for an operator
    probes       probes of links, for an operator
    lab_changes  nodes and links that come and go, for an operator
    max_flows    flows of nodes in max mode
    routes       the routes of a node, for an operator
    samples      counters of nodes and links, read every second during a run
    watching     the lab's events as they happen, for an operator

Messages grow only by optional fields; a removed or retyped field is a new message.
"""

from __future__ import annotations

from orchestrator.protocol.messages import (
    agent,
    connection,
    flows,
    groups,
    lab_changes,
    max_flows,
    node,
    node_commands,
    operator,
    probes,
    routes,
    samples,
    watching,
)
from orchestrator.protocol.messages.agent import *  # noqa: F403  # one import for all message classes
from orchestrator.protocol.messages.base import MESSAGES, Message, Role
from orchestrator.protocol.messages.connection import *  # noqa: F403  # as above
from orchestrator.protocol.messages.flows import *  # noqa: F403  # as above
from orchestrator.protocol.messages.groups import *  # noqa: F403  # as above
from orchestrator.protocol.messages.lab_changes import *  # noqa: F403  # as above
from orchestrator.protocol.messages.max_flows import *  # noqa: F403  # as above
from orchestrator.protocol.messages.node import *  # noqa: F403  # as above
from orchestrator.protocol.messages.node_commands import *  # noqa: F403  # as above
from orchestrator.protocol.messages.operator import *  # noqa: F403  # as above
from orchestrator.protocol.messages.probes import *  # noqa: F403  # as above
from orchestrator.protocol.messages.routes import *  # noqa: F403  # as above
from orchestrator.protocol.messages.samples import *  # noqa: F403  # as above
from orchestrator.protocol.messages.watching import *  # noqa: F403  # as above

__all__ = [
    "MESSAGES",
    "Message",
    "Role",
    *agent.__all__,
    *connection.__all__,
    *flows.__all__,
    *groups.__all__,
    *lab_changes.__all__,
    *max_flows.__all__,
    *node.__all__,
    *operator.__all__,
    *node_commands.__all__,
    *probes.__all__,
    *routes.__all__,
    *samples.__all__,
    *watching.__all__,
]
