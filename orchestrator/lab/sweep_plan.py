"""Check a sweep as a whole and make its folder, before anything is started."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from orchestrator import clock, topology
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import Backend, LabState
from orchestrator.errors import UsageError
from orchestrator.lab.host_facts import machine_facts
from orchestrator.lab.manifest import origin_facts
from orchestrator.lab.run import load_topology
from orchestrator.lab.run_options import topology_of
from orchestrator.lab.simulated_limits import require_simulable
from orchestrator.lab.sweep_folder import SweepFolder, topology_digest
from orchestrator.scenario import Axis, Combination, combinations, load, ordered_runs, read_axes

__all__ = ["Carrier", "SweepOptions", "make_sweep"]

Carrier = Backend | Literal["simulated"]
"""What carries the runs of a sweep: the backend of their labs, or the simulated network."""


@dataclass(frozen=True)
class SweepOptions:
    """What the user asked for, besides the scenario.

    Attributes:
        axes: What stood behind each `--sweep`, or the values of each key.
        repeat: How often each combination is run; once unless given.
        params: Parameters with a fixed value.
        topology: The topology file; the scenario's own unless given.
        backend: What carries the labs that are brought up, or `simulated` for none.
        results: The folder in which the sweep gets a folder of its own; `results` unless given.
        seed: The sweep's seed; the topology's unless given.
        timeout_s: The time limit of each run; the scenario's unless given.
        plot: `COLUMN` or `ROLE.COLUMN` to plot.
    """

    axes: Sequence[str] | Mapping[str, Sequence[object]] = ()
    repeat: int | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    topology: Path | None = None
    backend: Carrier | None = None
    results: Path | None = None
    seed: int | None = None
    timeout_s: float | None = None
    plot: str | None = None


def make_sweep(
    scenario: str | Path, options: SweepOptions, lab: tuple[LabDirectory, LabState] | None = None
) -> SweepFolder:
    """Read scenario, keys and topologies, check every combination, and write the folder.

    Args:
        scenario: Its name or folder.
        options: What the user asked for.
        lab: A lab that is up, in which all runs are made; labs of its own are brought up unless given.

    Raises:
        UsageError: A key or a value is wrong, or there is no topology.
        TopologyInvalid: A value makes no topology.
        ScenarioInvalid: The scenario is wrong, or does not fit a topology.
        HostNotFit: The folder cannot be written.
    """
    wanted = load(scenario)
    axes = read_axes(options.axes, wanted, options.params)
    combined = combinations(axes)
    if lab is not None:
        _require_params_only(axes, lab[1].lab)
        meant = load_topology(lab[0])
        by_number = {each.number: meant for each in combined}
        seed, file = lab[1].seed, lab[1].topology
    else:
        source = topology_of(wanted, options.topology)
        by_number = _topologies(source, axes, combined)
        seed, file = by_number[1].seed, str(source)
    seed = seed if options.seed is None else options.seed
    for each in combined:
        given = {**options.params, **each.of_kind(axes, "param")}
        plan = wanted.resolve(by_number[each.number], given, options.timeout_s)
        if options.backend == "simulated":
            require_simulable(wanted, plan, by_number[each.number])
    digests = {number: topology_digest(each) for number, each in by_number.items()}
    runs = ordered_runs(combined, digests, options.repeat or 1, seed)
    short = secrets.token_hex(3)
    name = f"sweep-{wanted.name}-{short}"
    stamp = clock.utc_text(clock.SystemClock().wall())
    path = (options.results or Path("results")) / f"{stamp[:19].replace(':', '').replace('T', '-')}-{name}"
    fixed = {key: plan.params[key] for key in options.params}
    document = {
        "sweep": name,
        "scenario": wanted.name,
        "started": stamp,
        "seed": seed,
        "repeat": options.repeat or 1,
        "axes": [{"key": axis.key, "kind": axis.kind, "values": list(axis.values)} for axis in axes],
        "params": fixed,
        "timeout": options.timeout_s,
        "plot": options.plot,
        "lab": lab[1].lab if lab else f"sweep-{short}",
        "own_lab": lab is None,
        "backend": lab[1].backend if lab else options.backend,
        "topology_of": {str(number): digest for number, digest in digests.items()},
        "origin": origin_facts(wanted.folder, file),
        **machine_facts(),
    }
    topologies = {digests[number]: each for number, each in by_number.items()}
    return SweepFolder.create(path, document, wanted, topologies, runs)


def _require_params_only(axes: Sequence[Axis], lab: str) -> None:
    for axis in axes:
        if axis.kind == "topology":
            raise UsageError(
                f"`{axis.key}` is a key of the topology, and lab {lab} is up with one topology",
                id="run.lab-differs",
                found=f"--sweep {axis.key}",
                hint="without `-n` the sweep brings up labs of its own, beside those that are up",
            )


def _topologies(
    source: Path, axes: Sequence[Axis], combined: Sequence[Combination]
) -> dict[int, topology.Topology]:
    """The topology of each combination; equal values are read once."""
    read: dict[tuple[str, ...], topology.Topology] = {}
    found = {}
    for each in combined:
        overrides = tuple(f"{key}={value}" for key, value in each.of_kind(axes, "topology").items())
        if overrides not in read:
            read[overrides] = topology.load(source, overrides, "--sweep")
        found[each.number] = read[overrides]
    return found
