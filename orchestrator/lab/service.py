"""`AsyncService`: a service in one node of a lab that is up; find services by words such as `3/redis`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from orchestrator import services
from orchestrator.deploy import node_command
from orchestrator.deploy import state as notes
from orchestrator.deploy.backends import host_for
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.host import Host, Progress
from orchestrator.deploy.locks import lab_lock
from orchestrator.deploy.node_states import require_running
from orchestrator.deploy.service_wait import until_good
from orchestrator.deploy.state import LabState
from orchestrator.errors import LabNotFound, UsageError, nearest_hint
from orchestrator.lab.commands import Completed, run_in_node
from orchestrator.lab.find import select_node, select_nodes
from orchestrator.lab.words import words_of
from orchestrator.services import Instance, ServiceState

__all__ = ["RESTART_S", "AsyncService", "note_now", "restart_services", "select_service", "select_services"]

RESTART_S = 60.0
"""How long a service may take without any change, besides the time that its own `ready` states."""

LOCK_S = 20.0
"""How long another command may hold the lab."""


def select_service(directory: LabDirectory, state: LabState, word: str) -> Instance:
    """The one service in one node that a word such as `3/redis` means.

    Raises:
        UsageError: There is none, or the word means several.
    """
    node, _, name = word.rpartition("/")
    return _find(directory, state, select_node(state, node), name)


def select_services(directory: LabDirectory, state: LabState, words: str) -> list[Instance]:
    """The services that words such as `3/redis,2-3/web,all/load` mean; `all` is every node that has it.

    Raises:
        UsageError: A word means none.
    """
    found: dict[str, Instance] = {}
    for word in words.split(","):
        nodes, _, name = word.strip().rpartition("/")
        if nodes == "all":
            some = [each for each in services.read(directory.run) if each.service == name]
            if not some:
                raise _unknown(directory, state, word, name)
        else:
            some = [_find(directory, state, node, name) for node in select_nodes(state, [nodes])]
        found |= {each.key: each for each in some}
    return list(found.values())


def note_now(directory: LabDirectory) -> LabState:
    """What the lab's state file says now; processes of a native lab may have been started anew.

    Raises:
        LabNotFound: The lab is not up any more.
    """
    state = notes.read(directory)
    if state is None:
        raise LabNotFound(f"lab {directory.name} is not up any more", found=directory.name)
    return state


def _find(directory: LabDirectory, state: LabState, node: int, name: str) -> Instance:
    for each in services.read(directory.run):
        if (each.node, each.service) == (node, name):
            return each
    raise _unknown(directory, state, f"{node}/{name}", name)


def _unknown(directory: LabDirectory, state: LabState, word: str, name: str) -> UsageError:
    there = services.read(directory.run)
    where = [each.key for each in there if each.service == name]
    keys = [each.key for each in there]
    hint = nearest_hint(word, keys, what="services are") if keys else "its topology has no `services`"
    if where:
        hint = f"it runs as {', '.join(where[:8])}"
    return UsageError(
        f"lab {state.lab} has no service {word}",
        id="service.unknown",
        found=word,
        expected="NODE/SERVICE",
        hint=hint,
    )


async def restart_services(
    directory: LabDirectory,
    chosen: Sequence[Instance],
    progress: Progress,
    timeout_s: float = RESTART_S,
) -> list[ServiceState]:
    """End services and start them again; return what they are when they are ready.

    Raises:
        ServiceFailed: One failed, or did not become ready; carries the last lines of its log.
        UsageError: The node of one is stopped or paused by request.
        LabBusy: Another command works on the lab.
    """
    require_running(directory, [each.node for each in chosen])
    state = note_now(directory)
    host, keys = host_for(state.backend), [each.key for each in chosen]
    async with lab_lock(Home(directory.home), directory.name, "restart", LOCK_S):
        await host.restart_services(directory, state, keys)
    await until_good(host, directory, state, chosen, progress, timeout_s)
    return [each for each in await host.services(directory, state) if each.key in keys]


@dataclass(frozen=True)
class AsyncService:
    """A service in one node of a lab that is up."""

    host: Host
    directory: LabDirectory
    state: LabState
    instance: Instance

    @property
    def name(self) -> str:
        """The service's name."""
        return self.instance.service

    @property
    def node(self) -> int:
        """The node's number."""
        return self.instance.node

    async def status(self) -> ServiceState:
        """What became of it: `.state`, `.restarts`, `.exit_code`, `.reason`."""
        seen = await self.host.services(self.directory, note_now(self.directory))
        return next(each for each in seen if each.key == self.instance.key)

    async def run(
        self,
        argv: Sequence[str] | str,
        *,
        stdin: bytes | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # as in subprocess.run
        user: str | None = None,
    ) -> Completed:
        """Run a command beside the service: in its container, or with its variables, rights and folder.

        Args:
            argv: The command; a string is split into words as a shell would, without its other powers.
            stdin: What it reads; nothing unless given.
            timeout: End it after so many seconds, with exit code 124.
            user: Whose rights it has; those of the service unless given.
        """
        require_running(self.directory, [self.node])
        return await run_in_node(
            _Beside(self.host, self.instance),
            self.directory,
            self.state,
            self.node,
            words_of(argv),
            stdin=stdin,
            timeout_s=timeout,
            user=user,
        )

    async def restart(self, *, progress: Progress = lambda _what: None) -> None:
        """End it and start it again; returns when it is ready.

        Raises:
            ServiceFailed: It failed, or did not become ready; carries the last lines of its log.
        """
        await restart_services(self.directory, [self.instance], progress)

    def logs(self, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[str]:
        """What it printed, line by line."""
        return self.host.logs(self.directory, self.instance.key, follow=follow, tail=tail)


@dataclass(frozen=True)
class _Beside:
    """Where commands run beside a service instead of in its node; they always have an input."""

    host: Host
    instance: Instance

    def command(
        self,
        directory: LabDirectory,
        state: LabState,
        node: int,
        argv: Sequence[str],
        *,
        stdin: bool = False,
        user: str | None = None,
        tag: str = "",
    ) -> list[str]:
        return node_command.service_command(directory, state, self.instance, argv, user=user, tag=tag)

    async def end_command(
        self, directory: LabDirectory, state: LabState, node: int, tag: str, *, user: str | None = None
    ) -> list[str]:
        if state.backend == "docker":
            # Nothing is known of the programs in a foreign image, and only they could look for it.
            return [f"what it started in the container of service {self.instance.service} in node {node}"]
        return await self.host.end_command(directory, state, node, tag, user=user)
