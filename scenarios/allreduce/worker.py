"""A PyTorch program that all-reduces a tensor with gloo; its place comes from the environment.

Nothing here knows of the testbed; the same file runs under `torchrun`.
"""

from __future__ import annotations

import json
import os
import sys
import time

import torch
import torch.distributed as dist


def main(elements: int, repeats: int) -> int:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    seconds = []
    correct = True
    for step in range(repeats):
        tensor = torch.full((elements,), float(rank + 1 + step))
        dist.barrier()
        start = time.monotonic()
        dist.all_reduce(tensor)
        seconds.append(time.monotonic() - start)
        expected = sum(other + 1 + step for other in range(world))
        correct = correct and bool((tensor == float(expected)).all())
    dist.destroy_process_group()
    median = sorted(seconds)[len(seconds) // 2]
    print(json.dumps({"rank": rank, "world": world, "correct": correct, "seconds": median}))
    return 0 if correct else 1


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "utun")
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
