"""Start, watch and stop the processes of a native lab.

    postgres     the embedded server, reached over a socket in the lab's folder
    controller   `python -m orchestrator.controller run/controller.toml`
    host         `python -m orchestrator.node --directory …`: every node, its namespace and its TUN device
    services     `python -m orchestrator.deploy.native.service_runner …`: the user's own services, if any

With `--processes` there are several host processes, `host-1` and so on, each with a share of the nodes; links
between nodes of one process stay in its memory, all others use sockets or shared memory.

Each process is a session of its own, so that a terminal's Ctrl-C does not reach it, and carries the lab's
labels. The namespaces are open files of the host process and vanish with it, however it ends. Programs that a
user started inside a node keep its namespace alive, so they are terminated too: found by their labels, and by
their namespace if they dropped the environment.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

from orchestrator import procfs, services
from orchestrator.deploy import logfiles, node_states, processes, supervision, termination
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.host import TAIL_LINES, FailedPart, Leftover, Part, Progress
from orchestrator.deploy.namespaces import offload_of, processes_inside
from orchestrator.deploy.native import database, node_faults
from orchestrator.deploy.native.changed_nodes import changed_nodes
from orchestrator.deploy.native.log_files import log_file
from orchestrator.deploy.native.running import PART as SERVICES
from orchestrator.deploy.native.services import ask, end_orphans
from orchestrator.deploy.node_command import native_command
from orchestrator.deploy.processes import LabelledProcess
from orchestrator.deploy.service_wait import until_good
from orchestrator.deploy.state import LabState, read, write
from orchestrator.deploy.threads import run_to_completion
from orchestrator.errors import StartFailed
from orchestrator.procfs import ProcessId
from orchestrator.services import ServiceState
from orchestrator.services import state as service_states
from orchestrator.supervisor.files import VARIABLE

GRACE_S = 8.0
"""A host process with 1,000 nodes needs about two seconds to close them; the rest is for slow machines."""


REPLACED_S = 1.0
"""A process that does not work rarely ends when asked."""

RETRY_S = 1.0
"""How soon watching a process is tried again that could not be watched."""


class NativeHost:
    """The native backend; it keeps nothing between calls."""

    async def start(self, directory: LabDirectory, state: LabState, progress: Progress) -> LabState:
        """Start what does not run, all at once: each part waits for those it needs, with a timeout."""
        stopped = [part.role for part in await self.parts(directory, state) if not part.running]
        progress(f"starting {', '.join(stopped)}")
        return await self.start_parts(directory, state, stopped)

    async def start_parts(self, directory: LabDirectory, state: LabState, roles: Collection[str]) -> LabState:
        """Start these parts as far as they do not run, and return the state with what was started.

        Raises:
            StartFailed: One could not be started.
            StoreUnavailable: The database did not start.
        """
        stopped = {part.role for part in await self.parts(directory, state) if not part.running}
        stopped &= set(roles)
        await asyncio.to_thread(self._end_orphans, directory, stopped)
        if "controller" in stopped:
            arguments = ["orchestrator.controller", "controller.toml"]
            state = self._start_process(directory, state, "controller", arguments)
        for role, nodes in state.hosts.items():
            if role in stopped:
                numbers = ",".join(map(str, nodes))
                arguments = ["orchestrator.node", "--directory", str(directory.path)]
                arguments += ["--part", role, "--nodes", numbers]
                state = self._start_process(directory, state, role, arguments)
        if SERVICES in stopped:
            state = self._start_services(directory, state)
        if "postgres" in stopped:
            server = await run_to_completion(lambda: self._start_database(directory, state))
            state = self._note(directory, state, "postgres", server)
        return state

    async def first_exit(self, directory: LabDirectory, state: LabState) -> FailedPart:
        """Wait until one of the processes ends."""
        watched = {role: asyncio.create_task(_ended(process)) for role, process in state.parts.items()}
        try:
            done, _ = await asyncio.wait(watched.values(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in watched.values():
                task.cancel()
        role = next(role for role, task in watched.items() if task in done)
        return FailedPart(
            part=role,
            reason=_how_it_ended(processes.exit_code(state.parts[role])),
            lines=tuple(await self.tail(directory, role)),
        )

    async def parts(self, directory: LabDirectory, state: LabState) -> list[Part]:
        """Look at the processes by identity."""
        found = []
        for role, nodes in {"postgres": (), "controller": (), **state.hosts}.items():
            process = state.parts.get(role)
            running = process is not None and process.alive()
            detail = f"process {process.pid}" if process else "never started"
            if running and (offload := offload_of(directory, role)):
                detail += f", offload {offload}"
            found.append(Part(role, running, detail, nodes))
        runner = state.parts.get(SERVICES)
        if runner is not None or (state.phase == "up" and services.read(directory.run)):
            detail = f"process {runner.pid}" if runner else "never started"
            found.append(Part(SERVICES, runner is not None and runner.alive(), detail))
        return found

    async def start_services(
        self, directory: LabDirectory, state: LabState, progress: Progress, timeout_s: float
    ) -> LabState:
        """Start the process that runs them, or have it start those that failed; wait until they are ready."""
        instances = services.read(directory.run)
        if not instances:
            return state
        runner = state.parts.get(SERVICES)
        if runner is None or not runner.alive():
            await asyncio.to_thread(self._end_orphans, directory, {SERVICES})
            state = self._start_services(directory, state)
        else:
            await ask(directory, "start", [each.key for each in instances])
        await until_good(self, directory, state, instances, progress, timeout_s)
        return state

    async def services(self, directory: LabDirectory, state: LabState) -> list[ServiceState]:
        """What the process that runs them has published; without it nobody knows."""
        runner = state.parts.get(SERVICES)
        alive = runner is not None and runner.alive()
        seen = service_states.read(directory.path) if alive else {}
        why = "is not looked after: the process `services` does not run"
        return [
            seen.get(each.key)
            or ServiceState(
                node=each.node, service=each.service, state="waiting", reason="" if alive else why
            )
            for each in services.read(directory.run)
        ]

    async def restart_services(self, directory: LabDirectory, state: LabState, keys: Sequence[str]) -> None:
        """Ask the process that runs them."""
        await ask(directory, "restart", keys)

    async def tail(self, directory: LabDirectory, part: str, lines: int = TAIL_LINES) -> list[str]:
        """The last lines of a part's log file."""
        return logfiles.last_lines(log_file(directory, part), lines)

    def logs(
        self, directory: LabDirectory, part: str, *, follow: bool, tail: int | None
    ) -> AsyncIterator[str]:
        """The part's log file, line by line."""
        return logfiles.lines(log_file(directory, part), follow=follow, tail=tail)

    def command(
        self,
        directory: LabDirectory,
        state: LabState,
        node: int,
        argv: Sequence[str],
        *,
        terminal: bool = False,
        stdin: bool = False,
        cwd: Path | None = None,
        user: str | None = None,
        tag: str = "",
    ) -> list[str]:
        """Enter the node's namespaces; see `orchestrator.deploy.node_command`."""
        return native_command(directory, state, node, argv, cwd=cwd, user=user, tag=tag)

    async def end_command(
        self, directory: LabDirectory, state: LabState, node: int, tag: str, *, user: str | None = None
    ) -> list[str]:
        """Look for the processes on this machine and end them."""
        left = await asyncio.to_thread(termination.end_tagged, tag)
        return [f"process {pid} in node {node}" for pid in left]

    def payload_path(self, staged: Path) -> str:
        """Nodes share the machine's files."""
        return str(staged)

    async def act_on_nodes(
        self, directory: LabDirectory, state: LabState, nodes: Collection[int], do: str
    ) -> None:
        """Ask the host processes; see `orchestrator.deploy.native.node_faults`."""
        await node_faults.act(directory, state, nodes, do)

    async def change_nodes(
        self,
        directory: LabDirectory,
        state: LabState,
        removed: Collection[int],
        services: Collection[str],
        progress: Progress,
    ) -> LabState:
        """Have the host processes add and remove namespaces; start one that is new, end one without nodes.

        The process that runs services finds out by itself which of them are others.
        """
        progress("adding and removing namespaces")
        state = await changed_nodes(self, directory, state)
        runner = state.parts.get(SERVICES)
        if runner is not None and runner.alive():
            await ask(directory, "reload", ())
        return state

    async def end_parts(self, directory: LabDirectory, state: LabState, parts: Collection[str]) -> None:
        """End their processes: asked first, because one that is asked closes its nodes in order."""
        ended = [process for role, process in state.parts.items() if role in parts]
        left = await asyncio.to_thread(processes.end, ended, REPLACED_S)
        if left:
            raise processes.cannot_end_error(left[0], f"a part of lab {directory.name} that does not work")

    async def stop(self, directory: LabDirectory, progress: Progress) -> None:
        """End every process of the lab: those with its labels, and those inside its namespaces."""
        progress("stopping processes")
        paused = [node for node, kind in node_states.read(directory).items() if kind == "paused"]
        state = read(directory) if paused else None
        if state is not None:
            node_faults.resume_programs(directory, state, paused)
        await asyncio.to_thread(self._end_all, directory)

    async def leftovers(self, directory: LabDirectory) -> list[Leftover]:
        """Look for processes by label, by working directory and by namespace."""
        found: dict[int, Leftover] = {}
        for process in processes.labelled(directory.home, directory.name):
            found[process.identity.pid] = Leftover("process", f"{process.identity.pid} ({process.command})")
        for identity in processes.working_under(directory.database):
            found.setdefault(identity.pid, Leftover("process", f"{identity.pid} (a database back end)"))
        for identity in processes_inside(directory):
            found.setdefault(identity.pid, Leftover("namespace", f"held by process {identity.pid}"))
        return list(found.values())

    def _end_orphans(self, directory: LabDirectory, stopped: Collection[str]) -> None:
        """Terminate what roles of ended parts started, and processes that are not in the state file.

        `nm` may be killed between starting a part and recording it. A database is found by its folder
        instead.
        """
        roles = set(stopped) - {"postgres"}
        if roles:
            found = processes.labelled(directory.home, directory.name)
            processes.end([each.identity for each in found if each.part in roles], grace_s=1.0)

    def _start_services(self, directory: LabDirectory, state: LabState) -> LabState:
        end_orphans(directory)
        arguments = ["orchestrator.deploy.native.service_runner", str(directory.path)]
        return self._start_process(directory, state, SERVICES, arguments)

    def _start_database(self, directory: LabDirectory, state: LabState) -> ProcessId:
        known = state.parts.get("postgres")
        if known is not None and known.alive():
            return known
        return database.start(directory, processes.labels(state.lab, state.run, directory.home, "postgres"))

    def _start_process(
        self, directory: LabDirectory, state: LabState, role: str, arguments: list[str]
    ) -> LabState:
        if role in state.hosts:
            directory.set_aside(role)
        launch = supervision.launch(directory, state)
        marks = processes.labels(state.lab, state.run, directory.home, role)
        if role == "controller" and state.supervised:
            marks[VARIABLE] = str(directory.path)
        try:
            process = processes.spawn(
                [launch.python, "-m", *arguments],
                marks=marks,
                log=log_file(directory, role),
                environment=launch.environment,
                cwd=directory.run,
            )
        except OSError as error:
            raise StartFailed(f"cannot start the {role} process: {error}", id="start.spawn") from error
        return self._note(directory, state, role, process)

    def _note(self, directory: LabDirectory, state: LabState, role: str, process: ProcessId) -> LabState:
        state = state.with_part(role, process)
        write(directory, state)
        return state

    def _end_all(self, directory: LabDirectory) -> None:
        # First the supervisor, which would restart what is terminated next.
        supervision.end(directory)
        # A dying process may have just started another, so the look is repeated until it finds nothing new.
        for _round in range(5):
            found = processes.labelled(directory.home, directory.name)
            servers = {process.identity for process in found if process.part == "postgres"}
            others = {process.identity for process in found} - servers
            others.update(processes_inside(directory))
            # The controller writes to the database until it ends, so the database goes after it; its files
            # are deleted next, so there is nothing worth a checkpoint.
            processes.end(others, GRACE_S)
            processes.end(servers, GRACE_S, signals=dict.fromkeys(servers, _stop_signal(found)))
            orphans = processes.working_under(directory.database)
            processes.end(orphans, GRACE_S, signals=dict.fromkeys(orphans, signal.SIGQUIT))
            if not (servers or others or orphans):
                break
        database.clean(directory)


def _stop_signal(found: Sequence[LabelledProcess]) -> signal.Signals:
    """The signal that stops a database at once, leaving the facts needed to clean up outside its folder.

    `initdb` deletes the cluster's files on SIGTERM or SIGINT, and with them the number of its memory segment,
    which could not be removed then.
    """
    being_made = any("initdb" in process.command for process in found if process.part == "postgres")
    return signal.SIGKILL if being_made else signal.SIGQUIT


async def _ended(process: ProcessId) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            handle = procfs.open_pidfd(process)
            break
        except OSError:  # as long as there are too many open files, nobody knows whether it runs
            await asyncio.sleep(RETRY_S)
    if handle is None:
        return
    gone = asyncio.Event()
    loop.add_reader(handle, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "has ended"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"has ended with exit code {code}"
