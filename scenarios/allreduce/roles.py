"""Start the unmodified PyTorch program on every node and read what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def rank(ctx: Any) -> None:
    """Run one rank of the all-reduce as a child process in this node's network."""
    nodes = ctx.nodes("rank")
    environment = os.environ | {
        "MASTER_ADDR": ctx.address(nodes[0]),
        "MASTER_PORT": str(ctx.params.port),
        "WORLD_SIZE": str(len(nodes)),
        "RANK": str(nodes.index(ctx.node)),
        "GLOO_SOCKET_IFNAME": "utun",
        "OMP_NUM_THREADS": "1",
    }
    program = Path(__file__).with_name("worker.py")
    ctx.barrier("start")
    done = subprocess.run(
        [sys.executable, str(program), str(ctx.params.elements), str(ctx.params.repeats)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=ctx.params.limit,
        check=False,
    )
    if done.returncode not in (0, 1) or not done.stdout.strip():
        raise RuntimeError(f"the PyTorch program ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    ctx.report(
        state="verified" if answer["correct"] else "wrong",
        rank=answer["rank"],
        world=answer["world"],
        bytes=ctx.params.elements * 4,
        seconds=round(answer["seconds"], 6),
        mb_per_s=round(ctx.params.elements * 4 / max(answer["seconds"], 1e-9) / 1e6, 1),
    )
    ctx.barrier("done")
