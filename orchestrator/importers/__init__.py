"""Turn files of other programs into topology files.

Each function reads what its name says and returns an `Imported`: the text of a topology file that loads, and
what could not be carried over, a sentence each. A file that cannot be read raises `ImportInvalid` with its
line and column.

    draft         nodes and links as they are found, and the text that is made of them
    yamlfile      what the readers of YAML files share
    units         values of other programs, which have no unit, and line rates by name
    nextmini · graphml · edgelist · containerlab · netlab · compose     one format each
    healthcheck · variables                                             parts of a compose file

This package does not know labs, containers or processes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.importers.draft import Imported

__all__ = [
    "from_compose",
    "from_containerlab",
    "from_csv",
    "from_graphml",
    "from_netlab",
    "from_nextmini",
]

_Path = str | os.PathLike[str]


def from_compose(
    path: _Path, *, shape: str = "star", name: str = "", directory: _Path | None = None
) -> Imported:
    """Give each service of a Compose file a node and a service of the topology.

    Args:
        path: The file; `-` is standard input.
        shape: How the nodes are linked: `star` (around a hub without a service), `ring`, `line` or
            `full_mesh`.
        name: The lab's name; the project's, or the folder's, unless given.
        directory: Where the topology file will be; names of files are made relative to it. The current one
            unless given.

    Raises:
        ImportInvalid: The file is no Compose file; carries every problem.
        UsageError: There is no such shape, or it needs more nodes.
    """
    from orchestrator.importers.compose import read

    return read(path, shape, name, directory)


def from_containerlab(path: _Path, *, name: str = "") -> Imported:
    """Take over nodes and links of a containerlab file.

    Raises:
        ImportInvalid: The file is no containerlab topology; carries every problem.
    """
    from orchestrator.importers.containerlab import read

    return read(path, name)


def from_netlab(path: _Path, *, name: str = "") -> Imported:
    """Take over nodes, links and their impairments of a netlab file.

    Raises:
        ImportInvalid: The file is no netlab topology; carries every problem.
    """
    from orchestrator.importers.netlab import read

    return read(path, name)


def from_graphml(path: _Path, *, name: str = "", delay_from_distance: bool = True) -> Imported:
    """Take over a graph in GraphML, such as those of the Topology Zoo.

    Args:
        path: The file; `-` is standard input.
        name: The lab's name; the graph's unless given.
        delay_from_distance: Whether links between nodes with coordinates get the delay of light in fiber over
            the great-circle distance.

    Raises:
        ImportInvalid: The file is no GraphML; carries every problem.
    """
    from orchestrator.importers.graphml import read

    return read(path, name, delay_from_distance)


def from_csv(path: _Path, *, name: str = "") -> Imported:
    """Take over a table of links: two columns of nodes, and columns called as the keys of a link.

    Raises:
        ImportInvalid: The file is no such table; carries every problem.
    """
    from orchestrator.importers.edgelist import read

    return read(path, name)


def from_nextmini(directory: _Path) -> Imported:
    """Take over Nextmini's own controller and node TOML files.

    Raises:
        ImportInvalid: There is no controller file in the folder, or a file is not TOML.
    """
    from orchestrator.importers.nextmini import read

    return read(directory)
