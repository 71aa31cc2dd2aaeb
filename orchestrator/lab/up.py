"""Bring a lab up, or remove everything again if that fails.

    lock → what exists? → the same lab: nothing to do, or restart what ended → else: remove leftovers
      → choose ports → plan → files → start → ready → state file says "up"

Any failure, including Ctrl-C, removes everything again and raises the reason.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from orchestrator import clock, plan, render, topology
from orchestrator.deploy import state as notes
from orchestrator.deploy import supervision
from orchestrator.deploy.backends import default_backend, host_for, known_backend
from orchestrator.deploy.docker.host import SubnetTaken
from orchestrator.deploy.home import Home, LabDirectory, checked_name
from orchestrator.deploy.host import Host, Progress
from orchestrator.deploy.host_checks import IPV6
from orchestrator.deploy.locks import lab_lock, machine_lock
from orchestrator.deploy.ports import free_ports, free_subnet
from orchestrator.deploy.preflight import require_fit
from orchestrator.deploy.state import Backend, LabState
from orchestrator.errors import Problem, UsageError
from orchestrator.lab import changes, planned_change
from orchestrator.lab.cleanup import run_shielded
from orchestrator.lab.damage import wait_until_intact
from orchestrator.lab.down import clear
from orchestrator.lab.planned_change import PlannedChange
from orchestrator.lab.prepared import database, digest_of, first_note, nodes_beside, planned_of
from orchestrator.lab.ready import until_ready
from orchestrator.lab.repair import repair
from orchestrator.topology import Topology
from orchestrator.topology.access import require_tls_outside, with_options

SUBNET_ATTEMPTS = 3

DEFAULT_TIMEOUT_S = 120.0
"""Long enough for a loaded laptop and a hundred containers; every wait inside names what it waits for."""


@dataclass(frozen=True)
class UpOptions:
    """What the user asked for, besides the topology.

    Attributes:
        name: The lab's name; the topology's unless given.
        backend: What carries it; docker where an engine answers unless given.
        external: Further external nodes, run by programs of the user's own, as selectors.
        timeout_s: How long the lab may take to become ready.
        processes: native: host processes to spread the nodes over, `each` for one per node; one unless given.
        restart: Whether parts that end are restarted automatically.
        tls: Whether connections to the controller are in TLS; as the topology says unless given.
        listen: An address of this machine where the controller is reached as well; likewise.
    """

    name: str | None = None
    backend: Backend | None = None
    external: tuple[str, ...] = ()
    timeout_s: float = DEFAULT_TIMEOUT_S
    processes: int | Literal["each"] | None = None
    restart: bool = True
    tls: bool | None = None
    listen: str | None = None


@dataclass(frozen=True)
class UpResult:
    """A lab that is up.

    Attributes:
        directory: Its folder.
        state: Its note.
        already: It was up before, and nothing was wrong with it.
        repaired: The parts that were started again because they had died.
        timings: Seconds by step, in order.
        warnings: What the topology says that has no effect on this backend.
        changed: How it differed from the topology, which it is now; None if it did not, or was not up.
    """

    directory: LabDirectory
    state: LabState
    already: bool = False
    repaired: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
    changed: PlannedChange | None = None

    @property
    def started(self) -> bool:
        """Whether it was not up before."""
        return not (self.already or self.repaired or self.changed)


class Timer:
    """Reports progress, and records how long each step took.

    Args:
        progress: Called with each step.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._clock = clock.SystemClock()
        self._started = self._last = self._clock.monotonic()
        self.steps: dict[str, float] = {}

    def __call__(self, what: str) -> None:
        """Report the current step."""
        self._progress(what)

    def done(self, step: str) -> None:
        """Record the end of a step; it began at the end of the one before."""
        now = self._clock.monotonic()
        self.steps[step] = round(now - self._last, 4)
        self._last = now

    def finish(self) -> dict[str, float]:
        """All steps, and the total."""
        self.steps["total"] = round(self._clock.monotonic() - self._started, 4)
        return self.steps


async def bring_up(home: Home, source: Topology, options: UpOptions, progress: Progress) -> UpResult:
    """Bring a topology up as a lab; one of that name that is up becomes what the topology says.

    Raises:
        LabBusy: Another `nm` is starting or stopping a lab of that name.
        UsageError: A lab of that name is up, and cannot become this one while it runs.
        StartFailed: It did not become ready; nothing is left of it.
        LabDamaged: It is up, but files of it are gone.
        HostNotFit: The machine lacks something; nothing was started.
    """
    timer = Timer(progress)
    if not IPV6.exists():
        source = replace(source, ipv6="")
    source = replace(source, controller=with_options(source.controller, options.tls, options.listen))
    require_tls_outside(source.controller)
    name = checked_name(options.name or source.name)
    directory = home.lab(name)
    external = topology.select(source, options.external) if options.external else ()
    digest = digest_of(source, external)
    async with lab_lock(home, name, "up"):
        existing = notes.read(directory)
        if existing is not None and existing.phase == "up":
            _require_same(existing, options)
            if existing.digest == digest and not planned_change.is_interrupted(directory):
                return await _repair(directory, existing, options, timer)
            return await _change(directory, existing, source, external, digest, options, timer)
        if directory.exists():
            progress("removing what an earlier start left")
            await clear(directory, progress)
        backend = await _backend(options)
        warnings = topology.check_services(source, backend)
        external_nodes = {*external, *(node.id for node in source.nodes.values() if node.external)}
        local = len(source.nodes) - len(external_nodes)
        uplinks = [node.uplink for node in source.nodes.values() if node.uplink]
        processes = _processes(options, backend, local)
        await require_fit(backend, nodes=local, processes=processes, home=home, uplinks=uplinks)
        timer.done("checks")
        result = await _start(home, directory, source, external, digest, backend, options, timer)
        return replace(result, warnings=warnings)


async def _backend(options: UpOptions) -> Backend:
    if options.backend is not None:
        return known_backend(options.backend)
    return await asyncio.to_thread(default_backend)


async def _start(
    home: Home,
    directory: LabDirectory,
    source: Topology,
    external: Sequence[int],
    digest: str,
    backend: Backend,
    options: UpOptions,
    timer: Timer,
) -> UpResult:
    host = host_for(backend)
    directory.create()
    place = supervision.hold(directory) if backend == "native" and options.restart else None
    try:
        for attempt in range(1, SUBNET_ATTEMPTS + 1):
            state = await _prepare(home, directory, source, external, digest, backend, options, host)
            timer.done("files")
            try:
                state = await host.start(directory, state, timer)
                break
            except SubnetTaken:
                if attempt == SUBNET_ATTEMPTS:
                    raise
                await host.stop(directory, timer)
        timer.done("start")
        await until_ready(host, directory, state, options.timeout_s, timer)
        timer.done("ready")
        state = await host.start_services(directory, state, timer, options.timeout_s)
        if source.services:
            timer.done("services")
    except BaseException:
        if place is not None:
            os.close(place)
        timer("cleaning up")
        await run_shielded(clear(directory, timer))
        raise
    state = replace(state, phase="up", owner=None)
    notes.write(directory, state)
    if place is not None:
        supervision.hand_over(directory, place)
    else:  # there is to be none, or another process held the lock for a moment
        supervision.renew(directory, state, forget=False)
    return UpResult(directory, state, timings=timer.finish())


async def _repair(directory: LabDirectory, state: LabState, options: UpOptions, timer: Timer) -> UpResult:
    """Start again what has died or does not work, and nothing else."""
    await wait_until_intact(directory, state)
    directory.create()  # recreates deleted folders
    host = host_for(state.backend)
    state, restarted_parts = await repair(host, directory, state, options.timeout_s, timer)
    supervision.renew(directory, state, forget=bool(restarted_parts))
    timer.done("ready")
    failed = [each.key for each in await host.services(directory, state) if each.hopeless]
    state = await host.start_services(directory, state, timer, options.timeout_s)
    restarted_parts = (*restarted_parts, *failed)
    return UpResult(
        directory, state, already=not restarted_parts, repaired=restarted_parts, timings=timer.finish()
    )


async def _change(
    directory: LabDirectory,
    state: LabState,
    source: Topology,
    external: Sequence[int],
    digest: str,
    options: UpOptions,
    timer: Timer,
) -> UpResult:
    """Make a lab that is up what another topology says, if that differs; what has died is started again."""
    warnings = topology.check_services(source, state.backend)
    if planned_change.is_interrupted(directory):
        host = host_for(state.backend)
        dead = tuple(part.role for part in await host.parts(directory, state) if part.missing)
        state = await host.start(directory, state, timer) if dead else state
        result = UpResult(directory, state, repaired=dead)
    else:
        result = await _repair(directory, state, options, timer)
    planned = planned_change.make(directory, result.state, source, external)
    if not planned.difference and not planned.interrupted:
        return replace(result, warnings=warnings)
    state = await changes.apply(
        directory,
        result.state,
        planned,
        timer,
        timeout_s=options.timeout_s,
        cause="nm up",
        digest=digest,
    )
    timer.done("changes")
    return replace(
        result, state=state, already=False, changed=planned, warnings=warnings, timings=timer.finish()
    )


async def _prepare(
    home: Home,
    directory: LabDirectory,
    source: Topology,
    external: Sequence[int],
    digest: str,
    backend: Backend,
    options: UpOptions,
    host: Host,
) -> LabState:
    """Choose what has to be free, plan, and write the files and the first note."""
    external_nodes = {*external, *(node.id for node in source.nodes.values() if node.external)}
    beside = nodes_beside(source, external_nodes) if backend == "docker" else []
    used = await _used_subnets(host)
    run = secrets.token_hex(4)
    # Held until the state file is written, so that the next process sees our choice.
    async with machine_lock(home, "choice"):
        port, *link_ports = free_ports(home, 1 + len(beside), source.controller.listen)
        given = [note.subnet for lab in home.labs() if (note := notes.read(lab)) and note.subnet]
        behind = [prefix for node in source.nodes.values() for prefix in node.prefixes]
        taken = [*used, *given, source.subnet, *behind]
        subnet = free_subnet(len(source.nodes) + 1, taken) if backend == "docker" else None
        state = first_note(
            directory, source, external_nodes, digest, backend, run, port, tuple(link_ports), subnet
        )
        processes = _processes(options, backend, len(source.nodes) - len(external_nodes))
        state = replace(
            state, processes=processes, supervised=options.restart, ttl_mode=plan.ttl_mode(source)
        )
        notes.write(directory, state)
    planned = planned_of(
        directory,
        state,
        source,
        external,
        link_ports=dict(zip(beside, link_ports, strict=True)),
        db=database(directory) if backend == "native" else None,
    )
    render.write(planned, directory.run)
    state = replace(state, buffers=planned.buffers)
    notes.write(directory, state)
    return state


def _processes(options: UpOptions, backend: Backend, nodes: int) -> int:
    """Over how many host processes the nodes are spread."""
    wanted = options.processes
    if wanted is None:
        return 1
    if backend != "native":
        raise UsageError(
            "host processes are a matter of the native backend",
            id="usage.processes",
            found=f"--processes {wanted}",
            hint="add `--backend native`; with docker every node is a process of its own",
        )
    return nodes if wanted == "each" else min(wanted, max(1, nodes))


async def _used_subnets(host: Host) -> list[str]:
    from orchestrator.deploy.docker import DockerHost

    return await host.engine.subnets() if isinstance(host, DockerHost) else []


def _require_same(existing: LabState, options: UpOptions) -> None:
    if options.backend not in (None, existing.backend):
        raise UsageError(
            f"lab {existing.lab} is up on the {existing.backend} backend",
            id="lab.differs",
            found=options.backend,
            expected=existing.backend,
            hint=f"`nm down -n {existing.lab}` first, or another name with `-n`",
        )
    local = sum(1 for node in existing.nodes if not node.external)
    if options.processes is not None and _processes(options, existing.backend, local) != existing.processes:
        raise UsageError(
            f"lab {existing.lab} is up with {existing.processes} host processes",
            id="lab.differs",
            found=f"--processes {options.processes}",
            hint=f"`nm down -n {existing.lab}` first, or another name with `-n`",
        )
    if existing.supervised and not options.restart:
        raise UsageError(
            f"lab {existing.lab} is up with parts that are started again",
            id="lab.differs",
            found="--no-restart",
            hint=f"`nm down -n {existing.lab}` first, or another name with `-n`",
        )
