"""Test which modules a command in a node imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from orchestrator.deploy.home import Home
from orchestrator.procfs import identify
from tests.lab.conftest import MakeLab

PROGRAM = """
import json, os, sys

def become(program, argv):
    print(json.dumps({"argv": argv, "loaded": sorted(sys.modules)}), flush=True)
    os._exit(0)

os.execvp = become
from orchestrator.cli.main import main
main(["exec", "1", "--", "true"])
"""

NEEDED = {
    "orchestrator.deploy": {
        "netns_cookies",
        "termination",
        "node_command",
        "node_states",
        "home",
        "namespaces",
        "processes",
        "program",
        "state",
        "supervision",
    },
    "orchestrator.lab": {"find"},
}


def test_exec_loads_its_way_into_the_node_and_nothing_else(make_lab: MakeLab, home: Home) -> None:
    directory, _note = make_lab()
    host = identify(os.getpid())
    assert host is not None
    namespace = {"fd": 0, "inode": 1, "cookie": 1, "names": 0}
    table = {"pid": host.pid, "started": host.started, "user_namespace": False, "mount_namespace": False}
    directory.host_table("host").write_text(json.dumps({**table, "offload": "", "nodes": {"1": namespace}}))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NM_HOME": str(home.path)},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["argv"][-1] == "true"
    loaded = set(said["loaded"])
    for package, needed in NEEDED.items():
        assert {name for name in loaded if name.startswith(f"{package}.")} == {
            f"{package}.{n}" for n in needed
        }
    packages = (
        "plan",
        "protocol",
        "render",
        "scenario",
        "settings",
        "source",
        "store",
        "topology",
        "transport",
    )
    assert not loaded & {f"orchestrator.{package}" for package in packages}
    assert not loaded & {"asyncio", "docker", "msgpack", "psycopg", "rich", "yaml"}
