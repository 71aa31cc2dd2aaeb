"""Run the agent's event loop: connect to the controller and handle its commands until a signal."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import suppress
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
    if not await _nodes_there(loop, stopped, given, nodes):
        return
    agent = _agent(given, nodes)
    nodes.changed = lambda: _tell(loop, agent, given, nodes)
    serving = asyncio.create_task(agent.serve())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    await asyncio.wait({serving})
    nodes.changed = lambda: None
    if not serving.cancelled():
        serving.result()


async def _nodes_there(
    loop: asyncio.AbstractEventLoop, stopped: asyncio.Event, given: Options, nodes: Nodes
) -> bool:
    """Wait until this process has a node: all that it had may have been removed. False when it has to end."""
    changed = asyncio.Event()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(changed.set)

    nodes.changed = tell
    while not _tokens(given, nodes) and not stopped.is_set():
        waits = [asyncio.create_task(each.wait()) for each in (changed, stopped)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        changed.clear()
    return not stopped.is_set()


def _tokens(given: Options, nodes: Nodes) -> dict[int, str]:
    """Return what each node proves itself to the controller with, whether it is stopped or not."""
    tokens = nodes.tokens()
    for number in nodes.numbers:
        if number not in tokens:
            tokens[number] = load_node(_config(given, number)).controller_token
    return tokens


def _config(given: Options, number: int) -> str:
    return str(given.directory / "run" / f"node-{number}.toml") if given.directory else given.configs[0]


def _tell(loop: asyncio.AbstractEventLoop, agent: Agent, given: Options, nodes: Nodes) -> None:
    """Tell the agent from another thread which nodes it runs roles in from now on."""
    tokens = _tokens(given, nodes)
    with suppress(RuntimeError):  # the loop has ended, and the agent that follows looks by itself
        loop.call_soon_threadsafe(agent.nodes_changed, tokens)


def _agent(given: Options, nodes: Nodes) -> Agent:
    tokens = _tokens(given, nodes)
    settings = load_node(_config(given, min(tokens)))
    watchdog = Watchdog(nodes.namespaces)
    watchdog.namespaces = lambda: nodes.namespaces
    nodes.change = watchdog.nodes_change
    work = given.directory / "work" / given.part if given.directory else Path(tempfile.gettempdir()) / "nm"
    return Agent(
        nodes,
        url=settings.controller_addr,
        tokens=tokens,
        base=settings.base_addr,
        ipv6=settings.ipv6,
        work=work,
        logs=given.directory / "logs" if given.directory else None,
        watchdog=watchdog,
        authority=settings.controller_ca,
    )
