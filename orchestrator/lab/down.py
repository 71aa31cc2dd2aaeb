"""Take a lab down, verify that nothing is left, and remove leftovers of crashed labs.

`down` relies on no state file: it looks for labels, identities and namespaces, terminates what it finds, and
looks again. It works after a crash of any part, and succeeds for a lab that never existed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator import procfs
from orchestrator.clock import Deadline, SystemClock
from orchestrator.deploy import processes, supervision
from orchestrator.deploy import state as notes
from orchestrator.deploy.backends import host_for
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.host import Host, Leftover, Progress
from orchestrator.deploy.locks import POLL_S, lab_lock, lock_holder, starter
from orchestrator.errors import NmError

LOCK_WAIT_S = 5.0
"""Another `nm down` is worth the wait."""

START_END_S = 30.0
"""How long a start that is ended may take to clean up; then its process is killed, and we clean up."""


class LeftBehind(NmError):
    """Something of a lab could not be removed; the message names all of it."""

    id = "down.left-behind"
    exit_code = 5


@dataclass(frozen=True)
class DownResult:
    """A lab that is gone.

    Attributes:
        lab: Its name.
        found: Whether there was anything of it.
        ended: What was there and is gone, in words.
    """

    lab: str
    found: bool
    ended: tuple[str, ...] = ()


async def take_down(home: Home, name: str, progress: Progress) -> DownResult:
    """Take a lab away; finding nothing is success. A start that is under way is ended first.

    Raises:
        LabBusy: Another `nm` takes it away right now.
        LeftBehind: Something could not be removed.
        HostNotFit: The lab has containers, and the engine does not answer.
    """
    directory = home.lab(name)
    await _end_start(home, name, progress)
    # Before the lab's lock is asked for: it holds that while it starts something again.
    await asyncio.to_thread(supervision.end, directory)
    async with lab_lock(home, name, "down", wait_s=LOCK_WAIT_S):
        ended = await clear(directory, progress)
    return DownResult(name, bool(ended), tuple(ended))


async def _end_start(home: Home, name: str, progress: Progress) -> None:
    """Interrupt the process that is bringing the lab up, and wait until it has released the lock."""
    process = starter(home, name)
    if process is None or process.pid == os.getpid():
        return
    progress(f"ending the start that is under way, process {process.pid}")
    # As Ctrl-C does; a shell lets its background jobs ignore that.
    procfs.send_signal(
        process, signal.SIGINT if processes.catches(process, signal.SIGINT) else signal.SIGTERM
    )
    deadline = Deadline(SystemClock(), START_END_S)
    while starter(home, name) == process and not deadline.expired:  # noqa: ASYNC110  # another process
        await asyncio.sleep(POLL_S)
    if starter(home, name) == process:
        progress(f"killing it, because it did not end within {START_END_S:g} s")
        procfs.send_signal(process, signal.SIGKILL)


async def clear(directory: LabDirectory, progress: Progress) -> list[str]:
    """Remove everything of a lab, whose lock the caller holds; return what there was.

    Raises:
        LeftBehind: Something could not be removed.
    """
    had_files = directory.exists()
    hosts = await _hosts(directory)
    found: list[Leftover] = []
    for host in hosts:
        here = await host.leftovers(directory)
        if here:
            found += here
            await host.stop(directory, progress)
        elif had_files and _is_native(host):
            await host.stop(directory, progress)  # what a killed server left outside the folder
    progress("looking whether anything is left")
    left = [str(each) for host in hosts for each in await host.leftovers(directory)]
    if not left:
        left = await asyncio.to_thread(directory.remove)
    if left:
        raise LeftBehind(
            f"of lab {directory.name} these are left: {', '.join(left)}",
            found=", ".join(left),
            hint="another user may own them; try again as that user or as root",
        )
    return [str(each) for each in found] + ([f"files {directory.path}"] if had_files else [])


async def take_all_down(home: Home, progress: Progress) -> list[DownResult]:
    """Take every lab of this home down, and remove leftovers of those that have no folder any more."""
    names = {lab.name for lab in home.labs()} | set(await _unlisted_labs(home))
    return [await take_down(home, name, progress) for name in sorted(names)]


async def collect_garbage(home: Home, progress: Progress) -> list[DownResult]:
    """Remove what belongs to labs whose owner is gone; labs that are up or being started are left alone.

    A lab is removed when its start did not complete and its `nm` is gone, or when it has processes or
    containers but no readable note.
    """
    candidates = {lab.name for lab in home.labs()} | set(await _unlisted_labs(home))
    results = []
    for name in sorted(candidates):
        state = notes.read(home.lab(name))
        if lock_holder(home, name) is None and (state is None or state.owner_gone()):
            results.append(await take_down(home, name, progress))
    return [result for result in results if result.found]


async def _hosts(directory: LabDirectory) -> list[Host]:
    """The backends that may have something of the lab; both, when no note says which."""
    state = notes.read(directory)
    if state is not None:
        return [host_for(state.backend)]
    native = host_for("native")
    return [native, host_for("docker")] if await asyncio.to_thread(_engine_answers) else [native]


async def _unlisted_labs(home: Home) -> Sequence[str]:
    names = {process.lab for process in processes.labelled(home.path)}
    if await asyncio.to_thread(_engine_answers):
        from orchestrator.deploy.docker.engine import HOME_LABEL, Engine

        names |= {each.lab for each in await Engine().containers([f"{HOME_LABEL}={home.path}"])}
    return sorted(name for name in names if name)


def _engine_answers() -> bool:
    from orchestrator.deploy.docker.engine import answers

    return answers()


def _is_native(host: Host) -> bool:
    from orchestrator.deploy.native import NativeHost

    return isinstance(host, NativeHost)
