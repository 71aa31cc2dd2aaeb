"""The data classes of services: programs of the user's own that run in nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.errors import Place

__all__ = ["COMPLETED", "HEALTHY", "LINK_PORT", "STARTED", "Build", "Ready", "Service", "Volume"]

STARTED, HEALTHY, COMPLETED = "service_started", "service_healthy", "service_completed_successfully"
"""The conditions of `depends_on`, with the names of the Compose specification."""

LINK_PORT = 8_080
"""Where a node in a container takes links, so that no service can listen there; Nextmini's port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How an image is built; `context` is an absolute path."""

    context: str
    dockerfile: str = ""
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What is mounted into a service's container.

    Attributes:
        source: An absolute path of this machine, or the name of a volume; empty for an anonymous volume.
        target: Where it is in the container.
        read_only: Whether it cannot be written there.
    """

    source: str
    target: str
    read_only: bool = False

    @property
    def is_bind(self) -> bool:
        """Whether it is a file or folder of this machine."""
        return self.source.startswith("/")

    def __str__(self) -> str:
        return ":".join([*([self.source] if self.source else []), self.target]) + ":ro" * self.read_only


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """How it is found out that a service does its work.

    Attributes:
        kind: `tcp`, `http`, `command` or `log`.
        value: The port, the URL, the words of the command, or the regular expression.
        timeout_ms: How long it may take.
        interval_ms: The pause between two attempts.
    """

    kind: str
    value: tuple[str, ...]
    timeout_ms: int = 60_000
    interval_ms: int = 200

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(self.value)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A program that is started in some nodes with the lab; names and meanings as in Compose.

    Attributes:
        name: What it is called; `3/NAME` is the one of node 3.
        nodes: Where it runs.
        depends_on: Which services are started before, and the condition that is waited for.
        restart: `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:N`.
        mem_limit: In bytes; 0 for none.
        cpus: How many processors it may use; 0 for all.
        place: Where it stands in the file.
    """

    name: str
    nodes: tuple[int, ...]
    image: str = ""
    build: Build | None = None
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    env_file: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = ()
    user: str = ""
    working_dir: str = ""
    tmpfs: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    gpus: str = ""
    mem_limit: int = 0
    cpus: float = 0.0
    depends_on: Mapping[str, str] = field(default_factory=dict)
    restart: str = "no"
    ready: Ready | None = None
    place: Place | None = field(default=None, compare=False)
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)

    def place_of(self, key: str) -> Place | None:
        """Where a key of it stands."""
        return self.places.get(key, self.place)

    def stated(self) -> Iterator[str]:
        """The keys that say something, in the order of the class."""
        for key in _KEYS:
            if getattr(self, key) not in (None, "", (), 0, 0.0, {}):
                yield key


_KEYS = (
    "image",
    "build",
    "command",
    "entrypoint",
    "environment",
    "env_file",
    "volumes",
    "user",
    "working_dir",
    "tmpfs",
    "cap_add",
    "devices",
    "gpus",
    "mem_limit",
    "cpus",
    "depends_on",
    "restart",
    "ready",
)
