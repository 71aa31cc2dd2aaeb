"""Generate the traffic of a run in one node: listen, start with all others, send, and report the flows.

The nodes agree on a start through published values, so that roles can use barriers undisturbed. Rows are
reported when all flows of the node have ended, since reporting may wait and the times of flows may not; they
are in the order of what was planned, which a replay has as well.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from orchestrator.node.context import Context, RoleError, RoleStopped
from orchestrator.node.roles import Functions
from orchestrator.node.traffic_flows import Listener, Progress, Sent, datagrams, delivered, pull, push
from orchestrator.protocol.messages import FlowRequest, FlowStatus
from orchestrator.traffic import FILE, ROLE, Flow, TrafficEntry, flows_of, from_bytes

__all__ = ["with_traffic"]

AHEAD_S = 0.3
"""How long before the start its time is published."""

READY_S = 60.0
"""How long the other nodes may take to listen."""

SHARE = 0.9
"""The share of the run's time limit after which flows that still run are given up and reported."""

MOST_OPEN = 400
"""Flows that a node has open at once; more of them wait, and are late by that."""

MOST_OPEN_USER = 5_000
"""The same for user-space flows, which take no socket and no descriptor."""

ASK_SHARE, ASK_MOST_S = 0.05, 1.0
"""How long receivers may take to tell what has arrived of flows that were given up: half of what `SHARE`
leaves of the time limit of the run, and at most so many seconds, above the round-trip time of a satellite."""

STOP_LOOK_S = 0.1

RunFlow = Callable[[int, FlowRequest], "Future[FlowStatus]"]
"""Asks the controller for a user-space flow, for the role of a node; done when it has ended."""

Row = dict[str, Any]

_Order = tuple[str, int, int, int, float]
"""The entry of a flow, its pair, its round and its planned start: what is the same in a replay."""


def with_traffic(
    program: Functions, files: Mapping[str, bytes], timeout_s: float, run_flow: RunFlow
) -> Functions:
    """Return the functions of roles that also generate the traffic of the run, if it has any."""
    if FILE not in files:
        return program
    return _WithTraffic(program, from_bytes(files[FILE]), timeout_s, run_flow)


class _WithTraffic:
    """The functions of roles, each with its node's traffic beside it."""

    def __init__(
        self, program: Functions, entries: Sequence[TrafficEntry], timeout_s: float, run_flow: RunFlow
    ) -> None:
        self._program = program
        self._entries = entries
        self._nodes = sorted({node for entry in entries for node in entry.nodes})
        self._timeout_s = timeout_s
        self._run_flow = run_flow

    @property
    def folder(self) -> Path:
        return self._program.folder

    def role(self, name: str) -> Callable[[Any], Any]:
        if name == ROLE:
            return lambda ctx: self._generator(ctx).run()
        function = self._program.role(name)

        def beside(ctx: Context) -> Any:
            if ctx.node not in self._nodes:
                return function(ctx)
            generating = _Beside(lambda: asyncio.run(self._generator(ctx).run()))
            result = function(ctx)
            if inspect.isawaitable(result):
                return generating.after(result)
            generating.wait()
            return result

        return beside

    def _generator(self, ctx: Context) -> _Generator:
        return _Generator(ctx, self._entries, self._nodes, self._timeout_s, self._run_flow)


class _Beside:
    """A function in a thread of its own; what it raises is raised by who waits for it."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        while self._thread.is_alive():  # in slices, so that a stopped role ends
            self._thread.join(STOP_LOOK_S)
        if self._error is not None:
            raise self._error

    async def after(self, result: Any) -> Any:
        value = await result
        await asyncio.to_thread(self.wait)
        return value

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:
            self._error = error


class _Generator:
    """The traffic of one node."""

    def __init__(
        self,
        ctx: Context,
        entries: Sequence[TrafficEntry],
        nodes: Sequence[int],
        timeout_s: float,
        run_flow: RunFlow,
    ) -> None:
        self._ctx = ctx
        self._run_flow = run_flow
        self._entries = [entry for entry in entries if ctx.node in entry.nodes]
        self._nodes = nodes
        self._deadline = time.monotonic() + SHARE * timeout_s
        self._ask_s = min(ASK_MOST_S, ASK_SHARE * timeout_s)
        self._unconfirmed: list[tuple[Row, str, int, int]] = []
        self._rows: list[tuple[_Order, Row]] = []
        self._open: dict[int, tuple[_Order, Row]] = {}
        self._sockets = asyncio.Semaphore(MOST_OPEN)
        self._user_flows = asyncio.Semaphore(MOST_OPEN_USER)
        self._start = 0.0

    async def run(self) -> None:
        """Send what is to be sent, and stay until all nodes have."""
        async with AsyncExitStack() as stack:
            for entry in self._entries:
                if entry.transport != "user" and any(
                    self._ctx.node == (src if entry.pulls else dst) for src, dst in entry.pairs
                ):
                    await stack.enter_async_context(Listener(entry, self._ctx.address(self._ctx.node)))
            await self._meet("ready", "start", READY_S)
            works = [work for entry in self._entries for work in self._work(entry)]
            await self._until_done(asyncio.gather(*works))
            await self._ask()
            for _, row in sorted(self._rows, key=lambda each: each[0]):
                self._ctx.report_traffic(row)
            # Listening ends when nobody sends any more.
            await self._meet("done", "end", None)

    async def _meet(self, mine: str, ours: str, limit_s: float | None) -> None:
        """Wait until every node has come here, and with `ready` until the start."""
        ctx = self._ctx
        ctx.publish(f"traffic {mine} {ctx.node}", True)
        if ctx.node == self._nodes[0]:
            for node in self._nodes:
                await ctx.lookup_async(f"traffic {mine} {node}", limit_s)
            ctx.publish(f"traffic {ours}", time.time() + AHEAD_S)
        start = float(await ctx.lookup_async(f"traffic {ours}", limit_s))
        if ours == "start":
            # Nodes of one machine have one clock; others are as far apart as their clocks.
            self._start = time.monotonic() + start - time.time()

    async def _until_done(self, flows: asyncio.Future[list[None]]) -> None:
        """Wait until all flows have ended, or give up those that have not at the deadline."""
        while not flows.done() and time.monotonic() < self._deadline:
            await asyncio.wait({flows}, timeout=STOP_LOOK_S)
            if self._ctx.interrupted is not None:
                raise RoleStopped(self._ctx.interrupted)
        if flows.done():
            flows.result()
            return
        self._rows += self._open.values()
        flows.cancel()
        with suppress(asyncio.CancelledError):
            await flows

    async def _ask(self) -> None:
        """Fill in what has arrived of flows that failed or were given up, where receivers say it in time."""
        asking = [asyncio.ensure_future(self._fill_in(*each)) for each in self._unconfirmed]
        if not asking:
            return
        _, left = await asyncio.wait(asking, timeout=self._ask_s)
        for each in left:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _fill_in(self, row: Row, address: str, port: int, number: int) -> None:
        with suppress(OSError):
            row["received"], _ = await delivered(address, port, number)

    def _give_up(self, row: Row, entry: TrafficEntry, address: str, progress: Progress) -> None:
        """A flow ended without the confirmation of its receiver."""
        row["given_up_s"] = round(time.monotonic() - self._start, 6)
        row["received"] = progress.bytes
        if not entry.pulls and entry.transport != "user":
            self._unconfirmed.append((row, address, entry.port, progress.number))

    def _work(self, entry: TrafficEntry) -> list[Coroutine[Any, Any, None]]:
        """What this node does for an entry."""
        node = self._ctx.node
        mine = [
            flow
            for flow in flows_of(entry, self._ctx.seed)
            if node == (flow.dst if entry.pulls else flow.src)
        ]
        timed = [self._timed(entry, flow) for flow in mine if not flow.round]
        if entry.kind == "request-response":
            servers = {flow.src for flow in mine}
            groups = [[flow for flow in mine if flow.src == server] for server in sorted(servers)]
        else:
            groups = [[flow for flow in mine if flow.round]]
        return timed + [self._rounds(entry, group) for group in groups if group]

    async def _timed(self, entry: TrafficEntry, flow: Flow) -> None:
        """A flow with a time of its own."""
        due = self._start + flow.start_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await self._send(entry, flow, due)

    async def _rounds(self, entry: TrafficEntry, flows: Sequence[Flow]) -> None:
        """Rounds of flows, each after the one before has ended; the first at the start of the entry."""
        rounds: dict[int, list[Flow]] = {}
        for flow in flows:
            rounds.setdefault(flow.round, []).append(flow)
        begin = self._start + entry.start_s
        await asyncio.sleep(max(0.0, begin - time.monotonic()))
        due: float | None = begin
        for _, now in sorted(rounds.items()):
            await asyncio.gather(*(self._send(entry, flow, due) for flow in now))
            due = None

    async def _send(self, entry: TrafficEntry, flow: Flow, due: float | None) -> None:
        """Send a flow when there is a place for it; waiting for one is part of its completion time."""
        places = self._user_flows if entry.transport == "user" else self._sockets
        if due is None and places.locked():
            due = time.monotonic()
        async with places:
            await self._transfer(entry, flow, due)

    async def _transfer(self, entry: TrafficEntry, flow: Flow, due: float | None) -> None:
        began = time.monotonic()
        since = began if due is None else due
        row: Row = {
            "entry": entry.name,
            "src": flow.src,
            "dst": flow.dst,
            "bytes": flow.bytes,
            "start": round(since - self._start, 6),
            "seconds": None,
            "received": 0,
            "state": "unfinished",
            "late": None if due is None else round(max(0.0, began - due), 6),
            "round": flow.round or None,
        }
        place: _Order = (entry.name, flow.src, flow.dst, flow.round, flow.start_s)
        self._open[id(row)] = place, row
        address = self._ctx.address(flow.src if entry.pulls else flow.dst)
        progress = Progress()
        try:
            sent = await self._carried(entry, flow, since, began, address, progress)
        except (OSError, RoleError) as error:
            row["state"], row["error"] = "failed", str(error)[:200]
            self._give_up(row, entry, address, progress)
        except asyncio.CancelledError:
            self._give_up(row, entry, address, progress)
            raise
        else:
            if sent.late_s:
                row["late"] = round(max(row["late"] or 0.0, sent.late_s), 6)
            row["received"] = sent.received
            row["seconds"] = round(sent.seconds, 6)
            row["state"] = "complete" if sent.received >= flow.bytes else "partial"
        del self._open[id(row)]
        self._rows.append((place, row))

    async def _carried(
        self, entry: TrafficEntry, flow: Flow, since: float, began: float, address: str, progress: Progress
    ) -> Sent:
        """Send a flow by the transport of its entry, and return when it has ended."""
        if entry.transport == "user":
            return await self._by_dataplane(flow, began - since, progress)
        if entry.transport == "udp":
            return await datagrams(address, entry, flow, since, progress)
        return await (pull if entry.pulls else push)(address, entry.port, flow, since, progress)

    async def _by_dataplane(self, flow: Flow, waited: float, progress: Progress) -> Sent:
        """Let the dataplane carry a flow.

        Its time is from its first packet to its end, and what it waited for a place before. What
        the controller needs to start it is no part of that, but makes it late.
        """
        asked = time.time()
        request = FlowRequest(
            flow.src,
            flow.dst,
            size_bytes=flow.bytes,
            rate_bps=round(flow.rate_bps) if flow.rate_bps else None,
        )
        ended = await asyncio.wrap_future(self._run_flow(self._ctx.node, request))
        if ended.state == "failed":
            progress.count(ended.bytes)
            raise RoleError(ended.reason)
        late = max(0.0, (ended.start_us or 0) / 1e6 - asked)
        return Sent(ended.bytes, waited + (ended.seconds or 0.0), waited + late)
