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


def test_what_a_container_s_entrypoint_gives() -> None:
    given = parse(["--ready-file", "/run/nm/ready", "--log-level=debug", "/proc/self/fd/3"])
    assert given.configs == ("/proc/self/fd/3",)
    assert (given.directory, given.numbers, given.part) == (None, (), "host")
    assert (given.ready_file, given.log_level) == ("/run/nm/ready", "debug")


def test_what_follows_two_dashes_is_a_file() -> None:
    given = parse(["--ready-file=--ready", "a.toml", "--", "--log-level", "-h", "--"])
    assert given.configs == ("a.toml", "--log-level", "-h", "--")
    assert given.ready_file == "--ready"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--colour", "a.toml"], "unrecognized option: --colour"),
        (["a.toml", "--ready-file"], "--ready-file needs a value"),
        (["--ready-file", "--log-level", "debug", "a.toml"], "--ready-file needs a value"),
        (["--ready-file", "--", "a.toml"], "--ready-file needs a value"),
        (["--ready-file", "-h", "a.toml"], "--ready-file needs a value"),
        (["--log-level", "loud", "a.toml"], "loud is none of error"),
        (["--directory", "x", "--nodes", "2-1"], "`2-1` is no range"),
    ],
)
def test_the_reason_follows_the_usage(argv: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(argv)
    said = capsys.readouterr().err
    assert said.startswith("usage: ") and why in said.splitlines()[-1]
