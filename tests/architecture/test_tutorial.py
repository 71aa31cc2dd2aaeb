"""The tutorial and its like, run as they are written: files as on the pages, commands in their order."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.testing.plugin import require_backend

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = (
    "tutorial/first-lab",
    "tutorial/links",
    "tutorial/experiment",
    "tutorial/own-scenario",
    "how-to/topology",
)
STEP = re.compile(
    r'^```(?:yaml|python) title="(?P<name>[\w./-]+)"\n(?P<text>.*?)^```'
    r"|(?:^<!-- exits with (?P<code>\d+) -->\n)?^```console\n(?P<commands>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
LONGEST = 120
"""Seconds that one command of the tutorial may take, on a busy machine."""

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Step:
    """A file to write, or a command to run."""

    name: str = ""
    text: str = ""
    command: str = ""
    code: int = 0


def steps(page: str) -> Iterator[Step]:
    """Yield what a page asks its reader to do."""
    for match in STEP.finditer((DOCS / f"{page}.md").read_text()):
        if match["name"]:
            yield Step(name=match["name"], text=match["text"])
            continue
        for line in match["commands"].splitlines():
            if line.startswith("$ "):
                yield Step(command=line[2:], code=int(match["code"] or 0))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_does_what_the_page_says(page: str, tmp_path: Path) -> None:
    require_backend("native")
    home = tmp_path / "home"
    work = tmp_path / "work"
    work.mkdir()
    (work / "topologies").symlink_to(ROOT / "topologies")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {**os.environ, "NM_HOME": str(home), "PATH": path, "COLUMNS": "110"}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=work,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )

    try:
        for step in steps(page):
            if step.name and not step.name.startswith("topologies/"):
                (work / step.name).parent.mkdir(parents=True, exist_ok=True)
                (work / step.name).write_text(step.text)
            elif step.command:
                done = run(step.command)
                said = f"$ {step.command}\n{done.stdout}{done.stderr}"
                assert done.returncode == step.code, said
    finally:
        left = run("nm down --all")
        assert left.returncode == 0, left.stderr
