"""Run the services of a native lab: `python -m orchestrator.deploy.native.service_runner FOLDER`.

One small process starts every service in the namespaces of its node, in the order of their dependencies,
and again as their restart policies say. It is a part of the lab like the controller: the supervisor starts
it again when it ends, after everything that the one before had started was ended.

It publishes what became of services in `service-states.json`, logs to `logs/services.log`, and takes
requests on the socket `run/services.sock`: a line of JSON such as `{"do": "restart", "which": ["3/redis"]}`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path

from orchestrator import services
from orchestrator.clock import SystemClock, utc_text
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.native.running import PART, Published, Running
from orchestrator.errors import NmError
from orchestrator.node_states import control_socket
from orchestrator.services import ServiceState

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
        instances = services.read(directory.run)
        begin = [ServiceState(node=each.node, service=each.service, state="waiting") for each in instances]
        self._published = Published(directory.path, begin)
        self._all = {each.key: Running(directory, state, each, self._published, say) for each in instances}
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Run until a signal ends it; then end all services."""
        self._published.write()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._closing.set)
        tasks = [asyncio.create_task(each.run(), name=key) for key, each in self._all.items()]
        closing = asyncio.create_task(self._closing.wait())
        with control_socket(self._directory.run, PART) as path:
            server = await self.listen(path)
        async with server:
            await asyncio.wait([*tasks, closing], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise task.exception() or AssertionError
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listen(self, path: str) -> asyncio.Server:
        """Take requests on a socket."""
        return await asyncio.start_unix_server(self._serve, path, limit=MOST_REQUEST)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            error = self._answer(await reader.readline())
        except (ValueError, KeyError, TypeError) as wrong:
            error = f"no request: {wrong}"
        with suppress(ConnectionError):
            writer.write(json.dumps({"error": error}).encode() + b"\n")
            await writer.drain()
        writer.close()

    def _answer(self, line: bytes) -> str:
        """Carry a request out; return what is wrong with it."""
        request = json.loads(line)
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
