"""Time `recv_batch` on full queues only: a batch that had to wait would include the time of the sender."""

from __future__ import annotations

import statistics
import time
from typing import Any

import nextmini_py

_TIMEOUT_MS = 2000


def sender(ctx: Any) -> None:
    """Send one batch each round, while the receiver does nothing."""
    (target,) = ctx.nodes("receiver")
    message = nextmini_py.PacketView(bytes(ctx.params.size))
    ctx.barrier("ready")
    for number in range(ctx.params.rounds):
        for _ in range(ctx.params.batch):
            ctx.dataplane.send_to_node(target, message)
        ctx.barrier(f"sent-{number}")
        ctx.barrier(f"taken-{number}")


def receiver(ctx: Any) -> None:
    """Take each batch whole, and report the median cost of a message in microseconds."""
    (source,) = ctx.nodes("sender")
    incoming = ctx.dataplane.register_receiver_from_node(source)
    ctx.barrier("ready")
    bare: list[float] = []
    viewed: list[float] = []
    for number in range(ctx.params.rounds):
        ctx.barrier(f"sent-{number}")
        _measure(incoming, ctx.params.batch, bare, viewed)
        ctx.barrier(f"taken-{number}")
    ctx.report(
        batches=len(viewed),
        receive_us=round(statistics.median(bare), 4) if bare else None,
        receive_and_view_us=round(statistics.median(viewed), 4) if viewed else None,
        dropped=incoming.dropped,
    )


def _measure(incoming: Any, count: int, bare: list[float], viewed: list[float]) -> None:
    start = time.perf_counter()
    batch = incoming.recv_batch(count, timeout_ms=_TIMEOUT_MS)
    taken = time.perf_counter()
    for delivery in batch:
        memoryview(delivery.frozen_payload)
    seen = time.perf_counter()
    if len(batch) == count:
        bare.append((taken - start) / count * 1e6)
        viewed.append((seen - start) / count * 1e6)
        return
    missing = count - len(batch)  # drain late messages, so that the next round starts with an empty queue
    while missing > 0 and (rest := incoming.recv_batch(missing, timeout_ms=_TIMEOUT_MS)):
        missing -= len(rest)
