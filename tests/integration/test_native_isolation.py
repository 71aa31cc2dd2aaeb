"""Test that other users and programs in nodes cannot read the secrets of a native lab."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.deploy import state as notes
from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from orchestrator.settings import load_controller, load_node
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]

CONNECT = """
import socket, sys
for port in map(int, sys.argv[1:]):
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
        print("open", port)
    except OSError:
        pass
"""


@pytest.fixture(scope="module", params=[0o000, 0o022, 0o077], ids=["umask 000", "umask 022", "umask 077"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab in a home that everybody may walk to, started under this umask, after a run. Tests only look."""
    place = Path(tempfile.mkdtemp(prefix="nm-closed-"))
    place.chmod(0o755)
    labs = Labs(Home(place / "state" / "nm"))
    try:
        old = os.umask(request.param)
        try:
            lab = labs.up(RING, processes=2)
            results = tmp_path_factory.mktemp("out")
            outcome = lab.run_scenario("weights-sync", params={"size": "100 KB"}, results=results)
        finally:
            os.umask(old)
        assert outcome.verdict == "pass"
        yield lab
    finally:
        labs.end()
        shutil.rmtree(place)


def test_another_user_reads_no_secret_and_writes_nothing(lab: Lab) -> None:
    home = Path(lab.node(1).config).parents[4]
    run = home / "nm" / "labs" / "ring" / "run"
    controller = load_controller(run / "controller.toml")
    tokens = {load_node(run / f"node-{n}.toml").controller_token for n in range(1, 5)}
    secrets = {*tokens, controller.node_key, controller.operator_token}
    assert run.is_dir() and all(len(secret) > 20 for secret in secrets)

    read = as_nobody("sh", "-c", f"find {home} -type f -exec cat {{}} + ; cat {run}/* {run}/node-1.toml")
    assert not [secret for secret in secrets if secret in read]
    seen = as_nobody("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'")
    assert not [secret for secret in secrets if secret in seen]
    assert as_nobody("find", str(home), "(", "-type", "f", "-o", "-type", "d", ")", "-writable") == ""
    writable = [path for path in home.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert [path for path in writable if not path.is_socket()] == []


def test_the_database_listens_on_a_closed_socket_alone(lab: Lab) -> None:
    home = Path(lab.node(1).config).parents[4] / "nm"
    note = notes.read(Home(home).lab("ring"))
    assert note is not None
    held = {str(entry.readlink()) for entry in Path(f"/proc/{note.parts['postgres'].pid}/fd").iterdir()}
    listening = [line.split() for kind in ("tcp", "tcp6") for line in net(kind) if line.split()[3] == "0A"]
    assert not held & {f"socket:[{fields[9]}]" for fields in listening}
    sockets = [path for path in home.rglob(".s.PGSQL.*") if path.is_socket()]
    folders = {path.parent for path in sockets}
    assert folders
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in folders)


def test_a_program_in_a_node_reaches_no_port_of_the_controller(lab: Lab) -> None:
    home = Path(lab.node(1).config).parents[4] / "nm"
    note = notes.read(Home(home).lab("ring"))
    assert note is not None
    done = lab.node(1).run(["python3", "-c", CONNECT, str(note.controller_port), "5432"], timeout=60)
    assert done.ok and done.stdout == "", done.stdout + done.stderr


def net(kind: str) -> list[str]:
    return Path(f"/proc/net/{kind}").read_text().splitlines()[1:]


def as_nobody(*words: str) -> str:
    """What another user gets to see; what is denied goes to standard error and is not asked for."""
    done = subprocess.run([*NOBODY, *words], capture_output=True, timeout=60, check=False)
    return done.stdout.decode(errors="replace")
