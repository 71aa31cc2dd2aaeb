"""Run the agent's event loop: connect to the controller and handle its commands until a signal."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from pathlib import Path

from orchestrator.node import children, forked, output, role_resources
from orchestrator.node.agent import Agent
from orchestrator.node.nodes import Nodes
from orchestrator.node.options import Options
from orchestrator.node.watchdog import Watchdog
from orchestrator.settings import load_node


def serve(given: Options, nodes: Nodes) -> None:
    """Run roles in these nodes until a signal says that it is enough.

    Raises:
        PeerError: The controller refuses us.
    """
    output.install()
    forked.install()
    role_resources.install()
    children.adopt_orphans()
    asyncio.run(_serve(given, nodes))


async def _serve(given: Options, nodes: Nodes) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    # Not by `add_signal_handler`: it gives signals a descriptor that a forked child of a role would share,
    # and the child's signals would end us.
    def stop(_number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(stopped.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    serving = asyncio.create_task(_agent(given, nodes).serve())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    await asyncio.wait({serving})
    if not serving.cancelled():
        serving.result()


def _tokens(given: Options, nodes: Nodes) -> dict[int, str]:
    """Return what each node proves itself to the controller with, whether it is stopped or not."""
    tokens = nodes.tokens()
    for number, config in zip(given.numbers, given.configs, strict=False):
        if number not in tokens:
            tokens[number] = load_node(config).controller_token
    return tokens


def _agent(given: Options, nodes: Nodes) -> Agent:
    settings = load_node(given.configs[0])
    work = given.directory / "work" / given.part if given.directory else Path(tempfile.gettempdir()) / "nm"
    return Agent(
        nodes,
        url=settings.controller_addr,
        tokens=_tokens(given, nodes),
        base=settings.base_addr,
        work=work,
        logs=given.directory / "logs" if given.directory else None,
        watchdog=Watchdog(nodes.namespaces),
    )
