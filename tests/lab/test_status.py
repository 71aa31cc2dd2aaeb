"""What `nm status` says of parts that do not run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.host import Part
from orchestrator.lab.status import _gone

STATE: Any = SimpleNamespace(backend="docker", supervised=True)


async def _tail(_directory: LabDirectory, part: str, lines: int) -> list[str]:
    return [f"the last of {part}", "  out of memory\n"][-lines:]


async def test_the_last_lines_of_a_container_that_the_engine_left_dead_are_shown(tmp_path: Path) -> None:
    host = cast(Any, SimpleNamespace(tail=_tail))
    parts = [
        Part("controller", True, "container running"),
        Part("node-1", False, "container exited", (1,)),
        Part("node-2", False, "container paused", (2,), paused=True),
        Part("node-3", False, "container restarting", (3,)),
    ]
    assert await _gone(host, LabDirectory(tmp_path), STATE, parts) == [
        "node-1 does not run (container exited); its last output: the last of node-1 · out of memory",
        "node-2 does not run (container paused)",
        "node-3 does not run (container restarting)",
    ]
