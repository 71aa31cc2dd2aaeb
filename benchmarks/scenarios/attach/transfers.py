"""One transfer, timed; and the program that is attached to its node: `transfers.py send|receive SIZE`."""

import json
import sys
import time
import zlib
from typing import Any

import nextmini_py

LIMIT_MS = 120_000


def send(dataplane: nextmini_py.Dataplane, peer: str, data: bytes) -> dict[str, Any]:
    """Send bytes to node 2; the time is that until every receiver has confirmed them."""
    start = time.perf_counter()
    session = dataplane.send_data(0, peer, [2], data)
    started = time.perf_counter()
    complete = dataplane.lossless_wait(session, timeout_ms=LIMIT_MS)
    end = time.perf_counter()
    return {"complete": complete, "seconds": end - start, "start_seconds": started - start}


def receive(dataplane: nextmini_py.Dataplane, session: int) -> dict[str, Any]:
    """Wait for bytes and fetch them; the time is that of fetching them."""
    complete = dataplane.lossless_wait(session, timeout_ms=LIMIT_MS)
    start = time.perf_counter()
    view = dataplane.get_data_buffer(session)
    fetched = time.perf_counter() - start
    expected = zlib.crc32(bytes(range(256)) * (len(view) // 256))
    return {"same": complete and zlib.crc32(view) == expected, "fetch_seconds": fetched}


def main() -> None:
    """Carry out one request for each line."""
    what, size = sys.argv[1], int(sys.argv[2])
    data = bytes(range(256)) * (size // 256) if what == "send" else b""
    session = 0
    with nextmini_py.attach() as dataplane:
        for line in sys.stdin:
            words = json.loads(line)
            answer = None
            if words[0] == "prepare":
                session = dataplane.receive_data(0, words[1], 1, size)
            elif words[0] == "finish":
                answer = receive(dataplane, session)
            elif words[0] != "ready":
                answer = send(dataplane, words[0], data)
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
