"""Compare the errors of invalid files with stored texts.

`bad_topologies/X.yaml` goes with `X.txt`; options stand in comments at its top (`# --set k=v`).
A folder in `bad_scenarios/` goes with the `expected.txt` inside it, and `bad_settings/X.toml` with `X.txt`.
After a deliberate change of words, `NM_UPDATE_GOLDEN=1 pytest tests/golden` writes the new ones; read the
difference before it is committed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import scenario, settings, topology
from orchestrator.errors import FileInvalid, ScenarioInvalid, SettingsInvalid, TopologyInvalid

HERE = Path(__file__).parent
UPDATE = os.environ.get("NM_UPDATE_GOLDEN") == "1"


@pytest.fixture(autouse=True)
def _inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Complaints show names as they were given, so give them relative to here."""
    monkeypatch.chdir(HERE)


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("bad_topologies/*.yaml")))
def test_a_bad_topology_gets_its_exact_complaint(name: str) -> None:
    path = Path("bad_topologies", name)
    lines = path.read_text().splitlines()
    options = [line.removeprefix("# --set ") for line in lines if line.startswith("# --set ")]
    complaint = _complaint(TopologyInvalid, lambda: topology.load(path, options))
    _compare(complaint, path.with_suffix(".txt"))


@pytest.mark.parametrize(
    "name", sorted(path.parent.name for path in HERE.glob("bad_scenarios/*/scenario.yaml"))
)
def test_a_bad_scenario_gets_its_exact_complaint(name: str) -> None:
    folder = Path("bad_scenarios", name)
    _compare(_complaint(ScenarioInvalid, lambda: scenario.load(folder)), folder / "expected.txt")


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("bad_settings/*.toml")))
def test_bad_settings_get_their_exact_complaint(name: str) -> None:
    path = Path("bad_settings", name)
    load: Callable[[Path], object] = (
        settings.load_node if name.startswith("node") else settings.load_controller
    )
    _compare(_complaint(SettingsInvalid, lambda: load(path)), path.with_suffix(".txt"))


def test_a_missing_topology_is_a_complaint_like_any_other() -> None:
    complaint = _complaint(TopologyInvalid, lambda: topology.load("bad_topologies/odd_kk.yaml"))
    assert complaint == (
        "bad_topologies/odd_kk.yaml  there is no such file\n"
        "    hint: did you mean `bad_topologies/odd_k.yaml`?\n"
        "\n"
        "1 problem, nothing was started  [topology.invalid]\n"
    )


def _complaint(kind: type[FileInvalid], act: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        act()
    assert caught.value.exit_code == 2
    shown = caught.value.as_json()["error"]
    assert len(shown["problems"]) == len(caught.value.problems)
    assert all(problem.id and problem.message for problem in caught.value.problems)
    return caught.value.render() + "\n"


def _compare(complaint: str, expected: Path) -> None:
    if UPDATE:
        expected.write_text(complaint)
    assert complaint == expected.read_text()
