"""Test atomic writing of files and their permissions."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator import plan, render, topology
from orchestrator.errors import HostNotFit
from orchestrator.plan import DeploymentPlan
from tests.compose import installed_composes

RING = topology.loads("name: ring\ntopology: {type: ring, n_nodes: 4}")


def test_native_secrets_belong_to_their_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        directory = render.write(plan.build(RING), tmp_path / "run")
    finally:
        os.umask(old)
    assert _mode(directory.path) == 0o700
    assert _mode(directory.node(1)) == _mode(directory.controller) == 0o600
    assert _mode(directory.hosts) == 0o644


def test_what_containers_mount_is_readable_inside_a_closed_folder(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        directory = render.write(plan.build(RING, backend="docker"), tmp_path / "run")
    finally:
        os.umask(old)
    assert _mode(directory.path) == 0o700
    assert _mode(directory.node(1)) == _mode(directory.path / "postgres-password") == 0o644
    assert _mode(directory.compose) == 0o600


def test_the_manifest_proves_every_file(tmp_path: Path) -> None:
    directory = render.write(plan.build(RING, backend="docker", run_id="7f3c"), tmp_path)
    manifest = json.loads(directory.manifest.read_text())
    assert (manifest["lab"], manifest["backend"], manifest["run"], manifest["seed"]) == (
        "ring",
        "docker",
        "7f3c",
        1,
    )
    assert manifest["versions"]["nm"]
    assert manifest["files"].keys() == {path.name for path in directory.files} - {"manifest.json"}
    for name, facts in manifest["files"].items():
        content = (directory.path / name).read_bytes()
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()
        assert facts["bytes"] == len(content)
        assert facts["mode"] == f"{_mode(directory.path / name):04o}"


def test_a_smaller_lab_leaves_no_node_behind(tmp_path: Path) -> None:
    render.write(plan.build(topology.loads("n_nodes: 9"), backend="docker"), tmp_path)
    directory = render.write(plan.build(topology.loads("n_nodes: 2")), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in directory.files}


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / "node-1.toml").symlink_to(victim)
    (run / ".node-1.toml.new").symlink_to(victim)
    directory = render.write(plan.build(RING), run)
    assert victim.read_text() == "mine"
    assert not directory.node(1).is_symlink()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostNotFit) as caught:
        render.write(plan.build(RING), tmp_path / "file" / "run")
    assert caught.value.id == "host.run-directory"
    assert str(tmp_path / "file" / "run") in caught.value.message


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = render.write(plan.build(RING), tmp_path)
    before = directory.node(1).read_text()

    def to_full(path: object, flags: int, mode: int = 0o777) -> int:
        return real(b"/dev/full", os.O_WRONLY)

    real = os.open
    monkeypatch.setattr(os, "open", to_full)
    monkeypatch.setattr(os, "fchmod", lambda *_: None)
    with pytest.raises(HostNotFit, match="No space left"):
        render.write(plan.build(RING), tmp_path)
    assert directory.node(1).read_text() == before


@pytest.mark.parametrize("external", [[], [2]])
def test_the_compose_file_is_a_hardened_one(external: list[int], tmp_path: Path) -> None:
    directory = render.write(_docker(external), tmp_path)
    services = yaml.safe_load(directory.compose.read_text())["services"]
    assert len(services) == 6 - len(external)
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"] > 0
        assert all(":size=" in folder for folder in service["tmpfs"])
        assert {"max-size", "max-file"} <= service["logging"]["options"].keys()
        assert "privileged" not in service
        assert all(volume.get("read_only") or volume["type"] == "volume" for volume in service["volumes"])
    text = directory.compose.read_text()
    made = _docker(external)
    assert not any(word in text for word in (made.secrets.node_key, made.secrets.db_password))


@pytest.mark.parametrize("external", [[], [2]])
def test_the_compose_specification_accepts_the_file(external: list[int], tmp_path: Path) -> None:
    """Compose v2 validates against this schema; it need not be installed for that."""
    directory = render.write(_docker(external), tmp_path)
    command = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(directory.compose)]
    done = subprocess.run(
        [_tool(command[0]), *command[1:]], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("external", [[], [2]])
def test_the_installed_compose_reads_the_file(external: list[int], tmp_path: Path) -> None:
    directory = render.write(_docker(external), tmp_path)
    for command in installed_composes():
        arguments = [*command, "-p", "nm-ring", "-f", str(directory.compose), "config"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        read = yaml.safe_load(done.stdout)
        assert read["services"]["node-1"]["cap_add"] == ["NET_ADMIN", "DAC_OVERRIDE", "SETPCAP"]
        assert read["services"]["postgres"]["network_mode"] == "none"
        assert "warn" not in done.stderr.lower()


def _docker(external: list[int]) -> DeploymentPlan:
    return plan.build(RING, backend="docker", run_id="7f3c", external=external, subnet="172.28.9.0/24")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _tool(name: str) -> str:
    import sys

    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name
