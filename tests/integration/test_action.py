"""Test the GitHub Action with a real installation step and a real lab."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from orchestrator.deploy.home import Home
from orchestrator.testing.leftovers import leftovers
from tests.action_runner import ROOT, run_action

TOPOLOGY = """\
name: pair
topology: {type: line, n_nodes: 2}
tests:
  - {name: both, reach: all}
  - {name: no server, tcp: 80, from: 1, to: 2}
"""


def test_the_steps_install_run_report_and_take_down(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "pair.yaml").write_text(TOPOLOGY)
    wheel = write_wheel(tmp_path)
    done = run_action(workspace, {"test": "pair.yaml", "install": str(wheel)}, {"PIP_NO_INDEX": "1"})
    assert list(done.codes.items()) == [
        ("Prepare the runner", 0),
        ("Install nm", 0),
        ("Run", 1),
        ("Write the summary", 0),
        ("Take labs down", 0),
    ], done.said
    assert done.outputs == {"verdict": "fail", "results": "results"}
    assert done.used["actions/upload-artifact@v4"]["path"] == "results"
    assert [each["ok"] for each in json.loads((workspace / "results/tests.json").read_text())] == [
        True,
        False,
    ]
    assert ElementTree.parse(workspace / "results/junit.xml").getroot().get("failures") == "1"
    lines = done.summary.splitlines()
    assert lines[0] == "## nm test: 1 of 2 passed"
    assert lines[4].startswith("| ✅ | both | 2 of 2 pairs answered")
    assert lines[5].startswith("| ❌ | no server | node 1 to port 80 of node 2: connection refused")
    assert leftovers(Home(tmp_path / "runner" / "nm-home")) == []


def write_wheel(folder: Path) -> Path:
    """Write a wheel whose programs are those of this checkout: building the real one takes minutes."""
    code = (
        "import os, sys\n\n\ndef main():\n"
        f"    os.environ['PYTHONPATH'] = {str(ROOT)!r}\n"
        f"    os.execv({sys.executable!r}, [{sys.executable!r}, '-m', 'orchestrator.cli', *sys.argv[1:]])\n"
    )
    info = "nm_stand_in-1.0.dist-info"
    path = folder / "nm_stand_in-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("nm_stand_in.py", code)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: nm-stand-in\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        entries = "nm = nm_stand_in:main\nnextmini = nm_stand_in:main\n"
        wheel.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{entries}")
        wheel.writestr(f"{info}/RECORD", "")
    return path
