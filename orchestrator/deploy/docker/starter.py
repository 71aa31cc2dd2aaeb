"""Create and start the containers, networks and volumes of a lab that do not exist yet, in parallel."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.deploy.docker.compose_file import Composition, Network, Service, Volume
from orchestrator.deploy.docker.engine import HOME_LABEL, LAB_LABEL, RUN_LABEL, remove_network
from orchestrator.errors import HostNotFit

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["EngineRefused", "NameTaken", "Starter", "make_container"]

STARTED_AT_ONCE = min(16, max(4, 2 * (os.cpu_count() or 1)))
"""A container's start keeps a processor busy for half of its time, and engines that were asked for hundreds
at once have stalled. Twice as many bring a lab of 20 up no sooner: with these all processors are busy."""

START_S = 120
"""How long one request may take: a loaded machine that starts a hundred containers needs its time."""


class EngineRefused(Exception):
    """The engine did not make or start a part of the lab."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason


class NameTaken(HostNotFit):
    """A foreign resource has a name that the lab needs; it is neither used nor removed."""

    id = "docker.name-taken"

    def __init__(self, kind: str, name: str, labels: Mapping[str, str]) -> None:
        lab, home = labels.get(LAB_LABEL), labels.get(HOME_LABEL)
        owner = f"of lab {lab}" + (f" in {home}" if home else "") if lab else "nothing that nm made"
        super().__init__(
            f"the {kind} {name} is there already, and is {owner}",
            found=f"{kind} {name}",
            expected=f"no {kind} of that name",
            hint=f"{_removal(kind, name, lab, home)} if it is not needed, or `-n` with another name",
        )


def _removal(kind: str, name: str, lab: str | None, home: str | None) -> str:
    """The command that removes it."""
    if lab and home:
        return f"`NM_HOME={shlex.quote(home)} nm down -n {lab}`"
    return f"`docker {kind} rm {'--force ' if kind == 'container' else ''}{name}`"


class Starter:
    """Starts a lab's containers; those that run are left alone.

    Args:
        composition: What there has to be.
        labels: What everything of this lab carries, and nothing else.
        run: This run of it. What another run left is removed first: it has other secrets.
        progress: Called, from any thread, with how many containers run and how many there have to be.
    """

    def __init__(
        self, composition: Composition, labels: Iterable[str], run: str, progress: Callable[[int, int], None]
    ) -> None:
        self._composition = composition
        self._lab = list(labels)
        self._labels = [*self._lab, f"{RUN_LABEL}={run}"]
        self._progress = progress
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._running = 0

    def cancel(self) -> None:
        """Start no further containers."""
        self._over.set()

    def run(self) -> None:
        """Do it, in the calling thread and others; returns when every container's program was started.

        Raises:
            NameTaken: A foreign resource has a name that is needed; nothing was started.
            EngineRefused: The engine refused something; nothing more is begun then.
            docker.errors.DockerException: No engine answers.
        """
        import docker

        client = docker.from_env(timeout=START_S, max_pool_size=STARTED_AT_ONCE)
        try:
            self._run(client)
        finally:
            client.close()

    def _run(self, client: DockerClient) -> None:
        wanted = self._composition
        there = _survey(client, wanted)
        if left := there.of(self._lab).of(self._labels, meant=False):
            _remove(client, left)
            there = _survey(client, wanted)
        there.require_ours(wanted, self._labels)
        if wanted.network.name in there.networks:
            network = str(there.networks[wanted.network.name]["Id"])
        else:
            network = _refusing("the network", partial(_make_network, client, wanted.network))
        for volume in wanted.volumes:
            if self._over.is_set():
                return
            if volume.name not in there.volumes:
                make = partial(_make_volume, client, volume, self._labels)
                _refusing(f"the volume {volume.name}", make)
        cut_off = _cut_off(wanted, there, network)
        awaited = {name for service in wanted.services for name in service.after}
        first: list[Future[None]] = []
        with ThreadPoolExecutor(STARTED_AT_ONCE, thread_name_prefix="start") as pool:
            starts = []
            # Dependencies come first in the file, so each has a thread before any other waits for it.
            for service in wanted.services:
                after = [] if service.name in awaited else first
                known = there.containers.get(service.container)
                if service.name in cut_off and known is not None:
                    remove = partial(client.api.remove_container, known["Id"], force=True, v=True)
                    _refusing(service.name, remove)
                    known = None
                start = pool.submit(self._start, client, service, known, after)
                starts.append(start)
                if service.name in awaited:
                    first.append(start)
            try:
                for start in starts:
                    start.result()
            except BaseException:
                self.cancel()
                raise

    def _start(
        self,
        client: DockerClient,
        service: Service,
        there: Mapping[str, Any] | None,
        after: list[Future[None]],
    ) -> None:
        """Make a container if there is none, start it after these if it does not run, and count it.

        A node looks for the controller by a name that the engine knows once the controller is started.
        """
        if self._over.is_set():
            return
        if there is None:
            network = self._composition.network
            made = _refusing(service.name, partial(make_container, client, service, network))
        else:
            made = str(there["Id"])
        for other in after:
            other.result()
        if there is None or there["State"] != "running":
            if self._over.is_set():
                return
            paused = there is not None and there["State"] == "paused"
            go_on = client.api.unpause if paused else client.api.start
            _refusing(service.name, partial(go_on, made))
        with self._lock:
            self._running += 1
            self._progress(self._running, len(self._composition.services))


@dataclass(frozen=True)
class _Existing:
    """What the engine has whose name contains the lab's: each kind by name, as the engine lists it."""

    containers: Mapping[str, Any]
    volumes: Mapping[str, Any]
    networks: Mapping[str, Any]

    def __bool__(self) -> bool:
        return bool(self.containers or self.volumes or self.networks)

    def of(self, labels: Iterable[str], *, meant: bool = True) -> _Existing:
        """Those that carry all of `labels`, or those that do not."""
        kinds = (self.containers, self.volumes, self.networks)
        return _Existing(
            *(
                {name: each for name, each in kind.items() if _carries(each, labels) is meant}
                for kind in kinds
            )
        )

    def require_ours(self, wanted: Composition, labels: Iterable[str]) -> None:
        """Check that no foreign resource has a name that is needed.

        Raises:
            NameTaken: One has.
        """
        others = self.of(labels, meant=False)
        for kind, names, found in (
            ("container", [service.container for service in wanted.services], others.containers),
            ("volume", [volume.name for volume in wanted.volumes], others.volumes),
            ("network", [wanted.network.name], others.networks),
        ):
            for name in names:
                if name in found:
                    raise NameTaken(kind, name, found[name].get("Labels") or {})


def _survey(client: DockerClient, wanted: Composition) -> _Existing:
    # The engine looks for a part of the name, and every name begins with the network's.
    near = {"name": wanted.network.name}
    containers = client.api.containers(all=True, filters=near)
    return _Existing(
        containers={name.lstrip("/"): each for each in containers for name in each["Names"]},
        volumes={each["Name"]: each for each in client.api.volumes(filters=near)["Volumes"] or ()},
        networks={each["Name"]: each for each in client.api.networks(filters=near)},
    )


def _carries(described: Mapping[str, Any], labels: Iterable[str]) -> bool:
    carried = described.get("Labels") or {}
    pairs = (label.split("=", 1) for label in labels)
    return all(carried.get(key) == value for key, value in pairs)


def _remove(client: DockerClient, left: _Existing) -> None:
    """Remove what an earlier run left; what is gone meanwhile is fine."""
    from docker.errors import NotFound

    def quietly(remove: Callable[[], Any]) -> None:
        with suppress(NotFound):
            remove()

    api = client.api
    for remove in (
        *(partial(api.remove_container, each["Id"], force=True, v=True) for each in left.containers.values()),
        *(partial(api.remove_volume, name, force=True) for name in left.volumes),
        *(partial(remove_network, client, each["Id"]) for each in left.networks.values()),
    ):
        _refusing("what an earlier run left", partial(quietly, remove))


def _cut_off(wanted: Composition, there: _Existing, network: str) -> set[str]:
    """The services whose containers have to be recreated, because one was disconnected from the network.

    No network gives a container the address and ports back that it had on another. And the controller cannot
    know that a connection of such a node is dead: it would call the lab ready before the new one is there.
    """
    known = {each.name: there.containers.get(each.container) for each in wanted.services if each.networked}
    off = {name for name, each in known.items() if each is not None and not _is_on(each, network)}
    return off | {"controller"} if off else off


def _is_on(container: Mapping[str, Any], network: str) -> bool:
    """Whether a container, as the engine lists it, is on a network; one that never ran knows no id of it."""
    known = (container.get("NetworkSettings") or {}).get("Networks") or {}
    ids = {each.get("NetworkID") for each in known.values()}
    return network in ids or (container["State"] == "created" and bool(known))


def _make_network(client: DockerClient, network: Network) -> str:
    from docker.types import IPAMConfig, IPAMPool

    pools = [IPAMPool(subnet=network.subnet)] if network.subnet else []
    made = client.api.create_network(
        network.name,
        driver=network.driver,
        ipam=IPAMConfig(pool_configs=pools),
        check_duplicate=True,
        labels=dict(network.labels),
    )
    return str(made["Id"])


def _make_volume(client: DockerClient, volume: Volume, ours: Iterable[str]) -> None:
    """Make a volume.

    Raises:
        NameTaken: Another process created it first; the engine returns an existing volume of that name.
    """
    options, labels = dict(volume.options), dict(volume.labels)
    made = client.api.create_volume(volume.name, driver=volume.driver, driver_opts=options, labels=labels)
    if not _carries(made, ours):
        raise NameTaken("volume", volume.name, made.get("Labels") or {})


def make_container(client: DockerClient, service: Service, network: Network) -> str:
    """Make a container, and return its id."""
    from docker.types import NetworkingConfig

    api = client.api
    networks: Any = (
        {network.name: api.create_endpoint_config(aliases=[service.name])} if service.networked else {}
    )
    made = api.create_container(
        **service.settings,
        name=service.container,
        host_config=api.create_host_config(**service.host),
        networking_config=NetworkingConfig(networks) if networks else None,
    )
    return str(made["Id"])


def _refusing(part: str, work: Callable[[], Any]) -> Any:
    from docker.errors import APIError
    from requests import Timeout

    try:
        return work()
    except APIError as error:
        raise EngineRefused(part, str(error.explanation or error)) from error
    except Timeout as error:
        raise EngineRefused(part, f"no answer within {START_S} s") from error
