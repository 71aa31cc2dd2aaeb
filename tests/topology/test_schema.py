"""Test the JSON Schema against the reader."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator import topology
from orchestrator.topology.editor import text

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "topologies" / "schema" / "topology.schema.json"


def test_the_committed_schema_is_fresh() -> None:
    assert SCHEMA.read_text() == text(), "run `nm schema > topologies/schema/topology.schema.json`"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(topology.schema())


@pytest.mark.parametrize("path", sorted((ROOT / "topologies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_valid(path: Path) -> None:
    _validator().validate(_as_editors_see(path))


# Files that are wrong only when values are seen together, which a schema cannot tell, are not listed.
WRONG = (
    "unknown_key",
    "seed_no_number",
    "seed_negative",
    "unknown_generator",
    "generator_of_another_program",
    "generators_beyond_bounds",
    "generator_params",
    "generator_without_type",
    "small_ring",
    "not_built_yet",
    "injection",
    "long_name",
    "mtu",
)


@pytest.mark.parametrize("name", WRONG)
def test_what_a_value_alone_makes_wrong_is_wrong_for_editors_too(name: str) -> None:
    path = ROOT / "tests" / "golden" / "bad_topologies" / f"{name}.yaml"
    assert not _validator().is_valid(_as_editors_see(path))


def test_every_key_says_what_it_is_for() -> None:
    def walk(node: object, path: str) -> None:
        if isinstance(node, dict):
            for key, value in node.get("properties", {}).items():
                assert "description" in value, f"{path}.{key} has no description"
            for key, value in node.items():
                walk(value, f"{path}.{key}")
        elif isinstance(node, list):
            for item in node:
                walk(item, path)

    walk(topology.schema(), "")


def test_defaults_in_the_schema_are_those_of_a_plain_node() -> None:
    node = topology.loads("n_nodes: 1").nodes[1]
    properties = topology.schema()["properties"]["defaults"]["properties"]["node"]["properties"]
    for key, shown in properties.items():
        if "default" in shown:
            assert shown["default"] == getattr(node, key), key
    lossless = {key: shown["default"] for key, shown in properties["lossless"]["properties"].items()}
    again = topology.loads("n_nodes: 1\ndefaults: {node: {lossless: " + json.dumps(lossless) + "}}")
    assert again.nodes[1] == node


def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def _as_editors_see(path: Path) -> object:
    # JSON knows no number as a key.
    return json.loads(json.dumps(yaml.safe_load(path.read_text())))
