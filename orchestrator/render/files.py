"""Render the text of every file of a run directory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from orchestrator import resources, services, topology
from orchestrator.plan import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE, DeploymentPlan
from orchestrator.protocol.tokens import TOKEN_FILE
from orchestrator.render.quoting import compose, toml

__all__ = ["RenderedFile", "render"]

# A file with a secret is closed to all but its owner. A container's root need not be its owner: that may be
# an ordinary user, or the engine may map users. So what containers mount is readable by all, and the folders
# around it are closed instead: the run directory out here, and /etc/nm in the images.
_OPEN, _CLOSED = 0o644, 0o600


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """One file: its name in the run directory, its text and its permissions."""

    name: str
    text: str
    mode: int


def render(plan: DeploymentPlan) -> tuple[RenderedFile, ...]:
    """Return all files of a plan, the manifest last; the same plan gives the same bytes."""
    secret = _OPEN if plan.backend == "docker" else _CLOSED
    environment = _environment()
    node_template = environment.get_template("node.toml.j2")
    files = [RenderedFile(node.file, node_template.render(node=node), secret) for node in plan.nodes]
    controller = environment.get_template("controller.toml.j2").render(controller=plan.controller)
    files.append(RenderedFile(plan.controller.file, controller, secret))
    files.append(RenderedFile(TOKEN_FILE, plan.controller.operator_token + "\n", _CLOSED))
    if plan.certificates is not None:
        files.append(RenderedFile(AUTHORITY_FILE, plan.certificates.authority, _OPEN))
        files.append(RenderedFile(CERTIFICATE_FILE, plan.certificates.certificate, _OPEN))
        files.append(RenderedFile(KEY_FILE, plan.certificates.key, secret))
    hosts = environment.get_template("hosts.j2").render(lab=plan.lab, hosts=plan.hosts)
    files.append(RenderedFile("hosts", hosts, _OPEN))
    files.append(RenderedFile("topology.yaml", topology.dump(plan.topology), _OPEN))
    files += [RenderedFile(name, text, _OPEN) for name, text in topology.traces(plan.topology).items()]
    if plan.backend == "native":
        files.append(RenderedFile("machines.json", _machines(plan), _CLOSED))
    if plan.instances:
        files.append(RenderedFile("services.json", services.write_text(plan.instances), _CLOSED))
    if plan.services:
        text = environment.get_template("docker-compose.yml.j2").render(plan=plan)
        files.append(RenderedFile("docker-compose.yml", text, _CLOSED))
        files.append(RenderedFile("postgres-password", plan.secrets.db_password + "\n", _OPEN))
    files.append(RenderedFile("manifest.json", _manifest(plan, files), _OPEN))
    return tuple(files)


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(str(resources.path("compose"))),
        undefined=StrictUndefined,
        autoescape=False,  # these are no HTML files; the filters below quote for TOML and YAML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"toml": toml, "compose": compose}
    return environment


def _machines(plan: DeploymentPlan) -> str:
    """Return what the host process makes for each of its nodes before it opens them, a line for each."""
    lines = [
        f"{json.dumps(str(node.node_id))}: "
        + json.dumps(
            {"hostname": node.hostname, "buffers": dict(plan.buffers), "sysctls": dict(node.sysctls)}
            | ({"uplink": asdict(node.outside)} if node.outside else {})
        )
        for node in plan.nodes
        if not node.external
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _manifest(plan: DeploymentPlan, files: list[RenderedFile]) -> str:
    """Return what was written and from what; nothing in it depends on the time."""
    body = {
        "lab": plan.lab,
        "backend": plan.backend,
        "run": plan.run_id,
        "seed": plan.topology.seed,
        "versions": {"nm": plan.version},
        "images": sorted({service.image for service in plan.services}),
        "nodes": len(plan.nodes),
        "external": list(plan.external),
        "links": len(plan.topology.links),
        "files": {
            file.name: {
                "sha256": hashlib.sha256(file.text.encode()).hexdigest(),
                "bytes": len(file.text.encode()),
                "mode": f"{file.mode:04o}",
            }
            for file in files
        },
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"
