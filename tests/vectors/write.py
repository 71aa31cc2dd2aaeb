"""Write the protocol vectors; see README.md in this folder.

Run it after adding a message. It reports every file that changes, because a change of an existing file means
that the protocol changed under nodes that are already out there.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import msgpack

from orchestrator.impairment import LinkSpec
from orchestrator.protocol import MAX_MESSAGE, VERSION, Frame, Message, encode
from orchestrator.protocol import messages as m
from orchestrator.protocol.schema import encode_body

HERE = Path(__file__).parent
FLOW = bytes(range(16))
KEY = bytes(range(32))
APP_FLOWS = m.AppFlowColumns(
    FLOW,
    ("tcp 10.0.0.1:40000 > 10.0.0.3:80",),
    (3, 1_699_999_999_000_001, 0, 10, 15_000, 5, 260, 812, 65_537),
)
SPEC = LinkSpec(rate_bps=100_000_000, delay_us=20_000, loss=0.01, limit_bytes=65_536, limit_packets=100)

VARYING = LinkSpec(
    delay_us=20_000,
    jitter_us=5_000,
    jitter_distribution="pareto",
    jitter_reorder=False,
    loss=0.01,
    loss_burst=5.0,
)
FULL = LinkSpec(
    rate_bps=10**9,
    rate_burst_bytes=15_000,
    delay_us=30_000,
    jitter_us=5_000,
    jitter_distribution="table",
    jitter_table=(-1.964, -0.655, 0.0, 0.655, 1.964),
    duplicate=0.001,
    reorder=0.005,
    reorder_gap=3,
    corrupt=0.0001,
    limit_us=20_000,
    queue="red",
    red_min_bytes=30_000,
    red_max_bytes=90_000,
    red_probability=0.1,
    ecn=True,
    scheduler="drr",
    scheduler_by="dst_port",
    scheduler_weights={5201: 1, 5202: 4},
    mtu=1_280,
)
TRACE = LinkSpec(
    delay_us=5_000,
    trace="dc1bc5a8e6b1ba0ac2a5bf6c7c5f0ec9bd5d2a9ed95c0d7c0cc2cb0bd2bd1e5f",
    trace_file="down.mahi",
    trace_sets="rate",
    trace_rate_bps=9_625_600,
    trace_loop=True,
    trace_scale=2.0,
    trace_shift_us=3_000_000,
    trace_data=bytes([1, 1, 1, 4, 3]),
)
CODEL = LinkSpec(
    rate_bps=10**7, queue="codel", codel_target_us=5_000, codel_interval_us=100_000, scheduler="priority"
)

TO_CONTROLLER: list[Message] = [
    m.Hello("s3cret", VERSION, "node", "nm 0.1.0", 2**64 - 1),
    m.Goodbye("down"),
    m.StartUp(
        "lab",
        "10.1.0.2:8080",
        "",
        False,
        7,
        1500,
        m.Have(5, 6, {2: 2**63, 300: 1}, {1: 9}),
        "/links/node-1.sock",
        "0f" * 32,
    ),
    m.LinkState(2, False, "reset by peer"),
    m.LinkState(2, True, "connected over shared memory", "shared"),
    m.NodeTopologyReady(),
    m.Metrics(1_700_000_000_000, (1_500, 100, 2**40, 90, 2**33, 1, 2)),
    m.Metrics(
        1_700_000_000_000,
        (1_500, 100, 2**40, 90, 2**33, 1, 2),
        (2, 10, 15_000, 2**40, 2**62, 4, 6_000, 3, 0, 0, 1, 60, 0, 0),
        (m.DropCounter(0, {"no_route": 1}), m.DropCounter(2, {"loss": 3, "queue_full": 1})),
        FLOW,
        (10, 15_000),
        APP_FLOWS,
        (1, 20, 30_000, 10, 15_000),
        (m.SessionCounter(4, "sender", 1, "active", 2**30, 2**20, 2**21, 4_096, 3, 812),),
    ),
    m.AppFlowStart(1_700_000_000_000, APP_FLOWS),
    m.UserFlowStart((m.UserFlow(4, FLOW, 1_700_000_000_000),)),
    m.RouteAssigned((m.RouteAssignment(FLOW, 65_537, 1_700_000_000_001),)),
    m.UserFlowProgress(1_700_000_001_000, (m.FlowProgress(4, 2**40), m.FlowProgress(5, 0))),
    m.FlowFinished(
        (m.FinishedFlow(FLOW, 1, 2, 10**12), m.FinishedFlow(FLOW, 1, 2, 0, 4, "stopped", 1_001, 2**53))
    ),
    m.MaxFlows(
        (
            m.MaxFlow(2**64 - 1, "socks5", "127.0.0.1:40000", "node-4:80", 1_001),
            m.MaxFlow(
                7, "redirected", "10.0.0.1:40000", "10.0.0.4:80", 1, (1, 2, 4), 2**53, 2**40, 9, "reset"
            ),
        )
    ),
    m.CreateGroup("weights-sync"),
    m.JoinGroup(1, 5000),
    m.LeaveGroup(1),
    m.SetGroupRoutes(1, ((1, 2), (2, 3))),
    m.SetGroupRoutesMulti(1, (m.Tree(0, ((1, 2),)), m.Tree(1, ((1, 4), (4, 2)), 0.25))),
    m.ComputeGroupRoutes(1, (2, 3, 4)),
    m.NodeEvent("offload.fallback", {"node": 3, "why": "no TUNSETOFFLOAD"}),
    m.ProbeResult(2, 8, 941.5),
    m.ProbeResult(2, 8, 19.99, "", 60_021.5, 61_000.25, 2_000, 1_980, 1_960, 2**33),
    m.ProbeResult(2, 8, 0.0, "the link to node 2 went down"),
    m.LinkMeasurements(
        1_700_000_000_000,
        7,
        1_500,
        1,
        3,
        (
            m.LinkMeasurement(
                2,
                99,
                {"loss": 1},
                offered=100,
                changes=1,
                draws=9,
                busy_ns=2**33,
                busy_bytes=2**40,
                delay=((19_922_944, 98), (20_054_016, 1)),
                delay_sum_us=1_980_000.5,
                delay_squares_us=3.96e10,
                late=((0, 90), (61_440, 9)),
                late_sum_us=549.0,
            ),
        ),
    ),
    m.NodeSample(
        1_700_000_000_000,
        7,
        1_500,
        1,
        3,
        100,
        2**40,
        90,
        2**33,
        {"no_route": 2},
        (m.LinkSample(2, 99, 148_500, 4, 6_000, 1_980_000.5, {"loss": 1}),),
        (m.FlowSample("tcp 10.0.0.1:40000 > 10.0.0.2:80", 10, 15_000),),
    ),
]
TO_NODE: list[Message] = [
    m.Welcome(VERSION, "ring", 3),
    m.Ack(9),
    m.Ack(10, {"group_id": 1, "group_ip": "239.255.0.10"}),
    m.Error(11, "group.unknown", "there is no group 7", "create it first"),
    m.NodeSettings(
        3,
        "255.255.0.0",
        "10.0.0.0",
        "192.168.0.0",
        "172.16.8.3",
        "239.255.0.0",
        "255.255.0.0",
        8081,
        "tcp",
        "fifo",
        7,
        m.NodeSpec(3, "normal"),
    ),
    m.AddNode(2, "trainer", "10.1.0.2:8080", 7, False, True, SPEC, 2**64 - 2, "/links/node-2.sock", KEY),
    m.AddNode(4, "node-4", "", 7, True, False, LinkSpec(), 1),
    m.RemoveNode(2),
    m.AddNodeAddress(2, "10.1.0.2:8081"),
    m.InstallRoutes(77, bytes.fromhex("00000000 00000000 02000000 02000000 04000000")),
    m.InstallRoutes(78, None, (m.Route(65_537, 1, 3, (2, 4)),), (65_538,), True),
    m.InstallRoutes(
        79,
        routes=(m.Route(7, 1, 3, (2,), 2.5),),
        pins=(m.Pin(1, 1, 3, 7, 6, 4_000, 80), m.Pin(2, 1, 3, 7)),
        removed_pins=(3,),
    ),
    m.ListFlowRoutes(1_000),
    m.SetLink(2, LinkSpec(delay_us=0), 12),
    m.AddFlows((m.Flow(1, 1, 3, 10**10), m.Flow(2, 1, 3, None, 1500, 10**9, 2, 65_537, "lossless_unicast"))),
    m.StopFlows((1, 2**64 - 1)),
    m.TopologyReady(),
    m.AgentWanted(),
    m.GroupCreated(1, "239.255.0.10", 1, "weights-sync"),
    m.InstallGroupDirectory(5, (m.Group(1, "239.255.0.10", 1, "weights-sync"),), (2,), False),
    m.InstallGroupRoutes(
        1, 1, 6, (m.GroupRoute(0, 65_536, (2, 4), True), m.GroupRoute(1, 65_537, (), True, 0.5))
    ),
    m.MemberChanged(1, 4, True),
    m.NodeState(4, "unreachable"),
    m.ProbeLink(2, 8, 1_360_000),
    m.ProbeLink(2, 9, 2**32, 60_000, True),
    m.SetLink(2, VARYING, 13),
    m.SetLink(2, FULL, 14),
    m.SetLink(2, CODEL, 15),
    m.SetLink(2, TRACE, 16),
    m.SetLink(2, SPEC, 16, True),
    m.MeasureLinks(),
    m.SampleNodes(),
]
ROW = {"state": "complete", "bytes": 90_000_000, "seconds": 0.25, "ok": True, "none": None}
PYTHON: list[Message] = [
    m.AgentHello((1, 2, 3), (m.RunningRole("r1", 2),), {1: "0a" * 32, 300: "0b" * 32}),
    m.AgentTroubles({2: "run r1 left a thread that cannot be ended: worker@2"}),
    m.PrepareRun(
        "r1",
        "hello",
        {"roles.py": b"def trainer(ctx): ...\n"},
        "roles.py",
        {"size": 1_000_000, "loss": 0.5, "name": "é"},
        7,
        {"trainer": (1,), "worker": (2, 3)},
        {1: "trainer", 2: "node-2"},
        60.0,
    ),
    m.RunRole("r1", 2, "worker"),
    m.StopRole("r1", 0, "another role failed"),
    m.RoleStarted("r1", 2, "worker"),
    m.RoleReport("r1", 2, "worker", 1, ROW),
    m.RoleProgress("r1", 2, 1.0, 4.0),
    m.RoleLog("r1", 2, "info", "half way"),
    m.RoleFinished("r1", 2, "worker", False, "ValueError: no", "Traceback …"),
    m.BarrierEnter("r1", 2, "start", 1),
    m.BarrierReleased("r1", "start", 1),
    m.Publish("r1", 1, "group", [1, "239.255.0.10"]),
    m.Lookup("r1", 2, "group"),
    m.Published("r1", "group", [1, "239.255.0.10"]),
    m.GetStatus(),
    m.Status(
        4,
        "ring",
        "ready",
        1,
        "ok",
        (),
        (m.NodeStatus(1, "trainer", "ready", "10.0.0.1"),),
        (m.LinkStatus(1, 2, "up", SPEC, LinkSpec(), "tcp"),),
        (m.GroupStatus(1, "239.255.0.10", 1, "w", (2, 3), {0: ((1, 2), (2, 3))}),),
        (m.RunStatus("r1", "hello", "running"),),
    ),
    m.WaitReady(30_000),
    m.StatusChanged("starting", 3, 4, {4: "link to 3 is down"}),
    m.StartRun("r1", "hello", {"trainer": (1,)}, {"roles.py": b""}, {}, 7, 60.0),
    m.StopRun("r1"),
    m.WatchRun("r1", 12),
    m.RunEvent("r1", 13, 1_700_000_000_000, "report", 2, "worker", ROW),
    m.RunFinished("r1", False, "role worker in node 2 raised ValueError", ({"node": 2, "role": "worker"},)),
    m.SetLinkSpec(1, 2, "both", SPEC, True),
    m.SetLinkState(1, 2, True, "forward"),
    m.ResetLinks(),
    m.Partition(((1, 2), (3,))),
    m.Heal(),
    m.GetEvents(5),
    m.WatchEvents(5),
    m.GetMeasurements(2_000),
    m.GetSamples(500),
    m.GetMetrics(),
    m.GetMetricRows("links", 7, 1_700_000_000_000, 50),
    m.MetricRows(8, ("time_ms", "node_id"), [[1_700_000_000_000, 1]], 9),
    m.MetricsState(9, 1_000, 3_600, 2**40, 1, 2),
    m.NodeMetrics(
        1_700_000_000_000,
        1_500,
        7,
        100,
        2**40,
        90,
        2**33,
        8e9,
        0.0,
        {"no_route": 1},
        1,
        2,
        (m.LinkMetrics(2, 10, 15_000, 5, 260, 4, 6_000, {"loss": 3}, 1.2e5, 2_080.0, 10.0, 3.0),),
        (m.AppFlowMetrics(FLOW.hex(), "udp 10.0.0.1:7 > 10.0.0.3:53", 3, 5, 10, 15_000, 0, 0, 1.2e5, 0.0),),
        (m.GroupMetrics(1, 20, 30_000, 10, 15_000, 2.4e5, 1.2e5),),
        (m.SessionCounter(4, "sender", 1, "active", 2**30, 2**20, 2**21, 4_096, 3, 812),),
    ),
    m.StartProbe(1, 2, True, 10_000, 100),
    m.GetProbe(7),
    m.WaitProbe(7, 3_600_000),
    m.GetProbes(7, 10),
    m.ProbeList(
        7,
        (m.ProbeStatus(7, 1, 2, False, 10_000, 100, "sql", "finished", "", 20_000_000, 60_021.5, loss=0.01),),
        True,
    ),
    m.StartFlows((m.FlowRequest(1, 3, 10**12, rate_bps=5_000_000, count=3, route=(1, 2, 3)),)),
    m.EndFlows((4, 2**63 - 1), True),
    m.EndFlows(remove=False),
    m.GetMaxFlows(True, 10),
    m.MaxFlowList(
        9,
        (
            m.MaxFlowStatus(2**64 - 1, 1, "socks5", "127.0.0.1:9", "node-4:80", "running", 1),
            m.MaxFlowStatus(
                3, 1, "socks5", "127.0.0.1:9", "[fd00::4]:80", "failed", 1, (1, 4), 2, 3, 4, "refused"
            ),
        ),
        True,
    ),
    m.GetFlows((4,), 3, 10, True),
    m.FlowList(
        7,
        (m.FlowStatus(4, 1, 3, "tcp", "file", "failed", 2**40, "timed out", None, 10_000, finish_us=2**53),),
    ),
    m.WaitFlows(2_000),
    m.RunFlow("r1", 1, 2, m.FlowRequest(1, 3, None, 10_000, transport="lossless_unicast", weight=2)),
    m.RunFlowEnded("r1", 1, 2, None, "there is no node 9", "node.unknown"),
    m.GetRoutes(2),
    m.GetExplicitRoutes(1, 3),
    m.AddRoute(1, 3, (1, 2, 3), weight=2.5, cause="a test"),
    m.ChangeRoute(7, edges=((1, 2), (2, 3)), weight=0.5),
    m.DeleteRoute(7),
    m.GetPins(),
    m.AddPin(7, 6, None, 80),
    m.DeletePin(2),
    m.GetFlowRoutes(1, 10),
    m.GetGroups(),
    m.AddGroup("weights", 1, (2, 3)),
    m.DeleteGroup(1, "a test"),
    m.ChangeMembers(1, (4,), False),
    m.SetGroupTrees(1, (m.Tree(0, ((1, 2), (2, 3)), 0.5),)),
    m.SetGroupTrees(1, (), True, (3, 4), "a test"),
    m.Routes(8, 2, b"\0\0\0\0\1\0\0\0", (m.Route(3, 2, 4, (1, 3)),)),
    m.Events(6, (m.Event(6, 1_700_000_000_000, "node.ready", 2),), True),
    m.SaveResult("r1", "pass", {"rows": [ROW]}),
    m.SetLinkSpec(1, 2, "forward", VARYING),
    m.SetLinkSpec(1, 2, "both", FULL, backward=CODEL),
    m.SetLinkSpec(1, 2, "both", TRACE),
    m.ChangeLinks("r1", 2, 1, m.TimelineChange(0, "down", 1, 2)),
    m.LinksChanged("r1", 2, 1, "there is no link 1–3", "link.unknown"),
    m.StartRun(
        "r2",
        "hello",
        {"trainer": (1,)},
        {"roles.py": b""},
        {},
        7,
        60.0,
        timeline=(
            m.TimelineChange(1_000_000, "set", 1, 2, "forward", SPEC, cause="timeline of hello"),
            m.TimelineChange(2_000_000, "partition", groups=((1, 2), (3,))),
            m.TimelineChange(3_000_000, "node", node=3, fault="kill"),
            m.TimelineChange(4_000_000, "set", 1, 2, "forward", TRACE.without_data()),
        ),
        traces={TRACE.trace: TRACE.trace_data},
    ),
    m.PrepareRun(
        "r3", "hello", {"roles.py": b""}, "roles.py", {}, 7, {"worker": (2,)}, {2: "b"}, 60.0, ("worker",)
    ),
    m.StartRun("r3", "hello", {"worker": (2,)}, {"roles.py": b""}, {}, 7, 60.0, isolated=("worker",)),
    m.NodeFault((2, 3), "kill", "a test"),
    m.NodeFault((2,), "stop", "a test", True),
    m.ChangeLab(b"x\x9c\x03\x00\x00\x00\x00\x01", True, True, "a test", True),
    m.WaitNodes((2, 3), 30_000),
    m.TimelineDone("r1", 2, "node 3 is not ready after 30 s"),
]


def raw(*parts: Any) -> bytes:
    """Return anything at all as msgpack."""
    data: bytes = msgpack.packb(parts, use_bin_type=True)
    return data


READY = encode(Frame(m.NodeTopologyReady(), 3, 1))
JOIN = encode(Frame(m.JoinGroup(1), 3, 2))
BAD: dict[str, tuple[bytes, list[dict[str, Any]]]] = {
    "nothing-but-wrong-frames": (raw(VERSION + 1) * 1000, [{"error": "protocol.version"}] * 64),
    "empty": (b"", [{"error": "protocol.malformed"}]),
    "truncated": (JOIN[:-1], [{"error": "protocol.truncated"}]),
    "truncated-after-a-good-one": (
        READY + JOIN[:5],
        [{"type": "NodeTopologyReady"}, {"error": "protocol.truncated"}],
    ),
    "not-msgpack": (b"\xc1\xc1\xc1", [{"error": "protocol.malformed"}]),
    "text": (b'{"type": "Hello"}', [{"error": "protocol.malformed"}]),
    "no-array": (msgpack.packb({"a": 1}), [{"error": "protocol.malformed"}]),
    "four-parts": (raw(VERSION, 5, 3, "JoinGroup"), [{"error": "protocol.malformed", "id": 5, "node": 3}]),
    "id-is-text": (
        raw(VERSION, "5", 3, "JoinGroup", {"group_id": 1}),
        [{"error": "protocol.malformed", "node": 3}],
    ),
    "id-is-negative": (
        raw(VERSION, -5, 3, "JoinGroup", {"group_id": 1}),
        [{"error": "protocol.malformed", "node": 3}],
    ),
    "node-too-large": (
        raw(VERSION, 5, 2**32, "JoinGroup", {"group_id": 1}),
        [{"error": "protocol.malformed", "id": 5}],
    ),
    "type-is-a-number": (raw(VERSION, 5, 3, 7, {}), [{"error": "protocol.malformed", "id": 5, "node": 3}]),
    "wrong-version": (
        raw(VERSION + 1, 5, 3, "JoinGroup", {"group_id": 1}),
        [{"error": "protocol.version", "id": 5, "node": 3}],
    ),
    "unknown-type": (
        raw(VERSION, 5, 3, "MakeCoffee", {"cups": 2}) + JOIN,
        [{"error": "protocol.unknown-type", "id": 5, "node": 3}, {"type": "JoinGroup"}],
    ),
    "missing-field": (raw(VERSION, 5, 3, "JoinGroup", {}), [{"error": "protocol.body", "id": 5, "node": 3}]),
    "wrong-field": (
        raw(VERSION, 5, 3, "JoinGroup", {"group_id": "one"}) + READY,
        [{"error": "protocol.body", "id": 5, "node": 3}, {"type": "NodeTopologyReady"}],
    ),
    "number-out-of-range": (
        raw(VERSION, 5, 3, "JoinGroup", {"group_id": 2**32}),
        [{"error": "protocol.body", "id": 5, "node": 3}],
    ),
    "body-is-a-list": (
        raw(VERSION, 5, 3, "JoinGroup", [1]),
        [{"error": "protocol.body", "id": 5, "node": 3}],
    ),
    "edge-of-three": (
        raw(VERSION, 5, 3, "SetGroupRoutes", {"group_id": 1, "edges": [[1, 2, 3]]}),
        [{"error": "protocol.body", "id": 5, "node": 3}],
    ),
}
READ: dict[str, tuple[bytes, Message]] = {
    "unknown-extra-field": (
        raw(VERSION, 5, 3, "JoinGroup", {"group_id": 1, "mood": {"a": [1]}}),
        m.JoinGroup(1),
    ),
    "absent-optional-fields": (
        raw(VERSION, 5, 3, "StartUp", {"private_network_name": "l", "private_network_addr": "h:1"}),
        m.StartUp("l", "h:1"),
    ),
    "nil-is-absent": (raw(VERSION, 5, 3, "NodeEvent", {"name": "x", "detail": None}), m.NodeEvent("x")),
    "wide-integers": (
        bytes.fromhex("95 cc01 ce00000005 cd0003 d909")
        + b"JoinGroup"
        + b"\xde\x00\x01\xd9\x08group_id\xcf"
        + bytes(7)
        + b"\x01",
        m.JoinGroup(1),
    ),
}


def main() -> int:
    """Write all files; the exit code tells whether an existing one changed."""
    changed = 0
    good = []
    for side, messages in (("to_controller", TO_CONTROLLER), ("to_node", TO_NODE), ("python", PYTHON)):
        seen: dict[str, int] = {}
        for message in messages:
            seen[message.type] = seen.get(message.type, 0) + 1
            name = message.type if seen[message.type] == 1 else f"{message.type}-{seen[message.type]}"
            frame = Frame(message, 3, 5)
            good.append({"name": name, "side": side, **described(frame)})
            changed += write(HERE / "good" / f"{name}.bin", encode(frame))
    bad = []
    for name, (data, items) in BAD.items():
        full = [{"id": 0, "node": 0, **item} if "error" in item else item for item in items]
        bad.append({"name": name, "items": full})
        changed += write(HERE / "bad" / f"{name}.bin", data)
    read = []
    for name, (data, message) in READ.items():
        read.append({"name": name, **described(Frame(message, 3, 5))})
        changed += write(HERE / "read" / f"{name}.bin", data)
    for file, content in (("good", good), ("bad", bad), ("read", read)):
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write(HERE / f"{file}.json", text.encode())
    write(
        HERE / "limits.json", (json.dumps({"version": VERSION, "max_message": MAX_MESSAGE}) + "\n").encode()
    )
    return 1 if changed else 0


def described(frame: Frame) -> dict[str, Any]:
    """Return a frame as JSON can hold it."""
    body = plain(encode_body(frame.message))
    return {"id": frame.id, "node": frame.node, "type": frame.message.type, "body": body}


def plain(value: Any) -> Any:
    """Return a value with bytes and numeric keys as JSON can hold them."""
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if dataclasses.is_dataclass(value):
        return plain(encode_body(value))
    return value


def write(path: Path, data: bytes) -> int:
    """Write a file; return 1 when that changes what an existing one said."""
    path.parent.mkdir(exist_ok=True)
    old = path.read_bytes() if path.exists() else None
    if old != data:
        path.write_bytes(data)
        print(("new     " if old is None else "CHANGED ") + str(path.relative_to(HERE)))
    return int(old is not None and old != data)


if __name__ == "__main__":
    sys.exit(main())
