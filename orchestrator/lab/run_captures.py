"""The captures of a run: files in `captures/` of its results, from before its roles start until they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from orchestrator.capture import CaptureUnwritable
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import NmError
from orchestrator.lab.capture import Capture, CaptureOptions, start_capture
from orchestrator.results import ResultsFolder, RunOutcome
from orchestrator.scenario import CapturePlan

__all__ = ["FOLDER", "captured"]

FOLDER = "captures"
"""Where the files are in a results folder."""

EVENT = "capture"
"""The kind of the event that says what a capture has."""

_Running = list[tuple[CapturePlan, Capture]]


@asynccontextmanager
async def captured(
    directory: LabDirectory,
    state: LabState,
    plans: Sequence[CapturePlan],
    folder: ResultsFolder,
    base: RunOutcome,
) -> AsyncIterator[None]:
    """Capture while the block runs. A capture that ends early ends nothing else; its event says why.

    Args:
        directory: The lab's folder.
        state: Its state.
        plans: What is captured.
        folder: The results of the run.
        base: What its results say if it cannot be started.

    Raises:
        NmError: A capture cannot begin.
    """
    if not plans:
        yield
        return
    # In threads, because connecting to a container takes a moment; not left alone when the run is cancelled.
    starting = asyncio.ensure_future(asyncio.to_thread(_start, directory, state, plans, folder))
    try:
        running = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.to_thread(_stop, await starting, folder)
        raise
    except NmError as error:
        folder.finish(replace(base, reason=f"the run was not started: {error.message}"))
        raise
    try:
        yield
    finally:
        await asyncio.shield(asyncio.to_thread(_stop, running, folder))


def _start(
    directory: LabDirectory, state: LabState, plans: Sequence[CapturePlan], folder: ResultsFolder
) -> _Running:
    running: _Running = []
    try:
        _make(folder.path / FOLDER)
        for plan in plans:
            options = CaptureOptions(plan.program, plan.snaplen, plan.limit)
            file = folder.path / FOLDER / f"{plan.name}.pcapng"
            capture = start_capture(directory, state, plan.targets, file, options, folder.note)
            running.append((plan, capture))
    except BaseException:
        _stop(running, folder)
        raise
    return running


def _make(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise CaptureUnwritable(f"{path} cannot be made: {error.strerror}", found=str(path)) from error


def _stop(running: _Running, folder: ResultsFolder) -> None:
    """End captures, and record what they have; one that fails keeps no other from its end."""
    for plan, capture in running:
        file = f"{FOLDER}/{plan.name}.pcapng"
        try:
            recorded = capture.stop()
        except Exception as error:  # the others are ended as well, and the outcome of the run is kept
            reason = error.message if isinstance(error, NmError) else f"{type(error).__name__}: {error}"
            folder.note(f"{file}: {reason}")
            ended = "unwritable" if isinstance(error, NmError) else "failed"
            folder.event(EVENT, data={"file": file, "ended": ended, "reason": reason})
        else:
            folder.event(EVENT, data={"file": file, **recorded.as_json()})
