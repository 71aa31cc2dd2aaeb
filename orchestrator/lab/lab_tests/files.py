"""Find the tests of a file: a topology file, or a scenario."""

from __future__ import annotations

from pathlib import Path

from orchestrator import scenario, topology
from orchestrator.errors import UsageError
from orchestrator.topology import LabTest, Topology

__all__ = ["find_tests", "is_scenario"]


def is_scenario(source: str | Path) -> bool:
    """Whether a path is that of a scenario: its folder, or its file."""
    path = Path(source)
    return path.is_dir() or path.name == "scenario.yaml"


def find_tests(lab: Topology, source: str | Path | None) -> tuple[LabTest, ...]:
    """Return the tests of a lab: those of its topology, or those of a file about the same nodes.

    Args:
        lab: The topology of the lab that is tested.
        source: A topology file or a scenario; the lab's topology unless given.

    Raises:
        UsageError: There are none (`test.none`), or the file is about other nodes (`test.lab-differs`).
        FileInvalid: The file is wrong.
    """
    if source is None:
        tests = lab.tests
    elif is_scenario(source):
        tests = scenario.load(source).lab_tests(lab)
    else:
        stated = topology.load(source)
        if _names(stated) != _names(lab):
            raise UsageError(
                f"{source} is about other nodes than those of lab {lab.name}",
                id="test.lab-differs",
                found=str(source),
                expected="a file with the same nodes",
                hint="`-n NAME` names another lab; without one that is up, the file's own is brought up",
            )
        tests = stated.tests
    if not tests:
        raise UsageError(
            f"{source or f'the topology of lab {lab.name}'} has no tests",
            id="test.none",
            expected="a section `tests:`",
            hint="for example `tests: [{reach: all}]`",
        )
    return tests


def _names(of: Topology) -> dict[int, str]:
    return {node.id: node.name for node in of.nodes.values()}
