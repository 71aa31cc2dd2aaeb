"""Build a `Topology` from the text of a file, collecting every problem.

The steps, in order: read YAML; lay `--set` options over it; check keys and values one by one; count the nodes
and make the generated links; find the members of groups; give nodes and links their settings (defaults <
groups < their own); check routes. A step that would only repeat an earlier complaint in other words is left
out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.errors import TopologyInvalid
from orchestrator.source import Problems, Value, apply_override, named, parse_yaml, read_text
from orchestrator.topology.access import build_access
from orchestrator.topology.flow_keys import build_flows
from orchestrator.topology.ipv6 import unique_local_prefix
from orchestrator.topology.lab_tests import build_lab_tests
from orchestrator.topology.language import LAB_NAME, ROOT
from orchestrator.topology.links import build_links
from orchestrator.topology.model import Generator, Topology
from orchestrator.topology.nodes import build_nodes, find_groups, make_shape
from orchestrator.topology.routes import build_routes
from orchestrator.topology.routing import check_routing, returned
from orchestrator.topology.services import build_services
from orchestrator.topology.warnings import find_warnings

__all__ = ["load", "loads"]


def load(path: str | os.PathLike[str], overrides: Iterable[str] = (), option: str = "--set") -> Topology:
    """Read a topology file.

    Args:
        path: The file, `-` for standard input; places in messages show it as it is given here.
        overrides: What stood behind `--set`, each `key=value` with dots in the key.
        option: What places in messages call the option that the overrides come from.

    Raises:
        TopologyInvalid: Carries every problem of the file and the options.
    """
    shown = named(path)
    problems = Problems("topology")
    text = read_text(Path(path), shown, problems)
    problems.raise_as(TopologyInvalid, shown)
    return loads(text or "", shown, overrides, option)


def loads(
    text: str, name: str = "topology.yaml", overrides: Iterable[str] = (), option: str = "--set"
) -> Topology:
    """Read the text of a topology file; `name` is what places call it, and its stem the lab's default name.

    Raises:
        TopologyInvalid: Carries every problem of the text and the options.
    """
    problems = Problems("topology")
    value = parse_yaml(text, name, problems)
    if value is not None and value.mapping is None:
        problems.add(
            f"the file is {value.describe()}, but a mapping is expected",
            "type",
            value.place,
            expected="a mapping",
            hint="for example `topology: {type: ring, n_nodes: 4}`",
        )
        value = None
    topology = None
    if value is not None:
        for override in overrides:
            apply_override(value, override, problems, option)
        topology = _resolve(value, name, problems)
    problems.raise_as(TopologyInvalid, name)
    if topology is None:  # a step that gives up has to say why
        raise AssertionError("no topology and no problem")
    return topology


def _resolve(value: Value, file: str, problems: Problems) -> Topology | None:
    root = ROOT.read(value, "the topology", problems)
    shape = make_shape(root, problems) if root is not None else None
    if root is None or shape is None:
        return None
    groups = find_groups(root, shape, problems)
    nodes = build_nodes(root, shape, groups, problems)
    by_name = {f"node-{number}": number for number in nodes}
    by_name |= {node.name: node.id for node in nodes.values()}
    links = build_links(root, shape, nodes, groups, by_name, problems, _directory_of(file))
    generator, routing = root.get("topology"), check_routing(root, problems)
    bare = Topology(name=root.get("name") or _name_from(file), nodes=nodes, links=links, **routing)
    if "routing" in root and not problems:
        root = {**root, "routes": [*root.get("routes", ()), *returned(root, bare, file, problems)]}
    routes = build_routes(root, nodes, links, by_name, problems)
    ipv6 = root.get("ipv6", True)
    topology = Topology(
        name=bare.name,
        seed=root.get("seed", 1),
        nodes=nodes,
        links=links,
        **routing,
        routes=routes,
        flows=build_flows(root.get("flows", ()), nodes, routes, by_name, problems),
        services=build_services(root, nodes, problems, _directory_of(file)),
        transport=root.get("transport", "auto"),
        subnet=root.get("subnet", "10.0.0.0/16"),
        ipv6=(unique_local_prefix(bare.name) if ipv6 else "") if isinstance(ipv6, bool) else ipv6,
        controller=build_access(value, root.get("controller", {}), problems),
        tests=build_lab_tests(root.get("tests", ()), nodes, problems),
        generator=Generator(generator["type"], generator["params"]) if generator else None,
        file=file,
    )
    topology = replace(topology, **_metrics(root.get("metrics", {})))
    if problems:
        return topology
    entries = [entry["@"].place for entry in root.get("routes", ())]
    return replace(topology, warnings=find_warnings(topology, value.place, entries))


def _metrics(read: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a topology for the key `metrics`."""
    found: dict[str, Any] = {}
    if "interval" in read:
        found["metrics_interval_ms"] = round(read["interval"].us / 1000)
    if not read.get("enabled", True):
        found["metrics_interval_ms"] = 0
    if "keep" in read:
        found["metrics_keep_s"] = max(1, round(read["keep"].us / 1_000_000))
    return found


def _directory_of(file: str) -> Path:
    """Return what the names of files in a topology are relative to."""
    return Path(file).parent


def _name_from(file: str) -> str:
    """Return a lab name made from the file's name, or `lab` if nothing usable is in it."""
    stem = Path(file).name.partition(".")[0]
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower())[:40].strip("-")
    return slug if re.fullmatch(LAB_NAME, slug) else "lab"
