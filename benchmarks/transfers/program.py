"""The program of one node: `python -m benchmarks.transfers.program SETTINGS FOLDER`.

It reads one request per line, as JSON, and answers each with one line that has the request's `id`. Received
data is written to `FOLDER/<name>.<node>` before the answer; a killed program leaves what it had written.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nextmini_py

__all__ = ["payload"]

READY_MS = 20_000
"""Time limit for the lab, a group and its routes: each is one exchange with the controller."""

_print_lock = threading.Lock()
_open: set[int] = set()


def payload(name: str, size: int) -> bytes:
    """Return the bytes of a transfer, derived from its name."""
    return random.Random(f"transfer {name}").randbytes(size)


def main() -> None:
    """Carry out requests until end of input."""
    settings, folder = sys.argv[1], Path(sys.argv[2])
    with nextmini_py.Dataplane(settings) as dataplane:
        ready = dataplane.wait_for_topology_ready(timeout_ms=READY_MS)
        _print_json({"id": "ready", "ready": ready})
        for line in sys.stdin:
            request = json.loads(line)
            threading.Thread(target=_carry_out, args=[dataplane, folder, request], daemon=True).start()


def _carry_out(dataplane: nextmini_py.Dataplane, folder: Path, request: dict[str, Any]) -> None:
    try:
        answer = _HANDLERS[request["do"]](dataplane, folder, request)
    except Exception as error:  # any failure is reported in the answer
        answer = {"error": f"{type(error).__name__}: {error}"}
    _print_json({"id": request["id"], **answer})


def _create(dataplane: nextmini_py.Dataplane, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    dataplane.create_group(request["label"])
    found = dataplane.group_is_ready(label=request["label"], timeout_ms=READY_MS)
    return {"group": None if found is None else [found[0], found[1]]}


def _join(dataplane: nextmini_py.Dataplane, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    dataplane.join_group(request["group"])
    return {"joined": dataplane.wait_for_local_membership(request["group"], timeout_ms=READY_MS)}


def _route(dataplane: nextmini_py.Dataplane, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    dataplane.compute_group_routes(request["group"], request["receivers"])
    return {
        "routed": dataplane.wait_for_group_routes(request["group"], dataplane.node_id, timeout_ms=READY_MS)
    }


def _send(dataplane: nextmini_py.Dataplane, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    data = payload(request["name"], request["size"])
    session = dataplane.send_data(request["group"], request["dest"], request["receivers"], data)
    _open.add(session)
    _print_json({"id": f"{request['id']} started"})
    complete = dataplane.lossless_wait(session, timeout_ms=request["limit_ms"])
    at = time.monotonic()
    result = dataplane.lossless_result(session)
    _open.discard(session)
    peers = {node: [each.state, each.reason] for node, each in result.receivers.items()}
    return {"complete": complete, "state": result.state, "peers": peers, "at": at}


def _receive(dataplane: nextmini_py.Dataplane, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    session = dataplane.receive_data(request["group"], request["dest"], request["source"], request["size"])
    _open.add(session)
    _print_json({"id": f"{request['id']} started"})
    complete = dataplane.lossless_wait(session, timeout_ms=request["limit_ms"])
    if complete:
        with memoryview(dataplane.get_data_buffer(session)) as data:
            (folder / f"{request['name']}.{dataplane.node_id}").write_bytes(data)
    result = dataplane.lossless_result(session)
    _open.discard(session)
    return {"complete": complete, "state": result.state, "reason": result.reason}


def _end(dataplane: nextmini_py.Dataplane, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    for session in list(_open):
        dataplane.lossless_cancel(session)
    return {}


_HANDLERS = {
    "create": _create,
    "join": _join,
    "route": _route,
    "send": _send,
    "receive": _receive,
    "end": _end,
}


def _print_json(answer: dict[str, Any]) -> None:
    with _print_lock:
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
