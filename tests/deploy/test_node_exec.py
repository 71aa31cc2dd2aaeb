"""Test the program that starts commands in a container's node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = (Path(__file__).parents[2] / "images" / "node" / "exec").read_text()
NET_ADMIN = 1 << 12
ANOTHER_USER = ["setpriv", "--reuid=1", "--clear-groups", "--"] if os.geteuid() == 0 else []


@pytest.mark.parametrize("user", [[], ANOTHER_USER])
def test_root_keeps_one_capability_whoever_owns_the_root_folder(user: list[str]) -> None:
    assert bounding_set([*user, "unshare", "--user", "--map-root-user", *nm_exec()]) == NET_ADMIN


def test_who_is_not_root_is_no_root_as_owner_of_the_root_folder() -> None:
    """Without a mapping all users have the same number, which is not 0."""
    unmapped = ["unshare", "--user"]
    assert bounding_set([*unmapped, *nm_exec()]) == bounding_set(unmapped) != NET_ADMIN


def test_the_environment_is_passed_on() -> None:
    given = {"key": "1", "real": "2", "effective": "3", "rest": "4"}
    shown = run([*ANOTHER_USER, *nm_exec(), "env"], env={**os.environ, **given}).splitlines()
    assert {f"{name}={value}" for name, value in given.items()} <= set(shown)


def nm_exec() -> list[str]:
    return ["sh", "-c", PROGRAM, "nm-exec"]  # another user may not be able to read the file


def bounding_set(before: list[str]) -> int:
    return int(run([*before, "grep", "CapBnd", "/proc/self/status"]).split()[1], 16)


def run(argv: list[str], env: dict[str, str] | None = None) -> str:
    return subprocess.run(argv, env=env, check=True, capture_output=True, text=True, timeout=60).stdout
