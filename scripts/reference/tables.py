"""Generate the pages of topology, scenario and settings files from their tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.fields import Table
from scripts.reference.text import code, heading, table

TOPOLOGY = """# Topology file

A topology file is YAML. Keys are strict: an unknown one is refused with its place and the nearest known
name, and a key that is planned but not built is refused by name. Keys that start with `x-` are yours, for
anchors.

```yaml
name: ring                                  # the lab's name unless -n says otherwise
seed: 7
topology: {type: ring, n_nodes: 4}
defaults:
  link: {rate: 1 Gbit, delay: 5 ms}
nodes:
  1: {name: trainer, labels: {tier: core}}
links:                                      # added to the generator's, or overriding the same pair
  - {endpoints: [1, 3], rate: 100 Mbit, loss: 0.1 %}
  - endpoints: [2, 4]
    forward:  {rate: 20 Mbit}               # 2 -> 4
    backward: {rate: 2 Mbit}                # 4 -> 2
```

Settings become more specific in this order, and the most specific wins: `defaults`, then groups in the
order of the file, then the node or link itself, then `forward` or `backward`. `--set key=value` overrides
whatever the file says. Editors complete and check the file with `nm schema`, which is also in
`topologies/schema/`.

| Unit of | Written as |
| --- | --- |
| time | `500 us`, `20 ms`, `1.5 s`, `2 min` |
| rate | `64 kbit`, `100 Mbit`, `1 Gbit`, `10 MB/s`; `k` is 1000, `Ki` is 1024 |
| size | `64 KB`, `8 MiB`, or a bare number of bytes |
| probability | `0.1 %`, `0.001` |
| queue | `100 packets`, `64 KB` |
"""
SCENARIO = """# Scenario folder

A scenario is a folder with `scenario.yaml`, which says who plays and what has to hold, and `roles.py`,
which has one function per role.

```yaml
name: hello
summary: every worker receives the trainer's bytes
topology: ring.yaml                # relative to this folder, or a shipped one
params:
  size: {type: int, default: 1000000, help: bytes to send}
roles:
  trainer: {nodes: 1}
  worker: {nodes: rest}
checks:
  - {name: all complete, rows: worker, where: "state == 'complete'", count: all}
timeout: 60 s
```

A role function takes one argument, `ctx`, and runs in a thread of its own inside its node's network; it may
be plain or `async`. Sockets and child processes that it opens are in that network.

| `ctx.` | What |
| --- | --- |
| `dataplane` | the node's `nextmini_py.Dataplane`, with the topology ready |
| `node`, `name`, `role`, `round`, `params`, `seed` | who and what; `params` by attribute |
| `nodes(role=None)` | node ids, sorted |
| `address(node)`, `address6(node)` | a node's address on the TUN network, and its IPv6 address |
| `barrier(name, timeout=None)` | meet all roles that are still running |
| `publish(key, value)` · `lookup(key, timeout=None)` | hand small JSON values around; no NaN |
| `report(**row)` | one row of the result; plain JSON of at most 1 MiB, a NaN becomes null |
| `progress(done, total)` · `log` | for the person who waits |
| `link(a, b)`: `set(delay="20 ms", …)`, `down()`, `up()`, `reset()` | change a link, with `faults: true` |
| `partition(groups)` · `heal()` | separate nodes, with `faults: true` |

A check looks at the rows that roles reported. `where` is an expression over the fields of a row: `==`, `!=`,
`<`, `<=`, `>`, `>=`, `in`, `not in`, `and`, `or`, `not`, `+ - * / // %`, `params.NAME`, and the functions
`abs`, `len`, `max`, `min`, `round`, `startswith` and `near(a, b, share)`, which tells whether two numbers
differ by no more than that share of the second. Fields may be compared with each other:
`received >= 0.9 * sent`.

| Check | It holds when |
| --- | --- |
| `where: "state == 'complete'", count: all` | every row matches, and every node of the role reported one |
| `where: "seconds < 2", count: ">= 3"` | so many rows match |
| `mean: seconds, is: "< 2"` | the mean of the field is below 2 |
| `max: "bytes / seconds", is: "100 ± 5 %"` | the largest quotient is from 95 to 105; `± 3` is absolute |
| `max: seconds, is: 100, tolerance: 5 %` | the same, for those without a `±`; `+-` works, too |
| `p99: seconds, where: "state == 'complete'", is: "< params.limit"` | the same of the rows that match |
| `sum: bytes, by: round, is: 4000` | it holds for the rows of each value of `round` alone |
| `by: round, count: 4` | each round has four rows |

Aggregates are `mean`, `min`, `max`, `sum`, `std`, `p50`, `p90`, `p95` and `p99`. A row without the field, or
with something else than a number in it, fails them; `where` leaves such rows out. Syntax, functions,
parameters, tolerances and values that do not fit each other are checked before anything is started; whether
a row has a field is known only when it is reported.

Asynchronous variants end in `_async` (`barrier_async`, `lookup_async`). A role that raises fails the run
with its traceback and node; the other roles are stopped. The lab stays up, unless the run brought it up:
then it is taken down after the run, however that ends, and `--keep` leaves it up.

Each run has a folder of its own in `results`, or in what `--results` names, called after its start and its
id; none is written over. It holds `run.json` (verdict, parameters, versions, host), `topology.yaml`
(resolved), `rows.csv`, `rows.json`, `series.parquet`, `events.jsonl`, `logs/`, `plots/` and `report.html`
([what is in them](../how-to/results.md)). It is written as the run goes, so that a crash leaves what was
known.
"""
SETTINGS = """# Node and controller files

`nm up` and `nm render` write these files from the topology; they need not be written by hand. Key names are
Nextmini's where it has the same thing. A mistyped key is refused with file, line, column and the nearest
known name.

`nextmini_py.Dataplane(FILE)` reads a node's file: that is how a program of your own becomes an external node.
"""


def topology_page() -> str:
    """Return the page of the topology file."""
    from orchestrator.topology.language import ROOT

    return "\n".join([TOPOLOGY, *_sections(ROOT, "The file")])


def scenario_page() -> str:
    """Return the page of the scenario folder."""
    from orchestrator.scenario.language import ROOT

    return "\n".join([SCENARIO, *_sections(ROOT, "scenario.yaml")])


def settings_page() -> str:
    """Return the page of both TOML files."""
    from orchestrator.settings.controller import CONTROLLER_TABLE
    from orchestrator.settings.node import NODE_TABLE

    nodes, controller = _sections(NODE_TABLE, "node-N.toml"), _sections(CONTROLLER_TABLE, "controller.toml")
    return "\n".join([SETTINGS, *nodes, *controller])


def _sections(root: Table, title: str) -> list[str]:
    parts = [f"## {title}\n"]
    below: list[tuple[str, Mapping[str, Any]]] = []
    parts.append(_rows(root.schema(), "", below))
    while below:
        path, schema = below.pop(0)
        parts.append(heading(3, path))
        if text := schema.get("description"):
            parts.append(f"{text[0].upper()}{text[1:]}.\n")
        nested: list[tuple[str, Mapping[str, Any]]] = []
        shapes = schema.get("oneOf")
        parts.append(_shapes(shapes) if shapes else _rows(schema, path, nested))
        below = nested + below
    return parts


def _rows(schema: Mapping[str, Any], path: str, below: list[tuple[str, Mapping[str, Any]]]) -> str:
    rows = []
    required = schema.get("required", ())
    for key, value in schema.get("properties", {}).items():
        inner_path, inner = _mapping_inside(f"{path}.{key}".lstrip("."), value)
        if inner is not None:
            below.append((inner_path, {**inner, "description": value.get("description", "")}))
        help_ = value.get("description", "")
        rows.append(
            (
                f"`{key}`" + (" **(required)**" if key in required else ""),
                _type(value),
                code(_plain(value["default"])) if "default" in value else "",
                help_,
            )
        )
    return table(["Key", "Value", "Default", ""], rows)


def _mapping_inside(path: str, schema: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    """Return the mapping with known keys that a value is, or is made of, and how its path is written."""
    if "properties" in schema or "oneOf" in schema:
        return path, schema
    if schema.get("type") == "array":
        return _mapping_inside(f"{path}[]", schema.get("items", {}))
    for inner in schema.get("patternProperties", {}).values():
        found = _mapping_inside(f"{path}.*", inner)
        if found[1] is not None:
            return found
    for inner in schema.get("anyOf", ()):
        found = _mapping_inside(path, inner)
        if found[1] is not None:
            return found
    return path, None


def _shapes(shapes: list[Mapping[str, Any]]) -> str:
    """Return the table of values that are told apart by their `type`, or else by their first required key."""
    rows = []
    for shape in shapes:
        properties = dict(shape["properties"])
        required = shape.get("required", ())
        first = "type" if "type" in properties else required[0]
        kind = properties.pop(first)
        head = f"`type: {kind['const']}`" if first == "type" else f"`{first}`"
        keys = [
            f"`{key}` ({value['description']}{'' if key in required else ', ' + _default(value)})"
            for key, value in properties.items()
        ]
        rows.append((head, kind.get("description", ""), ", ".join(keys)))
    return table(["Shape", "", "Keys"], rows)


def _default(schema: Mapping[str, Any]) -> str:
    return f"default {_plain(schema['default'])}" if "default" in schema else "optional"


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(code(word) for word in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    if "oneOf" in schema:
        return "a mapping"
    if examples := schema.get("examples"):
        return "such as " + " or ".join(code(example) for example in examples)
    kind = schema.get("type", "any value")
    if isinstance(kind, list):
        return "text" if "string" in kind else " or ".join(kind)
    if kind == "integer":
        low, high = schema.get("minimum"), schema.get("maximum")
        if high is not None:
            return f"whole number, {low} to {high}"
        return f"whole number from {low}" if low is not None else "whole number"
    if kind == "array":
        inner = _type(schema["items"]) if schema.get("items") else ""
        return f"list of {inner}".replace("of a mapping", "of mappings") if inner else "list"
    words = {"string": "text", "object": "a mapping", "boolean": "`true` or `false`", "number": "a number"}
    return words.get(kind, str(kind))


def _plain(value: object) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
