"""One service in one node, and the file of a lab that lists them all.

The file is written by `nm up` before anything is started, with everything applied: the words of the command,
the environment, and what is waited for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["FILE", "Check", "Instance", "read", "write_text"]

FILE = "services.json"
"""Its name in the lab's run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How it is found out that an instance does its work.

    Attributes:
        kind: `tcp`, `http`, `command` or `log`.
        value: The port, the URL, the words of the command, or the regular expression.
        timeout_s: How long it may take.
        interval_s: The pause between two attempts.
    """

    kind: str
    value: tuple[str, ...]
    timeout_s: float
    interval_s: float

    def __str__(self) -> str:
        said = " ".join(self.value)
        return {
            "tcp": f"port {said} to accept connections",
            "http": f"{said} to answer",
            "command": f"`{said}` to end with exit code 0",
            "log": f"a line with `{said}`",
        }[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One service in one node.

    Attributes:
        node: The node's number.
        node_name: Its name.
        address: Its address on the emulated network.
        service: The service's name.
        argv: native: the program and its arguments.
        environment: Its variables.
        user: Whose rights it has; root's if empty.
        working_dir: Where it starts; the root if empty.
        restart: The restart policy, as in Compose.
        ready: What is waited for; None if it is ready once it is started.
        after: The services that are started before, and the condition that is waited for.
    """

    node: int
    node_name: str
    address: str
    service: str
    argv: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    restart: str = "no"
    ready: Check | None = None
    after: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What commands call it, such as `3/redis`."""
        return f"{self.node}/{self.service}"

    def __str__(self) -> str:
        return f"service {self.service} in node {self.node}"


def write_text(instances: Iterable[Instance]) -> str:
    """Return the text of the file."""
    return json.dumps([asdict(each) for each in instances], indent=1) + "\n"


def read(run: Path) -> tuple[Instance, ...]:
    """Read the file of a lab's run folder; none are there without it."""
    try:
        raw = json.loads((run / FILE).read_text())
    except (OSError, ValueError):
        return ()
    return tuple(_instance(each) for each in raw)


def _instance(raw: dict[str, object]) -> Instance:
    ready = raw.pop("ready")
    check = None
    if isinstance(ready, dict):
        check = Check(**{**ready, "value": tuple(ready["value"])})
    argv = raw.pop("argv")
    assert isinstance(argv, list), "we wrote it"
    return Instance(**raw, argv=tuple(argv), ready=check)  # type: ignore[arg-type]  # we wrote it
