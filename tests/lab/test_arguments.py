"""Test that invalid arguments of the SDK raise documented errors."""

from __future__ import annotations

import pytest

from orchestrator import topology
from orchestrator.deploy.home import Home
from orchestrator.errors import UsageError
from orchestrator.lab.up import UpOptions, bring_up
from orchestrator.lab.words import words_of


async def test_an_unknown_backend_is_a_usage_error(home: Home) -> None:
    meant = topology.loads("topology: {type: ring, n_nodes: 3}\n")
    with pytest.raises(UsageError) as caught:
        await bring_up(home, meant, UpOptions(backend="dokcer"), lambda _what: None)  # type: ignore[arg-type]
    assert (caught.value.id, caught.value.hint) == ("usage.backend", "did you mean `docker`?")
    assert not home.labs()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("ping -c 1 node-3", ["ping", "-c", "1", "node-3"]),
        ("sh -c 'echo a b'", ["sh", "-c", "echo a b"]),
        (["echo", "a b", 3], ["echo", "a b", "3"]),
    ],
)
def test_a_command_may_be_words_or_a_string(command: list[str] | str, words: list[str]) -> None:
    assert words_of(command) == words


@pytest.mark.parametrize("command", ["", [], "echo 'open"])
def test_no_command_and_an_open_quotation_are_refused(command: list[str] | str) -> None:
    with pytest.raises(UsageError):
        words_of(command)
