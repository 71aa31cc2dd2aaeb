"""Test that every block of every page works as shown.

    bash, console    typed into one shell per page; output that a page shows is compared
    python, yaml     with a title: the file of that name; without one, run, or checked as what it is
    json, toml       has to parse
    text             with a title: the file of that name; without one, a drawing or a quotation

The folder has what a checkout has of the program (`topologies`, `.venv`), and a stand-in for the payload of
the README that is as long as the real one. No Docker engine answers there, so that labs are native ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from orchestrator import scenario, topology
from orchestrator.errors import NmError
from orchestrator.testing.plugin import require_backend
from tests.docs.pages import GENERATED, LANGUAGES, PAGES, ROOT, Block, as_shown, blocks, commands, name

TYPED = ("bash", "console")
PAYLOAD = ("build/payload/all-minilm-l6-v2.safetensors", 90_868_376)


def page_blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page that are to be tried."""
    generated = GENERATED in page.read_text()[:200]
    for block in blocks(page):
        # In a generated page these are signatures, compared with the code by `scripts.reference --check`.
        read_only = (block.language == "text" and not block.title) or (
            generated and block.language == "python"
        )
        if not block.reason and not read_only:
            yield block


RUNNING = [page for page in PAGES if any(block.language in (*TYPED, "python") for block in page_blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_is_one_that_is_tried_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        where = f"{name(page)}:{block.line}"
        assert block.language in LANGUAGES, f"{where}: a block of `{block.language}`, which nobody tries"
        assert not block.reason or len(block.reason.split()) > 1, f"{where}: the reason says too little"
        assert not (block.reason and block.language == "text"), f"{where}: text is never run"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_on_a_page_is_valid(page: Path, tmp_path: Path) -> None:
    for block in page_blocks(page):
        where = f"{name(page)}:{block.line}"
        if block.language == "json":
            json.loads(block.body)
        elif block.language == "toml":
            tomllib.loads(block.body)
        elif block.language == "python":
            compile(block.body, where, "exec")
        elif block.language == "yaml" and block.code:
            with pytest.raises(NmError):
                check_yaml(block, where, tmp_path)
        elif block.language == "yaml":
            check_yaml(block, where, tmp_path)


def check_yaml(block: Block, where: str, folder: Path) -> None:
    """Read a block as a topology or a scenario."""
    read = yaml.safe_load(block.body)
    assert isinstance(read, dict), f"{where}: nothing but a mapping stands alone"
    if not {"roles", "traffic"} & read.keys():
        assert topology.loads(block.body, where).warnings == (), where
        return
    roles = "".join(f"def {role}(ctx):\n    pass\n" for role in read.get("roles", ()))
    (folder / "scenario.yaml").write_text(block.body)
    (folder / "roles.py").write_text(roles)
    assert scenario.load(folder).name == read["name"]


class Shell:
    """One shell for a whole page: what a block exports, starts or sources is there for the next one."""

    _LOOP = """
while IFS= read -r -d '' -u 3 typed; do
    eval "$typed" </dev/null 3<&-
    printf '\\n%s %s\\n' "$MARK" "$?"
done
"""
    _MARK = "----- exit code"

    def __init__(self, folder: Path, home: Path) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {
            **os.environ,
            "NM_HOME": str(home),
            "PATH": path,
            "COLUMNS": "110",
            "DOCKER_HOST": f"unix://{home}/no-engine",
            "MARK": self._MARK,
        }
        inside, self._typed = os.pipe()
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec 3<&{inside}; {self._LOOP}"],
            cwd=folder,
            env=environment,
            pass_fds=[inside],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.close(inside)

    def type(self, command: str) -> tuple[int, str]:
        """Type a command; return its exit code and what it printed."""
        os.write(self._typed, command.encode() + b"\0")
        printed = ""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(self._MARK):
                return int(line.split()[-1]), printed
            printed += line
        raise AssertionError(f"the shell ended:\n{printed}")

    def close(self) -> None:
        """End the shell."""
        os.close(self._typed)
        self._process.terminate()
        self._process.communicate(timeout=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader's checkout has of the program."""
    folder = tmp_path / "work"
    (folder / PAYLOAD[0]).parent.mkdir(parents=True)
    with (folder / PAYLOAD[0]).open("wb") as file:
        file.truncate(PAYLOAD[1])
    (folder / "topologies").symlink_to(ROOT / "topologies")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUNNING, ids=name)
def test_a_page_works_as_shown(page: Path, folder: Path, tmp_path: Path) -> None:
    require_backend("native")
    shell = Shell(folder, tmp_path / "nm")
    try:
        for block in page_blocks(page):
            try_block(block, shell, folder, f"{name(page)}:{block.line}")
    finally:
        code, printed = shell.type("nm down --all")
        shell.close()
    assert code == 0, printed


def try_block(block: Block, shell: Shell, folder: Path, where: str) -> None:
    """Do with a block what its reader does."""
    if block.title:
        if not block.title.startswith("topologies/"):
            file = folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.body)
        else:
            # The shipped file may have more to say, in comments; what it means is on the page.
            assert topology.load(ROOT / block.title) == topology.loads(block.body, block.title)
        return
    if block.language == "python":
        (folder / "block.py").write_text(block.body)
        code, printed = shell.type("python block.py")
        assert code == block.code, f"{where}\n{printed}"
    if block.language not in TYPED:
        return
    typed = list(commands(block))
    for number, command in enumerate(typed):
        code, printed = shell.type(command.text)
        expected = block.code if number == len(typed) - 1 else 0
        said = f"{where}\n$ {command.text}\n{printed}"
        assert code == expected, f"{said}\nexit code {code}, expected {expected}"
        if command.shown is not None:
            assert as_shown(command.shown, printed), f"{said}\nbut the page shows:\n{command.shown}"
