"""`nm doctor`: check what each backend needs, and fix what can be fixed safely."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home
from orchestrator.deploy.host_checks import Finding
from orchestrator.deploy.preflight import examine as _examine
from orchestrator.deploy.state import Backend
from orchestrator.deploy.uplink_checks import uplink_tools
from orchestrator.lab import loop_thread
from orchestrator.lab.down import collect_garbage


def examine(backend: Backend, nodes: int) -> Sequence[Finding]:
    """Look at everything that a backend needs for so many nodes, and at what crashes have left."""
    tools = uplink_tools() if backend == "native" else []
    return [*_examine(backend, nodes), *tools, stale_labs(Home.default()), program_name()]


def stale_labs(home: Home) -> Finding:
    """Whether labs of this home were left partly started by a crash."""
    left = [lab.name for lab in home.labs() if (note := notes.read(lab)) is None or note.owner_gone()]
    if not left:
        return Finding("stale labs", "ok", "no lab was left partly started")
    return Finding(
        "stale labs",
        "warning",
        f"left by a crash: {', '.join(left)}",
        "`nm gc` removes them",
        lambda: _collect(home),
    )


def program_name() -> Finding:
    """Whether `nm` is this program where commands are looked for; binutils has an `nm` as well."""
    name = "the name nm"
    found = shutil.which("nm")
    full = Path(sysconfig.get_path("scripts")) / "nextmini"
    if found is not None and _is_ours(Path(found)):
        return Finding(name, "ok", found)
    if found is None:
        return Finding(name, "warning", "`nm` is not in PATH", f"type `{full}`, or add its folder to PATH")
    short = shutil.which("nextmini")
    ours = f"`nextmini` or `{full}`" if short is not None and _is_ours(Path(short)) else f"`{full}`"
    return Finding(
        name, "warning", f"`nm` is {found}, another program", f"type {ours}, or put its folder first in PATH"
    )


def _is_ours(path: Path) -> bool:
    """Whether a program in PATH starts our command line: such a script names its module."""
    try:
        with path.open("rb") as file:
            return b"orchestrator" in file.read(4096)
    except OSError:
        return False


def _collect(home: Home) -> None:
    loop_thread.call(collect_garbage(home, lambda _what: None))


def repair(reports: Mapping[Backend, Sequence[Finding]]) -> list[str]:
    """Apply all safe fixes; return what was done, as sentences."""
    done = []
    for finding in {f.name: f for findings in reports.values() for f in findings}.values():
        if finding.level != "ok" and finding.fix is not None:
            try:
                finding.fix()
            except OSError as error:
                done.append(f"{finding.name}: could not be fixed: {error}")
            else:
                done.append(f"{finding.name}: fixed")
    return done
