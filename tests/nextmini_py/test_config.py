"""Test strict reading of a node's settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from nextmini_py import ConfigError
from nextmini_py._native import check_config

GOOD = 'node_id = 2\ncontroller_addr = "127.0.0.1:3000"\n'


def complaint(tmp_path: Path, text: str) -> ConfigError:
    path = tmp_path / "node-2.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        check_config(path)
    assert raised.value.file == str(path)
    return raised.value


def test_a_good_file_passes(tmp_path: Path) -> None:
    path = tmp_path / "node-2.toml"
    path.write_text(GOOD)
    assert check_config(path) == 2
    assert check_config(str(path)) == 2


def test_a_typo_is_named_with_its_place_and_the_nearest_name(tmp_path: Path) -> None:
    error = complaint(tmp_path, GOOD + "chanel_capacity = 5\n")
    assert (error.id, error.line, error.column) == ("config.unknown_key", 3, 1)
    assert (error.key, error.nearest) == ("chanel_capacity", "channel_capacity")
    assert str(error) == (
        f"{error.file}:3:1: unknown key `chanel_capacity`; the nearest known name is `channel_capacity`"
    )


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    error = complaint(tmp_path, 'node_id = "two"\nmtu = 3\n')
    assert [line.split(": ", 1)[1] for line in error.problems] == [
        "`node_id` is a string, expected a whole number",
        "`mtu` is 3, not in 576..=65535",
        "key `controller_addr` is missing",
    ]


@pytest.mark.parametrize(
    ("text", "id", "place"),
    [
        ("node_id = \n", "config.syntax", (1, 11)),
        (GOOD + "mtu = 1.5\n", "config.type", (3, 7)),
        (GOOD + 'offload = "maybe"\n', "config.value", (3, 11)),
        (GOOD + "[lossless_runtime_config]\nwindow_byte = 1\n", "config.unknown_key", (4, 1)),
        ('controller_addr = "h:1"\n', "config.missing_key", (None, None)),
    ],
)
def test_each_kind_of_problem_has_an_id_and_a_place(
    tmp_path: Path, text: str, id: str, place: tuple[int | None, int | None]
) -> None:
    error = complaint(tmp_path, text)
    assert (error.id, (error.line, error.column)) == (id, place)


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the settings"):
        check_config(tmp_path / "none.toml")
