"""Run a scenario on the simulated network: in virtual time, without a lab and without privileges.

    scenario + topology → refusals → network with its timeline, flows of the traffic → results folder
      → virtual time passes in a thread → rows, series, events → checks → verdict

The packets, links, routes and TCP connections are those of the dataplane; the clock is virtual, and
forwarding takes no time. Everything follows from scenario, topology, parameters and seed, so that a run can
be repeated with identical rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import clock
from orchestrator.deploy.state import NodeNote
from orchestrator.errors import UsageError
from orchestrator.lab.cleanup import in_daemon_thread
from orchestrator.lab.fidelity import NOT_MEASURED
from orchestrator.lab.manifest import open_results
from orchestrator.lab.run import OnEvent
from orchestrator.lab.run_options import RunOptions, topology_of
from orchestrator.lab.run_traffic import traffic_nodes, traffic_summary
from orchestrator.lab.simulated_flows import SimulatedTraffic
from orchestrator.lab.simulated_limits import require_simulable
from orchestrator.lab.simulated_network import build_network
from orchestrator.lab.simulated_series import SimulatedSeries
from orchestrator.protocol.messages import RunEvent
from orchestrator.results import ResultsFolder, RunOutcome, judge
from orchestrator.scenario import RunPlan, Scenario, evaluate, load
from orchestrator.topology import Topology
from orchestrator.topology import load as load_topology

if TYPE_CHECKING:
    from orchestrator.node.dataplane import Simulation

__all__ = ["BACKEND", "simulate", "simulate_scenario"]

BACKEND = "simulated"
"""The backend of these runs in `run.json`."""

SHARE = 0.9
"""The share of the run's time limit after which flows that still run are given up; as in a lab."""

STEPS = 20_000
"""Steps of the simulation between two looks at whether it is still wanted: about 20 ms."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class _Place:
    """The simulated network, as the results of a run describe where it took place."""

    lab: str
    topology: str
    backend: str = BACKEND
    run: str = ""
    nodes: tuple[NodeNote, ...] = ()
    processes: int = 1


class _VirtualClock(clock.SystemClock):
    """The time of events: the start of the run and the virtual time since."""

    def __init__(self) -> None:
        self._started: float | None = None
        self.now_s = 0.0

    def start(self, stamp: str) -> None:
        """Count from the start of the run, as `run.json` has it."""
        self._started = datetime.fromisoformat(stamp).timestamp()

    def wall(self) -> float:
        """Return the time in seconds since 1970."""
        return super().wall() if self._started is None else self._started + self.now_s


async def simulate(
    scenario: str | Path,
    topology: str | Path | None = None,
    *,
    params: Mapping[str, object] | None = None,
    results: str | Path | None = None,
    seed: int | None = None,
    timeout: float | None = None,  # noqa: ASYNC109  # the limit of the run, in virtual time
    progress: Progress = lambda _what: None,
    on_event: OnEvent = lambda _event: None,
) -> RunOutcome:
    """Run a scenario on the simulated network.

    Args:
        scenario: Its name or folder.
        topology: The topology file; the scenario's own unless given.
        params: Parameters by name.
        results: Where the run gets a folder of its own; `results` unless given.
        seed: The run's seed; the topology's unless given.
        timeout: The run's limit in seconds of virtual time; the scenario's unless given.
        progress: Called with a description of how far it is.
        on_event: Told what happens in the run.

    Raises:
        UsageError: There is no topology.
        TopologyInvalid: The topology file is wrong.
        ScenarioInvalid: The scenario is wrong, or needs what the simulated network does not have.
        HostNotFit: The results cannot be written.
    """
    wanted = load(scenario)
    file = topology_of(wanted, Path(topology) if topology else None)
    options = RunOptions(
        params=params or {},
        results=Path(results) if results else None,
        seed=seed,
        timeout_s=timeout,
    )
    return await simulate_scenario(wanted, load_topology(file), options, progress, on_event)


async def simulate_scenario(
    scenario: Scenario,
    meant: Topology,
    options: RunOptions,
    progress: Progress = lambda _what: None,
    on_event: OnEvent = lambda _event: None,
) -> RunOutcome:
    """Run a scenario that has been read on the simulated network of a topology; see `simulate`."""
    seed = meant.seed if options.seed is None else options.seed
    plan = scenario.resolve(meant, options.params, options.timeout_s, seed)
    require_simulable(scenario, plan, meant)
    traffic = SimulatedTraffic(plan.traffic, seed)
    until_us = round(plan.timeout * SHARE * 1_000_000)
    try:
        simulation = await in_daemon_thread(lambda: _built(meant, plan, seed, until_us, traffic))
    except ValueError as error:
        raise UsageError(f"the simulated network cannot do that: {error}", id="simulate.refused") from error
    time = _VirtualClock()
    base, folder = await open_results(
        _Place(meant.name, meant.file),
        meant,
        scenario,
        plan,
        seed=seed,
        parent=options.results or Path("results"),
        folder=options.folder,
        origin=options.origin,
        time=time,
    )
    time.start(base.details["started"])
    try:
        run = _Run(simulation, traffic, plan, folder, time, until_us, on_event)
        return await run.to_end(base, progress)
    finally:
        folder.close()


def _built(meant: Topology, plan: RunPlan, seed: int, until_us: int, traffic: SimulatedTraffic) -> Simulation:
    simulation = build_network(meant, plan.timeline, seed % 2**64, until_us)
    traffic.add_to(simulation)
    return simulation


class _Run:
    """A run while virtual time passes."""

    def __init__(
        self,
        simulation: Simulation,
        traffic: SimulatedTraffic,
        plan: RunPlan,
        folder: ResultsFolder,
        time: _VirtualClock,
        until_us: int,
        on_event: OnEvent,
    ) -> None:
        self._simulation = simulation
        self._traffic = traffic
        self._plan = plan
        self._folder = folder
        self._time = time
        self._until_s = until_us / 1e6
        self._left = list(enumerate(plan.timeline))
        self._series = SimulatedSeries(folder)
        self._on_event = on_event
        self._run = ""
        self._stopped = False

    async def to_end(self, base: RunOutcome, progress: Progress) -> RunOutcome:
        """Let the time pass, and judge the run."""
        real = clock.SystemClock()
        began = real.monotonic()
        self._run, reason = base.run, ""
        self._event("run_started", {"flows": len(self._traffic)})
        try:
            while not await in_daemon_thread(self._advance):
                done, count = self._traffic.ended, len(self._traffic)
                progress(f"{self._time.now_s:.2f} of {self._until_s:g} s: {done} of {count} flows have ended")
        except ValueError as error:  # what a node has refused
            reason = f"the run ended early: {error}"
        except asyncio.CancelledError:
            self._stopped = True
            self._write_rows()
            self._folder.write_tables()
            self._folder.finish(replace(base, reason="interrupted", seconds=round(self._time.now_s, 6)))
            raise
        seconds = round(self._time.now_s, 6)
        details = {**base.details, "simulated": {"real_seconds": round(real.monotonic() - began, 3)}}
        base = replace(base, seconds=seconds, fidelity=NOT_MEASURED, details=details)
        return await in_daemon_thread(lambda: self._judged(base, reason))

    def _advance(self) -> bool:
        """Let some of the time pass; return whether the run has ended."""
        state = self._simulation.advance(STEPS, self._series.next_us)
        if self._stopped:
            return True
        now_s = self._simulation.now_ns() / 1e9
        self._note_changes(now_s)
        self._time.now_s = now_s
        self._traffic.take(self._simulation)
        if state == "paused":
            self._series.sample(self._simulation)
        if state == "ended":
            self._traffic.give_up(self._simulation)
            self._series.finish(self._simulation)
        return state == "ended"

    def _note_changes(self, now_s: float) -> None:
        """Record the changes of the timeline that have been made."""
        while self._left and self._left[0][1].at_us <= now_s * 1e6:
            index, change = self._left.pop(0)
            self._time.now_s = change.at_us / 1e6
            specs = {"spec": change.spec, "backward": change.backward}
            facts = {
                "a": change.a,
                "b": change.b,
                "direction": change.direction,
                **{name: spec and spec.to_wire() for name, spec in specs.items()},
                "whole": change.whole,
                "groups": change.groups,
                "cause": change.cause,
            }
            data = {"index": index, "do": change.do, "where": change.where, "change": facts}
            at_s = change.at_us / 1e6
            self._event("timeline", {**data, "at_s": at_s, "sent_s": at_s, "ok": True, "error": ""})

    def _event(self, kind: str, data: dict[str, Any]) -> None:
        """Record and show what has happened, at the virtual time."""
        self._folder.event(kind, data=data)
        self._on_event(RunEvent(self._run, 0, round(self._time.wall() * 1000), kind, 0, "", data))

    def _write_rows(self) -> None:
        for node, row in self._traffic.rows():
            self._folder.row(node, str(row["role"]), row)

    def _judged(self, base: RunOutcome, reason: str) -> RunOutcome:
        """Write the rows, evaluate the checks and finish the folder."""
        self._write_rows()
        plan, rows = self._plan, tuple(self._folder.rows)
        roles = {**plan.roles, **traffic_nodes(plan, base.seed)}
        checks = evaluate(plan.checks, rows, roles=roles, params=plan.params)
        outcome = replace(
            base,
            verdict=judge(checks, ended_well=not reason),
            checks=checks,
            rows=rows,
            reason=reason,
            traffic=traffic_summary(plan, base.seed, rows),
        )
        self._folder.write_last_tables()
        self._folder.finish(outcome)
        return replace(outcome, unwritten=self._folder.trouble)
