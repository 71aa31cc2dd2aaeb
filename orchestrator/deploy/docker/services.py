"""Start the containers of the user's own services in order, and say what became of them.

The engine restarts them by their policies. Whether one is ready is found out from here: by a program in its
node, by a command in its container, or from its log. What was found out is kept in `service-ready.json` in
the lab's folder, with the start that it holds for.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import services
from orchestrator.clock import SystemClock
from orchestrator.deploy import node_states
from orchestrator.deploy.docker.checks import CHECK_S, command_passes, run, running_checks
from orchestrator.deploy.docker.compose_file import Composition, Service
from orchestrator.deploy.docker.engine import HOME_LABEL, LAB_LABEL, Container, Engine
from orchestrator.deploy.docker.starter import EngineRefused, make_container
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.node_command import container_name, service_container
from orchestrator.deploy.state import LabState, write_whole
from orchestrator.errors import HostNotFit
from orchestrator.services import Check, Instance, ServiceState, probe

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["DockerServices", "provide_images"]

PULL_S = 900.0
"""How long fetching or building an image may take."""

SETTLE_S = 0.2
"""A service without `ready` counts as running once it has run so long."""

STOP_S = 10
"""How long a service that is restarted may take to end, as the engine has it."""

LOG_TAIL = 10_000
"""So many lines of a log are searched for the one that says that a service is ready."""


class DockerServices:
    """The services of one lab.

    Args:
        engine: The engine.
        directory: The lab.
        state: Its note.
    """

    def __init__(self, engine: Engine, directory: LabDirectory, state: LabState) -> None:
        self._engine = engine
        self._directory = directory
        self._state = state
        self._labels = [f"{LAB_LABEL}={directory.name}", f"{HOME_LABEL}={directory.home}"]
        self._instances = services.read(directory.run)
        self._started: set[str] = set()
        self._checked: dict[str, float] = {}
        self._ready_file = directory.path / "service-ready.json"

    async def look(self) -> list[ServiceState]:
        """What became of each; those that run and have a check are checked once, if it is not known."""
        found = {each.part: each for each in await self._engine.containers(self._labels)}
        away = node_states.read(self._directory)
        known = self._read_ready()
        seen = await asyncio.gather(*(self._look_at(each, found, away, known) for each in self._instances))
        return list(seen)

    async def start_possible(
        self, wanted: Composition, seen: Sequence[ServiceState]
    ) -> Sequence[ServiceState]:
        """Start those that never ran, and once those that failed, when what they depend on is there.

        Returns:
            The states, in which those that are or will be started wait.

        Raises:
            EngineRefused: The engine refused one; its part is the service's key.
        """
        state_of = {each.key: each for each in seen}
        todo = [
            each
            for each in self._instances
            if state_of[each.key].state == "waiting"
            or (state_of[each.key].state == "failed" and each.key not in self._started)
        ]
        due = [each for each in todo if self._may_start(each, seen)]
        self._started |= {each.key for each in due}
        by_container = {service.container: service for service in wanted.user}
        chosen = [(each, by_container[service_container(self._state, each)]) for each in due]
        await asyncio.gather(
            *(self._engine.ask(partial(self._start, each, it, wanted)) for each, it in chosen)
        )
        keys = {each.key for each in todo}
        return [replace(each, state="waiting") if each.key in keys else each for each in seen]

    async def restart(self, keys: Sequence[str]) -> None:
        """Restart containers."""
        found = await self._engine.containers(self._labels)
        names = [each.id for each in found if each.part in keys]

        def do(client: DockerClient) -> None:
            for name in names:
                client.containers.get(name).restart(timeout=STOP_S)

        await self._engine.ask(do)

    def _may_start(self, it: Instance, seen: Sequence[ServiceState]) -> bool:
        met = {
            "service_started": ("running", "starting", "ready", "unready", "restarting", "exited"),
            "service_healthy": ("ready",),
            "service_completed_successfully": ("exited",),
        }
        return all(each.state in met[it.after[each.service]] for each in seen if each.service in it.after)

    def _start(self, it: Instance, service: Service, wanted: Composition, client: DockerClient) -> None:
        """Make and start a container; one whose node's container is another by now is made again."""
        from docker.errors import APIError, NotFound

        try:
            node = client.containers.get(container_name(self._state, it.node))
            try:
                there = client.containers.get(service.container)
            except NotFound:
                there = None
            modes = (f"container:{node.id}", f"container:{node.name}")  # engines keep one or the other
            if there is not None and there.attrs["HostConfig"]["NetworkMode"] not in modes:
                there.remove(force=True, v=True)
                there = None
            if there is None:
                made = make_container(client, service, wanted.network)
                there = client.containers.get(made)
            there.restart(timeout=STOP_S) if there.status == "running" else there.start()
        except APIError as error:
            raise EngineRefused(it.key, str(error.explanation or error)) from error

    async def _look_at(
        self,
        it: Instance,
        found: Mapping[str, Container],
        away: Mapping[int, str],
        known: Mapping[str, Any],
    ) -> ServiceState:
        there, node = found.get(it.key), found.get(f"node-{it.node}")
        state = partial(ServiceState, node=it.node, service=it.service)
        if away.get(it.node) == "stopped" or node is None or not (node.running or node.status == "paused"):
            return state(state="stopped", reason="has a node that does not run")
        if there is None or there.status == "created":
            return state(state="waiting", reason=", ".join(f"waits for {name}" for name in it.after))
        ready = known.get(it.key, {})
        state = partial(state, restarts=there.restarts, exit_code=there.exit_code if there.restarts else None)
        deaths = max(0, there.restarts - int(ready.get("restarts", 0)))
        if there.running and _started_s(there) < _started_s(node):
            return state(state="failed", reason="is not in the network of its node, which was started anew")
        if there.status in ("running", "paused"):
            return await self._running(it, there, state, ready, deaths)
        if there.status == "restarting":
            why = f"ended with exit code {there.exit_code} and is started again"
            return state(state="restarting", reason=why, deaths=deaths, exit_code=there.exit_code)
        if there.exit_code == 0:
            return state(state="exited", exit_code=0)
        why = f"has ended with exit code {there.exit_code}"
        return state(state="failed", reason=why, exit_code=there.exit_code)

    async def _running(
        self,
        it: Instance,
        there: Container,
        state: Callable[..., ServiceState],
        ready: Mapping[str, Any],
        deaths: int,
    ) -> ServiceState:
        if it.ready is None:
            # One that ends again and again runs for a moment between.
            return state(
                state="running" if deaths == 0 or _age_s(there) > CHECK_S else "starting", deaths=deaths
            )
        if ready.get("started_at") == there.started_at or there.status == "paused":
            return state(state="ready")
        if await self._passes(it, it.ready, there):
            self._write_ready(it.key, there)
            return state(state="ready")
        if _age_s(there) > it.ready.timeout_s:
            why = f"did not become ready within {it.ready.timeout_s:g} s: it waits for {it.ready}"
            return state(state="unready", reason=why)
        return state(state="starting", reason=f"waits for {it.ready}", deaths=deaths)

    async def _passes(self, it: Instance, check: Check, there: Container) -> bool:
        """Check once, unless that was done less than the interval ago."""
        checks, key, now = running_checks(), f"{there.id} {there.started_at}", SystemClock().monotonic()
        if not checks.runs(key):
            if now - self._checked.get(it.key, float("-inf")) < check.interval_s:
                return False
            self._checked[it.key] = now
        return await checks.passes(key, partial(self._check, it, check, there))

    async def _check(self, it: Instance, check: Check, there: Container) -> bool:
        if check.kind == "log":
            lines = await self._engine.tail(there.id, LOG_TAIL, since=there.started_at)
            return any(re.search(check.value[0], line) for line in lines)
        if check.kind == "command":
            return await command_passes(there.id, check.value, max(CHECK_S, check.timeout_s))
        node = container_name(self._state, it.node)
        program = await asyncio.to_thread(Path(probe.__file__).read_bytes)
        words = ["python3", "-I", "-S", "-", check.kind, *check.value, "0", "0", "127.0.0.1", it.address]
        code, _ = await run(["docker", "exec", "--interactive", node, *words], CHECK_S, program)
        return code == 0

    def _read_ready(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._ready_file.read_text()))
        except (OSError, ValueError):
            return {}

    def _write_ready(self, key: str, there: Container) -> None:
        known = self._read_ready() | {key: {"started_at": there.started_at, "restarts": there.restarts}}
        write_whole(self._ready_file, json.dumps(known))


async def provide_images(engine: Engine, wanted: Composition, progress: Callable[[str], None]) -> None:
    """Build the images of services that are built, and fetch those that are not there.

    Raises:
        HostNotFit: One cannot be built (`docker.build`) or is not to be had (`docker.no-image`).
    """
    builds = {service.image: service.build for service in wanted.user if service.build is not None}
    for image in dict.fromkeys((*builds, *(service.image for service in wanted.user))):
        if (build := builds.get(image)) is not None:
            progress(f"building the image {image}")
            words = ["docker", "build", "--tag", image]
            words += (
                ["--file", str(Path(build["context"], build["dockerfile"]))] if "dockerfile" in build else []
            )
            words += ["--target", build["target"]] if "target" in build else []
            words += [f"--build-arg={key}={value}" for key, value in build.get("args", {}).items()]
            code, said = await run([*words, build["context"]], PULL_S)
            if code:
                raise HostNotFit(
                    f"the image {image} cannot be built: {' · '.join(said[-5:])}",
                    id="docker.build",
                    found=build["context"],
                    hint=f"`docker build {build['context']}` shows it in full",
                )
        elif not await engine.has_image(image):
            progress(f"fetching the image {image}")
            code, said = await run(["docker", "pull", "--quiet", image], PULL_S)
            if code:
                raise HostNotFit(
                    f"the image {image} is not there, and cannot be fetched: {' · '.join(said[-2:])}",
                    id="docker.no-image",
                    found=image,
                    hint="`docker images` lists those that are there; `build` in the service builds one",
                )


def _age_s(container: Container) -> float:
    """How long ago a container was started."""
    return SystemClock().wall() - _started_s(container)


def _started_s(container: Container) -> float:
    """When a container was started; engines write up to nine digits of a second, and Python reads six."""
    text = re.sub(r"(\.\d{6})\d*", r"\1", container.started_at).replace("Z", "+00:00")
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except ValueError:
        return SystemClock().wall()
