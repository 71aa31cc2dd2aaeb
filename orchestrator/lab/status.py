"""Determine the state of a lab from the controller's report and the running parts.

starting   `nm up` is at it
ready      every node that should be there is ready
degraded   something is missing; the problems say what, and `nm up` repairs it
failed     nothing of it works: a start that was cut off, or every part is gone
down       there is no such lab
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator import services
from orchestrator.deploy import state as notes
from orchestrator.deploy import supervision
from orchestrator.deploy.backends import host_for
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.host import Host, Part
from orchestrator.deploy.state import LabState, NodeNote
from orchestrator.errors import NmError
from orchestrator.impairment import LinkSpec
from orchestrator.lab.damage import damaged, missing
from orchestrator.lab.operator import operator
from orchestrator.lab.planned_change import is_interrupted
from orchestrator.plan import AUTHORITY_FILE
from orchestrator.protocol.messages import GroupStatus, LinkStatus, RunStatus, Status
from orchestrator.protocol.tokens import TOKEN_FILE
from orchestrator.services import ServiceState
from orchestrator.supervisor.restarts import DEATHS, WINDOW_S
from orchestrator.transport import Disconnected

SHOWN = 3
"""The number of parts, not restarted any more, whose last log lines are shown."""

LAST_LINES = 5
"""The number of log lines shown for a part that is not restarted any more."""


@dataclass(frozen=True)
class NodeInfo:
    """A node of a lab.

    Attributes:
        id: Its number.
        name: Its name.
        state: `starting`, `ready`, `degraded` (it carries packets, but runs no roles as it should),
            `unreachable`, `paused`, `stopped` or `vacant` (an external node without a program).
        address: On the emulated network.
        config: Its TOML file.
        external: Whether it is an external node.
        why: What it still waits for; empty when ready.
        address6: Its IPv6 address there; None without one.
        prefixes: The networks behind it.
        uplink: Whether it has a way to the outside.
    """

    id: int
    name: str
    state: str
    address: str
    config: str
    external: bool = False
    why: str = ""
    address6: str | None = None
    prefixes: tuple[str, ...] = ()
    uplink: bool = False

    @classmethod
    def of(cls, note: NodeNote, state: str, why: str = "") -> NodeInfo:
        """Return a node as `up` wrote it down, in a state."""
        return cls(
            note.id,
            note.name,
            state,
            note.address,
            note.config,
            note.external,
            why,
            note.address6,
            note.prefixes,
            note.uplink,
        )


@dataclass(frozen=True)
class LinkInfo:
    """A link of a lab: its state, what it does in each direction now, and what carries it.

    `forward` and `backward` are None where that is not known, because the controller does not answer; the
    state is `unknown` then.

    `kind` is `memory` within one process, and `shared` (memory), `unix` (a socket) or `tcp` between two; it
    is empty while the link is not up. `reason` says why it is not up, or not as it was set, where an end
    knows. `down` is the direction that `nm link down` or a partition took down: `forward`, `backward`, `both`
    or empty.
    """

    a: int
    b: int
    state: str
    forward: LinkSpec | None = None
    backward: LinkSpec | None = None
    kind: str = ""
    reason: str = ""
    down: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the link as `nm status -o json` shows it."""
        return {
            "a": self.a,
            "b": self.b,
            "state": self.state,
            "kind": self.kind,
            "reason": self.reason,
            "down": self.down,
        }

    def details(self) -> dict[str, Any]:
        """Return the same with what it does in each direction, as `nm link show -o json` shows it."""
        return {
            **self.as_json(),
            "forward": self.forward.to_wire() if self.forward else None,
            "backward": self.backward.to_wire() if self.backward else None,
            "queue_limit_bytes": self.queue_limit_bytes(),
        }

    def queue_limit_bytes(self) -> dict[str, int | None]:
        """Return the limit of the queue in each direction, stated or default; None where there is none."""
        ways = {"forward": self.forward, "backward": self.backward}
        return {way: spec.queue_limit_bytes if spec else None for way, spec in ways.items()}


@dataclass(frozen=True)
class LabStatus:
    """A lab as a whole.

    Attributes:
        lab: Its name.
        backend: What carries it.
        state: See the module.
        nodes: In order of id.
        links: In order of their ends.
        problems: What is wrong, as sentences.
        parts: The long-lived pieces, and whether they run.
        groups: Multicast groups, as the controller has them; None while it does not answer.
        runs: Runs under way, and the last few that ended; None while the controller does not answer.
        services: The user's own services, in the order of their start.
        note: What `up` wrote down.
        token_file: The file with the operator's token.
        ca_file: The file with the certificate authority of the controller; None without TLS.
    """

    lab: str
    backend: str
    state: str
    nodes: tuple[NodeInfo, ...]
    links: tuple[LinkInfo, ...]
    problems: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    groups: tuple[GroupStatus, ...] | None = None
    runs: tuple[RunStatus, ...] | None = None
    services: tuple[ServiceState, ...] = ()
    note: LabState | None = field(default=None, repr=False)
    token_file: str | None = None
    ca_file: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The lab as `nm status -o json` shows it."""
        return {
            "lab": self.lab,
            "backend": self.backend,
            "state": self.state,
            "nodes": [
                {
                    "id": node.id,
                    "name": node.name,
                    "state": node.state,
                    "address": node.address,
                    "address6": node.address6,
                    "config": node.config,
                    "external": node.external,
                    "why": node.why,
                    "prefixes": list(node.prefixes),
                    "uplink": node.uplink,
                }
                for node in self.nodes
            ],
            "links": [link.as_json() for link in self.links],
            "services": [service.as_json() for service in self.services],
            "problems": list(self.problems),
        }

    def details(self) -> dict[str, Any]:
        """The lab as `nm inspect -o json` shows it: all that is known."""
        note = self.note
        return {
            **self.as_json(),
            "nodes": self._nodes_with_settings(),
            "links": [link.details() for link in self.links],
            "parts": [{"part": p.role, "running": p.running, "detail": p.detail} for p in self.parts],
            "groups": [
                {
                    "group_id": group.group_id,
                    "address": group.group_ip,
                    "source": group.src_node_id,
                    "label": group.label,
                    "members": list(group.members),
                    "trees": {str(tree): [list(e) for e in edges] for tree, edges in group.trees.items()},
                }
                for group in self.groups
            ]
            if self.groups is not None
            else None,
            "runs": [
                {"run": run.run, "scenario": run.scenario, "state": run.state, "reason": run.reason}
                for run in self.runs
            ]
            if self.runs is not None
            else None,
            "run_id": note.run if note else None,
            "topology": note.topology if note else None,
            "seed": note.seed if note else None,
            "created": note.created if note else None,
            "controller": note.controller_url if note else None,
            **self._rest_api(),
            "subnet": note.subnet if note else None,
            "ttl_mode": note.ttl_mode if note else None,
            "tcp_buffers": dict(note.buffers) if note else None,
        }

    def _rest_api(self) -> dict[str, str | None]:
        """Where the REST API, its OpenAPI document, the operator's token and the certificate are."""
        api = self.note.api_url if self.note else None
        return {
            "api_url": api,
            "openapi_url": f"{api}/openapi.json" if api else None,
            "token_file": self.token_file,
            "ca_file": self.ca_file,
        }

    def _nodes_with_settings(self) -> list[dict[str, Any]]:
        """The nodes with their kernel settings."""
        note = self.note
        stated = {node.id: {**note.buffers, **node.sysctls} for node in note.nodes} if note else {}
        return [{**node, "sysctls": stated.get(node["id"], {})} for node in self.as_json()["nodes"]]


async def lab_status(directory: LabDirectory, state: LabState) -> LabStatus:
    """Ask the controller, and look at the parts; never fails for what is wrong with the lab itself."""
    host = host_for(state.backend)
    try:
        seen = await _ask(directory, state)
    except NmError as error:
        parts = await host.parts(directory, state)
        status = _without_controller(state, parts, error, await _gone(host, directory, state, parts))
    else:
        parts = await host.parts(directory, state)
        status = _with_controller(state, parts, seen, await _gone(host, directory, state, parts))
        gone = missing(directory, state)
        if gone:
            kind = "degraded" if status.state == "ready" else status.state
            problems = (*status.problems, damaged(directory, gone).message)
            status = replace(status, state=kind, problems=problems)
    if is_interrupted(directory):
        text = "a change of the lab is under way, or was interrupted: the same command again completes it"
        status = replace(status, problems=(*status.problems, text))
    status = await _with_services(host, directory, state, status)
    ca_file = str(directory.run / AUTHORITY_FILE) if state.tls else None
    status = replace(status, token_file=str(directory.run / TOKEN_FILE), ca_file=ca_file)
    if supervision.wanted(state):
        report = supervision.report(directory, state)
        status = replace(status, parts=(*status.parts, Part("supervisor", report.running, str(report))))
    return status


async def _with_services(
    host: Host, directory: LabDirectory, state: LabState, status: LabStatus
) -> LabStatus:
    """Add the services; a lab is degraded while one is not as it should be and its node runs."""
    if not services.read(directory.run):
        return status
    seen = tuple(await host.services(directory, state))
    wrong = [each for each in seen if not each.good and each.state != "stopped"]
    status = replace(status, services=seen)
    if not wrong or status.state not in ("ready", "degraded"):
        return status
    problems = [f"service {each.service} in node {each.node} {each.sentence()}" for each in wrong[:SHOWN]]
    if len(wrong) > SHOWN:
        problems.append(f"and {len(wrong) - SHOWN} services more are not as they should be")
    return replace(status, state="degraded", problems=(*status.problems, *problems))


async def _ask(directory: LabDirectory, state: LabState) -> Status:
    """Ask the controller; repeat the request if it ended while answering and was restarted."""
    try:
        async with operator(directory, state) as connection:
            return await connection.status()
    except Disconnected:
        async with operator(directory, state) as connection:
            return await connection.status()


async def all_labs(home: Home) -> list[LabStatus]:
    """The status of every lab of this home, asked at once."""
    found = [(lab, note) for lab in home.labs() if (note := notes.read(lab)) is not None]
    return list(await asyncio.gather(*(lab_status(lab, note) for lab, note in found)))


def _with_controller(state: LabState, parts: Sequence[Part], seen: Status, gone: Sequence[str]) -> LabStatus:
    lost = {node: part for part in parts if part.missing for node in part.nodes}
    by_id = {node.id: node for node in seen.nodes}
    nodes = []
    for note in state.nodes:
        node = by_id.get(note.id)
        kind, why = (node.state, node.why) if node else ("unreachable", "the controller does not know it")
        if note.id in lost:
            kind, why = _state_without(lost[note.id])
        nodes.append(NodeInfo.of(note, kind, why))
    problems = [*_cut_off(state), *seen.problems, *gone, *_not_ready(nodes)]
    kind = seen.state
    if state.phase != "up":
        kind = "failed" if state.owner_gone() else "starting"
    elif gone or seen.health != "ok" or any(node.state == "degraded" for node in nodes):
        kind = "degraded"
    return LabStatus(
        lab=state.lab,
        backend=state.backend,
        state=kind,
        nodes=tuple(nodes),
        links=tuple(_link(link, lost) for link in seen.links),
        problems=tuple(problems) if kind != "ready" else (),
        parts=tuple(parts),
        groups=seen.groups,
        runs=seen.runs,
        note=state,
    )


def _state_without(part: Part) -> tuple[str, str]:
    """The state of a node whose part does not run, and why."""
    if part.paused:
        return "paused", "its container is paused; `nm up` resumes it"
    if part.detail.startswith("container is not on"):
        return "unreachable", "its container is not on the lab's network; `nm up` recreates it"
    return "stopped", "its process is gone"


def _link(link: LinkStatus, lost: Mapping[int, Part]) -> LinkInfo:
    """A link as it is: the controller may not know yet that an end is gone, and a paused one never says."""
    state, kind, reason = link.state, link.kind, link.reason
    gone = next((node for node in (link.a, link.b) if node in lost), None)
    if gone is not None and state == "up":
        state, kind, reason = "down", "", f"node {gone} is {_state_without(lost[gone])[0]}"
    return LinkInfo(link.a, link.b, state, link.forward, link.backward, kind, reason, link.down)


def _not_ready(nodes: Sequence[NodeInfo]) -> list[str]:
    """What keeps nodes from being ready: one sentence for all that wait for the same thing."""
    alike: dict[tuple[str, str], list[int]] = {}
    for node in nodes:
        if node.why and node.state != "vacant":
            alike.setdefault((node.state, node.why), []).append(node.id)
    return [
        f"node {numbers[0]} is {state}: {why}"
        if len(numbers) == 1
        else f"{len(numbers)} nodes ({ranges(numbers)}) are {state}: {why}"
        for (state, why), numbers in alike.items()
    ]


def ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers as `1-3, 7`."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def _without_controller(
    state: LabState, parts: Sequence[Part], error: NmError, gone: Sequence[str]
) -> LabStatus:
    running = {node for part in parts if part.running for node in part.nodes}

    def kind_of(node: int, external: bool) -> str:
        # Whether an external node has a program is known to the controller alone.
        return "unreachable" if external or node in running else "stopped"

    kind = "degraded" if any(part.running for part in parts) else "failed"
    if state.phase != "up":
        kind = "failed" if state.owner_gone() else "starting"
    return LabStatus(
        lab=state.lab,
        backend=state.backend,
        state=kind,
        nodes=tuple(NodeInfo.of(note, kind_of(note.id, note.external)) for note in state.nodes),
        links=tuple(LinkInfo(a, b, "unknown") for a, b in state.links),
        problems=(*_cut_off(state), error.message, *gone),
        parts=tuple(parts),
        note=state,
    )


def _cut_off(state: LabState) -> list[str]:
    """Why a lab is not usable although its parts may all run."""
    if not state.owner_gone():
        return []
    return ["its start was interrupted; `nm up` with its file starts it again, `nm down` removes it"]


async def _gone(host: Host, directory: LabDirectory, state: LabState, parts: Sequence[Part]) -> list[str]:
    """Name the parts that do not run, and say what becomes of them."""
    report = supervision.report(directory, state)
    found, shown = [], 0
    for part in parts:
        if not part.missing:
            continue
        sentence = f"{part.role} does not run ({part.detail})"
        if part.role in report.left_dead:
            sentence += f"; it ended {DEATHS} times within {WINDOW_S:g} s"
            sentence += " and is not restarted any more, `nm up` starts it"
        elif report.running:
            sentence += "; it is being restarted"
        # A container that has exited is not restarted by the engine any more.
        if part.role in report.left_dead or part.detail.startswith("container exited"):
            shown += 1
            if shown <= SHOWN and (lines := await host.tail(directory, part.role, LAST_LINES)):
                sentence += f"; its last output: {' · '.join(line.strip() for line in lines)}"
        found.append(sentence)
    return found
