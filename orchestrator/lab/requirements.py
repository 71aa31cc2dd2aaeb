"""Check before a run that the nodes have the programs and modules that the scenario needs.

All nodes of a lab have the same programs: those of a native lab share this machine, containers share an
image. So one node is checked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from orchestrator.deploy import program
from orchestrator.deploy.backends import host_for
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import HostNotFit, UsageError
from orchestrator.lab.commands import run_in_node
from orchestrator.scenario import RunPlan, Scenario

__all__ = ["require_fit", "require_installed"]

LIMIT_S = 30.0
"""How long looking may take; an interpreter starts in a tenth of a second on an idle machine."""

_LOOK = """
import importlib.util, json, shutil, sys
modules, programs = json.loads(sys.argv[1])
there = lambda name: importlib.util.find_spec(name) is not None
print(json.dumps([[m for m in modules if not there(m)], [p for p in programs if shutil.which(p) is None]]))
"""


async def require_fit(directory: LabDirectory, state: LabState, scenario: Scenario, plan: RunPlan) -> None:
    """Check what can be checked before a run in a lab that is up.

    Raises:
        HostNotFit: The nodes lack what the scenario needs.
        UsageError: Its timeline does something that labs cannot do.
    """
    fault = next((change for change in plan.timeline if change.do == "node"), None)
    if fault is not None:
        raise UsageError(
            f"the timeline of {scenario.name} says `{fault.fault}` for node {fault.node}, "
            "but runs do not execute faults of nodes yet",
            id="scenario.not-built",
            found=fault.fault,
            hint="take down the links of the node instead",
        )
    first = min((node for nodes in plan.roles.values() for node in nodes), default=None)
    if first is not None:
        await require_installed(directory, state, scenario, first)


async def require_installed(directory: LabDirectory, state: LabState, scenario: Scenario, node: int) -> None:
    """Look in a node for what the scenario needs.

    Raises:
        HostNotFit: Something is missing; names all of it, and how to have it.
    """
    if not (scenario.modules or scenario.programs):
        return
    native = state.backend == "native"
    wanted = json.dumps([scenario.modules, scenario.programs])
    look = [sys.executable if native else "python", "-c", _LOOK, wanted]
    done = await run_in_node(host_for(state.backend), directory, state, node, look, timeout_s=LIMIT_S)
    if not done.ok:
        raise HostNotFit(
            f"node {node} does not say whether it has what the scenario {scenario.name} needs: "
            f"{done.stderr.strip()[-300:]}",
            id="scenario.needs",
        )
    modules, programs = json.loads(done.stdout)
    if modules or programs:
        missing = [f"the Python module {name}" for name in modules] + [
            f"the program {name}" for name in programs
        ]
        raise HostNotFit(
            f"the scenario {scenario.name} needs {' and '.join(missing)}, which the nodes do not have",
            id="scenario.needs",
            found=", ".join([*modules, *programs]),
            hint=_native_hint(modules, programs) if native else _docker_hint(modules, programs),
        )


def _native_hint(modules: Sequence[str], programs: Sequence[str]) -> str:
    steps = [f"{sys.executable} -m pip install {' '.join(modules)}"] if modules else []
    if programs:
        steps.append(f"apt-get install {' '.join(_packages(programs))}")
    return f"`{' && '.join(steps)}`"


def _docker_hint(modules: Sequence[str], programs: Sequence[str]) -> str:
    words = ["make images"]
    if modules:
        words.append(f'WITH_PYTHON="{" ".join(modules)}"')
    if programs:
        words.append(f'WITH_PACKAGES="{" ".join(_packages(programs))}"')
    return f"`{' '.join(words)}` makes images that have it; then `nm down` and `nm up`"


def _packages(programs: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(program.package_of(name) or name for name in programs))
