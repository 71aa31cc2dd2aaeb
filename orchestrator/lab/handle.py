"""The asynchronous API of a lab that is up, on which the command line and the blocking `Lab` are built."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from orchestrator import services, topology
from orchestrator.deploy import state as notes
from orchestrator.deploy import supervision
from orchestrator.deploy.backends import host_for
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.host import Progress
from orchestrator.deploy.node_states import require_running
from orchestrator.deploy.state import Backend, LabState
from orchestrator.errors import LabNotFound
from orchestrator.impairment import LinkSpec
from orchestrator.lab.commands import Completed, OnLine, run_in_node, run_in_nodes
from orchestrator.lab.down import DownResult, take_down
from orchestrator.lab.find import (
    find_lab,
    left_out,
    require_inside,
    require_ours,
    select_groups,
    select_node,
    select_nodes,
)
from orchestrator.lab.groups import AsyncGroups
from orchestrator.lab.link import AsyncLink
from orchestrator.lab.live import LiveObjects
from orchestrator.lab.node import AsyncNode
from orchestrator.lab.node_faults import BACK_S, Action, NodesChanged, act
from orchestrator.lab.operator import operator
from orchestrator.lab.service import AsyncService, select_service
from orchestrator.lab.status import LabStatus, all_labs, lab_status
from orchestrator.lab.up import DEFAULT_TIMEOUT_S, UpOptions, UpResult, bring_up
from orchestrator.lab.words import words_of
from orchestrator.protocol.messages import Heal, Partition, ResetLinks, SetLinkSpec, SetLinkState
from orchestrator.topology import Topology

# What only a run needs is loaded by a run: everybody waits for `nm up`.
if TYPE_CHECKING:
    from orchestrator.lab.capture import Capture, CaptureWords
    from orchestrator.lab.lab_tests import LabTestResult
    from orchestrator.lab.lab_tests.runner import OnResult
    from orchestrator.lab.run import OnEvent
    from orchestrator.results import RunOutcome


def _quiet(_what: str) -> None:
    """Ignore progress messages."""


class AsyncLab(LiveObjects):
    """A lab that is up.

    Get one from `AsyncLab.start`, which brings it up, or `AsyncLab.attach`, which finds it.
    """

    def __init__(self, directory: LabDirectory, state: LabState, result: UpResult | None = None) -> None:
        self._directory = directory
        self._state = state
        self._host = host_for(state.backend)
        self.result = result

    @classmethod
    async def start(
        cls,
        source: str | Path | Topology,
        *,
        name: str | None = None,
        backend: Backend | None = None,
        overrides: Sequence[str] = (),
        external: Sequence[int | str] = (),
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109  # passed on, named in the error
        processes: int | Literal["each"] | None = None,
        restart: bool = True,
        tls: bool | None = None,
        listen: str | None = None,
        progress: Progress = _quiet,
        home: Home | None = None,
    ) -> AsyncLab:
        """Bring a topology up, or attach to it if it is up already.

        Args:
            source: A topology file, or a topology.
            name: The lab's name; the topology's unless given.
            backend: `docker` or `native`; docker where an engine answers unless given.
            overrides: Settings such as `defaults.link.rate=100 Mbit`, as behind `--set`.
            external: Further external nodes, run by programs of the user's own.
            timeout: Seconds that it may take to become ready.
            processes: native: host processes to spread the nodes over, `each` for one per node.
            restart: Whether parts that end are restarted automatically.
            tls: Whether connections to the controller are in TLS; as the topology says unless given.
            listen: An address of this machine where the controller is reached as well; likewise.
            progress: Called with a description of the current step.
            home: Where the lab lives; see `Home.default`.

        Raises:
            TopologyInvalid: The file is wrong.
            StartFailed: The lab did not become ready; nothing is left of it.
        """
        if not isinstance(source, Topology):
            source = topology.load(source, overrides)
        outside = tuple(str(each) for each in external)
        options = UpOptions(name, backend, outside, timeout, processes, restart, tls, listen)
        result = await bring_up(home or Home.default(), source, options, progress)
        return cls(result.directory, result.state, result)

    @classmethod
    def attach(cls, name: str | None = None, *, home: Home | None = None) -> AsyncLab:
        """Find a lab that is up: that of the name, or the only one.

        Raises:
            LabNotFound: There is none, or several and no name was given.
        """
        return cls(*find_lab(home or Home.default(), name))

    @classmethod
    async def list(cls, *, home: Home | None = None) -> list[LabStatus]:
        """The status of every lab."""
        return await all_labs(home or Home.default())

    @property
    def name(self) -> str:
        """The lab's name."""
        return self._state.lab

    @property
    def backend(self) -> Backend:
        """Its backend."""
        return self._state.backend

    @property
    def directory(self) -> Path:
        """Its folder; everything in it goes away with the lab."""
        return self._directory.path

    @property
    def note(self) -> LabState:
        """What `up` wrote down."""
        return self._state

    @property
    def topology(self) -> Topology:
        """What it was brought up from, with everything applied."""
        from orchestrator.lab.run import load_topology

        return load_topology(self._directory)

    @property
    def nodes(self) -> Sequence[AsyncNode]:
        """Its nodes, in order of id."""
        return [AsyncNode(self, note) for note in self._state.nodes]

    def node(self, which: int | str) -> AsyncNode:
        """A node by number or name.

        Raises:
            UsageError: The lab has no such node.
        """
        return AsyncNode(self, self._state.node(select_node(self._state, str(which))))

    def select(self, *words: str) -> Sequence[int]:
        """The ids of the nodes that selectors such as `1,3-4`, `w*` or `all` mean; `all` is those we run."""
        return select_nodes(self._state, words)

    def left_out(self, *words: str) -> Sequence[int]:
        """The ids of the external nodes that `all` among these selectors leaves out."""
        return left_out(self._state, words)

    async def status(self) -> LabStatus:
        """What state it is in."""
        return await lab_status(self._directory, self._reread())

    async def run_in(
        self,
        node: int,
        argv: Sequence[str] | str,
        *,
        stdin: bytes | None = None,
        timeout_s: float | None = None,
        on_line: OnLine | None = None,
        user: str | None = None,
    ) -> Completed:
        """Run a command in one node.

        Raises:
            UsageError: The node is external.
        """
        require_inside(self._state, [node])
        require_running(self._directory, [node])
        return await run_in_node(
            self._host,
            self._directory,
            self._state,
            node,
            words_of(argv),
            stdin=stdin,
            timeout_s=timeout_s,
            on_line=on_line,
            user=user,
        )

    async def run_in_all(
        self,
        nodes: Sequence[int],
        argv: Sequence[str] | str,
        *,
        timeout_s: float | None = None,
        on_line: OnLine | None = None,
        user: str | None = None,
    ) -> Sequence[Completed]:
        """Run a command in several nodes at once.

        Raises:
            UsageError: One of them is external, or there are none.
        """
        require_inside(self._state, nodes)
        require_running(self._directory, nodes)
        return await run_in_nodes(
            self._host,
            self._directory,
            self._state,
            nodes,
            words_of(argv),
            timeout_s=timeout_s,
            on_line=on_line,
            user=user,
        )

    def command(
        self, node: int, argv: Sequence[str] | str, *, terminal: bool = False, user: str | None = None
    ) -> Sequence[str]:
        """The argument list that, run on this machine with a terminal or a pipe, runs `argv` in a node.

        Raises:
            UsageError: The node is external.
        """
        require_inside(self._state, [node])
        require_running(self._directory, [node])
        return self._host.command(
            self._directory, self._state, node, words_of(argv), terminal=terminal, stdin=True, user=user
        )

    def service(self, which: str) -> AsyncService:
        """A service in one node, such as `3/redis`.

        Raises:
            UsageError: There is none.
        """
        instance = select_service(self._directory, self._state, which)
        return AsyncService(self._host, self._directory, self._state, instance)

    def logs(self, part: str, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[str]:
        """The log of `controller`, `postgres`, `host`, `supervisor`, `node-<n>` or `<n>/<service>`.

        Raises:
            UsageError: The node is external: its program prints where it runs.
        """
        for node in self._state.nodes:
            if part == f"node-{node.id}":
                require_ours(self._state, node)
        return self._host.logs(self._directory, part, follow=follow, tail=tail)

    async def parts(self) -> Sequence[str]:
        """What there are logs of."""
        found = await self._host.parts(self._directory, self._state)
        roles = [part.role for part in found]
        if supervision.wanted(self._state):
            roles.append("supervisor")
        # Natively a node is no part of its own; it has a log once a role has run there.
        kept = [f"node-{each.id}" for each in self._state.nodes if not each.external]
        roles += [each.key for each in services.read(self._directory.run)]
        return [*roles, *(name for name in kept if name not in roles and self._log_of(name).is_file())]

    def _log_of(self, part: str) -> Path:
        return self._directory.logs / f"{part}.log"

    async def run_scenario(
        self,
        scenario: str | Path,
        *,
        params: Mapping[str, object] | None = None,
        results: Path | str | None = None,
        seed: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the run's own limit, kept by the controller
        on_event: OnEvent = lambda _event: None,
    ) -> RunOutcome:
        """Run a scenario, shipped or a folder, and judge it.

        Args:
            scenario: Its name or folder.
            params: Values by parameter.
            results: Where the run gets a folder of its own, named after its start and its id; `results`
                unless given. The outcome's `results` is that folder.
            seed: The run's seed; the lab's unless given.
            timeout: The run's time limit in seconds; the scenario's unless given.
            on_event: Told what happens.

        Raises:
            ScenarioInvalid: The scenario, its roles or its parameters are wrong.
        """
        from orchestrator.lab.run import run_scenario
        from orchestrator.lab.run_options import RunOptions
        from orchestrator.scenario import load

        options = RunOptions(params or {}, Path(results) if results else None, seed, timeout)
        return await run_scenario(self._directory, self._state, load(scenario), options, on_event)

    async def test(
        self, source: str | Path | None = None, *, on_result: OnResult = lambda _result: None
    ) -> Sequence[LabTestResult]:
        """Run the tests that its topology states, or those of a topology file or scenario that is given.

        Raises:
            UsageError: There are none, or the file is about other nodes.
            FileInvalid: The file is wrong.
        """
        from orchestrator.lab.lab_tests import run_lab_tests
        from orchestrator.lab.lab_tests.files import find_tests

        tests = find_tests(self.topology, source)
        return await run_lab_tests(self._directory, self._state, tests, on_result)

    async def capture(self, file: Path | str, **how: Unpack[CaptureWords]) -> Capture:
        """Begin to capture a node, or a link before and after its emulation, as pcapng; see `CaptureWords`.

        Raises:
            UsageError: There is no such node or link, or a value makes no sense.
            NmError: The capture cannot begin.
        """
        from orchestrator.lab.capture import capture_one

        where = (self._directory, self._state, self.topology, Path(file))
        return await asyncio.to_thread(capture_one, *where, how)

    async def set_link(
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
        """Change what a link does, from now on.

        Args:
            a: One end.
            b: The other.
            spec: What it shall do.
            direction: `forward` (a to b), `backward` or `both`.
            merge: Keep what `spec` does not state.
            reset: Go back to what the topology declares.
            backward: What it shall do from `b` to `a`, where that differs from `spec`.

        Returns:
            `forward` and `backward`, what it does afterwards; and `reason`, why it does not, if it is down.
        """
        change = SetLinkSpec(
            a=self.node(a).id,
            b=self.node(b).id,
            direction=direction,
            spec=spec,
            merge=merge,
            reset=reset,
            backward=backward,
        )
        async with operator(self._directory, self._state) as connection:
            return await connection.set_link(change)

    async def act_on_nodes(
        self, nodes: Sequence[int], do: Action, *, timeout_s: float = BACK_S, cause: str = "operator"
    ) -> NodesChanged:
        """Kill, stop, start, pause or unpause nodes, all of them or none; see `AsyncNode.kill` and so on."""
        return await act(self._directory, nodes, do, timeout_s=timeout_s, cause=cause)

    def link(self, a: int | str, b: int | str) -> AsyncLink:
        """A link by its ends, for taking it down and up again.

        Raises:
            UsageError: The lab has no such node.
        """
        return AsyncLink(self, self.node(a).id, self.node(b).id)

    @property
    def groups(self) -> AsyncGroups:
        """Its multicast groups."""
        return AsyncGroups(self)

    async def reset_links(self) -> dict[str, Any]:
        """Return all links to what the topology declares, and up; a partition stays."""
        return await self.change_links(ResetLinks())

    async def partition(self, groups: str | Sequence[Sequence[int | str]]) -> dict[str, Any]:
        """Take down all links between groups of nodes; a partition that is in force is replaced.

        Args:
            groups: Two or more, such as `[[1, 2], [3, 4]]` or `"1,2|web*"`; other nodes keep their links.

        Returns:
            `down` and `up`, the ends of the links that went down and came up, and `connected`, pairs of
            places of groups that nodes in no group still connect. A list that is too long is cut, and its
            whole length is `down_count`, `up_count` or `connected_count`.

        Raises:
            NmError: The groups make no partition (`partition.*`), or name no node; nothing was changed.
        """
        return await self.change_links(Partition(select_groups(self._state, groups)))

    async def heal(self) -> dict[str, Any]:
        """End the partition; links that were taken down one by one stay down."""
        return await self.change_links(Heal())

    async def change_links(self, change: SetLinkState | ResetLinks | Partition | Heal) -> dict[str, Any]:
        """Send the controller a change of the states of links; what it answers stands at the messages."""
        async with operator(self._directory, self._state) as connection:
            return await connection.change_links(change)

    async def down(self, *, progress: Progress = _quiet) -> DownResult:
        """Take it down."""
        return await take_down(Home(self._directory.home), self.name, progress)

    async def undo_start(self) -> None:
        """Undo `start` for a caller who did not get to have the lab; one that was up before stays."""
        if self.result is not None and self.result.started:
            await self.down()

    def _reread(self) -> LabState:
        state = notes.read(self._directory)
        if state is None:
            raise LabNotFound(f"lab {self.name} is not up any more", found=self.name)
        return state


@asynccontextmanager
async def up_async(source: str | Path | Topology, **options: Any) -> AsyncIterator[AsyncLab]:
    """Bring a lab up for as long as the body runs; the arguments are those of `AsyncLab.start`."""
    lab = await AsyncLab.start(source, **options)
    try:
        yield lab
    finally:
        await lab.down()
