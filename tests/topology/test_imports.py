"""Test which modules validation imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = (
    "asyncio",
    "docker",
    "jinja2",
    "networkx",
    "pydantic",
    "rustworkx",
    "typer",
    "difflib",
    "random",
    "tomllib",
)


def test_a_sound_file_is_read_without_anything_heavy() -> None:
    assert _loaded("from orchestrator import topology; topology.load('topologies/fat_tree_k4.yaml')") == []


def test_rendering_needs_templates_and_nothing_else() -> None:
    program = (
        "from orchestrator import plan, render, topology; "
        "render.render(plan.build(topology.load('topologies/ring.yaml')))"
    )
    assert set(_loaded(program)) <= {"asyncio", "jinja2", "random"}


def test_a_scenario_is_read_without_running_it() -> None:
    assert _loaded("from orchestrator import scenario; scenario.load('pingall')") == []


def _loaded(statement: str) -> list[str]:
    program = f"import json, sys; {statement}; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    found: list[str] = json.loads(done.stdout)
    return found
