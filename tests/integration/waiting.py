"""A scenario whose roles wait until they are stopped, and waits with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

ROLES = """
def waiter(ctx):
    ctx.report(started=True)
    ctx.lookup("never")
"""


def write_waiting(folder: Path, roles: str = ROLES, *, timeout: str = "60 s") -> Path:
    """Write a scenario with one role, `waiter`, in every node."""
    folder.mkdir(exist_ok=True)
    (folder / "scenario.yaml").write_text(
        f"name: waiting\nsummary: a test\nroles:\n  waiter: {{nodes: all}}\ntimeout: {timeout}\n"
    )
    (folder / "roles.py").write_text(roles)
    return folder


def until(condition: Callable[[], bool], limit_s: float = 60) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def run_in(results: Path) -> Path:
    """The folder of the only run in a results folder; one that is not there while there is none."""
    folders = list(results.iterdir()) if results.is_dir() else []
    assert len(folders) < 2, folders
    return folders[0] if folders else results / "none"


def all_wait(results: Path, nodes: int = 4) -> bool:
    """Whether the roles of a waiting run have reported that they began."""
    events = run_in(results) / "events.jsonl"
    return events.is_file() and events.read_text().count('"kind": "report"') >= nodes


def as_a_shell_says(code: int) -> int:
    """The exit code in the words of a shell: an interrupt that ended the interpreter itself is 130, too."""
    return 128 - code if code < 0 else code
