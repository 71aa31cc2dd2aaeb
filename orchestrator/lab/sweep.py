"""Make the runs of a sweep that are missing, one after the other, in one lab for each topology.

    missing runs, in their order → the lab of their topology → a run each → `done.json` → table, verdict

A lab is brought up when the first run of its topology is due, under a name that only this sweep has, and
taken down after the last. A run that fails ends nothing. An interrupt ends the run under way and the lab;
what is complete is kept, and the sweep can be resumed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.clock import SystemClock
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import HostNotFit, LabNotFound, NmError, UsageError
from orchestrator.lab.cleanup import in_daemon_thread, run_shielded
from orchestrator.lab.down import take_down
from orchestrator.lab.find import find_lab
from orchestrator.lab.operator import dial
from orchestrator.lab.run import ALL_EVENTS, STOP_WAIT_S, OnEvent, load_topology, run_scenario
from orchestrator.lab.run_options import RunOptions
from orchestrator.lab.simulated import BACKEND, simulate_scenario
from orchestrator.lab.sweep_folder import SweepFolder, new_lab_name, topology_digest
from orchestrator.lab.sweep_plan import Carrier, SweepOptions, make_sweep
from orchestrator.lab.up import UpOptions, bring_up
from orchestrator.protocol.messages import RunFinished, StopRun, WatchRun
from orchestrator.results import Results, RunOutcome, load
from orchestrator.scenario import Scenario, SweepRun

__all__ = ["OnRun", "Sweep", "run_sweep"]

OnRun = Callable[[int, int, SweepRun, RunOutcome | None], None]
"""Told number, count and run when a run begins, and again, in a thread of its own, with its outcome."""

MOST_FAILURES = 3
"""Runs in a row that cannot be made at all, after which a sweep gives up."""


class Sweep:
    """Runs a sweep to its end, or as far as it gets.

    Args:
        folder: The sweep.
        home: Where labs live.
        progress: Called with a description of the current step.
        on_run: Told when a run begins and when it has ended; the next run waits for it to return.
        on_event: Told what happens in a run.
    """

    def __init__(
        self,
        folder: SweepFolder,
        home: Home,
        *,
        progress: Callable[[str], None] = lambda _what: None,
        on_run: OnRun = lambda *_: None,
        on_event: OnEvent = lambda _event: None,
    ) -> None:
        self._folder = folder
        self._home = home
        self._progress = progress
        self._on_run = on_run
        self._on_event = on_event
        self._scenario: Scenario = folder.scenario()
        self._lab: tuple[LabDirectory, LabState] | None = None
        self._lab_digest = ""
        self._own = bool(folder.document["own_lab"])
        self._failed: dict[str, str] = {}

    async def run(self) -> dict[str, Any]:
        """Make the missing runs; return what `sweep.json` holds then.

        Raises:
            LabBusy: Another process runs this sweep.
            HostNotFit: Results cannot be written; what was written stays.
            NmError: Several runs in a row could not be made, for the reason that is given.
        """
        time = SystemClock()
        started = time.monotonic()
        with self._folder.claimed():
            try:
                await self._prepare()
                await self._all()
            except BaseException as error:
                reason = error.message if isinstance(error, NmError) else "it was interrupted"
                with suppress(HostNotFit):  # the disk may be full, and the first error is the one to report
                    self._folder.finish(reason, self._failed, time.monotonic() - started)
                try:
                    await run_shielded(self._leave_lab())
                except NmError as left:
                    self._progress(f"the lab could not be taken down: {left.message}")
                raise
            # What the runs have found is kept before the lab is taken down, which may fail.
            document = self._folder.finish("", self._failed, time.monotonic() - started)
            await self._leave_lab()
            return document

    async def _prepare(self) -> None:
        """Clear away what an earlier process left when it was killed: its lab, its runs."""
        copied = self._folder.separate_from_original()
        left = [run for run in self._folder.missing() if (self._folder.path / run.name).exists()]
        ids = [found for run in left if (found := self._folder.put_aside(run))]
        name = str(self._folder.document["lab"])
        if self._own:
            if self._home.lab(name).exists():
                self._progress("taking down the lab that was left")
                await take_down(self._home, name, self._progress)
            return
        try:
            directory, state = find_lab(self._home, name)
            same = topology_digest(load_topology(directory)) in self._folder.document["topologies"]
        except NmError:
            same = False
        if same:
            for each in ids if not copied else ():
                await _stop(directory, state, each)
        else:
            # The lab is gone or another; the topology is known, and the sweep's own lab has it.
            self._own = True
            self._folder.document |= {"own_lab": True, "lab": new_lab_name()}

    async def _all(self) -> None:
        missing = self._folder.missing()
        in_a_row = 0
        for number, run in enumerate(missing, 1):
            self._on_run(number, len(missing), run, None)
            try:
                outcome = await self._one(run)
            except (HostNotFit, UsageError) as error:
                # The disk is full, the machine lacks something: the next run would say the same.
                if not isinstance(error, LabNotFound):
                    raise
                failure: NmError = error
            except NmError as error:
                failure = error
            else:
                in_a_row = 0
                await in_daemon_thread(partial(self._on_run, number, len(missing), run, outcome))
                continue
            in_a_row += 1
            self._failed[run.name] = failure.message
            await self._leave_lab()
            if in_a_row >= MOST_FAILURES or not self._own:
                raise failure

    async def _one(self, run: SweepRun) -> RunOutcome:
        folder, digest = self._folder, self._folder.digest_of(run.combination)
        simulated = folder.document["backend"] == BACKEND
        lab = None if simulated else await self._enter_lab(digest)
        self._folder.put_aside(run)  # what an attempt before left, that could not be made
        options = RunOptions(
            params=folder.params_of(run.combination),
            folder=folder.path / run.name,
            seed=run.seed,
            timeout_s=folder.document["timeout"],
            origin=folder.document["origin"],
        )
        if lab is None:
            meant = folder.topology(digest)
            outcome = await simulate_scenario(self._scenario, meant, options, self._progress, self._on_event)
        else:
            outcome = await run_scenario(*lab, self._scenario, options, self._on_event)
        if outcome.unwritten:
            raise HostNotFit(
                outcome.unwritten,
                id="results.unwritable",
                found=outcome.results,
                hint=f"free disk space, then `nm run scenario --resume {folder.path}`",
            )
        folder.complete(run, outcome)
        return outcome

    async def _enter_lab(self, digest: str) -> tuple[LabDirectory, LabState]:
        """The lab of a topology: the one that is up, or one that is brought up in its place."""
        if self._lab is not None and (self._lab_digest == digest or not self._own):
            return self._lab
        document = self._folder.document
        if not self._own:
            self._lab = find_lab(self._home, document["lab"])
            return self._lab
        await self._leave_lab()
        options = UpOptions(name=document["lab"], backend=document["backend"])
        up = await bring_up(self._home, self._folder.topology(digest), options, self._progress)
        self._lab, self._lab_digest = (up.directory, up.state), digest
        return self._lab

    async def _leave_lab(self) -> None:
        if self._own and self._lab is not None:
            await take_down(self._home, str(self._folder.document["lab"]), self._progress)
        self._lab = None


async def run_sweep(
    scenario: str | Path,
    values: Mapping[str, Sequence[object]] | None = None,
    *,
    repeat: int = 1,
    params: Mapping[str, object] | None = None,
    lab: str | None = None,
    topology: str | Path | None = None,
    backend: Carrier | None = None,
    results: str | Path | None = None,
    seed: int | None = None,
    timeout: float | None = None,  # noqa: ASYNC109  # the limit of each run, kept by the controller
    home: Home | None = None,
) -> Results:
    """Run a scenario with every combination of values, several times each; return what was kept.

    Args:
        scenario: Its name or folder.
        values: The values of each parameter or key of the topology, such as `defaults.link.loss`.
        repeat: How often each combination is run.
        params: Parameters with a fixed value.
        lab: The name of the lab in which all runs are made; labs of its own are brought up unless given.
        topology: The topology file of these; the scenario's own unless given.
        backend: What carries these; `simulated` for runs on the simulated network, without a lab.
        results: Where the sweep gets a folder of its own; `results` unless given.
        seed: The sweep's seed; the topology's unless given.
        timeout: The time limit of each run in seconds; the scenario's unless given.
        home: Where labs live; see `Home.default`.

    Raises:
        NmError: See `make_sweep` and `Sweep.run`.
    """
    options = SweepOptions(
        axes=values or {},
        repeat=repeat,
        params=params or {},
        topology=Path(topology) if topology else None,
        backend=backend,
        results=Path(results) if results else None,
        seed=seed,
        timeout_s=timeout,
    )
    place = home or Home.default()
    folder = make_sweep(scenario, options, find_lab(place, lab) if lab else None)
    await Sweep(folder, place).run()
    return load(folder.path)


async def _stop(directory: LabDirectory, state: LabState, run: str) -> None:
    """End a run whose `nm` was killed, and wait until its roles have ended; it may have ended long ago."""
    with suppress(NmError, TimeoutError):
        async with asyncio.timeout(STOP_WAIT_S):
            connection = await dial(directory, state)
            try:
                await connection.request(StopRun(run, "its sweep is resumed"))
                await connection.request(WatchRun(run, ALL_EVENTS))
                async for frame in connection:
                    if isinstance(frame.message, RunFinished) and frame.message.run == run:
                        return
            finally:
                await connection.close(grace=0.2)
