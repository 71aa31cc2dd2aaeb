"""Use etcd from clients at each of its members, record what they see, and check the history.

Clients speak to the member in their own node, through etcd's JSON gateway, so that a partition separates them
as it separates the members. Times of the history are seconds of `time.monotonic`, which is one clock for all
nodes of a lab on one machine, since the checker began.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import random
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.testing.linearizability import Operation, check

PORT = 2379
"""Where a member takes clients."""

CHECK_S = 60.0
"""How long the check may take; it takes about a second."""


def client(ctx: Any) -> None:
    """Run the clients of this node's member, and hand in what they saw."""
    common = ctx.lookup("common", timeout=30)
    ctx.barrier("start")
    end = time.monotonic() + ctx.params.duration
    with ThreadPoolExecutor(ctx.params.clients) as pool:
        running = [pool.submit(use, ctx, common, number, end) for number in range(ctx.params.clients)]
        histories = [each.result() for each in running]  # a client that failed fails the run
    for number, history in enumerate(histories):
        ctx.publish(f"history {ctx.node} {number}", history)
        for row in history:
            ctx.report(**row, client=number)
    ctx.barrier("recorded")


def checker(ctx: Any) -> None:
    """Collect the histories, check them, and say what was found.

    Members on two sides that both accept writes give their clients answers that no single order explains.
    """
    # A lab that is used again has the keys of earlier runs.
    ctx.publish("common", {"prefix": secrets.token_hex(4), "zero": time.monotonic()})
    ctx.barrier("start")
    ctx.barrier("recorded")
    rows = [
        row
        for node in ctx.nodes("client")
        for number in range(ctx.params.clients)
        for row in ctx.lookup(f"history {node} {number}", timeout=30)
    ]
    # What never reached a member has not happened.
    history = [Operation.from_row(row) for row in rows if row["outcome"] != "not sent"]
    report = check(history, limit_s=CHECK_S)
    ctx.log(f"{report}")
    found = {True: "linearizable", False: "split-brain", None: "undecided"}[report.linearizable]
    if report.linearizable is False and ctx.params.reads == "serializable":
        # Such reads may be stale without a split brain. What went through Raft has to fit without them.
        written = check((each for each in history if each.kind != "read"), limit_s=CHECK_S)
        found = {True: "stale-reads", False: "split-brain", None: "undecided"}[written.linearizable]
    ctx.report(
        found=found,
        operations=report.operations,
        unknown=report.unknown,
        keys=report.keys,
        terms=len({row["term"] for row in rows if row["term"] is not None}),
        configurations=report.configurations,
        seconds=round(report.seconds, 3),
        key=report.key,
        reason=report.reason,
    )


def use(ctx: Any, common: dict[str, Any], number: int, end: float) -> list[dict[str, Any]]:
    """Be one client: read, write, and compare-and-swap keys until a time; return each operation as a row."""
    history: list[dict[str, Any]] = []
    chance = random.Random(f"{ctx.seed} {ctx.node} {number}")
    member = Member(ctx.address(ctx.node), ctx.params.answer, ctx.params.reads == "serializable")
    last: dict[str, str | None] = {}
    try:
        for count in itertools.count():
            if time.monotonic() >= end:
                break
            key = f"{common['prefix']}/{chance.randrange(ctx.params.keys)}"
            kind = chance.choices(("read", "write", "cas"), (50, 30, 20))[0]
            value = None if kind == "read" else f"{ctx.node}.{number}.{count}"
            row = operation(member, kind, key, value, last.get(key), common["zero"])
            if row["outcome"] == "ok":
                last[key] = row["value"]
            history.append(row)
            time.sleep(chance.expovariate(1 / max(ctx.params.pause, 1e-6)))
    finally:
        member.close()
    return history


def operation(
    member: Member, kind: str, key: str, value: str | None, expected: str | None, zero: float
) -> dict[str, Any]:
    """Carry one operation out; return it as a row, with the fields of `Operation`."""
    row: dict[str, Any] = {"kind": kind, "key": key, "value": value}
    row |= {"expected": expected if kind == "cas" else None, "succeeded": True}
    row |= {"returned": None, "outcome": "unknown", "term": None, "error": ""}
    invoked = time.monotonic()
    try:
        if kind == "read":
            row |= member.read(key)
        elif kind == "write":
            row |= member.write(key, str(value))
        else:
            row |= member.compare_and_swap(key, expected, str(value))
        row |= {"outcome": "ok", "returned": round(time.monotonic() - zero, 6)}
    except NotSent as error:
        row |= {"outcome": "not sent", "error": str(error)}
    except (OSError, http.client.HTTPException, Refused) as error:
        row["error"] = f"{type(error).__name__}: {error}"
    seconds = round(time.monotonic() - invoked, 6)
    return row | {"invoked": round(invoked - zero, 6), "seconds": seconds}


class NotSent(Exception):
    """The member took no connection, so the operation has not happened."""


class Refused(Exception):
    """The member answered with an error; the operation may have happened all the same."""


class Member:
    """A connection to one member, opened again after each failure.

    Args:
        address: The member's address.
        limit_s: How long an answer may take, in seconds.
        serializable: Let the member answer reads by itself, from what it has.
    """

    def __init__(self, address: str, limit_s: float, serializable: bool) -> None:
        self._connection = http.client.HTTPConnection(address, PORT, timeout=limit_s)
        self._serializable = serializable

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def read(self, key: str) -> dict[str, Any]:
        """Read a key; its value is None if it has never been written."""
        answer = self._post("/v3/kv/range", {"key": encoded(key), "serializable": self._serializable})
        return {"value": value_in(answer), "term": term_of(answer)}

    def write(self, key: str, value: str) -> dict[str, Any]:
        """Write a key."""
        answer = self._post("/v3/kv/put", {"key": encoded(key), "value": encoded(value)})
        return {"term": term_of(answer)}

    def compare_and_swap(self, key: str, expected: str | None, value: str) -> dict[str, Any]:
        """Write a key if it has the expected value, or none at all if that is None; else read it."""
        condition = {"key": encoded(key), "result": "EQUAL"}
        if expected is None:
            condition |= {"target": "VERSION", "version": "0"}
        else:
            condition |= {"target": "VALUE", "value": encoded(expected)}
        put = {"key": encoded(key), "value": encoded(value)}
        transaction = {
            "compare": [condition],
            "success": [{"request_put": put}],
            "failure": [{"request_range": {"key": encoded(key)}}],
        }
        answer = self._post("/v3/kv/txn", transaction)
        if answer.get("succeeded"):
            return {"term": term_of(answer)}
        found = value_in(answer["responses"][0]["response_range"])
        return {"succeeded": False, "value": found, "term": term_of(answer)}

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send one request and return its answer."""
        connection = self._connection
        try:
            if connection.sock is None:
                try:
                    connection.connect()
                except OSError as error:
                    raise NotSent(str(error)) from error
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        except BaseException:
            connection.close()
            raise
        if response.status != http.client.OK:
            raise Refused(f"{response.status} {text[:200].decode(errors='replace')}")
        return dict(json.loads(text))


def encoded(text: str) -> str:
    """Return a key or value as the gateway takes it."""
    return base64.b64encode(text.encode()).decode()


def value_in(answer: dict[str, Any]) -> str | None:
    """Return the value in the answer to a read; None if there is no such key."""
    found = answer.get("kvs", [])
    return base64.b64decode(found[0].get("value", "")).decode() if found else None


def term_of(answer: dict[str, Any]) -> int:
    """Return the member's term of Raft, which grows with each election."""
    return int(answer["header"]["raft_term"])
