"""A scenario, and its resolution against a topology."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import Place, ScenarioInvalid, nearest_hint, quoted
from orchestrator.protocol.messages import TimelineChange
from orchestrator.scenario.captures import CaptureEntry, CapturePlan, resolve_captures
from orchestrator.scenario.checks import Check
from orchestrator.scenario.params import Param, ParamInvalid
from orchestrator.scenario.plots import Plot
from orchestrator.scenario.timeline import expand
from orchestrator.scenario.timeline_entries import Entry
from orchestrator.scenario.traffic import TrafficDraft, resolve_traffic
from orchestrator.source import Problems
from orchestrator.topology import LabTest, Node, SelectorInvalid, Topology
from orchestrator.topology.lab_tests import build_lab_tests
from orchestrator.topology.selector import select
from orchestrator.traffic import ROLE, TrafficEntry

__all__ = ["RoleSpec", "RunPlan", "Scenario"]

# The control connection carries 4 MiB in a message, and the code shares one with the parameters.
_MOST_BYTES = 3 * 1024 * 1024
_LEFT_OUT = frozenset({"__pycache__", "results"})


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """One role: who plays it, where the file says so, and whether it runs in a process of its own."""

    name: str
    nodes: tuple[str, ...]
    place: Place
    isolated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A scenario with everything settled: who does what, with which values, for how long.

    Attributes:
        scenario: The scenario's name.
        roles: The nodes of each role, in order.
        params: Every parameter as roles see it.
        uploads: Parameters that are files of this machine, which the nodes have to be given.
        names: The nodes' names.
        checks: What has to hold.
        timeout: Seconds until the run is ended.
        entry: The file with the roles, relative to the scenario's folder.
        timeline: What is done to links and nodes during the run, in order.
        isolated: The roles that run in processes of their own.
        tests: What has to hold in the lab when the roles have ended.
        plots: What is drawn of the run besides the usual plots.
        captures: What is captured during the run.
        traffic: What nodes send besides.
    """

    scenario: str
    roles: Mapping[str, tuple[int, ...]]
    params: Mapping[str, Any]
    uploads: Mapping[str, Path]
    names: Mapping[int, str]
    checks: tuple[Check, ...]
    timeout: float
    entry: str
    timeline: tuple[TimelineChange, ...] = ()
    isolated: tuple[str, ...] = ()
    tests: tuple[LabTest, ...] = ()
    plots: tuple[Plot, ...] = ()
    captures: tuple[CapturePlan, ...] = ()
    traffic: tuple[TrafficEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario folder that has been read and found sound.

    Attributes:
        name: Its name.
        summary: One line about it.
        folder: Where it is.
        topology: The topology file it asks for, if any.
        params: Its parameters by name.
        roles: Its roles by name, in the order of the file.
        checks: What has to hold in the end.
        timeout: Seconds until a run is ended.
        entry: The file with the roles.
        modules: Python modules that the nodes have to have.
        programs: Programs that they have to have.
        timeline: What is done to links and nodes during a run.
        faults: Whether roles may change links.
        tests: What has to hold in the lab when the roles have ended, as read; see `lab_tests`.
        plots: What is drawn of a run besides the usual plots.
        captures: What is captured during a run.
        traffic: What nodes send during a run, beside their roles.
    """

    name: str
    summary: str
    folder: Path
    topology: Path | None
    params: Mapping[str, Param]
    roles: Mapping[str, RoleSpec]
    checks: tuple[Check, ...]
    timeout: float
    entry: str = "roles.py"
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    timeline: tuple[Entry, ...] = ()
    faults: bool = False
    tests: tuple[Mapping[str, Any], ...] = ()
    plots: tuple[Plot, ...] = ()
    captures: tuple[CaptureEntry, ...] = ()
    traffic: tuple[TrafficDraft, ...] = ()

    def resolve(
        self,
        topology: Topology,
        params: Mapping[str, object] | None = None,
        timeout_s: float | None = None,
        seed: int | None = None,
    ) -> RunPlan:
        """Settle roles, parameters and the timeline for one topology.

        Args:
            topology: The lab's topology.
            params: Values by name: text as from `--param`, or Python values of the parameter's type.
            timeout_s: The run's time limit; the scenario's unless given.
            seed: The run's seed, from which traffic is drawn; the topology's unless given.

        Raises:
            ScenarioInvalid: Carries every parameter, role and entry of the timeline that does not fit.
        """
        problems = Problems("scenario")
        values = self._values(params or {}, problems)
        roles = self._assign_roles(topology, problems)
        timeout = timeout_s or self.timeout
        timeline = expand(self.timeline, topology, timeout, f"timeline of {self.name}", problems)
        tests = build_lab_tests(self.tests, topology.nodes, problems)
        captures = resolve_captures(self.captures, topology, problems)
        drawn = topology.seed if seed is None else seed
        traffic = resolve_traffic(self.traffic, topology, timeout, drawn, problems)
        problems.raise_as(ScenarioInvalid, self.name)
        files = {name for name, param in self.params.items() if param.type == "file" and values[name]}
        return RunPlan(
            scenario=self.name,
            roles=_with_traffic(roles, traffic),
            params=values,
            uploads={name: Path(values[name]) for name in sorted(files)},
            names={node.id: node.name for node in topology.nodes.values()},
            checks=self.checks,
            timeout=timeout,
            entry=self.entry,
            timeline=timeline,
            isolated=tuple(role.name for role in self.roles.values() if role.isolated),
            tests=tests,
            plots=self.plots,
            captures=captures,
            traffic=traffic,
        )

    def lab_tests(self, topology: Topology) -> tuple[LabTest, ...]:
        """Return the tests with the nodes that they mean in a topology.

        Raises:
            ScenarioInvalid: One names a node that the topology does not have.
        """
        problems = Problems("scenario")
        tests = build_lab_tests(self.tests, topology.nodes, problems)
        problems.raise_as(ScenarioInvalid, self.name)
        return tests

    def files(self) -> dict[str, bytes]:
        """Return the folder's files by relative path, as the nodes get them.

        Raises:
            ScenarioInvalid: They are more than a control message carries.
        """
        found: dict[str, bytes] = {}
        total = 0
        for path in sorted(self.folder.rglob("*")):
            parts = path.relative_to(self.folder).parts
            hidden = any(part in _LEFT_OUT or part.startswith(".") for part in parts)
            if hidden or path.is_symlink() or not path.is_file():
                continue
            total += path.stat().st_size
            if total > _MOST_BYTES:
                problems = Problems("scenario")
                problems.add(
                    f"the scenario's files are larger than {_MOST_BYTES // 2**20} MiB together",
                    "too-large",
                    Place(str(path)),
                    expected="code and small data",
                    hint="hand large files over as a parameter of the type `file`",
                )
                problems.raise_as(ScenarioInvalid, self.name)
            found["/".join(parts)] = path.read_bytes()
        return found

    def _values(self, given: Mapping[str, object], problems: Problems) -> dict[str, Any]:
        for name in given:
            if name not in self.params:
                known = f"parameters are {quoted(self.params)}" if self.params else "it takes none"
                problems.add(
                    f"the scenario {self.name} has no parameter `{name}`",
                    "unknown-param",
                    Place(f"--param {name}={given[name]}"),
                    found=name,
                    expected=quoted(self.params) or None,
                    hint=nearest_hint(name, self.params, otherwise=known),
                )
        values: dict[str, Any] = {}
        for name, param in self.params.items():
            if name not in given:
                values[name] = param.default
                if param.default is None:
                    problems.add(
                        f"the parameter `{name}` has no default and has to be given",
                        "missing-param",
                        None,
                        expected=f"--param {name}=…",
                        hint=param.help or None,
                    )
                continue
            try:
                values[name] = param.read(given[name])
            except ParamInvalid as error:
                problems.add(
                    f"{name} is `{given[name]}`, but {error.reason}",
                    "param",
                    Place(f"--param {name}={given[name]}"),
                    found=str(given[name]),
                    expected=error.expected,
                    hint=error.hint,
                )
        return values

    def _assign_roles(self, topology: Topology, problems: Problems) -> dict[str, tuple[int, ...]]:
        """Return who plays what; `all` and `rest` leave out external nodes."""
        ours = {number: node for number, node in topology.nodes.items() if not node.external}
        assigned: dict[str, tuple[int, ...]] = {}
        # `rest` comes last: it is what the other roles have left.
        for role in sorted(self.roles.values(), key=lambda role: "rest" in role.nodes):
            taken = {node for nodes in assigned.values() for node in nodes}
            members: set[int] = set()
            for word in role.nodes:
                try:
                    members.update(self._chosen(word, topology, ours, taken))
                except SelectorInvalid as error:
                    problems.add(
                        f"role `{role.name}` names `{error.found}`, which {error.reason} in {topology.name}",
                        "selector",
                        role.place,
                        found=error.found,
                        expected=error.expected,
                        hint=error.hint,
                    )
            self._check_role(role, members, taken, topology, problems)
            assigned[role.name] = tuple(sorted(members))
        return {name: assigned[name] for name in self.roles}

    def _chosen(
        self, word: str, topology: Topology, ours: Mapping[int, Node], taken: set[int]
    ) -> tuple[int, ...]:
        return select(word, ours if word in ("all", "rest") else topology.nodes, taken=taken)

    def _check_role(
        self, role: RoleSpec, members: set[int], taken: set[int], topology: Topology, problems: Problems
    ) -> None:
        for node in sorted(members & taken):
            problems.add(
                f"node {node} would play `{role.name}` and another role at once",
                "role-overlap",
                role.place,
                found=str(node),
                expected="one role a node",
                hint="`rest` means the nodes that no other role has",
            )
        for node in sorted(members):
            if topology.nodes[node].external:
                problems.add(
                    f"the role `{role.name}` cannot run in node {node}, which is external",
                    "role-external",
                    role.place,
                    found=str(node),
                )
        if not members and not len(problems):
            problems.add(
                f"no node is left for the role `{role.name}`",
                "role-empty",
                role.place,
                expected="at least one node",
                hint=f"the topology {topology.name} has {len(topology.nodes)} nodes",
            )


def _with_traffic(
    roles: Mapping[str, tuple[int, ...]], traffic: tuple[TrafficEntry, ...]
) -> dict[str, tuple[int, ...]]:
    """Add the nodes that carry traffic and have no role."""
    playing = {node for nodes in roles.values() for node in nodes}
    alone = {node for entry in traffic for node in entry.nodes} - playing
    return {**roles, ROLE: tuple(sorted(alone))} if alone else dict(roles)
