"""Check the pages: every command and key is documented, every link has a target."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.reference import commands

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
WRITTEN = [page for page in PAGES if "reference" not in page.parts]
README = ROOT / "README.md"

FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.reference", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_has_its_section() -> None:
    page = (DOCS / "reference/cli.md").read_text()
    for name, _ in commands.commands():
        assert f"## `nm {name}`" in page


def test_every_topology_key_is_on_its_page() -> None:
    from orchestrator.topology.language import ROOT as TABLE
    from orchestrator.topology.link_keys import LINK_KEYS

    page = (DOCS / "reference/topology.md").read_text()
    for key in [*TABLE.fields, *LINK_KEYS]:
        assert f"| `{key}`" in page


@pytest.mark.parametrize("page", [README, *WRITTEN], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_nm_command_on_a_page_exists(page: Path) -> None:
    known = {name for name, _ in commands.commands()}
    for language, body in FENCE.findall(page.read_text()):
        if language not in ("bash", "console"):
            continue
        for line in body.splitlines():
            words = line.removeprefix("$ ").split()
            if words[:1] != ["nm"] or len(words) < 2 or (language == "console" and not line.startswith("$ ")):
                continue
            assert words[1] in known or " ".join(words[1:3]) in known, f"{page.name}: {line}"


@pytest.mark.parametrize("page", [README, *WRITTEN], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_on_a_page_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`|\$ |sudo )make ([a-z-]+)", page.read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name} names `make {target}`"


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
