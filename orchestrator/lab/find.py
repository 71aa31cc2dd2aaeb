"""Find the lab and the nodes that a command names."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.deploy import node_states, supervision
from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.state import LabState, NodeNote
from orchestrator.errors import LabNotFound, UsageError, nearest_hint


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
                f"of lab {name} only leftovers exist", found=name, hint=f"`nm down -n {name}` removes them"
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

    `all` means all that run: external nodes are meant only when they are named.

    Raises:
        UsageError: A word means no node.
    """
    parts = [word.strip() for word in ",".join(words).split(",") if word.strip()]
    nodes = {node.id: node for node in state.nodes}
    if parts and all(part.isascii() and part.isdecimal() and int(part) in nodes for part in parts):
        return sorted({int(part) for part in parts})  # most often; nothing has to be loaded for it

    from orchestrator.topology.selector import select

    return [n for n in select(parts, nodes) if not (nodes[n].external and "all" in parts)]


def select_node(state: LabState, word: str) -> int:
    """The one node that a word means.

    Raises:
        UsageError: It means none, or several.
    """
    (number, *more) = select_nodes(state, [word])
    if more:
        raise UsageError(f"`{word}` means several nodes of lab {state.lab}", id="node.ambiguous", found=word)
    return number


def select_groups(
    state: LabState, groups: str | Sequence[Sequence[int | str]]
) -> tuple[tuple[int, ...], ...]:
    """The groups of nodes that a partition names, such as `1,2|3,4`.

    Raises:
        UsageError: A word means no node, or a group names one twice.
    """
    written = groups.split("|") if isinstance(groups, str) else groups
    return tuple(_group(state, [each] if isinstance(each, str) else [*map(str, each)]) for each in written)


def _group(state: LabState, words: Sequence[str]) -> tuple[int, ...]:
    found: list[int] = []
    for word in (part.strip() for part in ",".join(words).split(",")):
        for node in select_nodes(state, [word]) if word else ():
            if node in found:
                raise UsageError(
                    f"node {node} is named twice",
                    id="partition.twice",
                    found=",".join(words),
                    hint="a node is in one group at most",
                )
            found.append(node)
    return tuple(found)


def require_inside(state: LabState, nodes: Sequence[int]) -> None:
    """Check that these nodes are ours to run something in, and that there is one.

    Raises:
        UsageError: One is external (`node.external`), or none is given.
    """
    for node in map(state.node, nodes):
        require_ours(state, node)
    if not nodes:
        raise UsageError(
            f"every node of lab {state.lab} is external, and nm runs nothing in them", id="node.external"
        )


def require_ours(state: LabState, node: NodeNote) -> None:
    """Check that a node is not external.

    Raises:
        UsageError: It is.
    """
    if node.external:
        raise UsageError(
            f"node {node.id} of lab {state.lab} is external, and nm runs nothing in it",
            id="node.external",
            found=str(node.id),
            expected="a node that nm runs",
            hint=f"a program of your own takes its place: nextmini_py.Dataplane('{node.config}')",
        )


def left_out(state: LabState, words: Sequence[str]) -> list[int]:
    """The external nodes that `all` among these words does not mean."""
    if "all" not in (word.strip() for word in ",".join(words).split(",")):
        return []
    return [node.id for node in state.nodes if node.external]


def not_running(directory: LabDirectory, state: LabState, words: Sequence[str]) -> dict[int, str]:
    """The stopped and paused nodes that `all` among these words does not mean, with their states."""
    parts = [word.strip() for word in ",".join(words).split(",")]
    if "all" not in parts:
        return {}
    others = [part for part in parts if part not in ("", "all")]
    named = select_nodes(state, others) if others else []
    return {node: kind for node, kind in node_states.read(directory).items() if node not in named}
