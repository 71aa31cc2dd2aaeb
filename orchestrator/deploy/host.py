"""The `Host` protocol that both backends implement, and its data classes.

A backend starts what a run directory describes, reports which parts run, runs commands inside nodes, and
removes everything. It never renders, and it never asks the controller: whether a lab is *ready* is decided in
`orchestrator.lab`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import StartFailed
from orchestrator.services import ServiceState

Progress = Callable[[str], None]
"""Told what is being waited for, one short phrase at a time."""

TAIL_LINES = 20
"""How much of a dead part's log an error shows: a Python traceback fits."""


@dataclass(frozen=True)
class Part:
    """One long-lived piece of a lab: the database, the controller, a host process, a node's container.

    One that is `paused` does not run, and can be resumed; one that is away `by_request` was stopped or paused
    by `nm node`, and is to stay so.
    """

    role: str
    running: bool
    detail: str = ""
    nodes: tuple[int, ...] = ()
    paused: bool = False
    by_request: bool = False

    @property
    def missing(self) -> bool:
        """Whether it does not run although it is to."""
        return not self.running and not self.by_request


@dataclass(frozen=True)
class FailedPart:
    """The part that made a start fail, with the last lines of its log."""

    part: str
    reason: str
    lines: tuple[str, ...] = ()


class PartFailed(StartFailed):
    """A part of a lab made its start fail; carries the last lines of its log.

    Args:
        lab: The lab.
        failed_part: The part.
        hint: What to do about it.
    """

    id = "start.part-failed"

    def __init__(self, lab: str, failed_part: FailedPart, *, hint: str | None = None) -> None:
        super().__init__(
            f"lab {lab} did not start: {failed_part.part} {failed_part.reason}",
            hint=hint,
            fields={"lab": lab, "part": failed_part.part},
        )
        self.lines = failed_part.lines


@dataclass(frozen=True)
class Leftover:
    """Something of a lab that is still on the machine."""

    kind: Literal["process", "namespace", "container", "network", "volume", "file"]
    what: str

    def __str__(self) -> str:
        return f"{self.kind} {self.what}"


class Host(Protocol):
    """One backend."""

    async def start(self, directory: LabDirectory, state: LabState, progress: Progress) -> LabState:
        """Start every part that does not run, and return the state with what was started.

        Returns once all parts run; they may not be ready yet. Starting a lab of which some parts run repairs
        it.

        Raises:
            StartFailed: A part could not be started; it carries the last lines of that part's log.
            HostNotFit: The machine lacks something.
        """

    async def start_services(
        self, directory: LabDirectory, state: LabState, progress: Progress, timeout_s: float
    ) -> LabState:
        """Start the services of a lab whose nodes are ready, in order; return when they are ready.

        Args:
            directory: The lab.
            state: Its note.
            progress: Told which service is waited for.
            timeout_s: How long nothing may change, besides what services state themselves.

        Raises:
            ServiceFailed: One failed, or did not become ready; carries the last lines of its log.
        """

    async def services(self, directory: LabDirectory, state: LabState) -> list[ServiceState]:
        """What became of the services, in the order of their start."""

    async def restart_services(self, directory: LabDirectory, state: LabState, keys: Sequence[str]) -> None:
        """End services such as `3/redis` if they run, and start them; returns before they are ready.

        Raises:
            NmError: It could not be done.
        """

    async def first_exit(self, directory: LabDirectory, state: LabState) -> FailedPart:
        """Wait until any part of the lab ends, and say which; runs until cancelled if none does."""

    async def parts(self, directory: LabDirectory, state: LabState) -> list[Part]:
        """Look which parts run."""

    async def tail(self, directory: LabDirectory, part: str, lines: int = TAIL_LINES) -> list[str]:
        """The last lines that a part logged; empty if there are none."""

    def logs(
        self, directory: LabDirectory, part: str, *, follow: bool, tail: int | None
    ) -> AsyncIterator[str]:
        """The log of a part, line by line; with `follow` it goes on until cancelled."""

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
        """The argument list that, run on this machine, runs `argv` inside a node, as root or as `user`.

        With a tag, which has to be unique in the lab, `end_command` ends it with all that it started.
        """

    async def end_command(
        self, directory: LabDirectory, state: LabState, node: int, tag: str, *, user: str | None = None
    ) -> list[str]:
        """End all processes that a command started, and return those that could not be ended, in words.

        They get SIGTERM, and SIGKILL after `orchestrator.deploy.termination.GRACE_S`; no process is no error.
        """

    def payload_path(self, staged: Path) -> str:
        """Where a file of the lab's share folder is, as a node sees it."""

    async def act_on_nodes(
        self, directory: LabDirectory, state: LabState, nodes: Collection[int], do: str
    ) -> None:
        """Kill, stop, start, pause or unpause nodes, whose states are recorded already.

        Args:
            directory: The lab's folder.
            state: Its state.
            nodes: Which ones; none is external.
            do: `kill`, `stop`, `start`, `pause` or `unpause`.

        Raises:
            NmError: It could not be done.
        """

    async def change_nodes(
        self,
        directory: LabDirectory,
        state: LabState,
        removed: Collection[int],
        services: Collection[str],
        progress: Progress,
    ) -> LabState:
        """Make the nodes of a running lab those of its files and its state; the others are not touched.

        May be repeated: what an interrupted call did is left as it is.

        Args:
            directory: The lab's folder, with the files of the new nodes.
            state: Its state, with the new nodes and without the removed ones.
            removed: Nodes that are no more; they were stopped.
            services: Services, as `3/redis`, that are no more or are others now: those that run end, and
                `start_services` starts them as the files say.
            progress: Told what is waited for.

        Returns:
            The state with what was started.

        Raises:
            NmError: It could not be done.
        """

    async def end_parts(self, directory: LabDirectory, state: LabState, parts: Collection[str]) -> None:
        """End parts that run but do not work, at once, so that `start` starts them again.

        Raises:
            StartFailed: One cannot be ended.
        """

    async def stop(self, directory: LabDirectory, progress: Progress) -> None:
        """End every part, whatever state it is in; nothing missing is an error."""

    async def leftovers(self, directory: LabDirectory) -> list[Leftover]:
        """Look for anything of the lab on the machine, files excepted."""
