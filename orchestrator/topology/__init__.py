"""The topology language: read, validate, write, generate and draw topology files.

`load` reads a file strictly and reports all problems at once, each with line, column and a hint. `dump`
writes a topology with every default, `generate` writes a file for a shape, `schema` exports the language for
editors, `graph` draws it. This package does not know labs, containers or processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.topology.loader import load, loads
from orchestrator.topology.model import Flow, Generator, LabTest, Link, Node, Route, Topology, Uplink
from orchestrator.topology.prefixes import UPLINK_NETWORK, USER_SPACE_BASE
from orchestrator.topology.selector import SelectorInvalid
from orchestrator.topology.service_model import Build, Ready, Service, Volume

if TYPE_CHECKING:
    from orchestrator.errors import Problem

__all__ = [
    "UPLINK_NETWORK",
    "USER_SPACE_BASE",
    "Build",
    "Flow",
    "Generator",
    "LabTest",
    "Link",
    "Node",
    "Ready",
    "Route",
    "SelectorInvalid",
    "Service",
    "Topology",
    "Uplink",
    "Volume",
    "check_services",
    "dump",
    "environment_of",
    "generate",
    "graph",
    "load",
    "loads",
    "schema",
    "select",
    "traces",
]


def select(topology: Topology, expression: str | int | Iterable[str | int]) -> tuple[int, ...]:
    """Return the ids of the nodes that a selector such as `1,3-4`, `w*` or `tier=core` means.

    Raises:
        SelectorInvalid: A part of it is malformed or matches no node.
    """
    from orchestrator.topology import selector

    return selector.select(expression, topology.nodes)


def check_services(topology: Topology, backend: str | None = None) -> tuple[Problem, ...]:
    """Check the files that services name, and, with a backend, the keys that mean something there.

    Returns:
        What is ignored on the backend, as warnings.

    Raises:
        TopologyInvalid: A file is missing, or a key has no meaning on the backend.
    """
    from orchestrator.topology.service_files import check_services as check

    return check(topology, backend)


def environment_of(service: Service) -> dict[str, str]:
    """Return the variables of a service: those of its files, then its own.

    Raises:
        OSError: A file cannot be read.
    """
    from orchestrator.topology.service_files import environment_of as read

    return read(service)


def dump(topology: Topology) -> str:
    """Return a topology as YAML with everything applied and spelled out; loading it gives an equal one.

    Traces of links are named as the files that `traces` returns, beside it.
    """
    from orchestrator.topology.writing import dump as write

    return write(topology)


def traces(topology: Topology) -> dict[str, str]:
    """Return the files of traces that `dump` names, with their texts."""
    from orchestrator.topology.link_words import traces as find

    return find(spec for link in topology.links for spec in (link.forward, link.backward))


def generate(type: str, *, name: str = "", explicit: bool = False, seed: int = 1, **params: float) -> str:
    """Return the text of a topology file for a generated shape.

    Args:
        type: A generator's name, such as `ring`.
        name: The lab's name; the generator's with dashes unless given.
        explicit: Whether to write out every link instead of the generator.
        seed: The topology's seed.
        params: The generator's parameters, such as `n_nodes`.

    Raises:
        UsageError: There is no such generator, or a parameter is missing, unknown or out of range.
    """
    from orchestrator.topology.writing import generate as write

    return write(type, name=name, explicit=explicit, seed=seed, params=params)


def schema() -> dict[str, Any]:
    """Return the language as JSON Schema (draft 2020-12), made from the tables that reading uses."""
    from orchestrator.topology.editor import schema as make

    return make()


def graph(topology: Topology, format: str = "svg", states: Mapping[int, str] | None = None) -> str:
    """Return a picture of a topology.

    Args:
        topology: What to draw.
        format: `dot`, `mermaid` or `svg`.
        states: The states of a running lab's nodes, shown by colour in the svg.

    Raises:
        UsageError: There is no such format.
    """
    from orchestrator.topology.drawing import draw

    return draw(topology, format, states or {})
