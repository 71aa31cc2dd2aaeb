"""`Lab`: the blocking API, for scripts, notebooks and tests.

Every method calls its counterpart in `AsyncLab`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Unpack

from orchestrator.deploy.home import Home
from orchestrator.deploy.host import Progress
from orchestrator.deploy.state import Backend
from orchestrator.errors import NmError
from orchestrator.impairment import LinkSpec
from orchestrator.lab import loop_thread
from orchestrator.lab.blocking_changes import BlockingChanges
from orchestrator.lab.blocking_groups import Groups
from orchestrator.lab.blocking_link import Link
from orchestrator.lab.changing import Applied
from orchestrator.lab.commands import Completed
from orchestrator.lab.down import DownResult
from orchestrator.lab.flows import Flows
from orchestrator.lab.handle import AsyncLab, up_async
from orchestrator.lab.metrics import Metrics
from orchestrator.lab.node import AsyncNode
from orchestrator.lab.node_faults import BACK_S, Action, NodesChanged
from orchestrator.lab.routes import Routes
from orchestrator.lab.service import AsyncService
from orchestrator.lab.status import LabStatus
from orchestrator.lab.up import DEFAULT_TIMEOUT_S, UpResult
from orchestrator.protocol.messages import Event, ProbeStatus
from orchestrator.services import ServiceState
from orchestrator.topology import Topology

if TYPE_CHECKING:
    from orchestrator.lab.capture import Capture, CaptureWords
    from orchestrator.lab.lab_tests import LabTestResult
    from orchestrator.lab.lab_tests.runner import OnResult
    from orchestrator.lab.run import OnEvent
    from orchestrator.results import Results, RunOutcome


def _quiet(_what: str) -> None:
    """Ignore progress messages."""


class Node:
    """A node of a lab that is up."""

    def __init__(self, inner: AsyncNode) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return f"Node({self.id}, {self.name!r}, {self.address!r})"

    @property
    def id(self) -> int:
        """Its number."""
        return self._inner.id

    @property
    def name(self) -> str:
        """Its name, under which other nodes reach it."""
        return self._inner.name

    @property
    def address(self) -> str:
        """Its address on the emulated network."""
        return self._inner.address

    @property
    def address6(self) -> str | None:
        """Its IPv6 address there; None without one."""
        return self._inner.address6

    @property
    def external(self) -> bool:
        """Whether it is an external node, run by a program of the user's own."""
        return self._inner.external

    @property
    def config(self) -> Path:
        """Its TOML file; `nextmini_py.Dataplane` takes it, if the node is external."""
        return self._inner.config

    def run(
        self,
        argv: Sequence[str] | str,
        *,
        stdin: bytes | None = None,
        timeout: float | None = None,
        user: str | None = None,
    ) -> Completed:
        """Run a command in the node: `.exit_code`, `.stdout`, `.stderr`, `.seconds`; see `AsyncNode.run`."""
        return loop_thread.call(self._inner.run(argv, stdin=stdin, timeout=timeout, user=user))

    def service(self, name: str) -> Service:
        """A service in this node."""
        return Service(self._inner.service(name))

    def copy_to(self, source: str | Path, path: str) -> None:
        """Copy a file or folder of this machine into the node; see `AsyncNode.copy_to`."""
        loop_thread.call(self._inner.copy_to(source, path))

    def copy_from(self, path: str, target: str | Path) -> None:
        """Copy a file or folder of the node to this machine; see `AsyncNode.copy_from`."""
        loop_thread.call(self._inner.copy_from(path, target))

    def kill(self) -> NodesChanged:
        """End it and its programs at once; see `AsyncNode.kill`."""
        return loop_thread.call(self._inner.kill())

    def stop(self) -> NodesChanged:
        """End it as `kill` does, but ask its programs first."""
        return loop_thread.call(self._inner.stop())

    def start(self, *, timeout: float = BACK_S) -> NodesChanged:
        """Start it again, and return when it is ready; see `AsyncNode.start`."""
        return loop_thread.call(self._inner.start(timeout=timeout))

    def pause(self) -> NodesChanged:
        """Stop its packet processing and its programs where they are; links and routes stay."""
        return loop_thread.call(self._inner.pause())

    def unpause(self, *, timeout: float = BACK_S) -> NodesChanged:
        """Let a paused node go on."""
        return loop_thread.call(self._inner.unpause(timeout=timeout))

    def remove(self, *, force: bool = False) -> Applied:
        """Take it out of the lab, with its links."""
        return loop_thread.call(self._inner.remove(force=force))


class Service:
    """A service in one node of a lab that is up."""

    def __init__(self, inner: AsyncService) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return f"Service({self._inner.instance.key!r})"

    def status(self) -> ServiceState:
        """What became of it: `.state`, `.restarts`, `.exit_code`, `.reason`."""
        return loop_thread.call(self._inner.status())

    def run(
        self,
        argv: Sequence[str] | str,
        *,
        stdin: bytes | None = None,
        timeout: float | None = None,
        user: str | None = None,
    ) -> Completed:
        """Run a command beside the service; see `AsyncService.run`."""
        return loop_thread.call(self._inner.run(argv, stdin=stdin, timeout=timeout, user=user))

    def restart(self) -> None:
        """End it and start it again; returns when it is ready; see `AsyncService.restart`."""
        loop_thread.call(self._inner.restart())

    def logs(self, *, tail: int | None = None) -> list[str]:
        """What it printed so far, line by line."""

        async def read() -> list[str]:
            return [line async for line in self._inner.logs(tail=tail)]

        return loop_thread.call(read())


class Lab(BlockingChanges):
    """A lab that is up; as a context manager it is taken down at the end.

    Example:
        with Lab.up("topologies/ring.yaml", backend="native") as lab:
            out = lab.node(1).run(["ping", "-c", "1", lab.node(3).address])
            run = lab.run_scenario("weights-sync", params={"rounds": 2})
    """

    def __init__(self, inner: AsyncLab) -> None:
        self._inner = inner

    @classmethod
    def up(
        cls,
        topology: str | Path | Topology,
        *,
        name: str | None = None,
        backend: Backend | None = None,
        overrides: Sequence[str] = (),
        external: Sequence[int | str] = (),
        timeout: float = DEFAULT_TIMEOUT_S,
        processes: int | Literal["each"] | None = None,
        restart: bool = True,
        tls: bool | None = None,
        listen: str | None = None,
        progress: Progress = _quiet,
        home: Home | None = None,
    ) -> Lab:
        """Bring a topology up, or attach to it if it is up already; see `AsyncLab.start`."""
        start = AsyncLab.start(
            topology,
            name=name,
            backend=backend,
            overrides=overrides,
            external=external,
            timeout=timeout,
            processes=processes,
            restart=restart,
            tls=tls,
            listen=listen,
            progress=progress,
            home=home,
        )
        return cls(loop_thread.call(start, undo=AsyncLab.undo_start))

    @staticmethod
    def up_async(topology: str | Path | Topology, **options: Any) -> AbstractAsyncContextManager[AsyncLab]:
        """The asynchronous counterpart: `async with Lab.up_async(...) as lab`, whose methods are awaited."""
        return up_async(topology, **options)

    @classmethod
    def attach(cls, name: str | None = None, *, home: Home | None = None) -> Lab:
        """Find a lab that is up: that of the name, or the only one."""
        return cls(AsyncLab.attach(name, home=home))

    @staticmethod
    def list(*, home: Home | None = None) -> list[LabStatus]:
        """The status of every lab."""
        return loop_thread.call(AsyncLab.list(home=home))

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def __repr__(self) -> str:
        return f"Lab({self.name!r}, backend={self.backend!r})"

    def _repr_html_(self) -> str:
        """Its state and its picture, for a notebook."""
        from orchestrator.lab.notebook import lab_html

        try:
            return lab_html(self.topology, self.status())
        except NmError as error:  # it was taken down, and a notebook shows what it can
            return f"<p>{escape(repr(self))}: {escape(error.message)}</p>"

    @property
    def name(self) -> str:
        """The lab's name."""
        return self._inner.name

    @property
    def backend(self) -> Backend:
        """Its backend."""
        return self._inner.backend

    @property
    def directory(self) -> Path:
        """Its folder; everything in it goes away with the lab."""
        return self._inner.directory

    @property
    def result(self) -> UpResult | None:
        """How it came up, if it was this object that brought it up."""
        return self._inner.result

    @property
    def topology(self) -> Topology:
        """What it was brought up from, with everything applied."""
        return self._inner.topology

    @property
    def nodes(self) -> Sequence[Node]:
        """Its nodes, in order of id."""
        return [Node(node) for node in self._inner.nodes]

    def node(self, which: int | str) -> Node:
        """A node by number or name."""
        return Node(self._inner.node(which))

    def status(self) -> LabStatus:
        """What state it is in."""
        return loop_thread.call(self._inner.status())

    def run_in_all(
        self,
        argv: Sequence[str] | str,
        nodes: Sequence[int | str] = ("all",),
        *,
        timeout: float | None = None,
        user: str | None = None,
    ) -> Sequence[Completed]:
        """Run a command in several nodes at once."""
        chosen = self._inner.select(*(str(node) for node in nodes))
        return loop_thread.call(self._inner.run_in_all(chosen, argv, timeout_s=timeout, user=user))

    def logs(self, part: str, *, tail: int | None = None) -> Iterator[str]:
        """The log of `controller`, `postgres`, `host` or `node-<n>` as it is now."""

        async def read() -> Sequence[str]:
            return [line async for line in self._inner.logs(part, tail=tail)]

        return iter(loop_thread.call(read()))

    def run_scenario(
        self,
        scenario: str | Path,
        *,
        params: Mapping[str, object] | None = None,
        results: Path | str | None = None,
        seed: int | None = None,
        timeout: float | None = None,
        on_event: OnEvent = lambda _event: None,
    ) -> RunOutcome:
        """Run a scenario, shipped or a folder, and judge it; see `AsyncLab.run_scenario`."""
        run = self._inner.run_scenario(
            scenario, params=params, results=results, seed=seed, timeout=timeout, on_event=on_event
        )
        return loop_thread.call(run)

    def test(
        self, source: str | Path | None = None, *, on_result: OnResult = lambda _result: None
    ) -> Sequence[LabTestResult]:
        """Run the tests of its topology, or of a file: `.name`, `.ok`, `.detail`; see `AsyncLab.test`."""
        return loop_thread.call(self._inner.test(source, on_result=on_result))

    def capture(self, file: Path | str, **how: Unpack[CaptureWords]) -> Capture:
        """Begin to capture a node or a link; see `AsyncLab.capture`.

        Example:
            with lab.capture("one.pcapng", link=(1, 2), filter="tcp"):
                lab.node(1).run(["iperf3", "-c", "node-2"])
        """
        return loop_thread.call(self._inner.capture(file, **how))

    @staticmethod
    def sweep(
        scenario: str | Path, values: Mapping[str, Sequence[object]] | None = None, **options: Any
    ) -> Results:
        """Run a scenario with every combination of values, and repeat it; see `lab.sweep.run_sweep`."""
        from orchestrator.lab.sweep import run_sweep

        return loop_thread.call(run_sweep(scenario, values, **options))

    @staticmethod
    def simulate(scenario: str | Path, topology: str | Path | None = None, **options: Any) -> RunOutcome:
        """Run a scenario on the simulated network, without a lab; see `lab.simulated.simulate`."""
        from orchestrator.lab.simulated import simulate

        return loop_thread.call(simulate(scenario, topology, **options))

    def set_link(
        self,
        a: int | str,
        b: int | str,
        spec: LinkSpec | None = None,
        *,
        direction: str = "both",
        merge: bool = True,
        reset: bool = False,
        backward: LinkSpec | None = None,
    ) -> dict[str, Any]:
        """Change what a link does, from now on; see `AsyncLab.set_link`."""
        change = self._inner.set_link(
            a, b, spec, direction=direction, merge=merge, reset=reset, backward=backward
        )
        return loop_thread.call(change)

    def act_on_nodes(
        self, nodes: Sequence[int], do: Action, *, timeout: float = BACK_S, cause: str = "operator"
    ) -> NodesChanged:
        """Kill, stop, start, pause or unpause nodes, all of them or none."""
        return loop_thread.call(self._inner.act_on_nodes(nodes, do, timeout_s=timeout, cause=cause))

    def link(self, a: int | str, b: int | str) -> Link:
        """A link by its ends, for taking it down and up again."""
        return Link(self._inner.link(a, b))

    @property
    def groups(self) -> Groups:
        """Its multicast groups."""
        return Groups(self._inner.groups)

    def reset_links(self) -> dict[str, Any]:
        """Return all links to what the topology declares, and up; a partition stays."""
        return loop_thread.call(self._inner.reset_links())

    def partition(self, groups: str | Sequence[Sequence[int | str]]) -> dict[str, Any]:
        """Take down all links between groups of nodes; see `AsyncLab.partition`."""
        return loop_thread.call(self._inner.partition(groups))

    def heal(self) -> dict[str, Any]:
        """End the partition; links that were taken down one by one stay down."""
        return loop_thread.call(self._inner.heal())

    @property
    def metrics(self) -> Metrics:
        """Counters of its nodes, links and flows: `.snapshot()`, `.rows("links")`, `.export("x.parquet")`."""
        return Metrics(self._inner.metrics)

    @property
    def flows(self) -> Flows:
        """Its user-space flows: `lab.flows.add(1, 3, bytes="10 MB")`, `.wait()`, `.list()`, `.stop()`."""
        return Flows(self._inner.flows)

    @property
    def routes(self) -> Routes:
        """Its explicit routes: `lab.routes.add([1, 2, 3], weight=2)`, `.list()`, `.pin(7, dst_port=80)`."""
        return Routes(self._inner.routes)

    def probes(self, after: int = 0) -> Sequence[ProbeStatus]:
        """Return the probes of links so far, and what they measured."""
        return loop_thread.call(self._inner.probes(after))

    def events(self, after: int = 0) -> Sequence[Event]:
        """What happened in the lab, oldest first."""
        return loop_thread.call(self._inner.events(after))

    def down(self, *, progress: Progress = _quiet) -> DownResult:
        """Take it down, and verify that nothing is left."""
        return loop_thread.call(self._inner.down(progress=progress))
