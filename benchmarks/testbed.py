"""Start labs of the testbed and return them as paths.

Programs run in the network namespace of a node, as with `nm exec`, but through nsenter, so that the start of
`nm` is not measured. Only the network namespace is entered: the host's iperf3 runs in every kind of node.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path as FilePath
from typing import Literal

from benchmarks import labs, proc
from benchmarks.commands import run
from benchmarks.errors import BenchmarkError, NotRunnable
from benchmarks.labs import Backend, RunningLab, topology
from benchmarks.paths import Cut, Endpoint, Path

__all__ = ["Offload", "Transport", "line", "path_between"]

Offload = Literal["auto", "off"]
Transport = Literal["auto", "unix", "tcp"]

_TUN = "utun"
_UP_SECONDS = 300.0
_COUNTERS = FilePath(__file__).with_name("scenarios") / "link-counters"


@contextlib.contextmanager
def line(
    nodes: int,
    *,
    backend: Backend = "native",
    processes: bool = False,
    offload: Offload = "auto",
    transport: Transport = "auto",
    link: str = "",
    max_mode: bool = False,
) -> Iterator[Path]:
    """Yield the path from the first to the last node of a line.

    Args:
        nodes: Nodes of the line; the path has one hop less.
        backend: Namespaces or containers.
        processes: Whether each node of a native lab has its own process.
        offload: Whether the TUN devices carry super-packets (GSO/GRO).
        transport: Transport of links between processes.
        link: Settings of every link, such as `rate: 100 Mbit`; empty means no impairment.
        max_mode: Whether the nodes carry TCP by splicing sockets.

    Raises:
        NotRunnable: The lab did not start on this machine.
    """
    text = topology("line", n_nodes=nodes)
    # Quoted: YAML 1.1 parsers read an unquoted `off` as false.
    mode = "max" if max_mode else "normal"
    text += f'defaults: {{node: {{offload: "{offload}", operating_mode: {mode}}}, link: {{{link}}}}}\n'
    text += f"transport: {transport}\n"
    options = ["--processes", "each"] if processes else []
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(
                labs.lab(text, backend=backend, timeout=_UP_SECONDS, options=options)
            )
            path = path_between(running, 1, nodes, hops=nodes - 1)
        except BenchmarkError as error:
            raise NotRunnable(str(error)) from error
        yield path


def path_between(running: RunningLab, a: int, b: int, *, hops: int) -> Path:
    """Return the path between two nodes of a lab that is up; the nodes between have the numbers between."""
    sender, receiver = (Endpoint(_enter(running, node), running.address(node), _TUN) for node in (a, b))
    return Path(
        name=running.name,
        sender=sender,
        receiver=receiver,
        hops=hops,
        relays=_relays(running),
        link_bytes=lambda: _link_bytes(running, a, b),
        cut=_cut(running, a + (b - a) // 2),
        only_devices=running.backend == "native",
    )


def _link_bytes(running: RunningLab, a: int, b: int) -> list[int]:
    """Return the bytes that each link from `a` to `b` has carried forward, as their senders count them."""
    rows = running.scenario(_COUNTERS)["rows"]
    carried = {(int(row["node"]), int(row["remote"])): int(row["tx_bytes"]) for row in rows}
    return [carried[node, node + 1] for node in range(a, b)]


def _cut(running: RunningLab, node: int) -> Cut:
    """Return how to cut the link between a node and the next; everything on it is lost while it is cut."""
    from orchestrator import Lab
    from orchestrator.impairment import LinkSpec

    lab = Lab.attach(running.name)

    def down() -> None:
        lab.set_link(node, node + 1, LinkSpec(loss=1.0))

    def up() -> None:
        lab.set_link(node, node + 1, reset=True)

    up()  # the first change of a link imports modules; do that before the measured one
    return Cut(down, up)


def _enter(running: RunningLab, node: int) -> tuple[str, ...]:
    if running.backend == "docker":
        return ("nsenter", f"--net=/proc/{_container_process(running, node)}/ns/net", "--")
    # Imported here, so that paths without a lab do not need the testbed's dependencies.
    from orchestrator.deploy import state
    from orchestrator.deploy.home import Home
    from orchestrator.deploy.namespaces import require_table

    directory = Home.default().lab(running.name)
    note = state.read(directory)
    if note is None:
        raise NotRunnable(f"the lab {running.name} is gone")
    part = next(role for role, nodes in note.hosts.items() if node in nodes)
    table = require_table(directory, part)
    return ("nsenter", f"--net=/proc/{table.process.pid}/fd/{table.nodes[node].fd}", "--")


def _relays(running: RunningLab) -> Callable[[], Sequence[int]]:
    if running.backend == "native":
        return lambda: _hosts(running)
    first = [_container_process(running, int(node["id"])) for node in running.status["nodes"]]
    # A container's first process only supervises the one that forwards packets.
    return lambda: [pid for parent in first for pid in (parent, *proc.descendants(parent))]


def _hosts(running: RunningLab) -> list[int]:
    """Return the processes that carry nodes: `host`, or `host-1` and so on."""
    parts = running.processes()
    return [pid for part, pids in parts.items() if part == "host" or part.startswith("host-") for pid in pids]


def _container_process(running: RunningLab, node: int) -> int:
    node_name = next(each["name"] for each in running.status["nodes"] if int(each["id"]) == node)
    name = f"nm-{running.name}-{node_name}"
    return int(run(["docker", "inspect", "--format", "{{.State.Pid}}", name], timeout=30).stdout)
