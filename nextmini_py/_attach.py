"""`attach`: the node's own `Dataplane`, for a program that runs in the node."""

from __future__ import annotations

import os
from typing import cast

from nextmini_py import _native
from nextmini_py._attached import AttachedNode
from nextmini_py._dataplane import Dataplane

__all__ = ["ATTACH_VARIABLE", "AttachedDataplane", "attach"]

ATTACH_VARIABLE = "NM_ATTACH"
"""The environment variable that names another socket than the usual one, without the `@`."""


class AttachedDataplane(Dataplane):
    """A `Dataplane` whose node runs in another process; made by `attach`.

    `close`, or the end of the program in whatever way, closes what was opened through it: receivers,
    transfers, memberships and trees. The node stays.
    """

    def __init__(self, name: str) -> None:
        self._config_path = f"@{name}"
        self._node = cast("_native.Node", AttachedNode(name))


def attach(name: str | None = None) -> AttachedDataplane:
    """Return the dataplane of the node in which this program runs.

    The program may be started by `nm exec`, be a service, or run in any other way in the network namespace of
    the node: that is where the node is found. The node's process goes on to do the packet work; this object
    has all calls of `Dataplane`. Several programs may be attached to one node, each with events of its own.
    A flow is received by one of them.

    Args:
        name: The abstract name of the node's unix socket; without it that in `NM_ATTACH`, or the usual one.

    Raises:
        NotAttached: No node can be found here, or it refuses this program.
    """
    return AttachedDataplane(name or os.environ.get(ATTACH_VARIABLE) or _native.ATTACH_NAME)
