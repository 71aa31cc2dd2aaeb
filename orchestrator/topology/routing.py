"""Read how routes come about: the protocol and its metric, several paths, and the user's function."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.source import Problems, Value
from orchestrator.topology.language import ROUTE
from orchestrator.topology.model import Topology
from orchestrator.topology.route_function import called, entries_of

__all__ = ["check_routing", "returned"]


def check_routing(root: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Return the fields of a `Topology` about routing, after noting what does not go together."""
    read = root.get("routing", {})
    value: Value | None = read.get("@")
    protocol, paths = read.get("protocol", "shortest_path"), read.get("paths", 1)
    found = {
        "routing": protocol,
        "metric": read.get("metric", "hops"),
        "paths": paths,
        "disjoint": "disjoint" in read,
        "function": read.get("function") or read.get("returned_by", ""),
    }
    if value is None:
        return found
    if protocol == "none":
        for key in ("metric", "paths", "disjoint"):
            if value.get(key) is not None:
                problems.add(
                    f"`{key}` is about shortest paths, and `protocol` is `none`",
                    "routing-protocol",
                    value.place_of(key),
                    expected="`protocol: shortest_path`",
                )
    elif "disjoint" in read and paths == 1:
        problems.add(
            "`disjoint` is about several paths, and each pair has one",
            "routing-paths",
            value.place_of("disjoint"),
            expected="`paths: 2` or more",
        )
    return found


def returned(
    root: Mapping[str, Any], topology: Topology, file: str, problems: Problems
) -> list[dict[str, Any]]:
    """Return the routes that the user's function returns, as entries of `routes`."""
    function = root["routing"]["@"].get("function")
    if function is None:
        return []
    values = entries_of(called(function, topology, Path(file).parent, problems), function.place, problems)
    read = [
        ROUTE.read(value, f"route {number} of the function", problems)
        for number, value in enumerate(values, 1)
    ]
    return [entry for entry in read if entry is not None]
