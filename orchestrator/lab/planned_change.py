"""What a lab that is up has to change to become another one, and the change that was interrupted, if any."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from orchestrator import topology
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState, write_whole
from orchestrator.errors import NmError, UsageError
from orchestrator.topology import Access, Topology
from orchestrator.topology.difference import Difference, Entry, difference

__all__ = [
    "CHANGE_FILE",
    "Pending",
    "PlannedChange",
    "is_interrupted",
    "make",
    "pending_of",
    "require_live",
    "write_pending",
]

CHANGE_FILE = "change.json"
"""The file of the run directory with the target of a change that is under way or was interrupted."""


@dataclass(frozen=True)
class PlannedChange:
    """What a lab has to change to become what a topology says.

    Attributes:
        lab: The lab.
        up: Whether it is up; one that is not has everything to add.
        target: The topology, with external nodes marked.
        difference: What differs.
        interrupted: An earlier change was interrupted, and is completed or undone first.
    """

    lab: str
    up: bool
    target: Topology
    difference: Difference
    interrupted: bool = False

    @property
    def entries(self) -> Sequence[Entry]:
        """The difference in words."""
        return self.difference.entries()

    def as_json(self) -> dict[str, Any]:
        """Return it as `nm plan -o json` shows it."""
        return {
            "lab": self.lab,
            "up": self.up,
            "interrupted": self.interrupted,
            "changes": [each.as_json() for each in self.entries],
        }


@dataclass(frozen=True)
class Pending:
    """A change that was interrupted: its target, and the nodes that it stopped."""

    target: Topology
    stopped: tuple[int, ...] = ()


def make(
    directory: LabDirectory, state: LabState, source: Topology, external: Sequence[int]
) -> PlannedChange:
    """Compare a lab that is up with a topology; changes of links while it runs do not count.

    Args:
        directory: The lab's folder.
        state: Its state.
        source: The topology.
        external: Further external nodes, as `--external` names them; those that the lab has stay so if none.

    Raises:
        LabDamaged: Its topology is gone.
    """
    from orchestrator.lab.run import load_topology

    current = load_topology(directory)
    outside = set(external) or {node.id for node in state.nodes if node.external}
    nodes = {
        number: replace(node, external=True) if number in outside else node
        for number, node in source.nodes.items()
    }
    # `--tls` and `--listen` need not be repeated; a file that says something has to say what holds.
    access = source.controller
    if access == Access() or access.same_as(current.controller):
        access = current.controller
    target = replace(source, nodes=nodes, name=current.name, controller=access)
    found = difference(current, target)
    return PlannedChange(state.lab, True, target, found, is_interrupted(directory))


def is_interrupted(directory: LabDirectory) -> bool:
    """Whether a change of the lab is under way, or was interrupted."""
    return (directory.run / CHANGE_FILE).exists()


def require_live(state: LabState, entries: Sequence[Entry]) -> None:
    """Check that a running lab can make all changes.

    Raises:
        UsageError: It cannot make one.
    """
    fixed = [each for each in entries if not each.live]
    if not fixed:
        return
    first, others = fixed[0], len(fixed) - 1
    keys = ", ".join(f"{key} from {_word(old)} to {_word(new)}" for key, (old, new) in first.keys.items())
    what = first.what if first.kind != "lab" else ""
    sentence = " ".join(word for word in (first.do, what, keys) if word)
    more = f" (and {others} more)" if others else ""
    raise UsageError(
        f"lab {state.lab} cannot do this while it runs: {sentence}{more}",
        id="lab.differs",
        found=sentence,
        expected="a change that a running lab can make; `nm plan` marks those that it cannot",
        hint=f"`nm down -n {state.lab}` first, or another name with `-n`",
    )


def _word(value: object) -> str:
    return "nothing" if value is None else str(value)


def pending_of(directory: LabDirectory) -> Pending | None:
    """Return the change that was interrupted; one whose file cannot be read counts as none."""
    with suppress(OSError, ValueError, KeyError, TypeError, NmError):
        raw = json.loads((directory.run / CHANGE_FILE).read_text())
        # Beside the lab's own files, so that traces are found.
        target = topology.loads(raw["topology"], str(directory.run / "change.yaml"))
        return Pending(target, tuple(int(node) for node in raw["stopped"]))
    return None


def write_pending(directory: LabDirectory, target: Topology, stopped: Sequence[int]) -> None:
    """Write the target of a change that begins, and the nodes that it stops."""
    for name, text in topology.traces(target).items():
        write_whole(directory.run / name, text, 0o644)
    document = {"topology": topology.dump(target), "stopped": sorted(set(stopped))}
    write_whole(directory.run / CHANGE_FILE, json.dumps(document))
