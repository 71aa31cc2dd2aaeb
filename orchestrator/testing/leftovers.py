"""List what is left of labs on this machine, independent of their state files."""

from __future__ import annotations

from orchestrator.deploy import processes
from orchestrator.deploy.home import Home


def leftovers(home: Home, *, engine: bool = False) -> list[str]:
    """Everything of any lab of this home, in words; empty when all is gone.

    Args:
        home: The home.
        engine: Look at the Docker engine, too.
    """
    found = [f"folder {lab.path}" for lab in home.labs()]
    found += [str(process) for process in processes.labelled(home.path)]
    found += [f"process {each.pid} works in {home.path}" for each in processes.working_under(home.path)]
    return found + (_in_engine(home) if engine else [])


def _in_engine(home: Home) -> list[str]:
    import asyncio

    from orchestrator.deploy.docker.engine import HOME_LABEL, Engine

    async def look() -> list[str]:
        engine = Engine()
        labels = [f"{HOME_LABEL}={home.path}"]
        containers = [f"container {each.name}" for each in await engine.containers(labels)]
        networks = [f"network {name}" for name in await engine.networks(labels)]
        return containers + networks + [f"volume {name}" for name in await engine.volumes(labels)]

    return asyncio.run(look())
