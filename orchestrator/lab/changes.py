"""Make a lab that is up another one: show the difference to a topology, and put it in force.

    check → the target beside the lab's files → what is new: files → state → controller → backend → ready
      → routes leave what is to go → its nodes are stopped → the same for the target → topology.yaml

Every step may be repeated. Until the last one the lab's `topology.yaml` is that of before, and the target is
in `change.json`: the same command again completes a change that was interrupted, another one undoes it first,
and so does a change that fails.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator import plan, render, services
from orchestrator.deploy import node_states
from orchestrator.deploy import state as notes
from orchestrator.deploy.backends import host_for
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.host import TAIL_LINES, Progress
from orchestrator.deploy.locks import machine_lock
from orchestrator.deploy.native.changed_nodes import placed
from orchestrator.deploy.ports import free_ports
from orchestrator.deploy.preflight import require_fit
from orchestrator.deploy.state import LabState
from orchestrator.errors import NmError, UsageError, counted
from orchestrator.lab.damage import damaged
from orchestrator.lab.node_faults import GONE_S, NodeNotBack
from orchestrator.lab.operator import Operator, operator
from orchestrator.lab.planned_change import (
    CHANGE_FILE,
    Pending,
    PlannedChange,
    pending_of,
    require_live,
    write_pending,
)
from orchestrator.lab.prepared import digest_of, first_note, nodes_beside, planned_of
from orchestrator.protocol import PeerError
from orchestrator.protocol.messages import ChangeLab, NodeFault
from orchestrator.settings import ControllerSettings, load_controller
from orchestrator.topology import Topology
from orchestrator.topology.difference import difference

__all__ = ["apply"]

CONTROLLER_S = 20.0
"""How long a controller may take to be reached that was started again a moment ago."""

UNDO = "undo"
"""The cause of a change that undoes another one, for the events."""


@dataclass(frozen=True)
class _Step:
    """What one change of a lab has to do.

    Attributes:
        target: What the lab is to be.
        gone: The nodes that may be there and are not to be.
        start: Nodes that were stopped to be removed, and are to run again.
        before: What the lab was, by its files.
        force: Remove what uses removed nodes and links.
        cause: Who or what asked, for the events.
        timeout_s: How long new nodes may take to be ready.
        digest: Of the file that is applied.
        grown: What the lab is first, with what is new and what is to go.
    """

    target: Topology
    gone: tuple[int, ...]
    before: Topology
    start: tuple[int, ...] = ()
    force: bool = False
    cause: str = "operator"
    timeout_s: float = 60.0
    digest: str = ""
    grown: Topology | None = None


async def apply(
    directory: LabDirectory,
    state: LabState,
    change: PlannedChange,
    progress: Progress,
    *,
    force: bool = False,
    timeout_s: float = 60.0,
    cause: str = "operator",
    digest: str = "",
) -> LabState:
    """Put a change in force, and return the lab's state; the caller has the lab's lock.

    A change that fails is undone.

    Args:
        directory: The lab's folder.
        state: Its state.
        change: What `make` returned.
        progress: Told what is waited for.
        force: Remove what uses removed nodes and links: explicit routes, groups, flows.
        timeout_s: How long new nodes may take to be ready.
        cause: Who or what asked, for the events.
        digest: Of the file that is applied, to recognise it.

    Raises:
        UsageError: It cannot be done while the lab runs (`lab.differs`), or something is in use
            (`lab.in-use`); nothing was changed.
        NodeNotBack: A new node did not become ready.
        NmError: It could not be done.
    """
    from orchestrator.lab.run import load_topology

    current, pending = load_topology(directory), pending_of(directory)
    require_live(state, change.entries)
    stopped: tuple[int, ...] = ()
    if pending is not None and not difference(pending.target, change.target):
        stopped = pending.stopped
    elif pending is not None:
        progress("undoing a change that was interrupted")
        state = await _undo(directory, state, current, pending, progress)
    if change.difference.added:
        local = sum(not node.external for node in change.target.nodes.values())
        home = Home(directory.home)
        await require_fit(state.backend, nodes=local, processes=max(1, len(state.hosts)), home=home)
    gone = tuple(sorted(set(current.nodes) - set(change.target.nodes)))
    step = _Step(
        change.target,
        gone,
        current,
        force=force,
        cause=cause,
        timeout_s=timeout_s,
        digest=digest or digest_of(change.target, ()),
        grown=_grown(current, change.target),
    )
    try:
        return await _converge(directory, state, step, stopped, progress)
    except NmError as error:
        left = pending_of(directory)
        if left is None:
            raise  # nothing was changed
        progress("undoing the change")
        try:
            await _undo(directory, notes.read(directory) or state, current, left, progress)
        except NmError as failure:
            error.hint = f"undoing it failed as well ({failure.message}); the same command again completes it"
        raise


async def _undo(
    directory: LabDirectory, state: LabState, current: Topology, pending: Pending, progress: Progress
) -> LabState:
    gone = tuple(sorted(set(pending.target.nodes) - set(current.nodes)))
    digest = "undone"  # of no file: the next `nm up` compares the topologies
    start = tuple(node for node in pending.stopped if node in current.nodes)
    step = _Step(current, gone, pending.target, start, force=True, cause=UNDO, digest=digest)
    return await _converge(directory, state, step, (), progress)


async def _converge(
    directory: LabDirectory, state: LabState, step: _Step, stopped: Sequence[int], progress: Progress
) -> LabState:
    """Make the lab the target, whatever an interrupted change left."""
    host = host_for(state.backend)
    if any(part.missing for part in await host.parts(directory, state)):
        # The supervisor cannot start them meanwhile: we have the lab's lock.
        state = await host.start(directory, state, progress)
    async with operator(directory, state, CONTROLLER_S) as connection:
        known = {node.id: node for node in (await connection.status()).nodes}
        planned, state = await _planned(directory, state, step.target, step.before)
        await _check(connection, planned, step)
        ours = [n for n in step.gone if n in known and not known[n].external]
        running = [n for n in ours if known[n].state != "stopped"]
        if step.cause != UNDO:  # otherwise the file of the change that is undone stays until that is done
            write_pending(directory, step.target, (*stopped, *running))
        if step.grown is not None:
            # Without those that an interrupted change has removed already.
            grown = _without(step.grown, set(step.gone) - known.keys())
            state = await _grow(connection, directory, state, replace(step, grown=grown), progress)
        await connection.change_lab(_message(planned, step, drain=True))
        if ours:
            progress(f"stopping {_nodes(ours)}")
            await connection.node_fault(NodeFault(tuple(ours), "stop", step.cause))
            node_states.record(directory, ours, "stopped")
            carried = [n for n in ours if any(node.id == n for node in state.nodes)]
            await host.act_on_nodes(directory, state, carried, "stop")
            await connection.wait_nodes(ours, GONE_S)
        state = await _put(connection, directory, state, planned, step, progress)
    render.update(planned, directory.run, commit=True)
    state = replace(state, digest=step.digest)
    notes.write(directory, state)
    (directory.run / CHANGE_FILE).unlink(missing_ok=True)
    return state


async def _grow(
    connection: Operator, directory: LabDirectory, state: LabState, step: _Step, progress: Progress
) -> LabState:
    """Make the lab the target, but with what is to go: so that there is always a way for packets."""
    assert step.grown is not None, "the caller looks"
    planned, state = await _planned(directory, state, step.grown, step.before)
    return await _put(connection, directory, state, planned, replace(step, gone=()), progress)


async def _put(
    connection: Operator,
    directory: LabDirectory,
    state: LabState,
    planned: plan.DeploymentPlan,
    step: _Step,
    progress: Progress,
) -> LabState:
    """Put a plan in force; return when its new nodes are ready."""
    host = host_for(state.backend)
    nodes = planned.topology.nodes
    render.update(planned, directory.run, commit=False)
    state = _with_nodes(state, planned.topology, directory)
    notes.write(directory, state)
    await connection.change_lab(_message(planned, step))
    node_states.record(directory, [*step.gone, *step.start], node_states.RUNNING)
    if step.start:
        await connection.node_fault(NodeFault(step.start, "start", step.cause))
    ended = _other_services(step.before, planned.topology)
    state = await host.change_nodes(directory, state, step.gone, ended, progress)
    if step.start:
        await host.act_on_nodes(directory, state, step.start, "start")
    new = [n for n, node in nodes.items() if not node.external and n not in step.before.nodes]
    if new:
        progress(f"waiting for {_nodes(new)}")
        await _wait(connection, directory, state, new, step.timeout_s)
    if _other_services(planned.topology, step.before):  # otherwise, one that had failed stays as it is
        state = await host.start_services(directory, state, progress, step.timeout_s)
    return state


def _other_services(before: Topology, after: Topology) -> set[str]:
    """Return the services of the first, by node, that are not the same in the second."""
    was, now = (
        {(node, each.name): replace(each, nodes=()) for each in one.services for node in each.nodes}
        for one in (before, after)
    )
    return {f"{node}/{name}" for (node, name), each in was.items() if now.get((node, name)) != each}


def _as_before(
    directory: LabDirectory, planned: plan.DeploymentPlan, before: Topology
) -> plan.DeploymentPlan:
    """Return a plan in which services that stay the same have the folder and the variables that they have.

    Both may come from beside the file that the lab was brought up from.
    """
    known = {each.service: each for each in services.read(directory.run)}
    was = {each.name: replace(each, nodes=()) for each in before.services}
    same = {
        each.name
        for each in planned.topology.services
        if each.name in known and was.get(each.name) == replace(each, nodes=())
    }
    instances = tuple(
        replace(
            each,
            working_dir=known[each.service].working_dir,
            environment=known[each.service].environment,
        )
        if each.service in same
        else each
        for each in planned.instances
    )
    return replace(planned, instances=instances)


def _without(topology: Topology, gone: Collection[int]) -> Topology:
    """Return a topology without some nodes, and their links."""
    nodes = {number: node for number, node in topology.nodes.items() if number not in gone}
    links = tuple(link for link in topology.links if link.a in nodes and link.b in nodes)
    return replace(topology, nodes=nodes, links=links)


def _grown(before: Topology, target: Topology) -> Topology | None:
    """Return the target with the nodes and links that are to go; None where nothing is to come first."""
    found = difference(before, target)
    kept = [
        old
        for ends, (old, new) in found.links.items()
        if old is not None and new is None and before.nodes.keys() >= set(ends)
    ]
    if found.added or any(old is None for old, _ in found.links.values()):
        gone = {n: node for n, node in before.nodes.items() if n not in target.nodes}
        links = sorted([*target.links, *kept], key=lambda link: (link.a, link.b))
        nodes = dict(sorted({**target.nodes, **gone}.items()))
        return replace(target, nodes=nodes, links=tuple(links)) if gone or kept else None
    return None


async def _planned(
    directory: LabDirectory, state: LabState, target: Topology, before: Topology
) -> tuple[plan.DeploymentPlan, LabState]:
    """Plan a topology with the secrets, addresses and ports that the lab has."""
    settings = load_controller(directory.run / "controller.toml")
    ports: dict[int, int] = {}
    if state.backend == "docker":
        ports, state = await _link_ports(directory, state, target, before)
    planned = planned_of(
        directory,
        state,
        target,
        (),
        link_ports=ports,
        db=_database(settings) if state.backend == "native" else None,
        secrets=plan.Secrets(
            node_key=settings.node_key,
            operator_token=settings.operator_token,
            link_secret=settings.link_secret,
            db_password=settings.db.password,
        ),
        certificates=_certificates(directory) if state.tls else None,
    )
    return _as_before(directory, planned, before), state


def _certificates(directory: LabDirectory) -> plan.Certificates:
    files = (plan.AUTHORITY_FILE, plan.CERTIFICATE_FILE, plan.KEY_FILE)
    try:
        authority, certificate, key = ((directory.run / name).read_text() for name in files)
    except OSError as error:
        raise damaged(directory, str(error)) from error
    return plan.Certificates(authority=authority, certificate=certificate, key=key)


async def _link_ports(
    directory: LabDirectory, state: LabState, target: Topology, before: Topology
) -> tuple[dict[int, int], LabState]:
    """Return the ports of neighbours of external nodes; a container that runs cannot get one.

    Raises:
        UsageError: One would have to.
    """
    given = {entry.node_id: entry.public_network_addr for entry in _entries(directory)}
    ports = {node: int(addr.rpartition(":")[2]) for node, addr in given.items() if addr}
    beside = nodes_beside(target, {n for n, node in target.nodes.items() if node.external})
    missing = [node for node in beside if node not in ports]
    for node in missing:
        if node in before.nodes:
            raise UsageError(
                f"node {node} cannot get a link to an external node while its container runs",
                id="lab.differs",
                found=str(node),
                hint="a published port is fixed when a container is made: `nm down`, then `nm up`",
            )
    home = Home(directory.home)
    async with machine_lock(home, "choice"):
        ports |= dict(zip(missing, free_ports(home, len(missing)), strict=True)) if missing else {}
        state = replace(state, published=tuple(sorted({*state.published, *ports.values()})))
        notes.write(directory, state)
    return {node: ports[node] for node in beside}, state


def _entries(directory: LabDirectory) -> Sequence[Any]:
    return load_controller(directory.run / "controller.toml").nodes


def _database(settings: ControllerSettings) -> plan.Database:
    db = settings.db
    return plan.Database(user=db.user, password=db.password, host=db.host, port=db.port, database=db.database)


def _with_nodes(state: LabState, target: Topology, directory: LabDirectory) -> LabState:
    """Return the state with the nodes and links of the target."""
    external = {n for n, node in target.nodes.items() if node.external}
    note = first_note(
        directory,
        target,
        external,
        state.digest,
        state.backend,
        state.run,
        state.controller_port,
        state.published,
        state.subnet,
    )
    local = [n for n in target.nodes if n not in external]
    carried: Mapping[str, tuple[int, ...]] = placed(state, local) if state.backend == "native" else {}
    return replace(state, nodes=note.nodes, links=note.links, carried=carried)


def _message(
    planned: plan.DeploymentPlan, step: _Step, *, check: bool = False, drain: bool = False
) -> ChangeLab:
    text = next(file.text for file in render.render(planned) if file.name == planned.controller.file)
    return ChangeLab(zlib.compress(text.encode()), check, step.force, step.cause, drain)


async def _check(connection: Operator, planned: plan.DeploymentPlan, step: _Step) -> None:
    """Ask the controller what of the running lab uses what is removed.

    Raises:
        UsageError: Something does, and it is not to be removed as well.
    """
    answer = await connection.change_lab(_message(planned, step, check=True))
    uses = answer.get("uses") or []
    wrong = [use for use in uses if use["kind"] == "run" or not step.force]
    if wrong:
        more = f"; and {counted(len(wrong) - 3, 'more')}" if len(wrong) > 3 else ""
        runs = any(use["kind"] == "run" for use in wrong)
        raise UsageError(
            "something is in use: " + "; ".join(str(use["what"]) for use in wrong[:3]) + more,
            id="lab.in-use",
            found=str(wrong[0]["what"]),
            hint="stop the run first" if runs else "`--force` removes that as well",
        )


async def _wait(
    connection: Operator, directory: LabDirectory, state: LabState, nodes: Sequence[int], timeout_s: float
) -> None:
    try:
        await connection.wait_nodes(nodes, timeout_s)
    except PeerError as error:
        if error.id != NodeNotBack.id:
            raise
        host = host_for(state.backend)
        number = next((int(word) for word in error.message.split() if word.isdecimal()), nodes[0])
        parts = await host.parts(directory, state)
        part = next((each.role for each in parts if number in each.nodes), f"node-{number}")
        lines = await host.tail(directory, part, TAIL_LINES)
        raise NodeNotBack(error.message, lines, hint="the change is undone") from error


def _nodes(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"node {numbers[0]}"
    shown = ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return f"nodes {shown}"
