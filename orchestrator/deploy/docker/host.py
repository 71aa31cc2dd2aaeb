"""Start, watch and stop a lab of containers.

The compose file describes the parts; `compose_file` reads it. Each part waits by itself for the parts that it
needs, so that no container's start waits for another's program. A lab's resources are found by labels alone,
so that `down` works without the compose file.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator import services
from orchestrator.deploy import node_states, termination
from orchestrator.deploy.docker import compose_file
from orchestrator.deploy.docker.engine import (
    HOME_LABEL,
    LAB_LABEL,
    TROUBLE_STATES,
    Container,
    Engine,
)
from orchestrator.deploy.docker.services import DockerServices, provide_images
from orchestrator.deploy.docker.starter import EngineRefused, Starter
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.host import TAIL_LINES, FailedPart, Leftover, Part, PartFailed, Progress
from orchestrator.deploy.node_command import container_name, docker_command
from orchestrator.deploy.service_wait import failed, until_good
from orchestrator.deploy.state import LabState, write_whole
from orchestrator.deploy.termination import GRACE_S, KILL_S
from orchestrator.deploy.threads import run_to_completion
from orchestrator.errors import HostNotFit, StartFailed
from orchestrator.services import ServiceState

SHARE = "/share"
"""Where a node's container has the lab's share folder, read-only."""

WATCH_S = 0.5
"""How often containers are looked at while a start is waited for; the engine's events would need a thread."""

END_S = GRACE_S + KILL_S + 10.0
"""How long ending a command in a container may take; the rest is for an engine with much to do."""

AWAY = "services-away.json"
"""The file in a lab's folder that names services which are to run again when their nodes do."""

KILLED = 128 + 9
"""The exit code of a container whose program was killed."""

_OVERLAP = ("Pool overlaps", "overlaps with other one")


class SubnetTaken(StartFailed):
    """The subnet was taken by another network after we chose it; another one has to be tried."""

    id = "docker.subnet-taken"


class DockerHost:
    """The docker backend.

    Args:
        engine: The engine to ask; our own unless a test gives another.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine = engine or Engine()

    async def start(self, directory: LabDirectory, state: LabState, progress: Progress) -> LabState:
        """Create and start containers that do not run; parts wait for each other by themselves."""
        wanted = compose_file.read(directory.run / "docker-compose.yml", directory.name)
        await self.require_images(wanted.images)
        await provide_images(self.engine, wanted, progress)
        progress("starting containers")
        loop = asyncio.get_running_loop()

        def tell(running: int, total: int) -> None:
            loop.call_soon_threadsafe(progress, f"{running} of {total} containers are started")

        away = {f"node-{node}" for node in node_states.read(directory)}
        parts = tuple(each for each in wanted.parts if each.name not in away)
        wanted = replace(wanted, services=parts)
        starter = Starter(wanted, _labels(directory), state.run, tell)
        try:
            await run_to_completion(lambda: self.engine.doing(starter.run), starter.cancel)
        except EngineRefused as error:
            raise _start_failed(directory, error) from error
        return state

    async def start_services(
        self, directory: LabDirectory, state: LabState, progress: Progress, timeout_s: float
    ) -> LabState:
        """Start containers as soon as those they depend on are as they are to be."""
        instances = services.read(directory.run)
        if not instances:
            return state
        wanted = compose_file.read(directory.run / "docker-compose.yml", directory.name)
        docker_services = DockerServices(self.engine, directory, state)

        async def look() -> Sequence[ServiceState]:
            seen = await docker_services.look()
            try:
                return await docker_services.start_possible(wanted, seen)
            except EngineRefused as error:
                refused = next(each for each in seen if each.key == error.part)
                reason = f"is refused by the engine: {error.reason}"
                raise await failed(self, directory, replace(refused, reason=reason)) from error

        await until_good(self, directory, state, instances, progress, timeout_s, look)
        return state

    async def services(self, directory: LabDirectory, state: LabState) -> list[ServiceState]:
        """Look at their containers."""
        return await DockerServices(self.engine, directory, state).look()

    async def restart_services(self, directory: LabDirectory, state: LabState, keys: Sequence[str]) -> None:
        """Have the engine restart their containers."""
        await DockerServices(self.engine, directory, state).restart(keys)

    async def first_exit(self, directory: LabDirectory, state: LabState) -> FailedPart:
        """Look at the containers until one has ended or is unhealthy."""
        while True:
            # The engine is busy starting containers; it is asked about each one only when one is in trouble.
            if await self.engine.has_trouble(_labels(directory)):
                failed_part = await self._failed_part(directory)
                if failed_part is not None:
                    return failed_part
            await asyncio.sleep(WATCH_S)

    async def parts(self, directory: LabDirectory, state: LabState) -> list[Part]:
        """Look at the containers that the lab should have."""
        found = {each.part: each for each in await self.engine.containers(_labels(directory))}
        networks = set(await self.engine.network_ids(_labels(directory)))
        wanted = ["postgres", "controller", *(f"node-{n.id}" for n in state.nodes if not n.external)]
        away = {f"node-{node}" for node in node_states.read(directory)}
        parts = [_part(role, found.get(role), networks) for role in wanted]
        return [replace(part, by_request=part.role in away and not part.running) for part in parts]

    async def tail(self, directory: LabDirectory, part: str, lines: int = TAIL_LINES) -> list[str]:
        """The last lines of a container's log."""
        container = await self._container(directory, part)
        return await self.engine.tail(container.id, lines) if container else []

    async def logs(
        self, directory: LabDirectory, part: str, *, follow: bool, tail: int | None
    ) -> AsyncIterator[str]:
        """A container's log, through `docker logs`."""
        container = await self._container(directory, part)
        if container is None:
            return
        command = ["docker", "logs", "--tail", "all" if tail is None else str(tail)]
        process = await asyncio.create_subprocess_exec(
            *command,
            *(["--follow"] if follow else []),
            container.id,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None, "a pipe was asked for"
        try:
            async for line in process.stdout:
                yield line.decode(errors="replace").rstrip("\n")
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

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
        """Run in the node's container; see `orchestrator.deploy.node_command`."""
        return docker_command(state, node, argv, terminal=terminal, stdin=stdin, cwd=cwd, user=user, tag=tag)

    async def end_command(
        self, directory: LabDirectory, state: LabState, node: int, tag: str, *, user: str | None = None
    ) -> list[str]:
        """Look for the processes and end them from inside, as the user who started them."""
        options = [] if user is None else [f"--user={user}"]
        inside = ["python3", "-I", "-S", "-", tag]
        program = await asyncio.to_thread(Path(termination.__file__).read_bytes)
        process = await asyncio.create_subprocess_exec(
            *["docker", "exec", "--interactive", *options, container_name(state, node), *inside],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(END_S):
                said, complaint = await process.communicate(program)
        except TimeoutError:
            return [f"processes of a command in node {node}: the engine did not end them within {END_S:g} s"]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0 or not await self._runs(directory, node):
            return []  # a container that has ended took its processes along
        left = said.decode(errors="replace").split()
        if left:
            return [f"process {pid} in node {node}" for pid in left]
        return [f"processes of a command in node {node}: {complaint.decode(errors='replace').strip()}"]

    async def _runs(self, directory: LabDirectory, node: int) -> bool:
        container = await self._container(directory, f"node-{node}")
        return container is not None and container.running

    def payload_path(self, staged: Path) -> str:
        """Containers have the share folder at a place of its own."""
        return f"{SHARE}/{staged.name}"

    async def act_on_nodes(
        self, directory: LabDirectory, state: LabState, nodes: Collection[int], do: str
    ) -> None:
        """Have the engine do it to the nodes' containers."""
        found = [each for each in await self.engine.containers(_labels(directory)) if each.node in nodes]
        own = [each for each in found if each.service]
        away = directory.path / AWAY
        if do in ("kill", "stop"):
            # Which of them are to run again with the node; they share its network, so they end first.
            ran = [each.part for each in own if each.running or each.status in ("paused", "restarting")]
            write_whole(away, json.dumps(sorted({*_read_away(away), *ran})))
            await self.engine.act([each.id for each in own], do)
        await self.engine.act([each.id for each in found if not each.service], do)
        if do == "start":
            back = set(_read_away(away))
            # In a new network, even if one runs still.
            await self.engine.act([each.id for each in own if each.part in back], "restart")
            write_whole(away, json.dumps(sorted(back - {each.part for each in own})))
        elif do in ("pause", "unpause"):
            await self.engine.act([each.id for each in own], do)

    async def change_nodes(
        self,
        directory: LabDirectory,
        state: LabState,
        removed: Collection[int],
        services: Collection[str],
        progress: Progress,
    ) -> LabState:
        """Remove the containers of removed nodes and of services that are others, and start new nodes."""
        if removed or services:
            progress("removing containers")
            found = await self.engine.containers(_labels(directory))
            gone = [each.id for each in found if each.node in removed or each.part in services]
            await self.engine.remove_containers(gone)
        return await self.start(directory, state, progress)

    async def end_parts(self, directory: LabDirectory, state: LabState, parts: Collection[str]) -> None:
        """Kill their containers, which `start` starts again."""
        found = await self.engine.containers(_labels(directory))
        await self.engine.kill([each.id for each in found if each.part in parts])

    async def stop(self, directory: LabDirectory, progress: Progress) -> None:
        """Remove everything with the lab's labels; what is in the containers is thrown away anyway."""
        progress("removing containers")
        await self.engine.remove(_labels(directory))

    async def leftovers(self, directory: LabDirectory) -> list[Leftover]:
        """Look for containers, networks and volumes with the lab's labels."""
        labels = _labels(directory)
        containers = [Leftover("container", each.name) for each in await self.engine.containers(labels)]
        networks = [Leftover("network", name) for name in await self.engine.networks(labels)]
        volumes = [Leftover("volume", name) for name in await self.engine.volumes(labels)]
        return [*containers, *networks, *volumes]

    async def require_images(self, names: Sequence[str]) -> None:
        """Check that every image is there.

        Raises:
            HostNotFit: One is not; the hint is the command that builds it.
        """
        for name in names:
            if not await self.engine.has_image(name):
                raise HostNotFit(
                    f"the image {name} is not there",
                    id="docker.no-image",
                    found=name,
                    hint="`make images` builds it; `--backend native` needs no image",
                )

    async def _container(self, directory: LabDirectory, part: str) -> Container | None:
        found = await self.engine.containers(_labels(directory))
        return next((each for each in found if each.part == part), None)

    async def _failed_part(self, directory: LabDirectory) -> FailedPart | None:
        away = node_states.read(directory)
        for each in await self.engine.containers(_labels(directory)):
            if each.node in away or each.service:
                continue
            reason = _complaint(each)
            if reason:
                return FailedPart(each.part, reason, tuple(await self.tail(directory, each.part)))
        return None


def _read_away(path: Path) -> list[str]:
    try:
        return [str(each) for each in json.loads(path.read_text())]
    except (OSError, ValueError):
        return []


def _start_failed(directory: LabDirectory, error: EngineRefused) -> StartFailed:
    if any(phrase in error.reason for phrase in _OVERLAP):
        return SubnetTaken(
            "the container network's subnet was taken in the meantime",
            hint="`docker network ls` shows who has it; try again, or `nm down` and `nm up` choose another",
        )
    return PartFailed(directory.name, FailedPart(error.part, f"is refused by the engine: {error.reason}", ()))


def _labels(directory: LabDirectory) -> list[str]:
    return [f"{LAB_LABEL}={directory.name}", f"{HOME_LABEL}={directory.home}"]


def _part(role: str, container: Container | None, networks: Collection[str]) -> Part:
    if container is None:
        return Part(role, False, "no container")
    nodes = (container.node,) if container.node else ()
    if container.status == "paused":
        return Part(role, False, "container paused", nodes, paused=True)
    # The network was removed, or the container disconnected from it: it runs without connectivity.
    if container.running and role != "postgres" and not set(networks).intersection(container.networks):
        return Part(role, False, "container is not on the lab's network", nodes)
    # "starting" only says that no probe was due yet.
    health = f", {container.health}" if container.health not in ("", "starting") else ""
    return Part(role, container.running, f"container {container.status}{health}", nodes)


def _complaint(container: Container) -> str | None:
    if container.status == "restarting" and container.exit_code == KILLED:
        return None  # it did not fail by itself, and is about to run again
    if container.status in TROUBLE_STATES:
        return f"has ended with exit code {container.exit_code}"
    if container.health == "unhealthy":
        return "does not become healthy"
    return None
