"""Which lab, and which of its nodes, a command means."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.deploy import state as notes
from orchestrator.deploy import supervision
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import LabNotFound, nearest_hint


def find_lab(home: Home, name: str | None) -> tuple[LabDirectory, LabState]:
    """The lab of that name, or the only one there is.

    Raises:
        LabNotFound: There is none, or several and no name was given.
    """
    if name is None:
        name = _only(home)
    directory = home.lab(name)
    state = notes.read(directory)
    if state is None:
        others = [lab.name for lab in home.labs()]
        if directory.exists():
            raise LabNotFound(
                f"of lab {name} only remains are there", found=name, hint=f"`nm down -n {name}` removes them"
            )
        raise LabNotFound(
            f"no lab called {name} is up",
            found=name,
            hint=nearest_hint(name, others, what="labs that are up:"),
        )
    supervision.ensure(directory, state)
    return directory, state


def _only(home: Home) -> str:
    names = [lab.name for lab in home.labs() if notes.read(lab) is not None]
    if not names:
        raise LabNotFound("no lab is up", hint="`nm up FILE` brings one up")
    if len(names) > 1:
        raise LabNotFound(
            f"several labs are up: {', '.join(names)}",
            id="lab.ambiguous",
            hint="`-n LAB` says which one is meant",
        )
    return names[0]


def select_nodes(state: LabState, words: Sequence[str]) -> list[int]:
    """The nodes that a list of words means: numbers, ranges, names, globs, `label=value` or `all`.

    `all` means all that run: seats for users' own programs are meant only when they are named.

    Raises:
        UsageError: A word means no node.
    """
    from orchestrator.topology.selector import select

    parts = [word.strip() for word in ",".join(words).split(",") if word.strip()]
    nodes = {node.id: node for node in state.nodes}
    return [n for n in select(parts, nodes) if not (nodes[n].external and "all" in parts)]
