"""Send a file of model weights from the trainer to all workers, losslessly, down a tree.

The trainer creates a group, installs a tree and hands the file to a lossless session; every worker receives
it, compares its SHA-256 with the trainer's and reports. A worker that fails is named with its reason while
the others go on.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import random
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nextmini_py

READY_MS = 30_000
"""How long group, membership and tree may take: each is one exchange with the controller."""


def trainer(ctx: Any) -> None:
    """Create the group, install the tree and send the payload once a round."""
    payload = load_payload(ctx)
    digest = hashlib.sha256(payload).hexdigest()
    workers = ctx.nodes("worker")
    group_id, group_ip = create_group(ctx)
    group = {"id": group_id, "ip": group_ip, "bytes": len(payload), "sha256": digest}
    ctx.publish("group", group)
    ctx.barrier("joined")
    edges = install_tree(ctx, group_id, workers)
    out_degree = sum(1 for parent, _ in edges if parent == ctx.node)
    view = nextmini_py.PacketView.from_buffer(payload)
    for number in range(1, ctx.params.rounds + 1):
        ctx.barrier(f"round {number}")
        before = sent_bytes(ctx.dataplane)
        start = time.monotonic()
        session = ctx.dataplane.send_data(group_id, group_ip, workers, view)
        complete = ctx.dataplane.lossless_wait(session, timeout_ms=int(ctx.params.limit * 1000))
        seconds = time.monotonic() - start
        result = ctx.dataplane.lossless_result(session)
        ctx.barrier(f"round {number} received")
        ctx.report(
            round=number,
            state="complete" if complete else "failed",
            payload_bytes=len(payload),
            bytes_sent=sent_bytes(ctx.dataplane) - before,
            out_degree=out_degree,
            unicast_bytes=len(payload) * len(workers),
            seconds=round(seconds, 6),
            mb_per_s=megabytes_per_second(len(payload), seconds),
            sha256=digest,
            reason="; ".join(
                f"node {node}: {entry.reason}"
                for node, entry in sorted(result.receivers.items())
                if entry.state != "complete"
            ),
        )
        ctx.progress(number, ctx.params.rounds)


def worker(ctx: Any) -> None:
    """Receive the payload once a round and report whether it is the trainer's, byte by byte."""
    group = ctx.lookup("group", timeout=60)
    (source,) = ctx.nodes("trainer")
    ctx.dataplane.join_group(group["id"])
    if not ctx.dataplane.wait_for_local_membership(group["id"], timeout_ms=READY_MS):
        raise TimeoutError(
            f"membership of group {group['id']} was not confirmed within {READY_MS / 1000:g} s"
        )
    ctx.barrier("joined")
    for number in range(1, ctx.params.rounds + 1):
        session = ctx.dataplane.receive_data(group["id"], group["ip"], source, group["bytes"])
        ctx.barrier(f"round {number}")
        complete = ctx.dataplane.lossless_wait(session, timeout_ms=int(ctx.params.limit * 1000))
        entry = ctx.dataplane.lossless_result(session).receivers[ctx.node]
        digest = ""
        if complete:
            with memoryview(ctx.dataplane.get_data_buffer(session)) as received:
                digest = hashlib.sha256(received).hexdigest()
        state, reason = entry.state, entry.reason
        if complete and digest != group["sha256"]:
            state, reason = "corrupt", "the checksum differs from the trainer's"
        elif not complete and not reason:  # nobody got through to tell us more
            state, reason = "timed_out", f"not complete within {ctx.params.limit:g} s"
        ctx.barrier(f"round {number} received")
        ctx.report(
            round=number,
            state=state,
            bytes=entry.bytes,
            seconds=round(entry.seconds, 6),
            mb_per_s=megabytes_per_second(entry.bytes, entry.seconds),
            repair_rounds=entry.repair_rounds,
            sha256=digest,
            reason=reason,
        )


def load_payload(ctx: Any) -> mmap.mmap | bytes:
    """Map the payload file, or make a synthetic one from the seed."""
    if not ctx.params.payload:
        return random.Random(f"{ctx.seed} weights").randbytes(ctx.params.size)
    path = Path(ctx.params.payload)
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise ValueError(f"payload {path} is empty")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def create_group(ctx: Any) -> tuple[int, str]:
    """Create a group of a name of its own and return its id and address."""
    label = f"weights-sync-{secrets.token_hex(4)}"
    ctx.dataplane.create_group(label)
    group = ctx.dataplane.group_is_ready(label=label, timeout_ms=READY_MS)
    if group is None:
        raise TimeoutError(f"group {label} was not ready within {READY_MS / 1000:g} s")
    group_id, group_ip, _ = group
    return group_id, group_ip


def install_tree(ctx: Any, group_id: int, workers: Sequence[int]) -> list[tuple[int, int]]:
    """Install the asked tree and return its edges, parents first."""
    if ctx.params.tree == "chain":
        path = [ctx.node, *workers]
        edges = list(itertools.pairwise(path))
        ctx.dataplane.set_group_routes(group_id, edges)
    else:
        edges = ctx.dataplane.compute_group_routes(group_id, list(workers), kind=ctx.params.tree)
    if not ctx.dataplane.wait_for_group_routes(group_id, ctx.node, timeout_ms=READY_MS):
        raise TimeoutError(f"the tree of group {group_id} was not installed within {READY_MS / 1000:g} s")
    return edges


def sent_bytes(dataplane: Any) -> int:
    """Return the bytes that have left this node over all its links."""
    return sum(link["tx_bytes"] for link in dataplane.statistics()["links"])


def megabytes_per_second(size: int, seconds: float) -> float:
    """Return a rate in 10^6 bytes a second, rounded for a table."""
    return round(size / max(seconds, 1e-9) / 1e6, 1)
