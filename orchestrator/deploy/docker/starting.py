"""Make and start what a composition says and the engine does not have yet, several containers at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.deploy.docker.composition import Composition, Network, Service, Volume

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["EngineRefused", "Starter"]

STARTED_AT_ONCE = min(16, max(4, 2 * (os.cpu_count() or 1)))
"""A container's start keeps a processor busy for half of its time, and engines that were asked for hundreds
at once have stalled."""

START_S = 120
"""How long one request may take: a loaded machine that starts a hundred containers needs its time."""


class EngineRefused(Exception):
    """The engine did not make or start a part of the lab."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason


class Starter:
    """Starts a lab's containers; those that run are left alone.

    Args:
        composition: What there has to be.
        labels: What all containers of this lab carry.
        tell: Called, from any thread, with how many containers run and how many there have to be.
    """

    def __init__(
        self, composition: Composition, labels: Iterable[str], tell: Callable[[int, int], None]
    ) -> None:
        self._composition = composition
        self._labels = list(labels)
        self._tell = tell
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._running = 0

    def cancel(self) -> None:
        """Begin nothing more."""
        self._over.set()

    def run(self) -> None:
        """Do it, in the calling thread and others; returns when every container's program was started.

        Raises:
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
        listed = client.api.containers(all=True, filters={"label": self._labels})
        there = {name.lstrip("/"): each for each in listed for name in each["Names"]}
        _refusing("the network", partial(_make_network, client, wanted.network, self._labels))
        for volume in wanted.volumes:
            if self._over.is_set():
                return
            _refusing(f"the volume {volume.name}", partial(_make_volume, client, volume))
        awaited = {name for service in wanted.services for name in service.after}
        first: list[Future[None]] = []
        with ThreadPoolExecutor(STARTED_AT_ONCE, thread_name_prefix="start") as pool:
            starts = []
            # Those whom others wait for stand first in the file, so each has a thread before anybody waits.
            for service in wanted.services:
                after = [] if service.name in awaited else first
                start = pool.submit(self._start, client, service, there.get(service.container), after)
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
            made = _refusing(service.name, partial(_make_container, client, service, network))
        else:
            made = str(there["Id"])
        for other in after:
            other.result()
        if there is None or there["State"] != "running":
            if self._over.is_set():
                return
            _refusing(service.name, partial(client.api.start, made))
        with self._lock:
            self._running += 1
            self._tell(self._running, len(self._composition.services))


def _make_network(client: DockerClient, network: Network, labels: list[str]) -> None:
    from docker.types import IPAMConfig, IPAMPool

    # The engine looks for a part of the name, and somebody else's network is not ours.
    ours = client.api.networks(names=[network.name], filters={"label": labels})
    if any(each["Name"] == network.name for each in ours):
        return
    pools = [IPAMPool(subnet=network.subnet)] if network.subnet else []
    client.api.create_network(
        network.name,
        driver=network.driver,
        ipam=IPAMConfig(pool_configs=pools),
        check_duplicate=True,
        labels=dict(network.labels),
    )


def _make_volume(client: DockerClient, volume: Volume) -> None:
    """Make a volume; one that is there is left as it is."""
    options, labels = dict(volume.options), dict(volume.labels)
    client.api.create_volume(volume.name, driver=volume.driver, driver_opts=options, labels=labels)


def _make_container(client: DockerClient, service: Service, network: Network) -> str:
    from docker.types import NetworkingConfig

    api = client.api
    networks: Any = {network.name: api.create_endpoint_config(aliases=[service.name])}
    made = api.create_container(
        **service.settings,
        name=service.container,
        host_config=api.create_host_config(**service.host),
        networking_config=NetworkingConfig(networks),
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
