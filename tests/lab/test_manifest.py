"""Test what a run's folder keeps so that it can be repeated."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from orchestrator import scenario, topology
from orchestrator.lab import manifest
from orchestrator.lab.manifest import open_results, origin_facts, repository

from .conftest import MakeLab


def write_scenario(folder: Path) -> scenario.Scenario:
    folder.mkdir()
    (folder / "scenario.yaml").write_text(
        "params: {payload: {type: file, default: ''}}\nroles: {a: {nodes: all}}\n"
    )
    (folder / "roles.py").write_text("def a(ctx): ...\n")
    return scenario.load(folder)


def git(folder: Path, *words: str) -> None:
    names = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(folder), *names, *words], check=True, capture_output=True)


async def test_a_folder_has_what_a_replay_needs(
    make_lab: MakeLab, tmp_path: Path, monkeypatch: object
) -> None:
    _, note = make_lab()
    meant = topology.loads("name: ring\ntopology: {type: ring, n_nodes: 3}\n")
    wanted = write_scenario(tmp_path / "mine")
    small, large = tmp_path / "small.bin", tmp_path / "large.bin"
    small.write_bytes(b"abc")
    with large.open("wb") as file:
        file.truncate(manifest.KEPT_BYTES + 1)
    for path, kept in ((small, "files/payload-small.bin"), (large, None)):
        plan = wanted.resolve(meant, {"payload": str(path)})
        base, folder = await open_results(note, meant, wanted, plan, seed=5, parent=tmp_path / "out")
        folder.close()
        facts = base.document()
        assert facts["topology"]["sha256"] == hashlib.sha256(topology.dump(meant).encode()).hexdigest()
        assert facts["files"]["payload"]["kept"] == kept
        assert facts["files"]["payload"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert facts["host"]["sysctls"]["net.ipv4.tcp_rmem"].count(" ") == 2
        assert (folder.path / "scenario" / "roles.py").read_text() == "def a(ctx): ...\n"
        assert topology.load(folder.path / "topology.yaml").nodes == meant.nodes
        assert kept is None or (folder.path / kept).read_bytes() == b"abc"


def test_the_commit_of_the_users_repository_and_whether_it_was_changed(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / "mine"
    folder.parent.mkdir()
    write_scenario(folder)
    assert repository(folder) == {"commit": None, "dirty": None}
    git(folder.parent, "init", "-q")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "-qm", "one")
    clean = repository(folder)
    assert len(clean["commit"]) == 40 and clean["dirty"] is False
    (folder.parent / "beside").write_text("")
    facts = origin_facts(folder, str(folder / "none.yaml"))
    assert facts["scenario"] == {"path": str(folder), "commit": clean["commit"], "dirty": True}
    assert facts["topology"] == {"path": None, "commit": None, "dirty": None}
