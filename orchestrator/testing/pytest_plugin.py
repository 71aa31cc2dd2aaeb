"""The pytest plugin of the distribution: labs for tests, named by a marker.

```python
@pytest.mark.lab("ring.yaml", backend="native")
def test_my_protocol_survives_loss(lab, run_scenario):
    lab.link(1, 2).set(loss="2 %")
    assert run_scenario("./my-scenario").verdict == "pass"
```

lab             the lab of the marker: brought up once for all tests that name the same, reset before each
run_scenario    run a scenario in it; a verdict other than `pass` fails the test, unless `check=False`

Pytest loads this module in every session of an environment that has the program, so all else is loaded by the
first test that asks for a lab.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from orchestrator.lab import Lab
    from orchestrator.results import RunOutcome
    from orchestrator.testing.lab_pool import LabPool

_MARKER = (
    "lab(topology, backend=None, overrides=(), **options): the lab that the fixture `lab` gives the test: a "
    "file, beside the test or shipped, a Topology or the text of one; options are those of Lab.up"
)
_LAB = pytest.StashKey["Lab"]()
_RUNS = pytest.StashKey["list[RunOutcome]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the setting."""
    group = parser.getgroup("nm", "network labs")
    group.addoption(
        "--lab-backend", choices=["docker", "native"], help="What carries labs whose marker names no backend."
    )
    parser.addini("labs_kept", "How many labs are kept up for the next tests (default 2).", default="2")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def lab_pool(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[LabPool]:
    """The labs of this session, in a home of their own; all are taken down in the end."""
    from orchestrator.testing.lab_pool import LabPool

    workerinput: dict[str, Any] = getattr(pytestconfig, "workerinput", {})
    pool = LabPool(
        tmp_path_factory.mktemp("labs") / "nm",
        worker=str(workerinput.get("workerid", "test")),
        backend=pytestconfig.getoption("lab_backend"),
        kept=int(pytestconfig.getini("labs_kept")),
    )
    yield pool
    pool.end()


@pytest.fixture
def lab(request: pytest.FixtureRequest, lab_pool: LabPool) -> Lab:
    """The lab that the marker `lab` of the test names, as it was declared; see the module."""
    marker = request.node.get_closest_marker("lab")
    if marker is None:
        pytest.fail('the fixture `lab` needs a marker such as @pytest.mark.lab("ring.yaml")', pytrace=False)
    found = lab_pool.get(request.path.parent, *marker.args, **marker.kwargs)
    request.node.stash[_LAB] = found
    return found


@pytest.fixture
def run_scenario(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Callable[..., RunOutcome]:
    """Run a scenario in `lab`: its name or folder, then what `Lab.run_scenario` takes."""

    def run(scenario: str | Path, *, check: bool = True, **options: Any) -> RunOutcome:
        from orchestrator.testing.lab_report import in_words

        beside = request.path.parent / scenario
        options.setdefault("results", tmp_path / "results")
        outcome = lab.run_scenario(beside if beside.is_dir() else scenario, **options)
        request.node.stash.setdefault(_RUNS, []).append(outcome)
        if check and not outcome.ok:
            pytest.fail("\n".join(in_words(outcome)), pytrace=False)
        return outcome

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Add what the lab and its runs say to the report of a test that failed."""
    report = yield
    if report.failed and _LAB in item.stash:
        from orchestrator.testing.lab_report import sections

        runs: list[RunOutcome] = item.stash.get(_RUNS, [])
        report.sections += sections(item.stash[_LAB], runs)
    return report
