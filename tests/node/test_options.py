"""Test the agent's command line."""

from __future__ import annotations

import pytest

from orchestrator.node.options import expand, parse


def test_ranges_of_nodes() -> None:
    assert expand("1,2,4-6,5") == (1, 2, 4, 5, 6)
    assert expand("") == ()


def test_nodes_of_a_lab_are_found_in_its_folder() -> None:
    given = parse(["--directory", "/lab", "--nodes", "3,1"])
    assert given.numbers == (1, 3)
    assert [str(config) for config in given.configs] == ["/lab/run/node-1.toml", "/lab/run/node-3.toml"]


@pytest.mark.parametrize("text", ["0", "3-1", "a", "1-", "-1"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError):
        expand(text)


@pytest.mark.parametrize("argv", [[], ["a.toml", "--directory", "x"], ["--directory", "x"]])
def test_a_command_line_that_makes_no_sense_ends_with_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(argv)
    assert caught.value.code == 2
