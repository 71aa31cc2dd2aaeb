"""The program of one node: `python -m benchmarks.transfers.program SETTINGS FOLDER`.

It reads one order a line, as JSON, and answers each with one line that has the order's `id`. What a transfer
brought is in `FOLDER/<name>.<node>` before it is answered; a program that is killed leaves what it had
written.
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
"""How long the lab, a group and a tree may take: each is one exchange with the controller."""

_said = threading.Lock()
_open: set[int] = set()


def payload(name: str, size: int) -> bytes:
    """The bytes of a transfer: its name decides them."""
    return random.Random(f"transfer {name}").randbytes(size)


def main() -> None:
    """Carry out orders until there are no more."""
    settings, folder = sys.argv[1], Path(sys.argv[2])
    with nextmini_py.Dataplane(settings) as dataplane:
        ready = dataplane.wait_for_topology_ready(timeout_ms=READY_MS)
        _say({"id": "ready", "ready": ready})
        for line in sys.stdin:
            order = json.loads(line)
            threading.Thread(target=_carry_out, args=[dataplane, folder, order], daemon=True).start()


def _carry_out(dataplane: nextmini_py.Dataplane, folder: Path, order: dict[str, Any]) -> None:
    try:
        answer = _ORDERS[order["do"]](dataplane, folder, order)
    except Exception as error:  # whatever it is, it is the answer
        answer = {"error": f"{type(error).__name__}: {error}"}
    _say({"id": order["id"], **answer})


def _create(dataplane: nextmini_py.Dataplane, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    dataplane.create_group(order["label"])
    found = dataplane.group_is_ready(label=order["label"], timeout_ms=READY_MS)
    return {"group": None if found is None else [found[0], found[1]]}


def _join(dataplane: nextmini_py.Dataplane, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    dataplane.join_group(order["group"])
    return {"joined": dataplane.wait_for_local_membership(order["group"], timeout_ms=READY_MS)}


def _route(dataplane: nextmini_py.Dataplane, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    dataplane.compute_group_routes(order["group"], order["receivers"])
    return {"routed": dataplane.wait_for_group_routes(order["group"], dataplane.node_id, timeout_ms=READY_MS)}


def _send(dataplane: nextmini_py.Dataplane, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    data = payload(order["name"], order["size"])
    session = dataplane.send_data(order["group"], order["dest"], order["receivers"], data)
    _open.add(session)
    _say({"id": f"{order['id']} begun"})
    complete = dataplane.lossless_wait(session, timeout_ms=order["limit_ms"])
    at = time.monotonic()
    result = dataplane.lossless_result(session)
    _open.discard(session)
    peers = {node: [each.state, each.reason] for node, each in result.receivers.items()}
    return {"complete": complete, "state": result.state, "peers": peers, "at": at}


def _receive(dataplane: nextmini_py.Dataplane, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    session = dataplane.receive_data(order["group"], order["dest"], order["source"], order["size"])
    _open.add(session)
    _say({"id": f"{order['id']} begun"})
    complete = dataplane.lossless_wait(session, timeout_ms=order["limit_ms"])
    if complete:
        with memoryview(dataplane.get_data_buffer(session)) as data:
            (folder / f"{order['name']}.{dataplane.node_id}").write_bytes(data)
    result = dataplane.lossless_result(session)
    _open.discard(session)
    return {"complete": complete, "state": result.state, "reason": result.reason}


def _end(dataplane: nextmini_py.Dataplane, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    for session in list(_open):
        dataplane.lossless_cancel(session)
    return {}


_ORDERS = {
    "create": _create,
    "join": _join,
    "route": _route,
    "send": _send,
    "receive": _receive,
    "end": _end,
}


def _say(answer: dict[str, Any]) -> None:
    with _said:
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
