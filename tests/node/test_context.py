"""Test `ctx`."""

from __future__ import annotations

import asyncio
import threading

import pytest

from orchestrator.errors import TopologyInvalid
from orchestrator.impairment import LinkSpec
from orchestrator.node.context import RoleError, RoleStopped
from orchestrator.protocol.messages import TimelineChange
from tests.node.fakes import FakeWire, context


def test_who_and_what() -> None:
    ctx = context(FakeWire(), size=3)
    assert (ctx.node, ctx.name, ctx.role, ctx.round, ctx.seed) == (2, "b", "worker", 1, 7)
    assert ctx.params.size == 3
    assert ctx.nodes() == [1, 2, 3]
    assert ctx.nodes("worker") == [2, 3]
    assert (ctx.address(3), ctx.address6(3)) == ("10.0.0.3", "fd00::3")


def test_a_parameter_or_role_that_is_not_there_is_named_with_the_nearest() -> None:
    ctx = context(FakeWire(), size=3)
    with pytest.raises(AttributeError, match=r"no parameter `sise`; did you mean `size`"):
        _ = ctx.params.sise
    with pytest.raises(RoleError) as caught:
        ctx.nodes("traner")
    assert caught.value.hint == "did you mean `trainer`?"
    for address in (ctx.address, ctx.address6):
        with pytest.raises(RoleError, match="no node 9"):
            address(9)
    ctx._addresses6 = {}
    with pytest.raises(RoleError, match="the lab has no IPv6"):
        ctx.address6(3)


def test_a_row_carries_node_role_and_the_round_once_there_is_one() -> None:
    wire = FakeWire()
    ctx = context(wire)
    ctx.report(state="complete")
    for _ in ctx.rounds(2):
        ctx.report(state="complete")
    ctx.report(round=9)
    assert wire.rows[0] == {"node": 2, "role": "worker", "state": "complete"}
    assert [row.get("round") for row in wire.rows] == [None, 1, 2, 9]


def test_values_are_plain() -> None:
    wire = FakeWire()
    ctx = context(wire)
    ctx.publish("group", {"id": 1, "members": (2, 3)})
    assert wire.values["group"] == {"id": 1, "members": [2, 3]}
    with pytest.raises(RoleError) as caught:
        ctx.publish("weights", b"bytes")
    assert caught.value.id == "scenario.value"
    with pytest.raises(RoleError):
        ctx.report(text="x" * 2_000_000)


def test_numbers_of_numpy_become_numbers() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    wire = FakeWire()
    context(wire).report(mean=numpy.float32(0.5), count=numpy.int64(3))
    assert wire.rows[0]["mean"] == 0.5
    assert wire.rows[0]["count"] == 3


def test_a_wait_ends_with_the_value_or_the_time() -> None:
    wire = FakeWire()
    ctx = context(wire)
    threading.Thread(target=lambda: (wire.asked.get(), wire.lookups["key"].set_result(5))).start()
    assert ctx.lookup("key", timeout=10) == 5
    with pytest.raises(RoleError, match=r"waited 0.01 s for barrier `go`"):
        ctx.barrier("go", timeout=0.01)


def test_an_interrupt_ends_waits_present_and_future() -> None:
    wire = FakeWire()
    ctx = context(wire)

    def interrupt() -> None:
        wire.asked.get()
        assert ctx.waiting_for() == "barrier `go`"
        ctx.interrupt("enough")

    threading.Thread(target=interrupt).start()
    with pytest.raises(RoleStopped, match="enough"):
        ctx.barrier("go", timeout=10)
    with pytest.raises(RoleStopped):
        ctx.lookup("key", timeout=10)


async def test_async_variants() -> None:
    wire = FakeWire()
    ctx = context(wire)
    waiting = asyncio.create_task(ctx.lookup_async("key"))
    await asyncio.to_thread(wire.asked.get, True, 10)
    wire.lookups["key"].set_result([1])
    assert await asyncio.wait_for(waiting, 10) == [1]
    with pytest.raises(RoleError):
        await ctx.barrier_async("go", timeout=0.01)


async def test_a_cancelled_wait_may_be_settled_later() -> None:
    wire = FakeWire()
    ctx = context(wire)
    waiting = asyncio.create_task(ctx.barrier_async("go"))
    await asyncio.to_thread(wire.asked.get, True, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ctx.waiting_for() is None


def test_the_log_can_be_called() -> None:
    wire = FakeWire()
    ctx = context(wire)
    ctx.log("hello %d", 5)
    ctx.log.warning("100 % sure")
    ctx.progress(1, 2)
    assert wire.lines == [("info", "hello 5"), ("warning", "100 % sure"), ("progress", "1.0/2.0")]


def test_a_role_changes_links_in_the_words_of_the_file() -> None:
    wire = FakeWire()
    ctx = context(wire)
    threading.Thread(target=lambda: [_settle_next(wire) for _ in range(5)]).start()
    ctx.link(1, 2).set(delay="20 ms", loss={"mean": "1 %", "burst": 5}, direction="forward")
    ctx.link(1, 2).down("backward")
    ctx.link(1, 2).reset()
    ctx.partition([[1, 2], [3]])
    ctx.heal()
    spec = LinkSpec(delay_us=20_000, loss=0.01, loss_burst=5.0)
    assert [change for change, _ in wire.changes] == [
        TimelineChange(0, "set", 1, 2, "forward", spec, spec),
        TimelineChange(0, "down", 1, 2, "backward"),
        TimelineChange(0, "reset", 1, 2),
        TimelineChange(0, "partition", groups=((1, 2), (3,))),
        TimelineChange(0, "heal"),
    ]
    with pytest.raises(TopologyInvalid, match="unknown key `latency`"):
        ctx.link(1, 2).set(latency="20 ms")
    assert len(wire.changes) == 5


def test_a_partition_names_nodes_by_number_or_name_in_lists_or_text() -> None:
    wire = FakeWire()
    ctx = context(wire)
    threading.Thread(target=lambda: [_settle_next(wire) for _ in range(4)]).start()
    ctx.partition([["a", "node-2"], [3]])
    ctx.partition("1,2|3")
    ctx.partition("a, b | c")
    ctx.partition(["a,2", ["c"]])
    assert {change.groups for change, _ in wire.changes} == {((1, 2), (3,))}
    for wrong in ([["a"], ["z"]], "1|9", "1,|2", [[1], [None]]):
        with pytest.raises(RoleError, match="the lab has no node"):
            ctx.partition(wrong)  # type: ignore[arg-type]
    with pytest.raises(RoleError, match="groups of nodes"):
        ctx.partition(3)  # type: ignore[arg-type]
    with pytest.raises(RoleError, match="groups of nodes"):
        ctx.partition([1, 2])  # type: ignore[list-item]
    assert len(wire.changes) == 4


async def test_a_change_of_links_that_is_refused_raises_in_the_role() -> None:
    wire = FakeWire()
    ctx = context(wire)
    waiting = asyncio.create_task(ctx.link(1, 3).up_async())
    await asyncio.to_thread(wire.asked.get, True, 10)
    assert ctx.waiting_for() == "a change of 1–3"
    wire.changes[0][1].set_exception(RoleError("there is no link 1–3", id="link.unknown"))
    with pytest.raises(RoleError, match="no link 1–3"):
        await asyncio.wait_for(waiting, 10)


def _settle_next(wire: FakeWire) -> None:
    wire.asked.get(timeout=10)
    wire.changes[-1][1].set_result(None)
