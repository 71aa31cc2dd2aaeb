"""Run the services of a native lab: `python -m orchestrator.deploy.native.service_runner FOLDER`.

One small process starts every service in the namespaces of its node, in the order of their dependencies,
and again as their restart policies say. It is a part of the lab like the controller: the supervisor starts
it again when it ends, after everything that the one before had started was ended.

It publishes what became of services in `service-states.json`, logs to `logs/services.log`, and takes
requests on the socket `run/services.sock`: a line of JSON such as `{"do": "restart", "which": ["3/redis"]}`.
`reload` makes the services those of the lab's file, which has changed; those that are the same run on.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from orchestrator import services
from orchestrator.clock import SystemClock, utc_text
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.native.running import PART, Published, Running
from orchestrator.errors import NmError
from orchestrator.node_states import control_socket
from orchestrator.services import Instance, ServiceState

MOST_REQUEST = 4 * 1024 * 1024
"""Bytes of a request; it names each service that is meant."""


class Runner:
    """Runs all services of one lab.

    Args:
        directory: The lab.
        state: Its note.
    """

    def __init__(self, directory: LabDirectory, state: notes.LabState) -> None:
        self._directory = directory
        self._lab = state
        self._instances = {each.key: each for each in services.read(directory.run)}
        begin = [_waiting(each) for each in self._instances.values()]
        self._published = Published(directory.path, begin)
        self._all: dict[str, Running] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: BaseException | None = None
        self._closing = asyncio.Event()
        self._reloading = asyncio.Lock()

    async def run(self) -> None:
        """Run until a signal ends it; then end all services."""
        self._published.write()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._closing.set)
        for each in self._instances.values():
            self._begin(each)
        with control_socket(self._directory.run, PART) as path:
            server = await self.listen(path)
        async with server:
            await self._closing.wait()
        if self._failed is not None:
            raise self._failed
        await self._end(list(self._tasks))

    def _begin(self, instance: Instance) -> None:
        running = Running(self._directory, self._lab, instance, self._published, say)
        task = asyncio.create_task(running.run(), name=instance.key)
        task.add_done_callback(self._ended)
        self._all[instance.key], self._tasks[instance.key] = running, task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failed = task.exception()
            self._closing.set()

    async def _end(self, keys: Collection[str]) -> None:
        tasks = [self._tasks.pop(key) for key in keys]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for key in keys:
            del self._all[key]

    async def reload(self) -> None:
        """End services that the file lacks or states otherwise, and begin those that are new in it."""
        async with self._reloading:
            self._lab = notes.read(self._directory) or self._lab
            wanted = {each.key: each for each in services.read(self._directory.run)}
            known = self._instances
            await self._end([key for key, each in known.items() if wanted.get(key) != each])
            new = [each for key, each in wanted.items() if known.get(key) != each]
            kept = {key: state for key, state in self._published.all.items() if key in wanted}
            fresh = {each.key: _waiting(each) for each in new}
            merged = {**kept, **fresh}
            self._published.all = {key: merged[key] for key in wanted}  # in the order of their start
            self._instances = wanted
            for each in new:
                self._begin(each)
            self._published.write()
            say(f"reloaded: {len(new)} of {len(wanted)} are new")

    async def listen(self, path: str) -> asyncio.Server:
        """Take requests on a socket."""
        return await asyncio.start_unix_server(self._serve, path, limit=MOST_REQUEST)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            error = await self._answer(await reader.readline())
        except (ValueError, KeyError, TypeError) as wrong:
            error = f"no request: {wrong}"
        with suppress(ConnectionError):
            writer.write(json.dumps({"error": error}).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> str:
        """Carry a request out; return what is wrong with it."""
        request = json.loads(line)
        if request["do"] == "reload":
            await self.reload()
            return ""
        for key in request["which"]:
            running = self._all.get(key)
            if running is None:
                return f"there is no service {key}"
            if request["do"] == "restart":
                running.restart()
            elif request["do"] == "start":
                running.start_failed()
            else:
                return f"`{request['do']}` is nothing that can be done"
        self._published.write()  # who asked looks there next
        return ""


def _waiting(instance: Instance) -> ServiceState:
    return ServiceState(node=instance.node, service=instance.service, state="waiting")


def say(what: str) -> None:
    """Write a line to the log."""
    print(f"{utc_text(SystemClock().wall())} {what}", flush=True)


def main(words: list[str]) -> int:
    """Run the services of a lab; returns the exit code."""
    directory = LabDirectory(Path(words[0]))
    state = notes.read(directory)
    if state is None:
        say("there is no lab")
        return 1
    if sys.version_info < (3, 12):
        # Python's default there is a thread for each child.
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    try:
        asyncio.run(Runner(directory, state).run())
    except NmError as error:
        say(f"error  {error.render()}")
        return error.exit_code
    say("ended")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
