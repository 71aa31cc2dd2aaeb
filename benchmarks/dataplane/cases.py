"""The measured paths, the kinds of samples, their references and the targets that they decide.

A case is one kind of sample on one path. Its reference is another case of the same round; the value of a
target is the median of the paired ratios, except for round trips, which are an absolute time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from benchmarks import driver_only, namespaces, testbed
from benchmarks.paths import Path
from benchmarks.peers import mininet

__all__ = ["CASES", "LOOPBACK", "PATHS", "PROFILED", "Case", "Kind", "PathPlan"]

Kind = Literal["tcp", "udp", "rtt"]

UNITS: dict[Kind, str] = {"tcp": "Gb/s", "udp": "packets/s", "rtt": "µs"}


@dataclass(frozen=True, slots=True)
class PathPlan:
    """A path that can be opened.

    Attributes:
        name: Short name, used for choosing and in results.
        title: What it is, for the report.
        open: Opens it for as long as a block lasts.
        checked: Whether the path checks apply to it.
        on_demand: Whether it is measured only when `--only` names it.
    """

    name: str
    title: str
    open: Callable[[], AbstractContextManager[Path]]
    checked: bool = False
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of sample on one path.

    Attributes:
        path: Name of the path.
        kind: What is sampled.
        reference: Name of the case that it is divided by.
        target: Number of the target that it decides.
        relays_anywhere: Whether relays may use every CPU, those of sender and receiver included.
    """

    path: str
    kind: Kind
    reference: str | None = None
    target: int | None = None
    relays_anywhere: bool = False

    @property
    def name(self) -> str:
        """Return the name under which samples are stored, such as `nm-2/tcp`."""
        return f"{self.path}/{self.kind}"

    @property
    def unit(self) -> str:
        """Return the unit of its samples."""
        return UNITS[self.kind]

    @property
    def higher_is_better(self) -> bool:
        """Whether larger samples are better."""
        return self.kind != "rtt"


def _bare(name: str, nodes: int, *options: str) -> PathPlan:
    title = " ".join([f"packet path alone, overlay hops: {nodes - 1}", *options])
    return PathPlan(name, title, lambda: driver_only.line(nodes, *options), checked=True, on_demand=True)


PATHS: tuple[PathPlan, ...] = (
    PathPlan("loopback", "loopback device, MTU 65536", namespaces.loopback),
    PathPlan("veth-2", "REF: two kernel veth hops", lambda: namespaces.veth_chain(2), checked=True),
    PathPlan(
        "veth-2-free",
        "two kernel veth hops, packets received on any CPU",
        lambda: namespaces.veth_chain(2, steered=False),
    ),
    PathPlan("veth-16", "sixteen kernel veth hops", lambda: namespaces.veth_chain(16), checked=True),
    PathPlan("mininet-3", "Mininet, line of three Linux bridges", lambda: mininet.linear(3)),
    PathPlan("nm-2", "1 overlay hop, one process", lambda: testbed.line(2), checked=True),
    PathPlan("nm-3", "2 overlay hops, one process", lambda: testbed.line(3), checked=True),
    PathPlan("nm-17", "16 overlay hops, one process", lambda: testbed.line(17), checked=True),
    PathPlan(
        "nm-processes",
        "1 overlay hop, a process per node, shared memory",
        lambda: testbed.line(2, processes=True),
        checked=True,
    ),
    PathPlan(
        "nm-processes-unix",
        "1 overlay hop, a process per node, unix socket",
        lambda: testbed.line(2, processes=True, transport="unix"),
        checked=True,
    ),
    PathPlan(
        "nm-processes-tcp",
        "1 overlay hop, a process per node, TCP",
        lambda: testbed.line(2, processes=True, transport="tcp"),
        checked=True,
    ),
    PathPlan(
        "nm-docker",
        "1 overlay hop, a container per node, shared memory",
        lambda: testbed.line(2, backend="docker"),
        checked=True,
    ),
    PathPlan(
        "nm-docker-tcp",
        "1 overlay hop, a container per node, TCP",
        lambda: testbed.line(2, backend="docker", transport="tcp"),
        checked=True,
    ),
    PathPlan(
        "nm-plain",
        "1 overlay hop, one process, offload off",
        lambda: testbed.line(2, offload="off"),
        checked=True,
    ),
    PathPlan("nm-max-1", "max mode, 1 relay, one process", lambda: testbed.line(3, max_mode=True)),
    PathPlan("nm-max-2", "max mode, 2 relays, one process", lambda: testbed.line(4, max_mode=True)),
    _bare("bare-2", 2),
    _bare("bare-3", 3),
    _bare("bare-17", 17),
    _bare("bare-tcp", 2, "--link", "tcp"),
    _bare("bare-unix", 2, "--link", "unix"),
    _bare("bare-shared", 2, "--link", "shared"),
    _bare("bare-plain", 2, "--offload", "off"),
)

LOOPBACK = "loopback/tcp"
"""The case that shows whether the machine was slow in a round."""

_REF = "veth-2/tcp"

CASES: tuple[Case, ...] = (
    Case("loopback", "tcp"),
    Case("nm-max-1", "tcp", reference=LOOPBACK, target=7),
    Case("nm-max-2", "tcp", reference=LOOPBACK, target=8),
    Case("veth-2", "tcp", reference=LOOPBACK),
    Case("nm-2", "tcp", reference=_REF, target=1),
    Case("nm-3", "tcp", reference=_REF, target=2),
    Case("mininet-3", "tcp", reference=_REF),
    Case("veth-16", "tcp", reference=_REF),
    Case("nm-17", "tcp", reference="veth-16/tcp", target=3),
    Case("nm-processes", "tcp", reference=_REF, target=4),
    Case("nm-processes-unix", "tcp", reference=_REF),
    Case("nm-processes-tcp", "tcp", reference=_REF),
    Case("nm-docker", "tcp", reference=_REF, target=4),
    Case("nm-docker-tcp", "tcp", reference=_REF),
    # Without super-packets a relay takes more time than both ends, and needs what they leave of their CPUs.
    Case("nm-plain", "tcp", reference=_REF, target=5, relays_anywhere=True),
    Case("bare-2", "tcp", reference=_REF),
    Case("bare-3", "tcp", reference=_REF),
    Case("bare-17", "tcp", reference="veth-16/tcp"),
    Case("bare-tcp", "tcp", reference=_REF),
    Case("bare-unix", "tcp", reference=_REF),
    Case("bare-shared", "tcp", reference=_REF),
    Case("bare-plain", "tcp", reference=_REF, relays_anywhere=True),
    Case("veth-2-free", "udp"),
    Case("nm-2", "udp", reference="veth-2-free/udp", target=6),
    Case("bare-2", "udp", reference="veth-2-free/udp"),
    Case("veth-2-free", "rtt"),
    Case("mininet-3", "rtt"),
    Case("nm-2", "rtt", target=9),
    Case("bare-2", "rtt"),
)
"""In the order of measurement in a round: each case close to its reference."""

PROFILED = frozenset({"nm-2/tcp", "nm-17/tcp", "nm-2/udp"})
"""Cases whose relays are watched by perf, after all rounds, so that no figure pays for it."""
