"""Turn a graph in GraphML into a topology.

Rates come from an edge's `rate`, or from `LinkSpeedRaw`, `LinkSpeed` with its unit or `LinkLabel` of the
Topology Zoo; delays come from `delay`, or from coordinates. Other keys of a link are taken as they are, if
their values are valid in a topology file.

Source:
    U. Brandes et al., "GraphML progress report", Graph Drawing 2001. S. Knight et al., "The Internet Topology
    Zoo", IEEE Journal on Selected Areas in Communications 29(9), 2011.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import ImportInvalid, Place
from orchestrator.importers.draft import Draft, Imported, label_value
from orchestrator.importers.graphml_file import Edge, Graph, parse
from orchestrator.importers.units import (
    conflict,
    distance_delay,
    line_rate,
    link_value,
    number_of,
    plain_rate,
)
from orchestrator.source import Problems, named, read_text
from orchestrator.topology.link_keys import LINK_KEYS
from orchestrator.units import Duration

__all__ = ["read"]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_RATE_KEYS = ("LinkSpeedRaw", "LinkSpeed", "LinkSpeedUnits", "LinkLabel")
# A trace is a file beside the graph; a profile states all other keys.
_KEYS = tuple(key for key in LINK_KEYS if key not in ("trace", "profile", "down"))
_DELAY = "delay of links: light in fiber over the great-circle distance of their nodes"
_NO_DELAY = "links without delay, as a node of theirs has no coordinates"


def read(path: str | os.PathLike[str], name: str, delay_from_distance: bool) -> Imported:
    """Return what a graph means; see `orchestrator.importers.from_graphml`."""
    shown = named(path)
    problems = Problems("import")
    text = read_text(Path(path), shown, problems)
    graph = parse(text, shown, problems) if text is not None else None
    if graph is not None and not graph.nodes and not problems:
        problems.add("the graph has no nodes", "empty", Place(shown), expected="a `node` for each node")
    problems.raise_as(ImportInvalid, shown)
    if graph is None:  # `read_text` and `parse` say why there is none
        raise AssertionError("no graph and no problem")
    draft = Draft(shown, "GraphML", name or graph.data.get("Network", "") or Path(shown).stem)
    places = _add_nodes(graph, draft)
    for edge in graph.edges:
        _add_edge(edge, places if delay_from_distance else {}, draft, problems)
    problems.raise_as(ImportInvalid, shown)
    if places and not delay_from_distance:
        draft.remark("delay of links from the coordinates of nodes was not asked for")
    for what, of in graph.lost:
        draft.lose(what, of)
    return draft.finish()


def _add_nodes(graph: Graph, draft: Draft) -> dict[int, tuple[float, float]]:
    """Add the nodes; return the coordinates of those that have some."""
    places = {}
    for key, data in graph.nodes.items():
        labels = {"country": label_value(data["Country"])} if label_value(data.get("Country", "")) else {}
        place = _coordinates(data)
        about = "{:g} {:g}".format(*place) if place else ""
        number = draft.node(key, data.get("label", "").strip() or key, labels, about)
        if place:
            places[number] = place
    return places


def _coordinates(data: Mapping[str, str]) -> tuple[float, float] | None:
    latitude, longitude = number_of(data.get("Latitude", "")), number_of(data.get("Longitude", ""))
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 360:
        return None
    return float(latitude), float(longitude)


def _add_edge(
    edge: Edge, places: Mapping[int, tuple[float, float]], draft: Draft, problems: Problems
) -> None:
    ends = [draft.number(key) for key in (edge.source, edge.target)]
    for key, number in zip((edge.source, edge.target), ends, strict=True):
        if number is None:
            problems.add(
                f"the edge names node `{key}`, which is not defined", "unknown-node", edge.place, found=key
            )
    a, b = ends
    if a is None or b is None:
        return
    if a == b:
        draft.link(a, b)
        return
    shown = f"{draft.called(a)}–{draft.called(b)}"
    keys: dict[str, Any] = {}
    for key in _KEYS:
        stated = edge.data.get(key, "").strip()
        if stated and (value := link_value(key, stated)) is not None:
            keys[key] = value
        elif stated:
            draft.lose(f"`{key}` of edges that is no value of a link (`{stated[:20]}`)", shown)
    _rate(edge.data, keys, shown, draft)
    if "delay" not in keys and a in places and b in places:
        delay = distance_delay(places[a], places[b])
        if delay > Duration(0):
            keys["delay"] = str(delay)
            draft.remark(_DELAY, shown)
    elif "delay" not in keys and places:
        draft.remark(_NO_DELAY, shown)
    error = conflict(keys)
    if error:
        draft.lose(f"keys of edges that do not go together ({error})", shown)
        keys = {key: value for key, value in keys.items() if key in ("rate", "delay")}
    draft.link(a, b, keys, directed=edge.directed)


def _rate(data: Mapping[str, str], keys: dict[str, Any], shown: str, draft: Draft) -> None:
    """Add the rate that the Topology Zoo's attributes state."""
    if "rate" in keys or not any(data.get(key, "").strip() for key in _RATE_KEYS):
        return
    unit = _UNITS.get(data.get("LinkSpeedUnits", "").strip().upper())
    label = data.get("LinkLabel", "").strip()
    rate = plain_rate(data.get("LinkSpeedRaw", ""), 1)
    if rate is None and unit is not None:
        rate = plain_rate(data.get("LinkSpeed", ""), unit)
    rate = rate or line_rate(label)
    if rate is not None:
        keys["rate"] = str(rate)
    else:
        draft.lose("`LinkLabel` that names no rate", f"{label[:30]} ({shown})" if label else shown)
