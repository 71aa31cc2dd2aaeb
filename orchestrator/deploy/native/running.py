"""One service in one node of a native lab, from its first start to its end."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator import node_states, procfs
from orchestrator.clock import SystemClock
from orchestrator.deploy import logfiles, termination
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.namespaces import require_table
from orchestrator.deploy.native.listening import listening
from orchestrator.deploy.native.log_files import service_log
from orchestrator.deploy.node_command import host_part, native_command
from orchestrator.deploy.state import LabState, write_whole
from orchestrator.errors import NmError
from orchestrator.procfs import ProcessId
from orchestrator.services import Check, Instance, Restarts, ServiceState, probe
from orchestrator.services import state as states

__all__ = ["PART", "Published", "Running"]

PART = "services"
"""What the labels of the services' processes say they belong to."""

SETTLE_S = 0.2
"""A service without `ready` counts as running once it has run so long; one that cannot start ends sooner."""

STOP_S = 8.0
"""How long a service may take to end when asked; an engine gives ten seconds."""

LOOK_S = 0.1
"""How often a node that does not run, or a service that is waited for, is looked at."""

WRITE_S = 0.02
"""How long a change of a state may wait for others before the file is written."""

FIRST_LOOK_S = 0.01
"""The first pause between two looks for a listening socket; it doubles up to the interval of the check."""

COMMAND_S = 30.0
"""How long one call of a command that checks readiness may take."""

Say = Callable[[str], None]


class Published:
    """The states of all services, in the lab's file; changes within a moment are written at once.

    Args:
        folder: The lab's folder.
        all: The states at the beginning.
    """

    def __init__(self, folder: Path, all: Iterable[ServiceState]) -> None:
        self._path = folder / states.FILE
        self._write: asyncio.TimerHandle | None = None
        self.all = {state.key: state for state in all}

    def put(self, state: ServiceState) -> None:
        """Publish a state soon."""
        if self.all[state.key] != state:
            self.all[state.key] = state
            if self._write is None:
                self._write = asyncio.get_running_loop().call_later(WRITE_S, self.write)

    def write(self) -> None:
        """Write all states now."""
        if self._write is not None:
            self._write.cancel()
            self._write = None
        with suppress(NmError):  # the folder is gone, or its disk is full
            write_whole(self._path, states.text(self.all))


class Running:
    """Runs one service in one node.

    Args:
        directory: The lab.
        lab: Its note.
        instance: The service.
        published: Where its state is published, and those of others are found.
        say: Writes a line to the log of the runner.
    """

    def __init__(
        self, directory: LabDirectory, lab: LabState, instance: Instance, published: Published, say: Say
    ) -> None:
        self._directory = directory
        self._lab = lab
        self._it = instance
        self._published = published
        self._say = say
        self._restarts = Restarts(instance.restart)
        self._asked = asyncio.Event()
        self._clock = SystemClock()
        self._log = service_log(directory, instance.key)
        self._now = published.all[instance.key]

    def restart(self) -> None:
        """End it if it runs, and start it; earlier ends do not count any more."""
        self._restarts.forget()
        self._set("starting", restarts=self._now.restarts)
        self._asked.set()

    def start_failed(self) -> None:
        """Start it if it is not as it should be and would stay so."""
        ends_again = self._now.state == "restarting" or (self._now.state == "starting" and self._now.hopeless)
        if self._now.state == "failed" or (ends_again and not self._asked.is_set()):
            self.restart()

    async def run(self) -> None:
        """Start it, and again as its policy says; ends when it is cancelled, with the service."""
        await self._dependencies()
        while True:
            await self._node_runs()
            self._asked.clear()
            pause = await self._once()
            if self._asked.is_set():
                continue
            if pause is None:
                await self._asked.wait()
            elif pause:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), pause)

    async def _dependencies(self) -> None:
        """Wait for the services that it depends on."""
        after = {
            state.key: condition
            for name, condition in self._it.after.items()
            for state in self._published.all.values()
            if state.service == name
        }
        while waiting := [key for key, what in after.items() if not self._met(key, what)]:
            seen = self._published.all[waiting[0]]
            name = f"service {seen.service} in node {seen.node}"
            if seen.state == "exited":  # it was to become ready
                self._set("failed", reason=f"was not started, because {name} has ended")
            elif seen.hopeless:
                self._set("waiting", reason=f"was not started, because {name} {seen.problem()}")
            else:
                self._set("waiting", reason=f"waits for {name}, which is {seen.state}")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), LOOK_S)
                return  # somebody wants it started in any case

    def _met(self, key: str, condition: str) -> bool:
        seen = self._published.all[key]
        if condition == "service_completed_successfully":
            return seen.state == "exited"
        if condition == "service_healthy":
            return seen.state == "ready"
        return seen.state in ("running", "ready", "unready", "exited") or seen.process != 0

    async def _node_runs(self) -> None:
        while (why := self._node_away()) is not None:
            self._set("stopped", reason=why)
            await asyncio.sleep(LOOK_S)

    def _node_away(self) -> str | None:
        """Why nothing can be started in the node; None if it runs."""
        if node_states.read(self._directory.run).get(self._it.node) == "stopped":
            return "has a node that is stopped by request"
        return None if self._host() else "has a node whose process does not run"

    def _host(self) -> ProcessId | None:
        with suppress(NmError):
            return require_table(self._directory, host_part(self._lab, self._it.node)).process
        return None

    async def _once(self) -> float | None:
        """Run it to its end; return the pause before its next start, None if there is none by itself."""
        host, began = self._host(), self._clock.monotonic()
        tag = secrets.token_hex(8)
        offset = self._log.stat().st_size if self._log.exists() else 0
        try:
            process = await self._start(tag)
        except (OSError, NmError) as error:
            self._set("failed", reason=f"could not be started: {getattr(error, 'message', error)}")
            return None
        self._say(f"{self._it.key} runs as process {process.pid}")
        self._set("starting", process=process.pid, reason=f"waits for {self._it.ready or 'its start'}")
        ended = asyncio.create_task(process.wait())
        asked = asyncio.create_task(self._asked.wait())
        lost = asyncio.create_task(self._host_ends(host))
        check = asyncio.create_task(self._becomes_ready(process.pid, offset))
        thorough = False  # when the lab ends, whoever ends it looks for what is left
        try:
            await asyncio.wait({ended, asked, lost}, return_when=asyncio.FIRST_COMPLETED)
            thorough = True
        finally:
            for task in (check, asked, lost):
                task.cancel()
            await asyncio.wait({check, asked, lost})
            if not check.cancelled() and check.exception() is not None:
                self._say(f"{self._it.key} could not be checked: {check.exception()!r}")
            by_itself = ended.done()
            await _finish(self._end(process, ended, tag if thorough else ""))
        code = process.returncode if process.returncode is not None else 1
        return self._after(code if code >= 0 else 128 - code, by_itself, self._clock.monotonic() - began)

    def _after(self, code: int, by_itself: bool, ran_s: float) -> float | None:
        """Decide what follows an end."""
        if self._asked.is_set():
            self._say(f"{self._it.key} is started again on request")
            return 0.0
        if not by_itself or self._node_away() is not None:
            self._say(f"{self._it.key} has ended with its node")
            self._set("stopped", reason=self._node_away() or "has a node that was started anew")
            return 0.0
        pause = self._restarts.ended(code, ran_s)
        said = f"{self._it.key} has ended with exit code {code}"
        self._say(said if pause is None else f"{said}; it is started again in {pause:g} s")
        if pause is not None:
            why = f"ended with exit code {code} and is started again"
            self._set("restarting", exit_code=code, reason=why)
        elif code == 0:
            self._set("exited", exit_code=0)
        else:
            self._set("failed", exit_code=code, reason=f"has ended with exit code {code}")
        return pause

    async def _start(self, tag: str) -> asyncio.subprocess.Process:
        argv = self._command(self._it.argv, tag)
        _require_folder(self._it.working_dir or "/")
        handle = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "ab") as log:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
            )

    def _command(self, argv: Sequence[str], tag: str = "") -> list[str]:
        return native_command(
            self._directory,
            self._lab,
            self._it.node,
            argv,
            cwd=Path(self._it.working_dir or "/"),
            user=self._it.user or None,
            tag=tag,
            part=PART,
            variables=self._it.environment,
        )

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int], tag: str) -> None:
        """End it with all that it started, as the end of a container's first process does."""
        if not ended.done():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
                os.killpg(process.pid, signal.SIGCONT)  # of a paused node
            await asyncio.wait({ended}, timeout=STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # some programs overwrite their environment
        if tag and (left := await asyncio.to_thread(termination.end_tagged, tag)):
            self._say(f"{self._it.key} leaves processes that cannot be ended: {left}")
        await asyncio.wait({ended}, timeout=STOP_S)

    async def _host_ends(self, host: ProcessId | None) -> None:
        """Wait until the process ends that holds the node's namespaces: links of new ones reach new nodes."""
        while host is not None and host.alive():  # noqa: ASYNC110  # another process
            await asyncio.sleep(LOOK_S * 5)

    async def _becomes_ready(self, process: int, offset: int) -> None:
        check = self._it.ready
        if check is None:
            await asyncio.sleep(SETTLE_S)
            self._set("running", process=process)
            return
        while True:
            try:
                async with asyncio.timeout(check.timeout_s):
                    await self._passes(check, offset)
                break
            except TimeoutError:
                reason = f"did not become ready within {check.timeout_s:g} s: it waits for {check}"
                self._set("unready", process=process, reason=reason)
        if self._asked.is_set():
            return  # it is about to be ended
        self._restarts.ready()
        self._set("ready", process=process)
        self._say(f"{self._it.key} is ready")

    async def _passes(self, check: Check, offset: int) -> None:
        """Return once the check passed."""
        if check.kind == "log":
            await self._logged(re.compile(check.value[0]), offset)
            return
        if check.kind == "tcp" and await self._listens(int(check.value[0]), check.interval_s):
            return
        words: Sequence[str] = check.value
        if check.kind != "command":
            limits = [f"{check.timeout_s:g}", f"{check.interval_s:g}"]
            words = [sys.executable, "-I", "-S", probe.__file__, check.kind, *check.value, *limits]
            words = [*words, "127.0.0.1", self._it.address]
        limit_s = check.timeout_s + COMMAND_S
        while await self._call(self._command(words), limit_s) != 0:  # noqa: ASYNC110  # another process
            await asyncio.sleep(check.interval_s)

    async def _listens(self, port: int, interval_s: float) -> bool:
        """Wait for a listening socket in the service's namespace; False if that cannot be looked at.

        The kernel accepts connections as soon as there is one, and no process has to be started to see it.
        """
        pause = FIRST_LOOK_S
        while (seen := listening(self._now.process, port)) is False:
            await asyncio.sleep(min(pause, interval_s))
            pause *= 2
        return seen is True

    async def _logged(self, pattern: re.Pattern[str], offset: int) -> None:
        async for line in logfiles.lines(self._log, follow=True, tail=None, start=offset):
            if pattern.search(line):
                return

    async def _call(self, argv: Sequence[str], limit_s: float) -> int:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(limit_s):
                return await process.wait()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    def _set(self, state: str, **changes: Any) -> None:
        shown = {"reason": "", "process": 0, "started": 0, "exit_code": self._now.exit_code, **changes}
        if shown["process"]:
            identity = procfs.identify(shown["process"])
            shown["started"] = identity.started if identity else 0
        count = {"restarts": self._restarts.count, "deaths": self._restarts.deaths}
        self._now = replace(self._now, state=state, **{**shown, **count})
        self._published.put(self._now)


def _require_folder(path: str) -> None:
    if not Path(path).is_dir():
        raise NotADirectoryError(f"its folder {path} is not there")


async def _finish(work: Any) -> None:
    """Do it to its end, even when it is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
