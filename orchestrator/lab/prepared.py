"""Make the plan and the note of a lab from its topology, for its start and for changes while it is up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator import clock, plan, procfs, topology
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.host_checks import TUN
from orchestrator.deploy.state import Backend, LabState, NodeNote
from orchestrator.topology import Topology

__all__ = ["database", "digest_of", "first_note", "nodes_beside", "planned_of"]


def planned_of(
    directory: LabDirectory,
    state: LabState,
    source: Topology,
    external: Sequence[int],
    *,
    link_ports: Mapping[int, int],
    db: plan.Database | None,
    secrets: plan.Secrets | None = None,
) -> plan.DeploymentPlan:
    """Return the plan of a lab whose ports and networks have been chosen.

    Args:
        directory: Its folder.
        state: Its note, with what was chosen.
        source: Its topology.
        external: Further external nodes.
        link_ports: docker: the ports on this machine of neighbours of external nodes.
        db: native: where Postgres is.
        secrets: Tokens and password; generated unless given.
    """
    return plan.build(
        source,
        lab=directory.name,
        backend=state.backend,
        run_id=state.run,
        home=str(directory.home),
        external=external,
        controller_port=state.controller_port,
        link_ports=link_ports,
        db=db,
        secrets=secrets,
        subnet=state.subnet,
        tun_device=str(TUN),
        link_directory=str(directory.links) if state.backend == "native" else "",
        restart=state.supervised,
        ttl=state.ttl_mode,
        machine=procfs.own_addresses() if state.backend == "docker" else (),
    )


def first_note(
    directory: LabDirectory,
    source: Topology,
    external_nodes: set[int],
    digest: str,
    backend: Backend,
    run: str,
    port: int,
    published: tuple[int, ...],
    subnet: str | None,
) -> LabState:
    return LabState(
        lab=directory.name,
        backend=backend,
        run=run,
        phase="starting",
        owner=procfs.this_process(),
        topology=source.file,
        digest=digest,
        controller_port=port,
        created=clock.utc_text(clock.SystemClock().wall()),
        nodes=tuple(
            NodeNote(
                id=node.id,
                name=node.name,
                address=source.address(node.id),
                address6=source.address6(node.id),
                external=node.id in external_nodes,
                config=str(directory.run / f"node-{node.id}.toml"),
                labels=dict(node.labels),
                sysctls=dict(node.sysctls),
                prefixes=node.prefixes,
                uplink=node.uplink is not None,
            )
            for node in source.nodes.values()
        ),
        links=tuple((link.a, link.b) for link in source.links),
        seed=source.seed,
        subnet=subnet,
        published=published,
    )


def database(directory: LabDirectory) -> plan.Database:
    from orchestrator.deploy.native.database import parameters

    given = parameters(directory)
    return plan.Database(
        user=str(given["user"]),
        password=str(given["password"]),
        host=str(given["host"]),
        port=int(given["port"]),
        database=str(given["database"]),
    )


def nodes_beside(source: Topology, external_nodes: set[int]) -> list[int]:
    """The nodes that a program outside the containers has to reach: neighbours of an external node."""
    ends = {end for link in source.links if {link.a, link.b} & external_nodes for end in (link.a, link.b)}
    return sorted(ends - external_nodes)


def digest_of(source: Topology, external: Sequence[int]) -> str:
    # A lab stays the same lab when the tests in its file change.
    text = topology.dump(replace(source, tests=())) + f"\nexternal: {sorted(external)}\n"
    return hashlib.sha256(text.encode()).hexdigest()
