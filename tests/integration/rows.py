"""Send rows of datagrams between nodes; `datagrams.py` counts the arrivals."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from orchestrator.lab import Node
from tests.integration.services import serve

LIMIT_S = 60.0


@dataclass(frozen=True)
class Arrived:
    """What came of a row of datagrams: how many, and how long each was on its way."""

    count: int
    delays_ms: list[float]


class Row:
    """Datagrams on their way from one node to another."""

    def __init__(self, source: Node, target: Node, folder: Path, count: int, segments: int, seconds: float):
        self._receiver = serve(
            target, [sys.executable, PROGRAM, "receive", target.address, PORT], folder / "receive"
        )
        self._receiver.wait_listening(PORT)
        words = [sys.executable, PROGRAM, "send", target.address, PORT, count, segments, seconds]
        self._sender = serve(source, words, folder / "send")

    @property
    def moving(self) -> bool:
        return self._receiver.runs()

    def arrived(self) -> Arrived:
        """Wait for the end."""
        said = self._receiver.wait_end(LIMIT_S)
        self._sender.wait_end(LIMIT_S)
        return Arrived(**json.loads(said))


PROGRAM = Path(__file__).with_name("datagrams.py")
PORT = 5400


def send(source: Node, target: Node, folder: Path, count: int, segments: int = 1) -> int:
    """Send datagrams as fast as the kernel takes them; return how many arrive."""
    return Row(source, target, folder, count, segments, 0).arrived().count
