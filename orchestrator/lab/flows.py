"""`AsyncFlows` and `Flows`: the user-space flows of a lab that is up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import UsageError
from orchestrator.lab import loop_thread
from orchestrator.lab.find import select_node
from orchestrator.lab.operator import ANSWER_S, operator
from orchestrator.protocol import Message
from orchestrator.protocol.messages import (
    EndFlows,
    FlowList,
    FlowRequest,
    FlowStatus,
    GetFlows,
    GetMaxFlows,
    MaxFlowList,
    MaxFlowStatus,
    StartFlows,
    WaitFlows,
)

__all__ = ["AsyncFlows", "Flows", "request_of"]

WAIT_S = 3_600.0
"""How long `wait` waits unless told otherwise."""


@dataclass(frozen=True)
class AsyncFlows:
    """User-space flows, which the dataplane carries between two nodes without a program in either."""

    directory: LabDirectory
    state: LabState

    async def add(
        self,
        src: int | str,
        dst: int | str,
        *,
        bytes: int | str | None = None,
        duration: float | str | None = None,
        rate: float | str | None = None,
        weight: int | None = None,
        transport: str = "tcp",
        count: int = 1,
        route: Sequence[int | str] | None = None,
    ) -> Sequence[int]:
        """Start flows; they begin when the lab is ready, or at once.

        Args:
            src: The node that sends.
            dst: The node that receives.
            bytes: Payload to transfer: a number, or a size such as `"10 MB"`.
            duration: How long the source sends, in place of `bytes`: seconds, or `"10 s"`.
            rate: The most payload that it sends: bits per second, or `"5 Mbit"`.
            weight: Its weight at links whose scheduler knows weights.
            transport: `tcp` or `lossless_unicast`.
            count: How many such flows.
            route: The path of the explicit route that they take.

        Returns:
            Their numbers.

        Raises:
            UsageError: A value is wrong (`flow.invalid`), or the lab has no such node.
        """
        words = {
            "bytes": bytes if bytes is None or isinstance(bytes, str) else f"{bytes} B",
            "duration": duration if duration is None or isinstance(duration, str) else f"{duration} s",
            "rate": rate if rate is None or isinstance(rate, str) else f"{rate} bit",
            "weight": weight,
            "transport": transport,
        }
        path = None if route is None else tuple(self._node(stop) for stop in route)
        request = request_of(self._node(src), self._node(dst), words, count, path)
        return await self._ids(StartFlows((request,)))

    async def list(self, *ids: int, open_only: bool = False) -> Sequence[FlowStatus]:
        """Return flows in order of their numbers: these, or all; those that have not ended, if asked."""
        found: list[FlowStatus] = []
        async with operator(self.directory, self.state) as connection:
            while True:
                after = found[-1].id if found else 0
                reply = await connection.connection.request(
                    GetFlows(ids or None, after, open_only=open_only), within=ANSWER_S
                )
                assert isinstance(reply, FlowList), "the controller answers a request with its reply"
                found.extend(reply.flows)
                if not reply.more or not reply.flows:
                    return found

    async def list_max(self, *, open_only: bool = False, limit: int = 1_000) -> Sequence[MaxFlowStatus]:
        """Return the flows that nodes in max mode carry, the latest first; at most 10,000."""
        async with operator(self.directory, self.state) as connection:
            request = GetMaxFlows(open_only, limit)
            reply = await connection.connection.request(request, within=ANSWER_S)
            assert isinstance(reply, MaxFlowList), "the controller answers a request with its reply"
            return reply.flows

    async def wait(
        self,
        *ids: int,
        timeout: float = WAIT_S,  # noqa: ASYNC109  # kept by the controller
    ) -> Sequence[FlowStatus]:
        """Wait until these flows have ended, or all; return what became of them.

        Raises:
            PeerError: They have not in time (`flow.not-ended`).
        """
        await self._ask(WaitFlows(max(0, round(timeout * 1000)), ids or None), timeout + ANSWER_S)
        return await self.list(*ids)

    async def stop(self, *ids: int) -> Sequence[int]:
        """Stop flows, all of them unless named; return those that had not ended. They stay in the list."""
        return await self._ids(EndFlows(ids or None))

    async def remove(self, *ids: int) -> Sequence[int]:
        """Stop flows and forget what became of them."""
        return await self._ids(EndFlows(ids, remove=True))

    def _node(self, which: int | str) -> int:
        return select_node(self.state, str(which))

    async def _ids(self, request: Message) -> Sequence[int]:
        reply = await self._ask(request, ANSWER_S)
        value = getattr(reply, "value", None)
        return list(value["ids"]) if isinstance(value, dict) else []

    async def _ask(self, request: Message, limit_s: float) -> Message:
        async with operator(self.directory, self.state) as connection:
            return await connection.connection.request(request, within=limit_s)


class Flows:
    """The user-space flows of a lab that is up; every method calls its counterpart in `AsyncFlows`."""

    def __init__(self, inner: AsyncFlows) -> None:
        self._inner = inner

    def add(
        self,
        src: int | str,
        dst: int | str,
        *,
        bytes: int | str | None = None,
        duration: float | str | None = None,
        rate: float | str | None = None,
        weight: int | None = None,
        transport: str = "tcp",
        count: int = 1,
        route: Sequence[int | str] | None = None,
    ) -> Sequence[int]:
        """Start flows, such as `add(1, 3, bytes="10 MB", rate="5 Mbit")`; see `AsyncFlows.add`."""
        started = self._inner.add(
            src,
            dst,
            bytes=bytes,
            duration=duration,
            rate=rate,
            weight=weight,
            transport=transport,
            count=count,
            route=route,
        )
        return loop_thread.call(started)

    def list(self, *ids: int, open_only: bool = False) -> Sequence[FlowStatus]:
        """Return flows: `.id`, `.state`, `.bytes`, `.seconds`, `.reason`; see `AsyncFlows.list`."""
        return loop_thread.call(self._inner.list(*ids, open_only=open_only))

    def list_max(self, *, open_only: bool = False, limit: int = 1_000) -> Sequence[MaxFlowStatus]:
        """Return the flows of nodes in max mode: `.route`, `.state`, `.bytes_in`, `.reason`."""
        return loop_thread.call(self._inner.list_max(open_only=open_only, limit=limit))

    def wait(self, *ids: int, timeout: float = WAIT_S) -> Sequence[FlowStatus]:
        """Wait until flows have ended; return what became of them."""
        return loop_thread.call(self._inner.wait(*ids, timeout=timeout))

    def stop(self, *ids: int) -> Sequence[int]:
        """Stop flows, all of them unless named; return those that had not ended."""
        return loop_thread.call(self._inner.stop(*ids))

    def remove(self, *ids: int) -> Sequence[int]:
        """Stop flows and forget what became of them."""
        return loop_thread.call(self._inner.remove(*ids))


def request_of(
    src: int, dst: int, words: dict[str, Any], count: int = 1, route: tuple[int, ...] | None = None
) -> FlowRequest:
    """Return a request for flows, from the words of topology files.

    Raises:
        UsageError: A word or a value is wrong (`flow.invalid`).
    """
    from orchestrator.errors import Place
    from orchestrator.fields import Table
    from orchestrator.source import Problems, Value
    from orchestrator.topology.flow_keys import FLOW_FIELDS, MOST_FLOWS, check_flow_form, read_flow_form

    place, problems = Place("the flow"), Problems("flow")
    stated = {key: Value(value, place, str(value)) for key, value in words.items() if value is not None}
    value = Value(stated, place, keys=dict.fromkeys(stated, place))
    read = Table("flow", FLOW_FIELDS).read(value, "the flow", problems) or {}
    title = f"the flow {src} → {dst}"
    if src == dst:
        problems.add(f"{title} ends where it starts", "invalid", place, expected="two nodes")
    if not 1 <= count <= MOST_FLOWS:
        problems.add(
            f"{title} is wanted {count} times", "invalid", place, expected=f"1 to {MOST_FLOWS} flows"
        )
    check_flow_form(read, value, problems, title)
    for problem in problems:
        raise UsageError(
            problem.message,
            id="flow.invalid",
            found=problem.found,
            expected=problem.expected,
            hint=problem.hint,
        )
    return FlowRequest(src, dst, count=count, route=route, **read_flow_form(read))
