"""Test that `doctor` finds leftovers of a crash, and `--fix` removes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.deploy.host_checks import Finding
from orchestrator.lab import doctor
from orchestrator.procfs import ProcessId
from tests.lab.conftest import MakeLab


def test_a_crashed_start_is_a_warning_that_can_be_repaired(home: Home, make_lab: MakeLab) -> None:
    assert doctor.stale_labs(home).level == "ok"
    make_lab("works")
    make_lab("crashed", phase="starting", owner=ProcessId(2**22 + 1, 1))
    finding = doctor.stale_labs(home)
    assert finding.level == "warning" and finding.detail == "left by a crash: crashed"
    assert doctor.repair({"native": [finding]}) == ["stale labs: fixed"]
    assert [lab.name for lab in home.labs()] == ["works"]
    assert doctor.stale_labs(home).level == "ok"


def test_another_nm_in_the_path_is_a_warning_that_names_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binutils, ours = tmp_path / "usr", tmp_path / "ours"
    for folder, name, text in (
        (binutils, "nm", "\x7fELF binutils"),
        (ours, "nm", "#!python\nfrom orchestrator.cli import start\n"),
        (ours, "nextmini", "#!python\nfrom orchestrator.cli import start\n"),
    ):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    def look(*path: Path) -> Finding:
        monkeypatch.setenv("PATH", ":".join(map(str, path)))
        return doctor.program_name()

    assert look(ours, binutils).level == "ok"
    other = look(binutils, ours)
    assert (other.level, other.detail) == ("warning", f"`nm` is {binutils}/nm, another program")
    assert other.hint.startswith("type `nextmini` or `/")
    assert "nextmini` or" not in look(binutils).hint and "/nextmini`" in look(binutils).hint
    assert look(tmp_path).detail == "`nm` is not in PATH"
