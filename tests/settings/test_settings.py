"""Test the settings files of node and controller."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orchestrator.errors import SettingsInvalid
from orchestrator.impairment import LinkSpec
from orchestrator.settings import (
    DatabaseSettings,
    LosslessSettings,
    NodeEntry,
    NodeSettings,
    load_controller,
    load_node,
    loads_controller,
    loads_node,
)
from orchestrator.settings.controller import CONTROLLER_TABLE
from orchestrator.settings.node import NODE_TABLE

NODE = 'node_id = 3\ncontroller_addr = "ws://127.0.0.1:3000/control"\n'
CONTROLLER = 'lab = "ring"\nnode_key = "a"\noperator_token = "b"\nlink_secret = "c"\n'


def test_a_node_needs_little() -> None:
    settings = loads_node(NODE, "node-3.toml")
    assert settings == NodeSettings(
        node_id=3, controller_addr="ws://127.0.0.1:3000/control", path="node-3.toml"
    )
    assert settings.lossless == LosslessSettings()


def test_a_controller_is_told_the_whole_topology() -> None:
    settings = loads_controller(
        CONTROLLER + "[topology]\nn_nodes = 2\n"
        '[[nodes]]\nnode_id = 1\nname = "a"\nlabels = { tier = "core" }\n'
        '[[nodes]]\nnode_id = 2\nname = "b"\nexternal = true\n'
        "[[links]]\na = 1\nb = 2\nforward = { rate_bps = 5, loss = 0.1 }\n"
        '[routing]\nprotocol = "none"\n'
        "[[routes]]\nsrc = 1\ndst = 2\npath = [1, 2]\n"
        "[[routes]]\nsrc = 2\ndst = 1\nedges = [[2, 1]]\n"
        '[db]\nhost = "/run/db"\npassword = "it\'s"\n'
    )
    assert settings.n_nodes == 2
    assert settings.nodes[0] == NodeEntry(node_id=1, name="a", labels={"tier": "core"})
    assert settings.nodes[1].external
    assert settings.links[0].forward == LinkSpec(rate_bps=5, loss=0.1)
    assert settings.links[0].backward.is_plain
    assert settings.routing == "none"
    assert [route.edges for route in settings.routes] == [((1, 2),), ((2, 1),)]
    assert settings.db.conninfo() == "user='nm' password='it\\'s' host='/run/db' port='5432' dbname='nm'"


def test_a_link_that_no_link_can_be_is_refused() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        loads_controller(CONTROLLER + "[[links]]\na = 1\nb = 2\nforward = { jitter_us = 5 }\n")
    assert "larger than the delay" in caught.value.problems[0].message


def test_every_key_of_a_table_is_a_field_of_its_class() -> None:
    node = {field.name for field in dataclasses.fields(NodeSettings)} - {"path", "lossless"}
    assert NODE_TABLE.fields.keys() == node | {"lossless_runtime_config"}
    assert {"lab", "seed", "db", "nodes", "links", "routes"} <= CONTROLLER_TABLE.fields.keys()


def test_secrets_are_not_shown() -> None:
    settings = loads_node(NODE + 'controller_token = "hush"\n')
    assert settings.controller_token == "hush"
    assert "hush" not in repr(settings)
    controller = loads_controller(
        CONTROLLER.replace('"a"', '"hush"') + '[db]\npassword = "hush"\n[topology]\nn_nodes = 0\n'
    )
    assert "hush" not in repr(controller)
    assert "hush" not in repr(DatabaseSettings(password="hush"))


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        loads_node(NODE).node_id = 4  # type: ignore[misc]  # the mistake that is tested


@pytest.mark.parametrize("load", [load_node, load_controller])
def test_a_missing_file_is_an_invalid_one(load: object, tmp_path: Path) -> None:
    assert callable(load)
    with pytest.raises(SettingsInvalid) as caught:
        load(tmp_path / "gone.toml")
    assert caught.value.problems[0].id == "file.missing"


def test_a_large_file_is_told_its_places_too() -> None:
    many = "".join(f'[[nodes]]\nnode_id = {i}\nname = "n{i}"\n' for i in range(1, 2001))
    with pytest.raises(SettingsInvalid) as caught:
        loads_controller(CONTROLLER + many + "[[nodes]]\nnode_id = 0\n", "c.toml")
    assert [str(problem.place) for problem in caught.value.problems] == ["c.toml:6005:1", "c.toml:6006:11"]
