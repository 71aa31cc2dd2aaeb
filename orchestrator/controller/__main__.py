"""Run a lab's controller until it is stopped: `python -m orchestrator.controller FILE`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

from orchestrator import log
from orchestrator.controller.service import Controller
from orchestrator.errors import NmError
from orchestrator.settings.controller import load_controller
from orchestrator.supervisor.files import VARIABLE, keep

USAGE = "usage: python -m orchestrator.controller FILE"
READY = Path("/run/nm/ready")
"""What a container's health check looks for; the image makes the folder, so elsewhere it is not there."""


def main(arguments: list[str] | None = None) -> int:
    """Run the controller; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1 or given[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 0 if given in (["-h"], ["--help"]) else 2
    log.setup()
    _keep_supervisor()
    try:
        settings = load_controller(given[0])
        asyncio.run(_run(Controller(settings)))
    except NmError as error:
        print(f"error  {error.render()}", file=sys.stderr)
        return error.exit_code
    return 0


async def _run(controller: Controller) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the program that brought the lab up may block signals
    starting = asyncio.create_task(controller.start())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
        return
    starting.result()
    _tell_health_check()
    await stopping
    await controller.stop()


def _keep_supervisor() -> None:
    """Start the lab's supervisor again should it die; the supervisor does the same for us."""
    folder = os.environ.get(VARIABLE)
    if folder:
        threading.Thread(target=keep, args=(Path(folder),), name="keep-supervisor", daemon=True).start()


def _tell_health_check() -> None:
    if READY.parent.is_dir():
        READY.touch()


if __name__ == "__main__":
    sys.exit(main())
