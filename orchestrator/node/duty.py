"""On duty: connect to the controller as the agent of this process, and obey until told to end."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from pathlib import Path

from orchestrator.node import output
from orchestrator.node.agent import Agent
from orchestrator.node.nodes import Nodes
from orchestrator.node.options import Options
from orchestrator.settings import load_node


def serve(given: Options, nodes: Nodes) -> None:
    """Run roles in these nodes until a signal says that it is enough.

    Raises:
        PeerError: The controller refuses us.
    """
    output.install()
    asyncio.run(_serve(given, nodes))


async def _serve(given: Options, nodes: Nodes) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    serving = asyncio.create_task(_agent(given, nodes).serve())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    await asyncio.wait({serving})
    if not serving.cancelled():
        serving.result()


def _agent(given: Options, nodes: Nodes) -> Agent:
    settings = load_node(given.configs[0])
    work = given.directory / "work" / given.part if given.directory else Path(tempfile.gettempdir()) / "nm"
    return Agent(
        nodes,
        url=settings.controller_addr,
        tokens=nodes.tokens(),
        base=settings.base_addr,
        work=work,
        logs=given.directory / "logs" if given.directory else None,
    )
