"""Find the Compose programs of this machine, for tests that compare with them."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def installed_composes() -> list[list[str]]:
    """The commands that are Compose here, version 2 first; without one the test is skipped."""
    commands = [["docker", "compose"], ["docker-compose"]]
    found = [command for command in commands if shutil.which(command[0]) and _runs([*command, "version"])]
    if not found:
        # Labs do without it; `make test` installs it where there is an engine.
        pytest.skip("neither `docker compose` nor `docker-compose` is installed")
    return found


def _runs(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
