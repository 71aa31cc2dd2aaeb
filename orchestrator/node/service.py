"""The agent as a program: set up the process, open the nodes, obey, and leave in order.

    user namespace (without root) → mount namespace → network namespaces → table → controller and dataplanes
    → ready file → roles, until SIGTERM → roles ended → in a container: dataplanes closed

An error goes to the log as the operator should see it; `nm up` shows the last lines when the process ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator import log
from orchestrator.errors import ControllerUnreachable, NmError
from orchestrator.node import dataplane, options, output
from orchestrator.node.agent import Agent
from orchestrator.node.nodes import Nodes, raise_file_limit
from orchestrator.node.options import Options
from orchestrator.settings import NodeSettings, load_node
from orchestrator.transport import Backoff

_logger = log.get(__name__)

PATIENCE_S = 60.0
"""How long the controller, which is started together with us, may take to appear at the least."""

LOOK_AGAIN_S = 0.5
"""The longest pause between two looks for it: every node of a lab of containers waits for it at its start."""


def main(argv: Sequence[str]) -> int:
    """Run the agent; returns the exit code."""
    given = options.parse(argv)
    log.setup(given.log_level)
    output.install()
    try:
        rootless = _enter_own_namespaces(given)
        return asyncio.run(_serve(given, rootless))
    except NmError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    except Exception as error:
        # The native module's errors carry an id; they are not of our tree, because it does not know the tree.
        if not hasattr(error, "id"):
            raise
        print(f"{error}\n    [{error.id}]", file=sys.stderr)
        return 5


def _enter_own_namespaces(given: Options) -> bool:
    """Leave the machine's user and mount namespaces where needed; has to precede the first thread."""
    raise_file_limit()
    if given.directory is None:
        return False
    rootless = os.geteuid() != 0
    if rootless:
        dataplane.enter_user_namespace()
    hosts = given.directory / "run" / "hosts"
    if hosts.exists():
        dataplane.unshare_mounts(hosts)
    return rootless


async def _serve(given: Options, rootless: bool) -> int:
    nodes = Nodes()
    task = asyncio.current_task()
    assert task is not None, "we run in one"
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await _carry(given, nodes, rootless)
    except asyncio.CancelledError:
        _logger.info("agent stopped")
    finally:
        # A native lab's nodes are all in processes like this one, and whoever ends it looks at the process: a
        # thousand goodbyes would only make the end longer.
        if given.directory is None:
            await asyncio.to_thread(nodes.close)
    return 0


async def _carry(given: Options, nodes: Nodes, rootless: bool) -> None:
    first = load_node(given.seats[0].config)
    if given.directory is not None:
        nodes.make_namespaces(given.seats)
        _publish(given, nodes, rootless)
    patience_s = max(PATIENCE_S, first.controller_connect_timeout_ms / 1000)
    agent = _agent(given, nodes, first, patience_s)
    await controller_answers(first.controller_addr, patience_s)
    await asyncio.to_thread(nodes.open, given.seats)
    if given.directory is not None:
        _publish(given, nodes, rootless)
    serving = asyncio.create_task(agent.serve())
    welcomed = asyncio.create_task(agent.welcomed.wait())
    try:
        await asyncio.wait({serving, welcomed}, return_when=asyncio.FIRST_COMPLETED)
        if welcomed.done():
            _say_ready(given, nodes.offload)
        await serving
    finally:
        welcomed.cancel()
        serving.cancel()
        await asyncio.wait({serving, welcomed})


async def controller_answers(url: str, patience_s: float) -> None:
    """Wait until somebody listens where the controller should be; nodes opened earlier would wait in vain.

    Raises:
        ControllerUnreachable: Nobody did in time.
    """
    parts = urlsplit(url)
    backoff = Backoff(limit=LOOK_AGAIN_S)
    try:
        async with asyncio.timeout(patience_s):
            while True:
                if await _listens(parts.hostname or "", parts.port or 80):
                    return
                await asyncio.sleep(backoff.next_wait())
    except TimeoutError:
        raise ControllerUnreachable(f"no controller listens at {url} after {patience_s:g} s") from None


async def _listens(host: str, port: int) -> bool:
    try:
        _reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


def _say_ready(given: Options, offload: str) -> None:
    if given.ready_file is not None:
        given.ready_file.parent.mkdir(parents=True, exist_ok=True)
        given.ready_file.touch()
    _logger.info("nodes opened", count=len(given.seats), first=given.seats[0].id, offload=offload)


def _agent(given: Options, nodes: Nodes, first: NodeSettings, patience_s: float) -> Agent:
    work = given.directory / "work" / given.part if given.directory else Path(tempfile.gettempdir()) / "nm"
    return Agent(
        nodes,
        url=first.controller_addr,
        token=first.controller_token,
        base=first.base_addr,
        work=work,
        logs=given.directory / "logs" if given.directory else None,
        patience_s=patience_s,
    )


def _publish(given: Options, nodes: Nodes, rootless: bool) -> None:
    assert given.directory is not None, "in a container there is nothing to publish"
    hosts = (given.directory / "run" / "hosts").exists()
    table = given.directory / f"{given.part}.json"
    nodes.publish(table, user_namespace=rootless, mount_namespace=hosts)
