"""What the docker backend needs of the engine."""

from __future__ import annotations

from orchestrator import __version__
from orchestrator.deploy.docker.engine import Engine
from orchestrator.deploy.fitness import Finding
from orchestrator.errors import HostNotFit


def examine_engine() -> list[Finding]:
    """Look at the engine and our images."""
    engine = Engine()
    try:
        version = engine.ask_now(lambda client: client.version())
    except HostNotFit as error:
        return [Finding("docker engine", "problem", error.message, error.hint or "")]
    findings = [Finding("docker engine", "ok", f"version {version.get('Version', 'unknown')} answers")]
    findings += [_image(engine, f"nm-{kind}:{__version__}") for kind in ("postgres", "controller", "node")]
    return findings


def _image(engine: Engine, name: str) -> Finding:
    if engine.ask_now(lambda client: client.images.list(name=name)):
        return Finding(f"image {name}", "ok", "is there")
    return Finding(f"image {name}", "problem", "is not there", "`make images` builds it")
