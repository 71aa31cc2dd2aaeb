"""Run the scale benchmark: labs of growing size, and Mininet for comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from benchmarks import machine, sysctls
from benchmarks.errors import BenchmarkError
from benchmarks.path_checks import Check
from benchmarks.peers import mininet
from benchmarks.program import Notify, Outcome
from benchmarks.scale.docker import against_idle_containers
from benchmarks.scale.figures import Figure, target_results
from benchmarks.scale.native import many_nodes, start_times
from benchmarks.scale.receive import receive_cost

__all__ = ["PARTS", "Settings", "run"]

PARTS = ("native-100", "native-1000", "docker", "receive", "mininet")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a run.

    Attributes:
        nodes: Size of the ring whose start is repeated.
        many: Size of the large ring.
        containers: Nodes of the docker lab.
        repeats: How often a start is measured.
        idle_seconds: How long idle CPU is watched.
        only: Parts to run; empty means all.
    """

    nodes: int = 100
    many: int = 1000
    containers: int = 20
    repeats: int = 3
    idle_seconds: float = 20.0
    only: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    title: str
    targets: tuple[int, ...]
    measure: Callable[[], Iterator[Figure]]


def run(settings: Settings, notify: Notify) -> Outcome:
    """Measure labs at scale, and leave the machine as it was."""
    described = machine.describe()
    checks: list[Check] = []
    figures: list[Figure] = []
    reasons: dict[int, str] = {}
    not_runnable: dict[str, str] = {}
    with sysctls.preserved() as kernel:
        for part in _parts(settings, checks, notify):
            if settings.only and part.name not in settings.only:
                continue
            notify(part.title)
            try:
                figures.extend(part.measure())
            except BenchmarkError as error:
                notify(f"  not runnable: {error}")
                not_runnable[part.name] = str(error)
                reasons.update(dict.fromkeys(part.targets, str(error)))
    targets = target_results(figures, reasons)
    record = {
        "benchmark": "scale",
        "schema": 1,
        "machine": described,
        "settings": {**asdict(settings), "only": sorted(settings.only)},
        "sysctls_restored": {name: list(values) for name, values in kernel.changed.items()},
        "sysctls_not_restored": kernel.failed,
        "not_runnable": not_runnable,
        "figures": [figure.as_json() for figure in figures],
        "checks": [asdict(check) for check in checks],
        "rows": [result.as_json() for result in targets],
    }
    return Outcome(record, targets, all(check.ok for check in checks))


def _parts(settings: Settings, checks: list[Check], notify: Notify) -> list[_Part]:
    nodes, many, repeats = settings.nodes, settings.many, settings.repeats
    return [
        _Part(
            "native-100",
            f"native ring of {nodes}, {repeats} times",
            (11,),
            lambda: start_times(nodes, repeats, checks, notify),
        ),
        _Part(
            "native-1000",
            f"native ring of {many:,}",
            (10, 12, 13, 15),
            lambda: many_nodes(many, settings.idle_seconds, checks, notify),
        ),
        _Part(
            "docker",
            f"docker ring of {settings.containers}, {repeats} times",
            (14,),
            lambda: against_idle_containers(settings.containers, repeats, notify),
        ),
        _Part("receive", "zero-copy receive in Python", (16,), lambda: receive_cost(notify)),
        _Part("mininet", f"Mininet, line of {nodes}", (), lambda: _mininet(nodes, notify)),
    ]


def _mininet(nodes: int, notify: Notify) -> Iterator[Figure]:
    times = mininet.boot(nodes, timeout=300)
    notify(f"  up {times.up_seconds:.2f} s, down {times.down_seconds:.2f} s")
    how = "one run, Linux bridges, one process started, imports left out"
    yield Figure(f"Mininet start, line of {nodes}", times.up_seconds, "s", how)
    yield Figure(f"Mininet stop, line of {nodes}", times.down_seconds, "s", how)
