"""The agent program: set up the process, open the nodes, run roles on request, shut down in order.

    user namespace (without root) → mount namespace → network namespaces → table → dataplanes → ready file →
    the controller asks for an agent → roles, until SIGTERM → roles ended → in a container: dataplanes closed

Importing `orchestrator.node.agent_loop` takes several times as long as starting a node, and labs that only
run ordinary programs never need it. So it is imported when the controller asks for it. Nothing that this
module imports may import it, asyncio, or anything else that takes long: all nodes of a lab start at once, and
argparse, logging, pathlib, re and typing would double what a container's node needs until it is open.

An error is logged as the operator should see it; `nm up` shows the last lines when the process ends.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from orchestrator import log
from orchestrator.backoff import Backoff
from orchestrator.node import dataplane, options, process_state
from orchestrator.node.guard import guard
from orchestrator.node.nodes import Nodes, raise_file_limit

TYPE_CHECKING = False  # as type checkers understand it, without importing `typing`
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from orchestrator.node.options import Options

_logger = log.get(__name__)

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 30.0
"""The first delay before an agent that failed is started again, and the longest."""


class Stopped(BaseException):
    """This process has to end."""


def main(argv: Sequence[str]) -> int:
    """Run the agent; returns the exit code."""
    process_state.reset()
    given = options.parse(argv)
    log.setup_plain(given.log_level)
    try:
        _on_signals(_stop)
        _carry(given)
    except Stopped:
        _logger.info("agent stopped")
    except Exception as error:
        return _report_error(error)
    return 0


def _on_signals(handler: Callable[[int, object], NoReturn] | signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _stop(_number: int, _frame: object) -> NoReturn:
    raise Stopped


def _report_error(error: Exception) -> int:
    from orchestrator.errors import NmError

    if isinstance(error, NmError):
        print(error.render(), file=sys.stderr)
        return error.exit_code
    # The native module's errors carry an id; they are not of our tree, because it does not know the tree.
    if not hasattr(error, "id"):
        raise error
    print(f"{error}\n    [{error.id}]", file=sys.stderr)
    return 5


def _carry(given: Options) -> None:
    guard(given.configs)
    rootless = _enter_own_namespaces(given)
    nodes = Nodes()
    try:
        if given.directory is not None:
            for refusal in nodes.make_namespaces(given.numbers, given.directory / "run" / "machines.json"):
                _logger.warning("TCP buffers stay as the kernel has them", why=refusal)
            _publish(given, nodes, rootless)
        if given.directory is None:
            _start_uplinks(given, nodes)
            nodes.open(given.configs)
        else:
            _open_in_namespaces(given, nodes, rootless)
            _start_uplinks(given, nodes)
            _publish(given, nodes, rootless)
        _take_captures(given)
        _say_ready(given, nodes)
        dataplane.wait_for_agent_request()
        _run_roles(given, nodes)
    finally:
        # A native lab's nodes are all in processes like this one, and `nm down` watches the process: a
        # thousand Goodbye messages would only delay the end.
        if given.directory is None:
            _on_signals(signal.SIG_IGN)
            nodes.close()


def _open_in_namespaces(given: Options, nodes: Nodes, rootless: bool) -> None:
    """Open the nodes that are not stopped by request, and listen for changes of that."""
    from orchestrator.node.node_states import NodeStates

    states = NodeStates(given, nodes, lambda: _publish(given, nodes, rootless))
    states.apply()
    states.serve()


def _start_uplinks(given: Options, nodes: Nodes) -> None:
    """Give the nodes with an uplink their way out."""
    if given.uplink is None and not nodes.outside:
        return
    from orchestrator.node import uplinks

    if given.uplink is not None:
        uplinks.start_in_container(given.uplink)
    if given.directory is None:
        return

    for number, outside in nodes.outside.items():
        log_file = given.directory / "logs" / f"uplink-{number}.log"
        uplinks.start(number, nodes.namespace(number), outside, log_file)


def _take_captures(given: Options) -> None:
    """Listen for captures: in the lab's run folder, or in a container beside its ready file."""
    try:
        if given.directory is not None:
            from orchestrator.node_states import CAPTURES, control_socket

            with control_socket(given.directory / "run", given.part, CAPTURES) as path:
                dataplane.serve_captures(path)
        elif given.ready_file is not None:
            folder = os.path.dirname(given.ready_file) or "."  # noqa: PTH120  # without pathlib
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            dataplane.serve_captures(f"{folder}/captures.sock")
    except OSError as error:
        _logger.warning("no packets of these nodes can be captured", why=str(error))


def _run_roles(given: Options, nodes: Nodes) -> NoReturn:
    """Run roles until stopped; whatever goes wrong with them, the nodes carry packets until then.

    An agent that fails is started again, with growing delays; the controller says meanwhile that the nodes
    are degraded.
    """
    backoff = Backoff(FIRST_DELAY_S, MAX_DELAY_S, factor=2.0)
    log_is_set_up = False
    while True:
        try:
            from orchestrator.node import agent_loop

            if not log_is_set_up:  # once: roles may have added handlers since
                log.setup(given.log_level)
                log_is_set_up = True
            agent_loop.serve(given, nodes)
            raise Stopped
        except Exception:
            _on_signals(_stop)
            _logger.exception("the agent failed; no roles can run here until it is restarted")
        _pause(backoff.next_delay())


def _pause(seconds: float) -> None:
    time.sleep(seconds)  # the handler of a signal ends it by raising


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


def _say_ready(given: Options, nodes: Nodes) -> None:
    if given.ready_file is not None:
        # Without pathlib, which this module does not load.
        os.makedirs(os.path.dirname(given.ready_file) or ".", exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(given.ready_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    ids = nodes.ids()
    _logger.info("nodes opened", count=len(ids), first=ids[0] if ids else None, offload=nodes.offload)


def _publish(given: Options, nodes: Nodes, rootless: bool) -> None:
    assert given.directory is not None, "in a container there is nothing to publish"
    hosts = (given.directory / "run" / "hosts").exists()
    table = given.directory / f"{given.part}.json"
    nodes.publish(table, user_namespace=rootless, mount_namespace=hosts)
