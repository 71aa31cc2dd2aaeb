"""Messages there and back over `send_to_node` and `register_receiver_from_node`.

Messages are datagrams: on a lossy topology some do not come back, and the check says so.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import nextmini_py

REQUEST_PORT = 41000
REPLY_PORT = 41001


def client(ctx: Any) -> None:
    """Send `count` numbered messages to each node, one at a time, and report a row for each node."""
    peers = ctx.nodes("echo")
    replies = {
        peer: ctx.dataplane.register_receiver_from_node(peer, src_port=REQUEST_PORT, dst_port=REPLY_PORT)
        for peer in peers
    }
    ctx.barrier("ready")
    for done, peer in enumerate(peers):
        times = [seconds for seconds in _exchange(ctx, peer, replies[peer]) if seconds is not None]
        ctx.report(
            peer=peer,
            sent=ctx.params.count,
            echoed=len(times),
            rtt_us_median=round(statistics.median(times) * 1e6, 1) if times else None,
            rtt_us_max=round(max(times) * 1e6, 1) if times else None,
        )
        ctx.progress(done + 1, len(peers))
    ctx.barrier("done")


def _exchange(ctx: Any, peer: int, replies: Any) -> list[float | None]:
    body = bytes(ctx.params.size - 8)
    wait_ms = int(ctx.params.wait * 1000)
    times: list[float | None] = []
    for number in range(ctx.params.count):
        message = number.to_bytes(8, "big") + body
        start = time.perf_counter()
        ctx.dataplane.send_to_node(
            peer, nextmini_py.PacketView(message), src_port=REPLY_PORT, dst_port=REQUEST_PORT
        )
        delivery = replies.recv(timeout_ms=wait_ms)
        while delivery is not None and delivery.payload[:8] != message[:8]:
            delivery = replies.recv(timeout_ms=wait_ms)  # the late echo of a message that was given up
        intact = delivery is not None and delivery.payload == message
        times.append(time.perf_counter() - start if intact else None)
    return times


def echo(ctx: Any) -> None:
    """Send every message back until the client is done."""
    (source,) = ctx.nodes("client")
    requests = ctx.dataplane.register_receiver_from_node(source, src_port=REPLY_PORT, dst_port=REQUEST_PORT)
    ctx.barrier("ready")
    echoed = 0
    while echoed < ctx.params.count:
        delivery = requests.recv(timeout_ms=int(ctx.params.wait * 1000) * len(ctx.nodes("echo")) + 5000)
        if delivery is None:
            break
        ctx.dataplane.send_to_node(
            source, delivery.frozen_payload, src_port=REQUEST_PORT, dst_port=REPLY_PORT
        )
        echoed += 1
    ctx.report(echoed=echoed)
    ctx.barrier("done")
