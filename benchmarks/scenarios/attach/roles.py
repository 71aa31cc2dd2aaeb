"""Send and receive in this process and in attached ones, in turn."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from transfers import receive, send  # type: ignore[import-not-found]  # beside this file in a node

KINDS = {"embedded": (False, False), "attached": (True, False), "both attached": (True, True)}
"""Whether the sender and the receiver are attached."""


class Program:
    """An attached program, which makes one transfer for each line that it reads."""

    def __init__(self, what: str, ctx: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("transfers.py")), what, str(ctx.params.size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._ctx = ctx
        self.ask("ready")

    def ask(self, *words: str) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None, "both are pipes"
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the attached program has ended")
        return json.loads(answer)


def sender(ctx: Any) -> None:
    program = Program("send", ctx)
    data = bytes(range(256)) * (ctx.params.size // 256)
    for number in range(ctx.params.rounds):
        for kind, (attached, _) in KINDS.items():
            ctx.barrier(f"{number} {kind}", timeout=120)
            peer = ctx.address(2)
            row = program.ask(peer) if attached else send(ctx.dataplane, peer, data)
            ctx.barrier(f"{number} {kind} done", timeout=120)
            ctx.report(number=number, kind=kind, **row)


def receiver(ctx: Any) -> None:
    program = Program("receive", ctx)
    for number in range(ctx.params.rounds):
        for kind, (_, attached) in KINDS.items():
            session = None
            if attached:
                program.ask("prepare", ctx.address(2))
            else:
                session = ctx.dataplane.receive_data(0, ctx.address(2), 1, ctx.params.size)
            ctx.barrier(f"{number} {kind}", timeout=120)
            row = program.ask("finish") if attached else receive(ctx.dataplane, session)
            ctx.barrier(f"{number} {kind} done", timeout=120)
            ctx.report(number=number, kind=kind, **row)
