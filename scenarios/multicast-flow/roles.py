"""A paced flow of numbered messages to a group, counted at every sink."""

from __future__ import annotations

import math
import secrets
import struct
import time
from typing import Any

import nextmini_py

PORT = 42000
READY_MS = 30_000
QUIET_MS = 1500
"""A sink that has heard nothing for this long after the source finished has heard everything."""


def source(ctx: Any) -> None:
    """Create the group, wait for its members, send at the asked rate, and tell how many messages went."""
    dataplane = ctx.dataplane
    label = f"multicast-flow-{secrets.token_hex(4)}"
    dataplane.create_group(label)
    group = dataplane.group_is_ready(label=label, timeout_ms=READY_MS)
    if group is None:
        raise TimeoutError(f"group {label} was not ready after {READY_MS / 1000:g} s")
    group_id, group_ip, _ = group
    ctx.publish("group", {"id": group_id, "ip": group_ip})
    ctx.barrier("joined")
    dataplane.compute_group_routes(group_id, ctx.nodes("sink"))
    if not dataplane.wait_for_group_routes(group_id, ctx.node, timeout_ms=READY_MS):
        raise TimeoutError(f"the tree of group {label} was not installed after {READY_MS / 1000:g} s")
    ctx.barrier("tree installed")
    sent, seconds = _send(ctx, group_id)
    ctx.publish("sent", sent)
    rate = sent * ctx.params.size * 8 / seconds
    ctx.report(sent=sent, seconds=round(seconds, 3), mbit_per_s=round(rate / 1e6, 3))
    ctx.barrier("counted")


def _send(ctx: Any, group_id: int) -> tuple[int, float]:
    gap = ctx.params.size * 8 / ctx.params.rate
    body = bytes(ctx.params.size - 8)
    start = time.monotonic()
    total = max(1, round(ctx.params.duration / gap))
    for number in range(total):
        if (early := start + number * gap - time.monotonic()) > 0:
            time.sleep(early)
        message = nextmini_py.PacketView(struct.pack("!Q", number) + body)
        ctx.dataplane.send_to_group(group_id, message, src_port=PORT, dst_port=PORT)
    return total, max(time.monotonic() - start, gap)


def sink(ctx: Any) -> None:
    """Join, count, and report what arrived against what was sent."""
    group = ctx.lookup("group", timeout=60)
    (sender,) = ctx.nodes("source")
    receiver = ctx.dataplane.register_receiver_for_group(sender, group["ip"], src_port=PORT, dst_port=PORT)
    ctx.dataplane.join_group(group["id"])
    if not ctx.dataplane.wait_for_local_membership(group["id"], timeout_ms=READY_MS):
        raise TimeoutError(f"membership of group {group['id']} was not confirmed after {READY_MS / 1000:g} s")
    ctx.barrier("joined")
    ctx.barrier("tree installed")
    seen: set[int] = set()
    arrivals = reordered = 0
    highest = -1
    end = time.monotonic() + ctx.params.duration + READY_MS / 1000
    while time.monotonic() < end:
        delivery = receiver.recv(timeout_ms=QUIET_MS)
        if delivery is None:
            break
        (number,) = struct.unpack_from("!Q", delivery.payload)
        arrivals += 1
        reordered += number < highest
        highest = max(highest, number)
        seen.add(number)
    sent = ctx.lookup("sent", timeout=60)
    ctx.report(
        sent=sent,
        received=len(seen),
        needed=math.ceil(sent * (1 - ctx.params.tolerance)),
        duplicates=arrivals - len(seen),
        reordered=reordered,
        loss=round(1 - len(seen) / sent, 6),
    )
    ctx.barrier("counted")
