"""Fixtures: a minimal controller and three real nodes in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nextmini_py import Dataplane
from tests.nextmini_py.fake_controller import FakeController

LINE = [(1, 2), (2, 3)]
QUICK = "[lossless_runtime_config]\nready_grace_ms = 300\npeer_report_timeout_ms = 3000\n"
"""Settings for tests in which somebody does not come: timeouts in fractions of a second."""

WAIT_MS = 20_000
"""Long enough for any step on a loaded machine; a step that takes as long has failed."""

Opener = Callable[..., dict[int, Dataplane]]


@pytest.fixture
def controller() -> Iterator[FakeController]:
    with FakeController(LINE) as fake:
        yield fake


@pytest.fixture
def open_nodes(controller: FakeController, tmp_path: Path) -> Iterator[Opener]:
    """Opens nodes of the lab, all or some; they are closed at the end."""
    with ExitStack() as stack:

        def opener(*numbers: int, extra: str = "") -> dict[int, Dataplane]:
            settings = {node: controller.settings(node, tmp_path, extra) for node in numbers or (1, 2, 3)}
            return {node: stack.enter_context(Dataplane(path)) for node, path in settings.items()}

        yield opener


@pytest.fixture
def nodes(open_nodes: Opener) -> dict[int, Dataplane]:
    """The three nodes, ready."""
    opened = open_nodes()
    for dataplane in opened.values():
        assert dataplane.wait_for_topology_ready(timeout_ms=WAIT_MS)
    return opened


def make_group(nodes: dict[int, Dataplane], members: tuple[int, ...] = (2, 3)) -> tuple[int, str]:
    """A group of node 1 with a tree down the line."""
    nodes[1].create_group("group")
    ready = nodes[1].group_is_ready(timeout_ms=WAIT_MS)
    assert ready is not None
    group_id, group_ip, source = ready
    assert source == 1
    for node in members:
        nodes[node].join_group(group_id)
        assert nodes[node].wait_for_local_membership(group_id, timeout_ms=WAIT_MS)
    nodes[1].set_group_routes(group_id, LINE)
    assert nodes[1].wait_for_group_routes(group_id, 1, timeout_ms=WAIT_MS)
    return group_id, group_ip
