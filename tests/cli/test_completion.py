"""Test completion in the shells themselves, where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Nm

ROOT = Path(__file__).resolve().parents[2]

# What readline does with the words of a line, and the function that the script defines.
COMPLETE = """
source <(nm completion bash)
read -ra COMP_WORDS <<<"$1"
[ "${1% }" = "$1" ] || COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_nm_completion nm
printf "%s\\n" "${COMPREPLY[@]}"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables with which a shell finds `nm`, with a home that has no labs."""
    program = tmp_path / "bin" / "nm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m orchestrator.cli "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "NM_HOME": str(tmp_path / "nm")}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("nm sta", ["status"]),
        ("nm run scenario unicast", ["unicast-echo"]),
        ("nm test --ju", ["--junit"]),
        ("nm completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_bash_completes_commands_options_and_names(
    environment: dict[str, str], words: str, offered: list[str]
) -> None:
    said = subprocess.run(
        [
            "bash",
            "--norc",
            "-c",
            COMPLETE,
            "bash",
            words,
        ],
        capture_output=True,
        text=True,
        env=environment,
        timeout=30,
    )
    assert said.stdout.split() == offered, said.stderr


@pytest.mark.parametrize(
    ("shell", "asked", "offered"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "nm stat"}, "status"),
        ("fish", {"_TYPER_COMPLETE_ARGS": "nm stat", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "status"),
    ],
)
def test_the_program_answers_what_the_scripts_of_other_shells_ask(
    nm: Nm, environment: dict[str, str], shell: str, asked: dict[str, str], offered: str
) -> None:
    script = nm("completion", shell)
    assert script.code == 0
    assert f"_NM_COMPLETE=complete_{shell}" in script.out
    assert all(name in script.out for name in asked)
    said = subprocess.run(
        ["nm"],
        capture_output=True,
        text=True,
        env={**environment, **asked, "_NM_COMPLETE": f"complete_{shell}"},
    )
    assert offered in said.stdout, said.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_its_shell(nm: Nm, tmp_path: Path, shell: str) -> None:
    script = tmp_path / "script"
    script.write_text(nm("completion", shell).out)
    assert script.stat().st_size > 100
    if shutil.which(shell):
        done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr


def test_an_unknown_shell_is_refused(nm: Nm) -> None:
    said = nm("completion", "tcsh")
    assert said.code == 2
    assert "'bash', 'zsh', 'fish'" in said.err
