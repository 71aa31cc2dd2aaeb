"""Find a backend by name, and choose the default backend."""

from __future__ import annotations

from orchestrator.deploy.host import Host
from orchestrator.deploy.state import Backend
from orchestrator.errors import UsageError, nearest_hint

BACKENDS: tuple[Backend, ...] = ("docker", "native")


def known_backend(name: str) -> Backend:
    """Return the backend of that name.

    Raises:
        UsageError: There is none.
    """
    for backend in BACKENDS:
        if name == backend:
            return backend
    raise UsageError(
        f"there is no backend `{name}`",
        id="usage.backend",
        found=name,
        expected="docker or native",
        hint=nearest_hint(name, BACKENDS, what="backends are"),
    )


def host_for(backend: Backend) -> Host:
    """The backend of that name; the other one's libraries are not imported."""
    if backend == "docker":
        from orchestrator.deploy.docker import DockerHost

        return DockerHost()
    from orchestrator.deploy.native import NativeHost

    return NativeHost()


def default_backend() -> Backend:
    """`docker` where a Docker engine answers, `native` elsewhere."""
    from orchestrator.deploy.docker.engine import answers

    return "docker" if answers() else "native"
