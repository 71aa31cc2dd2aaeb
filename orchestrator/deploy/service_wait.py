"""Wait until services are as they should be, or say which one is not and why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from orchestrator.clock import SystemClock
from orchestrator.deploy import node_states
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.host import TAIL_LINES, Host, Progress
from orchestrator.deploy.state import LabState
from orchestrator.services import Instance, ServiceFailed, ServiceState

__all__ = ["failed", "until_good"]

POLL_S = 0.05

BEYOND_S = 10.0
"""How much longer than a check of readiness the wait for it lasts, if nothing changes."""


async def until_good(
    host: Host,
    directory: LabDirectory,
    state: LabState,
    instances: Sequence[Instance],
    progress: Progress,
    timeout_s: float,
    look: Callable[[], Awaitable[Sequence[ServiceState]]] | None = None,
) -> None:
    """Return when these services are running, ready, or have ended with exit code 0.

    `look` says what became of them, unless the backend does.

    Raises:
        ServiceFailed: One failed, or nothing has changed for too long; carries the last lines of its log.
    """
    wanted = {each.key: each for each in instances}
    longest = max((each.ready.timeout_s for each in instances if each.ready), default=0.0)
    limit_s = max(timeout_s, longest + BEYOND_S)
    clock = SystemClock()
    before: list[ServiceState] = []
    changed_at = clock.monotonic()
    while True:
        found = await (look() if look else host.services(directory, state))
        away = node_states.read(directory)  # a node that was stopped by request keeps nobody waiting
        seen = [each for each in found if each.key in wanted and each.node not in away]
        hopeless = next((each for each in seen if each.hopeless), None)
        if hopeless is not None:
            raise await failed(host, directory, hopeless)
        left = [each for each in seen if not each.good]
        if not left:
            return
        if seen != before:
            before, changed_at = seen, clock.monotonic()
            progress(_waiting(left, len(seen)))
        elif clock.monotonic() - changed_at > limit_s:
            reason = f"did not get further within {limit_s:g} s: it {left[0].problem()}"
            raise await failed(host, directory, replace(left[0], reason=reason, deaths=0))
        await asyncio.sleep(POLL_S)


async def failed(host: Host, directory: LabDirectory, state: ServiceState) -> ServiceFailed:
    """The error for a service, with the last lines of its log."""
    lines = tuple(await host.tail(directory, state.key, TAIL_LINES))
    return ServiceFailed(directory.name, state, lines)


def _waiting(left: Sequence[ServiceState], total: int) -> str:
    """Say how many services there are to wait for, and the first that is under way."""
    order = ("starting", "restarting", "stopped", "waiting")
    first = min(left, key=lambda each: order.index(each.state) if each.state in order else len(order))
    said = f": it {first.reason}" if first.reason else ""
    done = f"{total - len(left)} of {total} services are ready"
    return f"{done}, {first.service} in node {first.node} is {first.state}{said}"
