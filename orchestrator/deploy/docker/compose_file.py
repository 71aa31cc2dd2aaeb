"""Read a lab's compose file into parameters of the Docker engine's API.

Compose itself is not run: it takes seconds for a few API requests per container, and is one more dependency.
The file still describes the whole lab, and starting it with Compose by hand gives the same containers; a test
compares the two. Containers carry Compose's own labels, so that `docker compose -p nm-LAB ps`, `logs` and
`exec` work.

Only the constructs that our template writes are supported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.units import parse_duration

if TYPE_CHECKING:
    from docker.types import Mount

__all__ = ["Composition", "Network", "Service", "Volume", "project", "read"]


def project(lab: str) -> str:
    """The compose project of a lab."""
    return f"nm-{lab}"


@dataclass(frozen=True)
class Network:
    """The lab's container network; without a subnet the engine takes one."""

    name: str
    driver: str
    subnet: str | None
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Volume:
    """A volume of the lab."""

    name: str
    driver: str
    options: Mapping[str, str]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Service:
    """A container of the lab.

    Attributes:
        name: Its name in the file, and on the network.
        container: Its name in the engine.
        image: Its image.
        after: The services that are started first.
        networked: Whether it is on the lab's network.
        settings: What `create_container` takes for it.
        host: What `create_host_config` takes for it.
        user: Whether it is a service of the user's own.
        build: For such a one: how its image is built; None where it is not.
    """

    name: str
    container: str
    image: str
    after: tuple[str, ...]
    networked: bool
    settings: Mapping[str, Any]
    host: Mapping[str, Any]
    user: bool = False
    build: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Composition:
    """What a lab consists of; services in the order of the file."""

    network: Network
    volumes: tuple[Volume, ...]
    services: tuple[Service, ...]

    @property
    def images(self) -> list[str]:
        """The images of our own that there have to be, sorted."""
        return sorted({service.image for service in self.parts})

    @property
    def parts(self) -> tuple[Service, ...]:
        """The containers that make the network."""
        return tuple(service for service in self.services if not service.user)

    @property
    def user(self) -> tuple[Service, ...]:
        """The containers of the user's own services."""
        return tuple(service for service in self.services if service.user)


def read(file: Path, lab: str) -> Composition:
    """Read a lab's compose file."""
    import yaml

    # Our template puts every value as JSON, so a reader of YAML 1.1 takes it as it was meant. Both loaders
    # make plain values only; the one in C is not everywhere.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document = _undouble(yaml.load(file.read_text(), Loader=loader))
    marks = {
        "com.docker.compose.project": project(lab),
        "com.docker.compose.project.config_files": str(file),
        "com.docker.compose.project.working_dir": str(file.parent),
    }
    [(key, network)] = document["networks"].items()
    volumes = {
        key: Volume(
            name=given["name"],
            driver=given.get("driver", "local"),
            options=given.get("driver_opts", {}),
            labels={**given["labels"], **marks, "com.docker.compose.volume": key},
        )
        for key, given in document["volumes"].items()
    }
    return Composition(
        Network(
            name=network["name"],
            driver=network["driver"],
            subnet=next((pool["subnet"] for pool in network["ipam"].get("config", ())), None),
            labels={**network["labels"], **marks, "com.docker.compose.network": key},
        ),
        tuple(volumes.values()),
        tuple(
            _user_service(name, given, document["services"], volumes, marks, file.parent)
            if given["labels"].get("nm.role") == "service"
            else _service(name, given, network["name"], volumes, marks, file.parent)
            for name, given in document["services"].items()
        ),
    )


def _service(
    name: str,
    given: Mapping[str, Any],
    network: str,
    volumes: Mapping[str, Volume],
    marks: Mapping[str, str],
    folder: Path,
) -> Service:
    ports = _ports(given["ports"])
    networked = "networks" in given
    labels = _marked(name, given, marks)
    probe = given["healthcheck"]
    settings = {
        "image": given["image"],
        "command": given["command"] or None,
        "hostname": given["hostname"],
        "environment": given["environment"],
        "labels": labels,
        "ports": list(ports),
        "stop_timeout": round(parse_duration(given["stop_grace_period"]).seconds),
        "healthcheck": {
            "test": probe["test"],
            "retries": probe["retries"],
            # In nanoseconds.
            **{key: parse_duration(probe[key]).us * 1000 for key in ("interval", "timeout", "start_period")},
        },
    }
    host = {
        "network_mode": network if networked else given["network_mode"],
        "mounts": [_mount(mount, volumes, folder) for mount in given["volumes"]],
        "port_bindings": ports,
        "read_only": given["read_only"],
        "tmpfs": dict(text.split(":") for text in given["tmpfs"]),
        "pids_limit": given["pids_limit"],
        "cap_drop": given["cap_drop"],
        "cap_add": given["cap_add"],
        "security_opt": given["security_opt"],
        "devices": given["devices"],
        "sysctls": given["sysctls"],
        "restart_policy": _restart_policy(given["restart"]),
        "log_config": {"type": given["logging"]["driver"], "config": given["logging"]["options"]},
    }
    after = tuple(given["depends_on"])
    return Service(name, given["container_name"], given["image"], after, networked, settings, host)


def _user_service(
    name: str,
    given: Mapping[str, Any],
    others: Mapping[str, Any],
    volumes: Mapping[str, Volume],
    marks: Mapping[str, str],
    folder: Path,
) -> Service:
    kept = ("image", "command", "entrypoint", "environment", "user", "working_dir")
    settings = {key: given[key] for key in kept if key in given}
    node = given["network_mode"].removeprefix("service:")
    host: dict[str, Any] = {
        "network_mode": f"container:{others[node]['container_name']}",
        "mounts": [_mount(mount, volumes, folder) for mount in given["volumes"]],
        "restart_policy": _restart_policy(given["restart"]),
        "log_config": {"type": given["logging"]["driver"], "config": given["logging"]["options"]},
    }
    host |= {key: given[key] for key in ("cap_add", "devices", "mem_limit") if key in given}
    if "tmpfs" in given:
        host["tmpfs"] = {
            path: options for path, _, options in (each.partition(":") for each in given["tmpfs"])
        }
    if "cpus" in given:
        host["nano_cpus"] = round(given["cpus"] * 1_000_000_000)
    for device in given.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", ()):
        count = -1 if device["count"] == "all" else device["count"]
        wanted = {"Driver": device["driver"], "Count": count, "Capabilities": [device["capabilities"]]}
        host.setdefault("device_requests", []).append(wanted)
    return Service(
        name=name,
        container=given["container_name"],
        image=given["image"],
        after=tuple(given["depends_on"]),
        networked=False,
        settings={**settings, "labels": _marked(name, given, marks)},
        host=host,
        user=True,
        build=given.get("build"),
    )


def _marked(name: str, given: Mapping[str, Any], marks: Mapping[str, str]) -> dict[str, str]:
    """The labels of a container, with those of Compose."""
    return {
        **given["labels"],
        **marks,
        "com.docker.compose.service": name,
        "com.docker.compose.oneoff": "False",
        "com.docker.compose.container-number": "1",
        "com.docker.compose.config-hash": "",
    }


def _ports(texts: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return the addresses and ports of the machine at which each port of a container is published."""
    found: dict[str, list[tuple[str, str]]] = {}
    for text in texts:
        address, published, container = text.rsplit(":", 2)
        found.setdefault(container, []).append((address.strip("[]"), published))
    return found


def _restart_policy(text: str) -> dict[str, Any]:
    name, _, most = text.partition(":")
    return {"Name": name, "MaximumRetryCount": int(most)} if most else {"Name": name}


def _mount(mount: Mapping[str, Any], volumes: Mapping[str, Volume], folder: Path) -> Mount:
    # In this form the engine refuses a file that is not there, instead of making a folder in its place.
    from docker.types import Mount

    kind = mount["type"]
    stated = mount.get("source", "")
    source = (volumes[stated].name if stated else None) if kind == "volume" else str(folder / stated)
    return Mount(mount["target"], source, type=kind, read_only=mount.get("read_only", False))


def _undouble(value: Any) -> Any:
    """Undo what keeps Compose from putting variables in place."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, list):
        return [_undouble(each) for each in value]
    if isinstance(value, dict):
        return {key: _undouble(each) for key, each in value.items()}
    return value
