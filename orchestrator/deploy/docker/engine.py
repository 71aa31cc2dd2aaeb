"""Query and change Docker resources that carry a lab's labels.

The SDK blocks, so every call runs in a worker thread; its timeout turns an engine that stopped answering into
an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.errors import HostNotFit

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container as EngineContainer

T = TypeVar("T")

LAB_LABEL = "nm.lab"
RUN_LABEL = "nm.run"
ROLE_LABEL = "nm.role"
NODE_LABEL = "nm.node"
HOME_LABEL = "nm.home"
SERVICE_LABEL = "nm.service"

TROUBLE_STATES = ("exited", "dead", "restarting")
"""States of a container whose program has ended; ours never end by themselves. One that is `restarting` is
started again by the engine after a pause."""

REMOVED_AT_ONCE = 8
"""Removing a container is mostly waiting for the kernel."""

ANSWER_S = 20
"""A loaded engine needs seconds for a list; after this long something is wrong with it."""

PING_S = 3
"""A ping costs an engine nothing, and every `nm up` that names no backend waits for it."""


@dataclass(frozen=True)
class Container:
    """A container of a lab as the engine describes it."""

    id: str
    name: str
    lab: str
    home: str
    role: str
    node: int
    status: str
    health: str
    exit_code: int
    networks: tuple[str, ...] = ()
    service: str = ""
    restarts: int = 0
    started_at: str = ""

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.status == "running"

    @property
    def part(self) -> str:
        """Its part in the lab: `postgres`, `controller`, `node-<n>` or `<n>/<service>`."""
        if self.service:
            return f"{self.node}/{self.service}"
        return f"node-{self.node}" if self.role == "node" else self.role


class Engine:
    """A connection to the engine; opened at the first question."""

    def __init__(self) -> None:
        self._client: DockerClient | None = None

    async def ask(self, question: Callable[[DockerClient], T]) -> T:
        """Run a query in a worker thread.

        Raises:
            HostNotFit: No engine answers, or it refuses us.
        """
        return await asyncio.to_thread(self.ask_now, question)

    def ask_now(self, question: Callable[[DockerClient], T]) -> T:
        """Like `ask`, in the calling thread."""
        return self.doing(lambda: question(self._open()))

    def doing(self, work: Callable[[], T]) -> T:
        """Run a call of the engine's API, in the calling thread.

        Raises:
            HostNotFit: No engine answers, or it refuses us.
        """
        import requests
        from docker.errors import DockerException

        try:
            return work()
        except (DockerException, requests.RequestException) as error:
            raise unreachable(error) from error

    async def containers(self, labels: Iterable[str]) -> list[Container]:
        """Every container, running or not, that carries all of `labels`."""
        wanted = _filters(labels)

        def list_them(client: DockerClient) -> list[Container]:
            found = client.containers.list(all=True, filters=wanted, ignore_removed=True)
            return sorted((_container(each.attrs) for each in found), key=lambda each: (each.node, each.name))

        return await self.ask(list_them)

    async def has_trouble(self, labels: Iterable[str]) -> bool:
        """Whether one of those containers has ended or is unhealthy; one question, however many there are."""
        wanted = _filters(labels)

        def look(client: DockerClient) -> bool:
            return any(_is_troubled(each) for each in client.api.containers(all=True, filters=wanted))

        return await self.ask(look)

    async def network_ids(self, labels: Iterable[str]) -> list[str]:
        """The ids of the networks with all of `labels`."""
        wanted = _filters(labels)
        return await self.ask(lambda client: [str(net.id) for net in client.networks.list(filters=wanted)])

    async def networks(self, labels: Iterable[str]) -> list[str]:
        """The names of the networks with all of `labels`."""
        wanted = _filters(labels)
        return await self.ask(lambda client: [str(net.name) for net in client.networks.list(filters=wanted)])

    async def volumes(self, labels: Iterable[str]) -> list[str]:
        """The names of the volumes with all of `labels`."""
        wanted = _filters(labels)
        return await self.ask(lambda client: [str(vol.name) for vol in client.volumes.list(filters=wanted)])

    async def subnets(self) -> list[str]:
        """The subnets of all networks of the engine."""

        def read(client: DockerClient) -> list[str]:
            pools = [(net.attrs.get("IPAM") or {}).get("Config") or [] for net in client.networks.list()]
            return [str(pool["Subnet"]) for config in pools for pool in config if pool.get("Subnet")]

        return await self.ask(read)

    async def has_image(self, name: str) -> bool:
        """Whether an image of that name and tag is there."""
        return bool(await self.ask(lambda client: client.images.list(name=name)))

    async def remove_containers(self, ids: Sequence[str]) -> None:
        """Remove containers, whatever state they are in; one that is gone already is fine."""
        from docker.errors import NotFound

        def remove_them(client: DockerClient) -> None:
            for each in ids:
                with suppress(NotFound):
                    client.api.remove_container(each, force=True, v=True)

        await self.ask(remove_them)

    async def remove(self, labels: Iterable[str]) -> None:
        """Remove every container, network and volume with all of `labels`; what is already gone is fine."""
        from docker.errors import NotFound

        wanted = _filters(labels)

        def removed(work: Callable[[], Any]) -> None:
            try:
                work()
            except NotFound:
                return

        def remove_them(client: DockerClient) -> None:
            found = client.containers.list(all=True, filters=wanted, sparse=True)
            with ThreadPoolExecutor(REMOVED_AT_ONCE) as pool:
                removals = []
                for each in found:
                    # Engines lose count of a network's containers when several leave it at once, and never
                    # release it (moby issue 42119); so they are removed one by one.
                    _kill(each)
                    removals.append(pool.submit(removed, partial(each.remove, force=True, v=True)))
                for removal in removals:
                    removal.result()
            for volume in client.volumes.list(filters=wanted):
                removed(partial(volume.remove, force=True))
            for network in client.networks.list(filters=wanted):  # last, because it may be refused
                removed(partial(remove_network, client, str(network.id)))

        await self.ask(remove_them)

    async def kill(self, containers: Iterable[str]) -> None:
        """End the programs of containers, and wait until they have ended; one that does not run is fine."""
        from docker.errors import NotFound

        def kill_them(client: DockerClient) -> None:
            for each in containers:
                with suppress(NotFound):
                    container = client.containers.get(each)
                    _kill(container)
                    container.wait(timeout=ANSWER_S)

        await self.ask(kill_them)

    async def act(self, containers: Iterable[str], do: str) -> None:
        """Kill, stop, start, pause or unpause containers at once; one that is so already stays so.

        Raises:
            HostNotFit: The engine does not answer, or refuses.
        """
        wanted = list(containers)

        def act_on_all(client: DockerClient) -> None:
            with ThreadPoolExecutor(REMOVED_AT_ONCE) as pool:
                list(pool.map(lambda each: _act(client.containers.get(each), do), wanted))

        await self.ask(act_on_all)

    async def tail(self, container: str, lines: int, *, since: str = "") -> list[str]:
        """The last lines of a container's log; only those since a start, if one is given."""

        def read(client: DockerClient) -> list[str]:
            whole = since.partition(".")[0].rstrip("Z")  # the engine takes seconds here
            start = datetime.fromisoformat(whole) if since else None
            raw: bytes = client.containers.get(container).logs(tail=lines, since=start)
            return raw.decode(errors="replace").splitlines()

        return await self.ask(read)

    def _open(self) -> DockerClient:
        if self._client is None:
            import docker

            self._client = docker.from_env(timeout=ANSWER_S)
        return self._client


def _act(container: EngineContainer, do: str) -> None:
    status = str(container.status)
    if status == "paused" and do != "pause":
        # The engine neither kills nor stops a paused container.
        container.unpause()
    if do == "kill" and status in ("running", "paused", "restarting"):
        container.kill()
        container.wait(timeout=ANSWER_S)
    elif do == "stop":
        container.stop()
    elif do == "restart":
        container.restart(timeout=1)
    elif do == "start" and status not in ("running", "paused"):
        container.start()
    elif do == "pause" and status == "running":
        container.pause()


def _kill(container: EngineContainer) -> None:
    """End a container's program, if it runs."""
    from docker.errors import APIError

    # Killing a stopped one is refused; one that does not end is reported by its removal.
    with suppress(APIError):
        container.kill()


class NetworkStuck(HostNotFit):
    """The engine does not release a network though no container is on it."""

    id = "docker.network-stuck"


def remove_network(client: DockerClient, network: str) -> None:
    """Remove a network; foreign containers on it are disconnected.

    Raises:
        NetworkStuck: The engine believes that something is on it still (moby issue 42119).
    """
    from docker.errors import APIError, NotFound

    # By name: an endpoint whose container is gone is known by nothing else.
    for endpoint in (client.api.inspect_network(network)["Containers"] or {}).values():
        with suppress(NotFound):
            client.api.disconnect_container_from_network(endpoint["Name"], network, force=True)
    try:
        client.api.remove_network(network)
    except APIError as error:
        if "active endpoints" not in str(error.explanation):
            raise
        raise NetworkStuck(
            f"the engine does not remove the network {network[:12]}, though no container is on it any more",
            found=str(error.explanation),
            hint="older engines lose count; `sudo systemctl restart docker`, then `nm down` again",
        ) from error


def answers() -> bool:
    """Whether a Docker engine answers on this machine; quick, because every `nm up` asks."""
    import docker
    import requests
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=PING_S)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (DockerException, requests.RequestException, OSError):
        return False


def unreachable(error: Exception) -> HostNotFit:
    """The error for an engine that does not do what it was asked."""
    text = str(error).replace("Error while fetching server API version: ", "")
    denied = "Permission denied" in text or "PermissionError" in text
    hint = "add yourself to the group `docker`" if denied else "start it: `sudo systemctl start docker`"
    return HostNotFit(
        f"the Docker engine does not answer: {text[:300]}",
        id="docker.unreachable",
        hint=f"{hint}; or use `--backend native`",
    )


def _is_troubled(listed: dict[str, Any]) -> bool:
    """Whether the engine lists a part as not running well, such as `Up 2 minutes (unhealthy)`."""
    if (listed.get("Labels") or {}).get(SERVICE_LABEL):
        return False  # the user's own may end
    return listed.get("State") in TROUBLE_STATES or "(unhealthy)" in str(listed.get("Status", ""))


def _filters(labels: Iterable[str]) -> dict[str, str | list[str] | bool]:
    return {"label": list(labels)}


def _container(attributes: dict[str, Any]) -> Container:
    labels: dict[str, str] = (attributes.get("Config") or {}).get("Labels") or {}
    state: dict[str, Any] = attributes.get("State") or {}
    node = labels.get(NODE_LABEL, "")
    networks = (attributes.get("NetworkSettings") or {}).get("Networks") or {}
    return Container(
        id=str(attributes["Id"]),
        name=str(attributes.get("Name", "")).lstrip("/"),
        lab=labels.get(LAB_LABEL, ""),
        home=labels.get(HOME_LABEL, ""),
        role=labels.get(ROLE_LABEL, ""),
        node=int(node) if node.isdigit() else 0,
        status=str(state.get("Status", "")),
        health=str((state.get("Health") or {}).get("Status", "")),
        exit_code=int(state.get("ExitCode", 0)),
        networks=tuple(str(each.get("NetworkID", "")) for each in networks.values()),
        service=labels.get(SERVICE_LABEL, ""),
        restarts=int(attributes.get("RestartCount", 0)),
        started_at=str(state.get("StartedAt", "")),
    )
