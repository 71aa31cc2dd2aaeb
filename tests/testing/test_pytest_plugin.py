"""Test the pytest plugin as far as that goes without a lab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator import topology
from orchestrator.errors import UsageError
from orchestrator.testing import lab_pool
from orchestrator.testing.lab_pool import LabPool

pytest_plugins = ("pytester",)

RING = "name: ring\ntopology: {type: ring, n_nodes: 4}\n"


class FakeLab:
    """A lab that is only a name."""

    backend = "native"

    def __init__(self, source: topology.Topology, name: str) -> None:
        self.name, self.topology, self.is_up = name, source, True

    def down(self) -> None:
        self.is_up = False


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakeLab]:
    return []


@pytest.fixture
def pool(tmp_path: Path, started: list[FakeLab], monkeypatch: pytest.MonkeyPatch) -> LabPool:
    def up(source: topology.Topology, *, name: str, **options: Any) -> Any:
        started.append(FakeLab(source, name))
        return started[-1]

    monkeypatch.setattr(lab_pool, "reset", lambda lab: None)
    return LabPool(tmp_path / "nm", worker="gw3", kept=2, up=up)


def test_what_is_the_same_is_one_lab_and_what_differs_is_another(
    pool: LabPool, started: list[FakeLab], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(RING)
    first = pool.get(tmp_path, "mine.yaml", backend="native")
    assert pool.get(tmp_path, tmp_path / "mine.yaml", backend="native") is first
    assert pool.get(tmp_path, RING, backend="native") is first
    other = pool.get(tmp_path, "mine.yaml", backend="native", overrides=["defaults.link.loss=2 %"])
    assert other is not first
    assert [each.name for each in started] == ["ring-gw3-1", "ring-gw3-2"]


def test_overrides_of_a_topology_that_was_read_are_refused(
    pool: LabPool, started: list[FakeLab], tmp_path: Path
) -> None:
    read = topology.loads(RING)
    with pytest.raises(UsageError, match="overrides"):
        pool.get(tmp_path, read, overrides=["defaults.link.loss=2 %"])
    assert pool.get(tmp_path, read, overrides=[]) and len(started) == 1


def test_a_shipped_file_is_found_and_a_missing_one_is_an_error(pool: LabPool, tmp_path: Path) -> None:
    assert len(pool.get(tmp_path, "ring.yaml").topology.nodes) == 4
    with pytest.raises(topology.loader.TopologyInvalid, match="no such file"):
        pool.get(tmp_path, "missing.yaml")


def test_the_lab_that_was_not_used_for_the_longest_time_goes_first(
    pool: LabPool, started: list[FakeLab], tmp_path: Path
) -> None:
    for seed in (1, 2, 1, 3):
        pool.get(tmp_path, f"{RING}seed: {seed}\n")
    assert [each.is_up for each in started] == [True, False, True]


def test_a_lab_that_cannot_be_reset_is_brought_up_anew(
    pool: LabPool, started: list[FakeLab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.get(tmp_path, RING)

    def broken(lab: Any) -> None:
        raise UsageError("lab ring is down")

    monkeypatch.setattr(lab_pool, "reset", broken)
    pool.get(tmp_path, RING)
    assert [(each.name, each.is_up) for each in started] == [("ring-gw3-1", False), ("ring-gw3-2", True)]


def test_names_stay_within_what_a_lab_may_be_called(
    pool: LabPool, started: list[FakeLab], tmp_path: Path
) -> None:
    pool.get(tmp_path, RING.replace("ring\n", "a" * 40 + "\n", 1))
    assert started[0].name == "a" * 34 + "-gw3-1"


def test_a_session_without_labs_loads_nothing_of_the_program(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded():
            loaded = {name for name in sys.modules if name.startswith(("orchestrator", "nextmini_py"))}
            assert loaded == {"orchestrator", "orchestrator.testing", "orchestrator.testing.pytest_plugin"}
        """
    )
    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=1)


def test_the_marker_is_known_and_the_fixture_asks_for_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.lab("ring.yaml")
        def test_marked():
            pass

        def test_unmarked(lab):
            pass
        """
    )
    result = pytester.runpytest_subprocess("--strict-markers")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*the fixture `lab` needs a marker such as @pytest.mark.lab*"])
