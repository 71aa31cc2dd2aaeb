"""The state file of a lab: what `nm up` started, read by every later command.

The file is written before anything is started and again after each step, by atomic rename. It is a memory
aid: `down` uses it to know where to look, and decides by looking what exists. An unreadable file counts as
missing.

Nothing waits for the disk, since everything that the file describes ends with the machine. A file from before
the last boot names no process any more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from orchestrator.deploy.home import LabDirectory, unwritable
from orchestrator.procfs import ProcessId, boot_id

Backend = Literal["native", "docker"]
Phase = Literal["starting", "up", "stopping"]

FORMAT = 1
"""Incremented when an old file could be misread; a file of another format counts as missing."""


@dataclass(frozen=True)
class NodeNote:
    """A node as the commands need to know it."""

    id: int
    name: str
    address: str
    external: bool
    config: str
    labels: Mapping[str, str] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    address6: str | None = None
    prefixes: tuple[str, ...] = ()
    uplink: bool = False


@dataclass(frozen=True)
class LabState:
    """What one lab is made of.

    Attributes:
        lab: Its name.
        backend: What carries it.
        run: Drawn anew by every `up`; labels carry it, so that two starts of one name cannot be confused.
        phase: How far `up` or `down` came. `up` means it returned with success; whether the lab is ready now,
            only the controller knows.
        owner: The `nm` process that is starting it; none once it is up.
        topology: The topology file as given, for people.
        digest: Hash of the resolved topology, to tell "the same again" from "something else".
        controller_port: On 127.0.0.1.
        published: docker: link ports of neighbours of external nodes, on 127.0.0.1.
        created: Wall-clock time, UTC, ISO 8601.
        subnet: docker: the container network.
        parts: native: the long-lived processes by role.
        processes: native: host processes that the nodes are spread over.
        buffers: Kernel settings of all nodes that let TCP fill the links, unless a node states its own.
        supervised: Whether parts that end are started again.
        carried: native: the nodes of each host process, once nodes were added or removed; a node stays where
            it is then.
        tls: Whether connections to the controller are in TLS.
        listen: An address of the machine where it is reached as well, besides loopback.
        ttl_mode: What relays do with TTL, `uniform` or `pipe`; see `orchestrator.plan.ttl`.
    """

    lab: str
    backend: Backend
    run: str
    phase: Phase
    owner: ProcessId | None
    topology: str
    digest: str
    controller_port: int
    created: str
    nodes: tuple[NodeNote, ...]
    links: tuple[tuple[int, int], ...]
    seed: int = 0
    subnet: str | None = None
    published: tuple[int, ...] = ()
    parts: Mapping[str, ProcessId] = field(default_factory=dict)
    processes: int = 1
    supervised: bool = True
    ttl_mode: str = "uniform"
    tls: bool = False
    listen: str = ""
    buffers: Mapping[str, str] = field(default_factory=dict)
    carried: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def ports(self) -> tuple[int, ...]:
        """Every port of this machine that the lab was given."""
        return (self.controller_port, *self.published)

    @property
    def controller_url(self) -> str:
        """Where control connections of this machine go."""
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.controller_port}/control"

    @property
    def api_url(self) -> str:
        """Where the REST API is; on the address that other machines reach, if there is one."""
        host = f"[{self.listen}]" if ":" in self.listen else self.listen or "127.0.0.1"
        return f"{'https' if self.tls else 'http'}://{host}:{self.controller_port}/api/v1"

    def node(self, number: int) -> NodeNote:
        """The node with that id; KeyError if there is none."""
        for node in self.nodes:
            if node.id == number:
                return node
        raise KeyError(number)

    @property
    def hosts(self) -> dict[str, tuple[int, ...]]:
        """native: the host processes by role, and the nodes that each carries.

        Neighbours have numbers close to each other, so each gets a run of numbers and few links leave it.
        """
        if self.carried:
            return {role: tuple(nodes) for role, nodes in self.carried.items() if nodes}
        local = [node.id for node in self.nodes if not node.external]
        count = min(self.processes, len(local))
        if count <= 1:
            return {"host": tuple(local)} if local else {}
        bounds = [len(local) * index // count for index in range(count + 1)]
        return {f"host-{i + 1}": tuple(local[bounds[i] : bounds[i + 1]]) for i in range(count)}

    def with_part(self, role: str, process: ProcessId) -> LabState:
        """The state with one more process noted."""
        return replace(self, parts={**self.parts, role: process})

    def owner_gone(self) -> bool:
        """Whether the lab is partly started and its `nm` process is gone."""
        return self.phase != "up" and (self.owner is None or not self.owner.alive())


def write(directory: LabDirectory, state: LabState) -> None:
    """Write the state file atomically."""
    processes = {
        "owner": state.owner and state.owner._asdict(),
        "parts": {role: process._asdict() for role, process in state.parts.items()},
    }
    text = json.dumps({"format": FORMAT, "boot": boot_id(), **asdict(state), **processes}, indent=1)
    write_whole(directory.state_file, text)


def read(directory: LabDirectory) -> LabState | None:
    """Read the state file; None if there is no valid one."""
    try:
        raw = json.loads(directory.state_file.read_text())
        if raw.pop("format") != FORMAT:
            return None
        boot, found = raw.pop("boot"), _decode(raw)
        return found if boot == boot_id() else replace(found, owner=None, parts={})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file's content in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(path.parent, error) from error


def _decode(raw: dict[str, Any]) -> LabState:
    owner = raw.pop("owner")
    nodes = tuple(
        NodeNote(**{**node, "prefixes": tuple(node.get("prefixes", ()))}) for node in raw.pop("nodes")
    )
    links = tuple((int(a), int(b)) for a, b in raw.pop("links"))
    parts = {role: ProcessId(**process) for role, process in raw.pop("parts").items()}
    carried = {role: tuple(nodes) for role, nodes in raw.pop("carried", {}).items()}
    return LabState(
        owner=ProcessId(**owner) if owner else None,
        nodes=nodes,
        links=links,
        parts=parts,
        carried=carried,
        published=tuple(raw.pop("published")),
        **raw,
    )
