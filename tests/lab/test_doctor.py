"""`doctor` finds what a crash left, and `--fix` removes it."""

from __future__ import annotations

from orchestrator.deploy.home import Home
from orchestrator.deploy.processes import ProcessId
from orchestrator.lab import doctor
from tests.lab.conftest import MakeLab


def test_a_crashed_start_is_a_warning_that_can_be_mended(home: Home, make_lab: MakeLab) -> None:
    assert doctor.strays(home).level == "ok"
    make_lab("works")
    make_lab("crashed", phase="starting", owner=ProcessId(2**22 + 1, 1))
    finding = doctor.strays(home)
    assert finding.level == "warning" and finding.detail == "left by a crash: crashed"
    assert doctor.mend({"native": [finding]}) == ["strays: mended"]
    assert [lab.name for lab in home.labs()] == ["works"]
    assert doctor.strays(home).level == "ok"
