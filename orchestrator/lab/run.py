"""Run a scenario in a lab that is up: hand it to the controller, follow its events, evaluate its checks.

    scenario + topology → roles assigned to nodes → files staged → results folder → StartRun
      → events, across restarts of the controller → RunFinished → checks → verdict

The results folder is written during the run. An interrupt stops the roles; the lab stays up. Tables are
written and checks are evaluated in a thread, so that an interrupt takes effect at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator import clock, topology
from orchestrator.backoff import Backoff
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.node_states import require_running
from orchestrator.deploy.supervision import comes_back
from orchestrator.errors import ControllerUnreachable, LabNotFound, NmError
from orchestrator.lab.cleanup import in_daemon_thread, run_shielded
from orchestrator.lab.damage import LabDamaged, damaged
from orchestrator.lab.lab_tests import run_as_checks
from orchestrator.lab.manifest import open_results
from orchestrator.lab.measuring import RunMeasurements
from orchestrator.lab.operator import Operator, dial
from orchestrator.lab.payload import stage_all
from orchestrator.lab.requirements import require_fit
from orchestrator.lab.run_captures import captured
from orchestrator.lab.run_options import RunOptions
from orchestrator.lab.run_traffic import traffic_files, traffic_nodes, traffic_summary
from orchestrator.lab.timeline_nodes import RESTORED, TimelineNodes
from orchestrator.protocol import PeerError
from orchestrator.protocol.messages import RunEvent, RunFinished, StartRun, StopRun, WatchRun
from orchestrator.results import ResultsFolder, RoleFailure, RunOutcome, judge
from orchestrator.scenario import RunPlan, Scenario, evaluate, timeline_traces
from orchestrator.transport import Connection, Disconnected, RequestTimeout
from orchestrator.values import ABANDONED

OnEvent = Callable[[RunEvent], None]

AWAY_S = 60.0
"""How long the controller may be away in the middle of a run, or before it where the lab starts it again."""

END_GRACE_S = 20.0
"""What a run may take beyond its own time limit: stopping roles, and a controller under load."""

AGENTS_S = 30.0
"""How long the agents of ready nodes may take to be there: they are loaded when a run first calls for them,
all at once, which takes two processors twenty seconds for a hundred containers."""

INTERRUPTED = "interrupted"
"""The kind of the event that tells which role of an interrupted run has not ended."""

NO_RUN = "run.unknown"
"""What the controller answers when it knows no such run, or no longer."""

NO_AGENT = "run.no-agent"
"""What the controller answers when a node's agent is not connected."""

NO_STORE = "store.unreachable"
"""What it answers while Postgres is away."""

TAKEN_DOWN_S = 5.0
"""How long `nm down` may take to remove the files of a lab, one by one."""

LAST_TABLES_S = 0.3
"""How long the tables of an interrupted run may take to write; `events.jsonl` has the rows in any case."""

STOP_WAIT_S = 12.0
"""How long an interrupted run waits for its roles to end: the controller gives them up after ten seconds."""

LAST_EVENTS_S = 1.0
"""How long what an interrupted run said until its end may take to arrive; the database has it in any case."""

UNKNOWN_S = 1.0
"""How long a run that was interrupted while it was started may take to be known to the controller."""

ALL_EVENTS = 2**62
"""More events than a run has: a subscription from there gets the end alone."""


async def run_scenario(
    directory: LabDirectory,
    state: notes.LabState,
    scenario: Scenario,
    options: RunOptions,
    on_event: OnEvent = lambda _event: None,
) -> RunOutcome:
    """Run a scenario and judge it.

    Raises:
        ScenarioInvalid: Roles or parameters do not fit.
        UsageError: A node with a role is stopped or paused by request.
        HostNotFit: The nodes lack what the scenario needs, or the results folder or the lab's share folder
            cannot be written.
        ControllerUnreachable: No controller accepts the run.
    """
    meant = load_topology(directory)
    seed = state.seed if options.seed is None else options.seed
    plan = scenario.resolve(meant, options.params, options.timeout_s, seed)
    require_running(directory, sorted(node for nodes in plan.roles.values() for node in nodes))
    await require_fit(directory, state, scenario, plan)
    params = {**plan.params, **await stage_all(directory, state.backend, plan.uploads)}
    # Opened before anything starts: a run whose results cannot be kept is not worth its time.
    base, folder = await open_results(
        state,
        meant,
        scenario,
        plan,
        seed=seed,
        parent=options.results or Path("results"),
        folder=options.folder,
        origin=options.origin,
    )
    request = StartRun(
        run=base.run,
        scenario=scenario.name,
        roles={role: tuple(nodes) for role, nodes in plan.roles.items()},
        files={**scenario.files(), **traffic_files(plan)},
        params=params,
        seed=base.seed,
        timeout_s=plan.timeout,
        entry=plan.entry,
        timeline=tuple(change.without_traces() for change in plan.timeline) or None,
        faults=scenario.faults or None,
        traces=timeline_traces(plan.timeline) or None,
        isolated=plan.isolated or None,
    )
    measured = RunMeasurements(directory, state, folder, base)
    watch = _RunMonitor(directory, state, request, folder, measured, on_event)
    try:
        async with captured(directory, state, plan.captures, folder, base):
            return await watch.run(base, plan)
    finally:
        folder.close()


class _RunMonitor:
    """Follows one run to its end."""

    def __init__(
        self,
        directory: LabDirectory,
        state: notes.LabState,
        request: StartRun,
        folder: ResultsFolder,
        measured: RunMeasurements,
        on_event: OnEvent,
    ) -> None:
        self._directory = directory
        self._state = state
        self._request = request
        self._folder = folder
        self._on_event = on_event
        self._nodes = TimelineNodes(directory, state, request.run)
        self._seen = 0
        self._asked = False
        self._started = False
        self._given_up = threading.Event()
        self._tables: asyncio.Future[None] | None = None
        self._measured = measured

    async def run(self, base: RunOutcome, plan: RunPlan) -> RunOutcome:
        time = clock.SystemClock()
        started = time.monotonic()
        try:
            return await self._run(base, plan, time, started)
        finally:
            self._given_up.set()
            await run_shielded(self._measured.abandon())

    async def _run(self, base: RunOutcome, plan: RunPlan, time: clock.Clock, started: float) -> RunOutcome:
        try:
            async with asyncio.timeout(AGENTS_S + self._request.timeout_s + END_GRACE_S):
                end = await self._until_finished()
        except TimeoutError:
            limit = self._request.timeout_s
            end = RunFinished(
                self._request.run, False, f"the run did not end within its limit of {limit:g} s"
            )
            await self._stop("out of time", [])
        except asyncio.CancelledError:
            left: list[str] = []
            await run_shielded(self._stop("interrupted", left))
            await run_shielded(self._restore_nodes())
            # The checks of a run that was interrupted say little, and its rows are in `events.jsonl`.
            self._interrupted(base, time, started, left)
            raise
        except NmError as error:
            said = "ended early" if self._started else "was not started"
            end = RunFinished(self._request.run, False, f"the run {said}: {error.message}")
            if not self._started:
                await self._finish(base, plan, end, time, started)
                raise
        try:
            await self._restore_nodes()
            outcome = await self._finish(base, plan, end, time, started)
        except asyncio.CancelledError:
            await run_shielded(self._restore_nodes())
            self._interrupted(base, time, started)
            raise
        await self._save(outcome)
        return replace(outcome, unwritten=self._folder.trouble)

    async def _until_finished(self) -> RunFinished:
        """Follow the run across reconnects until it has ended."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        away_since = loop.time()
        while True:
            try:
                connection = await dial(self._directory, self._state)
            except LabDamaged:
                self._require_lab()
                # Files do not come back by waiting; but the lab may be just being taken down.
                if loop.time() - away_since > TAKEN_DOWN_S:
                    raise
                await asyncio.sleep(backoff.next_delay())
                continue
            except (ControllerUnreachable, Disconnected, RequestTimeout):
                self._require_lab()
                waits = self._started or comes_back(self._directory, self._state, "controller")
                if not waits or loop.time() - away_since > AWAY_S:
                    raise
                await asyncio.sleep(backoff.next_delay())
                continue
            backoff.reset()
            try:
                await self._attach(connection)
                end = await self._follow(connection)
            except (Disconnected, RequestTimeout):
                end = None
            finally:
                await connection.close(grace=0.5)
            if end is not None:
                return end
            away_since = loop.time()

    def _require_lab(self) -> None:
        """Fail if the lab was taken down; a killed controller is restarted."""
        note = notes.read(self._directory)
        if note is None or note.run != self._state.run:
            raise LabNotFound(f"lab {self._state.lab} was taken down", found=self._state.lab)

    async def _attach(self, connection: Connection) -> None:
        """Start the run, or continue to follow it; a started run is attached to, so a retry is safe."""
        if self._started:
            await connection.request(WatchRun(self._request.run, self._seen))
            return
        await self._measured.begin(connection)
        deadline = asyncio.get_running_loop().time() + AGENTS_S
        backoff = Backoff()
        while not self._started:
            try:
                self._asked = True
                await connection.request(self._request)
            except PeerError as error:
                self._asked = False
                if not self._is_transient(error) or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(backoff.next_delay())
            else:
                self._started = True

    def _is_transient(self, error: PeerError) -> bool:
        """Whether a refusal is temporary."""
        if error.id == NO_STORE:
            return comes_back(self._directory, self._state, "postgres")
        return error.id == NO_AGENT

    async def _follow(self, connection: Connection) -> RunFinished | None:
        async for frame in connection:
            message = frame.message
            if isinstance(message, RunEvent) and message.run == self._request.run:
                self._take(message)
            elif isinstance(message, RunFinished) and message.run == self._request.run:
                return message
        return None

    def _take(self, event: RunEvent) -> None:
        if event.seq:
            if event.seq <= self._seen:
                return  # seen before the connection broke
            self._seen = event.seq
        data: Any = event.data
        if event.kind == "report":
            if self._folder.row(event.node, event.role, data) and self._tables is None:
                self._tables = in_daemon_thread(lambda: self._folder.write_tables(self._given_up.is_set))
                self._tables.add_done_callback(self._tables_written)
        elif event.kind == "log":
            self._folder.log(event.node, event.role, str(data.get("level")), str(data.get("text")))
        elif event.kind != "progress":
            self._folder.event(event.kind, node=event.node, role=event.role, data=data)
        self._nodes.take(event)
        self._on_event(event)

    async def _restore_nodes(self) -> None:
        """Let the nodes run again that the timeline has stopped or paused, and record which ones."""
        if found := await self._nodes.restored():
            self._note(RESTORED, found)

    def _note(self, kind: str, data: dict[str, Any]) -> None:
        """Record and show an event that the controller does not know."""
        self._folder.event(kind, data=data)
        now_ms = round(clock.SystemClock().wall() * 1000)
        self._on_event(RunEvent(self._request.run, 0, now_ms, kind, 0, "", data))

    def _tables_written(self, _done: object) -> None:
        self._tables = None

    async def _finish(
        self, base: RunOutcome, plan: RunPlan, end: RunFinished, time: clock.Clock, started: float
    ) -> RunOutcome:
        seconds = round(time.monotonic() - started, 3)
        fidelity = await self._measured.end(self._nodes.touched)
        rows = tuple(self._folder.rows)
        if self._tables is not None:
            await asyncio.wait({self._tables})
        demanded, roles = plan.checks, {**plan.roles, **traffic_nodes(plan, base.seed)}
        checks = await in_daemon_thread(lambda: evaluate(demanded, rows, roles=roles, params=plan.params))
        checks += await run_as_checks(self._directory, self._state, plan.tests if end.ok else ())
        outcome = replace(
            base,
            verdict=judge(checks, ended_well=end.ok),
            checks=checks,
            rows=rows,
            reason=end.reason,
            failures=tuple(RoleFailure.of(each) for each in end.failures),
            seconds=seconds,
            fidelity=fidelity,
            traffic=traffic_summary(plan, base.seed, rows),
        )
        await in_daemon_thread(lambda: self._folder.write_last_tables(self._given_up.is_set))
        self._folder.finish(outcome)
        return outcome

    def _interrupted(
        self, base: RunOutcome, time: clock.Clock, started: float, left: Sequence[str] = ()
    ) -> None:
        for text in left:
            self._note(INTERRUPTED, {"reason": text})
        seconds = round(time.monotonic() - started, 3)
        rows = tuple(self._folder.rows)
        deadline = time.monotonic() + LAST_TABLES_S
        self._folder.write_tables(lambda: time.monotonic() > deadline)
        reason = "; ".join(["interrupted", *left])
        self._folder.finish(replace(base, rows=rows, reason=reason, seconds=seconds))

    async def _stop(self, reason: str, left: list[str]) -> None:
        """Stop the roles and wait until they have ended.

        The lab may be gone by now, and then there is nothing to stop.

        Args:
            reason: What the roles are told.
            left: Is given a sentence for each role that has not ended, or for not knowing.
        """
        if not self._asked:
            return
        self._nodes.begin_restoring()  # a paused node cannot stop its role
        unknown = "whether its roles have ended is not known: the controller has not said so in time"
        left.append(unknown)
        with suppress(NmError, TimeoutError):
            async with asyncio.timeout(STOP_WAIT_S):
                self._require_lab_or_clear(left)
                connection = await dial(self._directory, self._state)
                try:
                    if not await self._tell_to_stop(connection, reason):
                        left.clear()
                        return
                    await connection.request(WatchRun(self._request.run, ALL_EVENTS))
                    end = await self._follow(connection)
                    if end is None:
                        return
                    left[:] = [_not_ended(each) for each in end.failures if _runs_still(each)]
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LAST_EVENTS_S):
                            await connection.request(WatchRun(self._request.run, self._seen))
                            await self._follow(connection)
                finally:
                    await connection.close(grace=0.2)

    def _require_lab_or_clear(self, left: list[str]) -> None:
        try:
            self._require_lab()
        except LabNotFound:
            left.clear()  # its roles ended with it
            raise

    async def _tell_to_stop(self, connection: Connection, reason: str) -> bool:
        """Stop the run; False if the controller does not know it, having only just been asked to start it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (0 if self._started else UNKNOWN_S)
        while True:
            try:
                await connection.request(StopRun(self._request.run, reason))
                return True
            except PeerError as error:
                if error.id != NO_RUN:
                    raise
                if loop.time() >= deadline:
                    return False
            await asyncio.sleep(0.05)

    async def _save(self, outcome: RunOutcome) -> None:
        """Keep the verdict in the lab's database as well; the folder has it in any case."""
        try:
            connection = await dial(self._directory, self._state)
            try:
                await Operator(connection).save_result(outcome.run, outcome.verdict, outcome.document())
            finally:
                await connection.close(grace=0.5)
        except NmError as error:
            self._folder.note(f"the verdict is not in the lab's database: {error.message}")


def load_topology(directory: LabDirectory) -> topology.Topology:
    """The resolved topology of a lab that is up.

    Raises:
        LabDamaged: Its file is gone.
    """
    file = directory.run / "topology.yaml"
    if not file.is_file():
        raise damaged(directory, "run/topology.yaml")
    return topology.load(file)


def _runs_still(failure: Mapping[str, Any]) -> bool:
    return ABANDONED in str(failure.get("error"))


def _not_ended(failure: Mapping[str, Any]) -> str:
    return f"role {failure.get('role')} in node {failure.get('node')} has not ended; `nm up` ends it"
