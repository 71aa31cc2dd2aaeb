"""Run a list of transfers with different kinds of receivers, and report their results.

A transfer is `{group, source, receivers, bytes}`, and `odd` if receivers behave oddly, by node:

small    makes room for half of what is sent
never    does not come
leave    leaves the group when the first bytes are there
external is another program, not part of this scenario

A group that is called after its only receiver is that node's own address.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from typing import Any

WAIT_MS = 80_000


def node(ctx: Any) -> None:
    """Take part in all waves."""
    waves = json.loads(ctx.params.waves)
    groups = meet(ctx, {each["group"]: each for wave in waves for each in wave})
    for number, wave in enumerate(waves):
        payloads = {i: payload(ctx, number, i, each) for i, each in enumerate(wave)}
        ctx.barrier(f"wave {number}")
        begun = [(i, each, begin(ctx, each, groups, payloads[i])) for i, each in enumerate(wave)]
        for i, each, session in begun:
            if session is not None:
                finish(ctx, each, session, f"{number}.{i}", groups[each["group"]][0])
        ctx.barrier(f"wave {number} is over")


def meet(ctx: Any, transfers: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Create, join and route all groups; return id and address by label."""
    dataplane = ctx.dataplane
    groups: dict[str, tuple[int, str]] = {}
    for label, each in transfers.items():
        if label.startswith("10."):
            groups[label] = 0, label
        elif each["source"] == ctx.node:
            dataplane.create_group(label)
            group_id, group_ip, _ = dataplane.group_is_ready(label=label, timeout_ms=WAIT_MS)
            groups[label] = group_id, group_ip
            ctx.publish(label, [group_id, group_ip])
    for label, each in transfers.items():
        if ctx.node in each["receivers"] and label not in groups:
            group_id, group_ip = ctx.lookup(label, timeout=60)
            groups[label] = group_id, group_ip
            dataplane.join_group(group_id)
            assert dataplane.wait_for_local_membership(group_id, timeout_ms=WAIT_MS)
    ctx.barrier("joined")
    for label, each in transfers.items():
        if each["source"] == ctx.node and groups[label][0]:
            dataplane.compute_group_routes(groups[label][0], each["receivers"])
            assert dataplane.wait_for_group_routes(groups[label][0], ctx.node, timeout_ms=WAIT_MS)
    ctx.barrier("routed")
    return groups


def payload(ctx: Any, wave: int, number: int, each: dict[str, Any]) -> bytes:
    """The sender's bytes, different for each transfer; their hash is published."""
    if each["source"] != ctx.node:
        return b""
    piece = random.Random(f"{ctx.seed}/{wave}/{number}").randbytes(min(each["bytes"], 1_000_003))
    data = (piece * (each["bytes"] // len(piece) + 1))[: each["bytes"]]
    ctx.publish(f"sha256 {wave}.{number}", hashlib.sha256(data).hexdigest())
    return data


def begin(ctx: Any, each: dict[str, Any], groups: dict[str, tuple[int, str]], data: bytes) -> int | None:
    """Start our side; None if there is nothing for us to do."""
    odd = each.get("odd", {}).get(str(ctx.node))
    if each["source"] == ctx.node:
        group_id, group_ip = groups[each["group"]]
        return int(ctx.dataplane.send_data(group_id, group_ip, each["receivers"], data))
    if ctx.node not in each["receivers"] or odd == "never":
        return None
    group_id, group_ip = groups[each["group"]]
    room = each["bytes"] // 2 if odd == "small" else each["bytes"]
    return int(ctx.dataplane.receive_data(group_id, group_ip, each["source"], room))


def finish(ctx: Any, each: dict[str, Any], session: int, name: str, group_id: int) -> None:
    """Wait for the end of our side and report it."""
    if each.get("odd", {}).get(str(ctx.node)) == "leave":
        while ctx.dataplane.lossless_result(session).receivers[ctx.node].bytes == 0:
            time.sleep(0.002)
        ctx.dataplane.leave_group(group_id)
    start = time.monotonic()
    complete = ctx.dataplane.lossless_wait(session, timeout_ms=WAIT_MS)
    seconds = time.monotonic() - start
    result = ctx.dataplane.lossless_result(session)
    row: dict[str, Any] = {"transfer": name, "complete": complete, "state": result.state}
    if each["source"] == ctx.node:
        outcome = {peer: [entry.state, entry.reason] for peer, entry in sorted(result.receivers.items())}
        ctx.report(**row, side="sender", peers=json.dumps(outcome), seconds=seconds, sent=result.bytes_sent)
        return
    entry = result.receivers[ctx.node]
    exact = False
    if complete:
        with memoryview(ctx.dataplane.get_data_buffer(session)) as data:
            exact = hashlib.sha256(data).hexdigest() == ctx.lookup(f"sha256 {name}", timeout=60)
    ctx.report(**row, side="receiver", exact=exact, reason=entry.reason, bytes=entry.bytes, seconds=seconds)
