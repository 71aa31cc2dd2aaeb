"""Convert Nextmini's configuration files to a topology file.

Nextmini describes a lab in a controller's TOML (shape, routes, rates, flows) and the nodes' TOML, usually one
that all of them share. Both are converted; every setting without a counterpart here is listed in a note, so
that none is lost silently. Key names and defaults are those of Nextmini's documentation.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from orchestrator.errors import ImportInvalid, Place, TopologyInvalid
from orchestrator.importers.draft import Imported, header
from orchestrator.source import Problems, Value, parse_toml, read_text
from orchestrator.topology.generators import GENERATORS
from orchestrator.topology.loader import loads
from orchestrator.topology.writing import flow, word
from orchestrator.units import Rate

__all__ = ["read"]

_CONTROLLER_KEYS = frozenset(
    {
        "topology",
        "routing",
        "routes",
        "link_rates",
        "flows",
        "nodes",
        "db",
        "base_addr",
        "multicast_pool_base",
    }
)
_NODE_KEYS = frozenset(
    {
        "controller_addr",
        "node_id",
        "private_network_name",
        "tun_interface_name",
        "mtu",
        "enable_local_interface",
    }
)
# Controller keys that say where things listen: ours are chosen when a lab starts.
_CHOSEN = ("port", "db", "max_server_port", "multicast_pool_base", "multicast_pool_mask")
_CHOSEN_TOO = ("user_space_base_addr", "external_base_addr")
# Node keys that are filled in when a lab is rendered, so that leaving them out changes nothing.
_RENDERED = frozenset(
    {
        "controller_addr",
        "node_id",
        "private_network_name",
        "private_network_interface",
        "private_network_addr",
        "private_network_port",
        "public_network_interface",
        "public_network_addr",
        "public_network_port",
        "tun_interface_name",
        "user_space_client_port",
        "user_space_server_port",
        "controller_connect_timeout_ms",
        "n_nodes",
    }
)
_SETTINGS = ("num_tun_queues", "channel_capacity", "channel_backpressure")
_NEXTMINI_MTU = 1_400


@dataclass(slots=True)
class _Draft:
    shape: dict[str, Any] | None = None
    n_nodes: int | None = None
    edges: list[list[int]] = field(default_factory=list)
    rates: dict[tuple[int, int], int] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    nodes: dict[int, dict[str, Any]] = field(default_factory=dict)
    max_mode: set[int] = field(default_factory=set)
    routing: str = "none"
    routes: list[dict[str, Any]] = field(default_factory=list)
    subnet: str | None = None
    notes: list[str] = field(default_factory=list)


def read(directory: str | os.PathLike[str]) -> Imported:
    """Return what a folder of Nextmini files means; see `orchestrator.importers.from_nextmini`."""
    folder = Path(directory)
    controllers, nodes = _read_all(folder)
    draft = _Draft()
    _controller(controllers[0][0], controllers[0][1], draft)
    for path, _ in controllers[1:]:
        draft.notes.append(f"{path} is a second controller file and was left out")
    for path, data in nodes:
        _node(path, data, draft)
    for number in draft.max_mode:
        draft.nodes.setdefault(number, {})["operating_mode"] = "max"
    text = _text(folder, draft)
    try:
        loads(text, "the imported topology")
    except TopologyInvalid as error:
        draft.notes += [f"still to be fixed by hand: {problem.message}" for problem in error.problems]
    notes = tuple(dict.fromkeys(draft.notes))
    top = header(f"Nextmini's files in {folder.resolve().name}", "TOML", notes)
    return Imported(top + text, notes, files=tuple(path for path, _ in (controllers[0], *nodes)))


_File = tuple[str, Mapping[str, Any]]


def _read_all(folder: Path) -> tuple[list[_File], list[_File]]:
    """Return the controller's and the nodes' files, told apart by what is in them."""
    problems = Problems("import")
    if not folder.is_dir():
        problems.add("this is no folder", "folder", Place(str(folder)), expected="a folder with TOML files")
    controllers: list[_File] = []
    nodes: list[_File] = []
    for path in sorted(folder.rglob("*.toml")):
        text = read_text(path, str(path), problems)
        value: Value | None = parse_toml(text, str(path), problems) if text is not None else None
        data = value.plain() if value is not None else None
        if not isinstance(data, dict):
            continue
        # A node's file has keys that a controller's never has; the other way round `protocol` is in both.
        if data.keys() & _NODE_KEYS:
            nodes.append((str(path.relative_to(folder)), data))
        elif data.keys() & _CONTROLLER_KEYS:
            controllers.append((str(path.relative_to(folder)), data))
    if not controllers and not problems:
        problems.add(
            "no file here is a Nextmini controller's",
            "no-controller",
            Place(str(folder)),
            expected="a TOML file with `topology`, `routing` or `routes`",
        )
    problems.raise_as(ImportInvalid, str(folder))
    return controllers, nodes


def _controller(path: str, data: Mapping[str, Any], draft: _Draft) -> None:
    known = {"base_addr", "net_mask", "protocol", "flow_transport", "scheduler_type", "topology", "routing"}
    known |= {"routes", "link_rates", "flows", "nodes", *_CHOSEN, *_CHOSEN_TOO}
    _shape(path, data.get("topology"), draft)
    routing = _table(path, data, "routing", draft)
    if routing.get("protocol") == "shortest_path":
        draft.routing = "shortest_path"
    elif routing:
        draft.notes.append(f"{path}: routing.protocol `{routing.get('protocol')}` is not known here")
    for entry in _tables(path, data, "routes", draft):
        _route(path, _list(f"{path}: routes", entry, "route", draft), draft)
    for entry in _tables(path, data, "link_rates", draft):
        _link_rate(path, entry, draft)
    for entry in _tables(path, data, "nodes", draft):
        if entry.get("operating_mode", "normal") != "normal":
            _mode(path, entry, draft)
    if flows := _list(path, data, "flows", draft):
        draft.notes.append(f"{path}: {len(flows)} flows; the controller starts none yet, use a scenario")
    for key, plain in (("protocol", "tcp"), ("scheduler_type", "fifo"), ("flow_transport", "tcp")):
        if data.get(key, plain) != plain:
            draft.notes.append(f"{path}: {key} `{data[key]}` is not built yet, `{plain}` is used")
    chosen = [key for key in (*_CHOSEN, *_CHOSEN_TOO) if key in data]
    if chosen:
        draft.notes.append(f"{path}: {', '.join(chosen)} left out; they are chosen when a lab starts")
    _addresses(path, data, draft)
    _unknown(path, data.keys() - known, draft)


def _mode(path: str, entry: Mapping[str, Any], draft: _Draft) -> None:
    """Take over the operating mode of a node, which is not the normal one."""
    number = _number(f"{path}: nodes", entry, "node_id", draft)
    if entry["operating_mode"] != "max":
        _odd(f"{path}: nodes", "operating_mode", draft)
    elif number is None:
        draft.notes.append(f"{path}: operating_mode `max` of a node without `node_id` was left out")
    else:
        draft.max_mode.add(number)


def _shape(path: str, topology: Any, draft: _Draft) -> None:
    if isinstance(topology, str):
        topology = {"type": topology}
    if not isinstance(topology, Mapping):
        draft.notes.append(f"{path}: there is no topology in it")
        return
    kind = topology.get("type")
    where = f"{path}: topology"
    n_nodes = _number(where, topology, "n_nodes", draft)
    if kind is not None and not isinstance(kind, str):
        _odd(where, "type", draft)
        kind = None
    if kind is not None:
        config = _table(where, topology, f"{kind}_config", draft)
        found = {
            key: _number(f"{where}.{kind}_config", config, key, draft) for key in ("n_nodes", "k", "dim", "n")
        }
        params = {key: value for key, value in found.items() if value is not None}
        if not params and n_nodes is not None:
            params, n_nodes = {"n_nodes": n_nodes}, None
        draft.shape = {"type": kind, **params}
    draft.n_nodes = n_nodes
    edges = _list(where, topology, "edges", draft)
    draft.edges = [list(edge) for edge in edges if _is_edge(edge)]
    if len(draft.edges) < len(edges):
        draft.notes.append(f"{where}: edges that are no two numbers were left out")
    others = {
        key for key in topology if key not in ("type", "n_nodes", "edges") and not key.endswith("_config")
    }
    _unknown(where, others, draft)


def _route(path: str, route: list[Any], draft: _Draft) -> None:
    if route and all(_is_number(stop) for stop in route):
        draft.routes.append({"from": route[0], "to": route[-1], "path": list(route)})
        return
    edges = [edge for edge in route if _is_edge(edge)]
    starts = {a for a, _ in edges} - {b for _, b in edges}
    ends = {b for _, b in edges} - {a for a, _ in edges}
    if len(edges) < len(route) or len(starts) != 1 or len(ends) != 1:
        draft.notes.append(f"{path}: the route {route} has no single start and end, and was left out")
        return
    draft.routes.append({"from": starts.pop(), "to": ends.pop(), "edges": edges})


def _link_rate(path: str, entry: Mapping[str, Any], draft: _Draft) -> None:
    source, target, rate = (entry.get(key) for key in ("src_node_id", "dst_node_id", "rate"))
    if not _is_number(source) or not _is_number(target) or not _is_number(rate):
        draft.notes.append(f"{path}: a link rate without src_node_id, dst_node_id or rate was left out")
        return
    draft.rates[source, target] = rate * 8  # Nextmini counts bytes per second
    if "bucket_size" in entry:
        draft.notes.append(
            f"{path}: bucket_size of {source} → {target}; our rates have no burst, `limit` sets the queue"
        )


def _addresses(path: str, data: Mapping[str, Any], draft: _Draft) -> None:
    base, mask = data.get("base_addr", "10.0.0.0"), data.get("net_mask", "255.255.0.0")
    try:
        subnet = str(ipaddress.IPv4Network(f"{base}/{mask}"))
    except ValueError:
        draft.notes.append(
            f"{path}: base_addr `{base}` with net_mask `{mask}` is no network; 10.0.0.0/16 is used"
        )
        return
    if subnet != "10.0.0.0/16":
        draft.subnet = subnet


def _node(path: str, data: Mapping[str, Any], draft: _Draft) -> None:
    mtu = _number(path, data, "mtu", draft)
    settings: dict[str, Any] = {"mtu": _NEXTMINI_MTU if mtu is None else mtu}
    for key in _SETTINGS:
        if key in data and isinstance(data[key], bool | int | str):
            settings[key] = data[key]
        elif key in data:
            _odd(path, key, draft)
    lossless = _table(path, data, "lossless_runtime_config", draft)
    waits = {"ready_grace_ms": "ready_grace", "peer_report_timeout_ms": "report_timeout"}
    where = f"{path}: lossless_runtime_config"
    times = {ours: _number(where, lossless, key, draft) for key, ours in waits.items()}
    carried = {ours: f"{time} ms" for ours, time in times.items() if time is not None}
    if carried:
        settings["lossless"] = carried
    number = _number(path, data, "node_id", draft)
    if number is None and "node_id" in data:
        return  # it is a node's own file, and which node's is not known
    if number:
        draft.nodes[number] = settings
    else:
        draft.defaults = settings
    if data.get("enable_local_interface") is False:
        draft.notes.append(f"{path}: enable_local_interface = false; our nodes always have a TUN interface")
    for key, plain in (
        ("protocol", "tcp"),
        ("scheduler_type", "fifo"),
        ("scheduler_drop_strategy", "taildrop"),
    ):
        if data.get(key, plain) != plain:
            draft.notes.append(f"{path}: {key} `{data[key]}` is not built yet, `{plain}` is used")
    known = {*_RENDERED, "mtu", *_SETTINGS, "enable_local_interface", "protocol", "scheduler_type"}
    known |= {"scheduler_drop_strategy", "lossless_runtime_config"}
    _unknown(path, data.keys() - known, draft)
    _unknown(where, lossless.keys() - waits.keys(), draft)


def _odd(where: str, key: str, draft: _Draft) -> None:
    draft.notes.append(f"{where}: {key} is not of the type that Nextmini takes, and was left out")


def _is_number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_edge(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_number(end) for end in value)


def _number(where: str, data: Mapping[str, Any], key: str, draft: _Draft) -> int | None:
    value = data.get(key)
    if value is None or _is_number(value):
        return value
    _odd(where, key, draft)
    return None


def _list(where: str, data: Mapping[str, Any], key: str, draft: _Draft) -> list[Any]:
    value = data.get(key, [])
    if isinstance(value, list):
        return value
    _odd(where, key, draft)
    return []


def _table(where: str, data: Mapping[str, Any], key: str, draft: _Draft) -> Mapping[str, Any]:
    value = data.get(key, {})
    if isinstance(value, Mapping):
        return value
    _odd(where, key, draft)
    return {}


def _tables(where: str, data: Mapping[str, Any], key: str, draft: _Draft) -> list[Mapping[str, Any]]:
    values = _list(where, data, key, draft)
    found = [value for value in values if isinstance(value, Mapping)]
    if len(found) < len(values):
        _odd(where, f"an entry of {key}", draft)
    return found


def _unknown(where: str, keys: Iterable[str], draft: _Draft) -> None:
    left = sorted(keys)
    if left:
        draft.notes.append(f"{where}: no counterpart for {', '.join(left)}")


def _text(folder: Path, draft: _Draft) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower())[:40].strip("-") or "imported"
    lines = [f"name: {word(slug)}"]
    if draft.subnet:
        lines.append(f"subnet: {draft.subnet}")
    if draft.shape:
        lines.append(f"topology: {flow(draft.shape)}")
    if draft.n_nodes is not None:
        lines.append(f"n_nodes: {draft.n_nodes}")
    if draft.defaults:
        lines += ["defaults:", f"  node: {flow(draft.defaults)}"]
    if draft.nodes:
        lines += ["nodes:", *(f"  {number}: {flow(node)}" for number, node in sorted(draft.nodes.items()))]
    links = _links(draft)
    if links:
        lines += ["links:", *(f"  - {flow(link)}" for link in links)]
    lines.append(f"routing: {{protocol: {draft.routing}}}")
    if draft.routes:
        lines += ["routes:", *(f"  - {flow(route)}" for route in draft.routes)]
    return "\n".join(lines) + "\n"


def _links(draft: _Draft) -> list[dict[str, Any]]:
    """Return explicit edges, each pair once, and the pairs that have a rate."""
    pairs = {(min(a, b), max(a, b)) for a, b in draft.edges if a != b}
    rated = {(min(pair), max(pair)) for pair in draft.rates}
    made = _generated(draft.shape)
    for a, b in sorted(rated - pairs - made if made is not None else []):
        draft.notes.append(f"the link rate between {a} and {b} was left out, as nothing links them")
        rated.discard((a, b))
    pairs |= rated
    links: list[dict[str, Any]] = []
    for a, b in sorted(pairs):
        link: dict[str, Any] = {"endpoints": [a, b]}
        forward, backward = draft.rates.get((a, b)), draft.rates.get((b, a))
        if forward is not None and forward == backward:
            link["rate"] = str(Rate(forward))
        else:
            link |= {"forward": {"rate": str(Rate(forward))}} if forward else {}
            link |= {"backward": {"rate": str(Rate(backward))}} if backward else {}
        links.append(link)
    return links


def _generated(shape: Mapping[str, Any] | None) -> set[tuple[int, int]] | None:
    """Return the generator's links; None if it cannot be run, which checking the text will say."""
    if shape is None:
        return set()
    kind = GENERATORS.get(str(shape["type"]))
    params = {key: value for key, value in shape.items() if key != "type"}
    if kind is None or params.keys() != kind.params.keys() or kind.check(params) is not None:
        return None
    return set(kind.make(params, 1).edges)
