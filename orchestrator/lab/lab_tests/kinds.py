"""What each kind of test measures, and whether that is as expected."""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.deploy.state import LabState, NodeNote
from orchestrator.errors import counted
from orchestrator.lab.commands import Completed
from orchestrator.topology import LabTest
from orchestrator.units import Duration, Rate

__all__ = ["KINDS", "Nodes", "Verdict"]

_SHOWN = 3
"""Failures of one test that its detail names."""

_WARM_UP_S = 1.0
_HOPS = 64
"""Nodes on a way that are looked for at most."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one attempt: whether it held, and what was seen, as a sentence."""

    ok: bool
    detail: str


class Nodes(Protocol):
    """Where tests run programs; `Prober` in a lab."""

    @property
    def state(self) -> LabState:
        """The note of the lab."""
        ...

    def node(self, number: int) -> NodeNote:
        """The note of a node."""
        ...

    def addresses(self, nodes: Sequence[int]) -> list[tuple[int, str]]:
        """Nodes with their addresses."""
        ...

    async def run(self, node: int, argv: Sequence[str]) -> Completed:
        """Run a command in a node."""
        ...

    async def probe(self, node: int, kind: str, **options: Any) -> Mapping[str, Any]:
        """Run a function of `probes` in a node."""
        ...

    async def measure(
        self, source: int, target: int, kind: str, sender: Mapping[str, Any], receiver: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Run both sides of a measurement; return what the receiver saw."""
        ...


async def reach(test: LabTest, nodes: Nodes) -> Verdict:
    """Ping each target from each source."""
    targets: dict[int, list[int]] = defaultdict(list)
    for source, target in test.pairs:
        targets[source].append(target)
    found = await _gathered(
        nodes.probe(source, "ping", targets=nodes.addresses(below)) for source, below in targets.items()
    )
    times = {
        (source, target): seconds
        for source, answer in zip(targets, found, strict=True)
        for target, seconds in answer["times"]
    }
    silent = [f"node {b} does not answer node {a}" for (a, b), seconds in times.items() if seconds is None]
    answered = [seconds for seconds in times.values() if seconds is not None]
    detail = f"{len(answered)} of {counted(len(times), 'pair')} answered"
    if silent:
        return Verdict(False, f"{detail}: {_list(silent)}")
    return Verdict(True, f"{detail}, the slowest in {_ms(max(answered))}")


async def tcp(test: LabTest, nodes: Nodes) -> Verdict:
    """Connect to a port of each target from each source."""
    targets = nodes.addresses(test.targets)
    found = await _gathered(
        nodes.probe(source, "tcp", targets=targets, port=test.port) for source in test.sources
    )
    errors = [
        f"node {source} to port {test.port} of node {target}: {error}"
        for source, answer in zip(test.sources, found, strict=True)
        for target, error in answer["errors"]
        if error
    ]
    total = len(test.sources) * len(test.targets)
    return Verdict(
        not errors, _list(errors) or f"port {test.port} took {counted(total, 'connection')} of {total}"
    )


async def http(test: LabTest, nodes: Nodes) -> Verdict:
    """Request a URL from each source."""
    found = await _gathered(nodes.probe(source, "http", url=test.url) for source in test.sources)
    wrong = [
        f"node {source}: {answer['error']}"
        if "error" in answer
        else f"node {source}: status {answer['status']}, {test.status} is expected"
        for source, answer in zip(test.sources, found, strict=True)
        if answer.get("status") != test.status
    ]
    return Verdict(not wrong, _list(wrong) or f"answered with status {test.status}")


async def command(test: LabTest, nodes: Nodes) -> Verdict:
    """Run a command in each node."""
    found = await _gathered(nodes.run(source, test.command) for source in test.sources)
    wrong = [text for done in found if (text := _wrong(test, done))]
    as_expected = " and the output as expected" if test.output else ""
    return Verdict(not wrong, _list(wrong) or f"exit code {test.exit_code}{as_expected}")


def _wrong(test: LabTest, done: Completed) -> str:
    """Return what is wrong with the end of a command, or an empty text."""
    if done.exit_code != test.exit_code:
        lines = (done.stderr or done.stdout).strip().splitlines()
        said = f"; it said `{_short(lines[-1])}`" if lines else ""
        return f"node {done.node}: exit code {done.exit_code}, {test.exit_code} is expected{said}"
    if test.output is not None and not test.output.holds(done.stdout):
        return f"node {done.node}: the output is `{_short(done.stdout.strip())}`, {test.output} is expected"
    return ""


async def route(test: LabTest, nodes: Nodes) -> Verdict:
    """Follow packets from the first node of the route to the last."""
    address = nodes.node(test.route[-1]).address
    found = await nodes.probe(test.route[0], "hops", address=address, most=_HOPS)
    numbers = {node.address: node.id for node in nodes.state.nodes}
    taken = [test.route[0], *(numbers.get(hop, hop or "?") for hop in found["hops"])]
    if taken == list(test.route):
        return Verdict(True, f"packets take {_way(taken)}")
    detail = f"packets take {_way(taken)}, {_way(test.route)} is expected"
    if taken[-1] != test.route[-1]:
        detail = f"packets end after {_way(taken)}, {_way(test.route)} is expected"
    if nodes.state.ttl_mode == "pipe":
        detail += "; the relays of a lab as wide as this one leave TTL alone, so they cannot be seen"
    return Verdict(False, detail)


async def throughput(test: LabTest, nodes: Nodes) -> Verdict:
    """Measure a TCP stream from each source to each target, one after another."""
    seconds = test.duration_s
    found = {}
    for a, b in test.pairs:
        sender = {"seconds": _WARM_UP_S + seconds + 3.0}
        receiver = {"warm_up": _WARM_UP_S, "duration": seconds}
        found[a, b] = float((await nodes.measure(a, b, "stream", sender, receiver))["bps"])
    return _bounded(test, found, "the throughput", lambda bps: f"{bps / 1e6:.3g} Mbit")


async def loss(test: LabTest, nodes: Nodes) -> Verdict:
    """Count the datagrams that do not arrive."""
    found = {pair: 1 - len(delays) / test.packets for pair, delays in (await _delays(test, nodes)).items()}
    text = f"the loss of {test.packets} packets"
    return _bounded(test, found, text, lambda share: f"{share * 100:.3g} %")


async def delay(test: LabTest, nodes: Nodes) -> Verdict:
    """Measure how long datagrams take, one way."""
    measured = await _delays(test, nodes)
    lost = [
        f"no packet from node {a} arrived at node {b}" for (a, b), delays in measured.items() if not delays
    ]
    if lost:
        return Verdict(False, _list(lost))
    found = {pair: statistics.median(delays) / 1e9 for pair, delays in measured.items()}
    return _bounded(test, found, "the median delay", _ms)


async def _delays(test: LabTest, nodes: Nodes) -> dict[tuple[int, int], Sequence[int]]:
    found = {}
    interval = 0.001 if test.kind == "loss" else 0.01
    for a, b in test.pairs:
        sender = {"count": test.packets, "interval": interval}
        found[a, b] = (await nodes.measure(a, b, "datagrams", sender, {"count": test.packets}))["delays"]
    return found


def _bounded(
    test: LabTest, found: Mapping[tuple[int, int], float], what: str, show: Callable[[float], str]
) -> Verdict:
    """Compare what was measured with the bounds of the test."""
    least, most = _plain(test.least), _plain(test.most)
    wrong = [
        f"from node {a} to node {b} {what} is {show(value)}, {_demand(test)} is expected"
        for (a, b), value in found.items()
        if (least is not None and value < least) or (most is not None and value > most)
    ]
    if wrong:
        return Verdict(False, _list(wrong))
    low, high = show(min(found.values())), show(max(found.values()))
    return Verdict(True, f"{what} is {low}" + (f" to {high}" if high != low else "") + f", {_demand(test)}")


def _plain(bound: Rate | Duration | float | None) -> float | None:
    if isinstance(bound, Rate):
        return bound.bps
    return bound.seconds if isinstance(bound, Duration) else bound


def _demand(test: LabTest) -> str:
    shown = [
        f"{word} {bound * 100:g} %" if isinstance(bound, float) else f"{word} {bound}"
        for word, bound in (("at least", test.least), ("at most", test.most))
        if bound is not None
    ]
    return " and ".join(shown)


async def _gathered(parts: Iterable[Awaitable[Any]]) -> list[Any]:
    """Wait for all; the first failure ends the others."""

    async def wait_for(part: Awaitable[Any]) -> Any:
        return await part

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait_for(part)) for part in parts]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def _list(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more


def _short(text: str) -> str:
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= 120 else text[:120] + "…"


def _way(nodes: Sequence[object]) -> str:
    return " → ".join(str(node) for node in nodes)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


KINDS: Mapping[str, Callable[[LabTest, Nodes], Awaitable[Verdict]]] = {
    "reach": reach,
    "tcp": tcp,
    "http": http,
    "command": command,
    "route": route,
    "throughput": throughput,
    "loss": loss,
    "delay": delay,
}
"""What is done for each kind of test."""
