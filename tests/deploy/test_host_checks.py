"""Test the checks of the machine, and the number of nodes that fit."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

from orchestrator.deploy import host_checks
from orchestrator.deploy.preflight import require_fit
from orchestrator.errors import HostNotFit

ROOT = Path(__file__).resolve().parents[2]
GB = 1_000_000_000


def test_memory_says_how_many_would_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_checks, "CGROUP", tmp_path)
    monkeypatch.setattr(host_checks, "_meminfo", lambda _key: 1 * GB)
    assert host_checks.memory("native", 500).level == "ok"
    refused = host_checks.memory("native", 501)
    assert (refused.level, refused.hint) == ("problem", "at most 500 nodes fit")


def test_the_limit_of_our_control_group_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_checks, "CGROUP", tmp_path)
    monkeypatch.setattr(host_checks, "_meminfo", lambda _key: 64 * GB)
    (tmp_path / "memory.max").write_text("2000000000\n")
    (tmp_path / "memory.current").write_text("1000000000\n")
    assert host_checks.memory("native", 501).level == "problem"
    (tmp_path / "memory.max").write_text("max\n")
    assert host_checks.memory("native", 501).level == "ok"


def test_a_process_per_node_costs_more_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_checks, "CGROUP", tmp_path)
    monkeypatch.setattr(host_checks, "_meminfo", lambda _key: 1 * GB)
    assert host_checks.memory("native", 100, processes=1).level == "ok"
    assert host_checks.memory("native", 100, processes=100).level == "problem"


async def test_a_lab_larger_than_one_controller_serves_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_checks, "tun_device", lambda: host_checks.Finding("tun device", "ok", ""))
    monkeypatch.setattr(
        host_checks, "namespaces", lambda: host_checks.Finding("network namespaces", "ok", "")
    )
    assert host_checks.lab_size(host_checks.MOST_NODES).level == "ok"
    with pytest.raises(HostNotFit, match="10,000 nodes, but one controller serves at most 6,000") as caught:
        await require_fit("native", nodes=10_000)
    assert (caught.value.id, caught.value.exit_code) == ("host.lab-size", 4)


async def test_open_files_are_counted_by_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (64, 500))
    assert (
        host_checks.open_files(100).level == "ok"
    )  # the hard limit counts: the host process raises the soft one
    refused = host_checks.open_files(101)
    assert refused.level == "problem" and refused.hint.startswith("at most 100 nodes fit")
    monkeypatch.setattr(host_checks, "tun_device", lambda: host_checks.Finding("tun device", "ok", ""))
    monkeypatch.setattr(
        host_checks, "namespaces", lambda: host_checks.Finding("network namespaces", "ok", "")
    )
    with pytest.raises(HostNotFit) as caught:
        await require_fit("native", nodes=300, processes=2)
    assert (caught.value.id, caught.value.exit_code) == ("host.open-files", 4)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its root")
@pytest.mark.parametrize("root", ["chroot", "pivot"])
def test_a_chroot_is_told_from_a_root_of_its_own(tmp_path: Path, root: str) -> None:
    enter = "exec chroot ." if root == "chroot" else "mkdir old; pivot_root . old; exec"
    look = "from orchestrator.deploy import host_checks; print(host_checks.namespaces().level)"
    made = f"""mount -t tmpfs none {quote(str(tmp_path))}; cd {quote(str(tmp_path))}
        for each in /*; do
            [ -d "$each" ] && [ ! -L "$each" ] || continue
            mkdir ".$each"; how=--rbind; [ "$each" = /tmp ] && how=--bind  # the root itself lies below /tmp
            mount $how "$each" ".$each"
        done
        for each in /*; do [ -L "$each" ] && cp -P "$each" . || true; done
        {enter} /usr/bin/env --chdir={quote(str(ROOT))} {quote(sys.executable)} -c '{look}'"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", made], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("problem\n" if root == "chroot" else "ok\n")


def test_the_kernels_own_limit_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks, "_number", lambda _path: 50)
    assert host_checks.namespace_limit(50).level == "ok"
    assert host_checks.namespace_limit(51).hint.startswith("at most 50 nodes fit")
    monkeypatch.setattr(host_checks, "_number", lambda path: 40 if "uts" in path.name else 50)
    assert "max_uts_namespaces=82" in host_checks.namespace_limit(41).hint


def test_a_home_without_room_is_refused_with_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    room = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: room._replace(free=60_000_000))
    assert host_checks.disk("docker", tmp_path / "not" / "made" / "yet", 4).level == "ok"
    refused = host_checks.disk("native", tmp_path / "not" / "made" / "yet", 4)
    assert refused.level == "problem" and "NM_HOME" in refused.hint
    assert refused.detail == f"60 MB free in {tmp_path}, 64 MB needed"
