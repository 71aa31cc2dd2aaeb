"""Test concurrent lossless transfers.

The parts that the nodes play are in `transfers/roles.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.lab import Lab, Node
from orchestrator.results import RunOutcome
from orchestrator.testing.plugin import Labs
from tests.integration.services import shape

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = Path(__file__).parent / "transfers"

Transfer = Mapping[str, Any]


def transfer(
    group: str, source: int, receivers: Sequence[int], size: int, odd: Mapping[int, str] | None = None
) -> Transfer:
    """Say what the scenario shall do once."""
    behaviour = {str(node): how for node, how in (odd or {}).items()}
    return {"group": group, "source": source, "receivers": list(receivers), "bytes": size, "odd": behaviour}


def test_one_group_several_times_in_sequence_and_at_once(labs: Labs, tmp_path: Path) -> None:
    lab = labs.up(shape("tree"))
    others = range(2, 11)
    in_sequence = [[transfer("g", 1, others, size)] for size in (1, 1_400, 3_000_001)]
    at_once = [transfer("g", 1, others, 1_000_000 + number) for number in range(5)]
    rows = run(lab, [*in_sequence, at_once, [transfer("g", 1, others, 77)]], tmp_path)
    assert_all_exact(rows, transfers=9, receivers=9)


def test_several_groups_and_plain_addresses_at_once(labs: Labs, tmp_path: Path) -> None:
    """Every node of a torus sends to all others while it receives from all others, and to one by address."""
    lab = labs.up(shape("torus"))
    everybody = range(1, 17)
    wave = [transfer(f"g{i}", i, [n for n in everybody if n != i], 300_000 + i) for i in everybody]
    wave += [transfer(f"10.0.0.{i % 16 + 1}", i, [i % 16 + 1], 2_000_000 + i) for i in everybody]
    rows = run(lab, [wave], tmp_path)
    assert_all_exact(rows, transfers=32)
    assert len([row for row in rows if row["side"] == "receiver"]) == 16 * 15 + 16


def test_several_groups_at_once_over_lossy_and_slow_links(labs: Labs, tmp_path: Path) -> None:
    lab = labs.up(shape("random", "loss: 2 %, rate: 200 Mbit, delay: 2 ms"))
    wave = [transfer(f"g{i}", i, [n for n in range(1, 13) if n != i], 1_000_000) for i in (1, 5, 9)]
    assert_all_exact(run(lab, [wave, wave], tmp_path), transfers=6, receivers=11)


def test_two_hundred_megabytes_to_twenty_receivers(labs: Labs, tmp_path: Path) -> None:
    """The hosts of a fat tree and five of its switches; the sender's bytes leave it once.

    Four gigabytes have to be found first, for which a busy machine may need longer than the usual grace.
    """
    long_timeouts = "defaults: {node: {lossless: {ready_grace: 60 s, report_timeout: 60 s}}}\n"
    lab = labs.up(shape("fat_tree") + long_timeouts)
    rows = run(lab, [[transfer("g", 1, range(2, 22), 200_000_000)]], tmp_path)
    assert_all_exact(rows, transfers=1, receivers=20)
    (sender,) = (row for row in rows if row["side"] == "sender")
    assert sender["sent"] <= 1.03 * 200_000_000


def test_each_receiver_that_does_not_get_all_is_named_and_the_others_complete(
    labs: Labs, tmp_path: Path
) -> None:
    """One has too little room, one never comes, one leaves midway, one is killed, and three behave well."""
    text = (
        "name: odd\nseed: 7\nn_nodes: 8\n"
        "defaults: {node: {lossless: {ready_grace: 3 s, report_timeout: 3 s}}, link: {rate: 200 Mbit}}\n"
        "topology: {type: star, n_nodes: 8}\n"
    )
    lab = labs.up(text, external=[8])
    odd = {3: "small", 4: "never", 6: "leave", 8: "external"}
    size = 30_000_000
    with killed_midway(RECEIVER, lab.node(8), "g", size):
        rows = run(lab, [[transfer("g", 1, range(2, 9), size, odd)]], tmp_path)
    (sender,) = (row for row in rows if row["side"] == "sender")
    peers = {int(node): tuple(entry) for node, entry in json.loads(sender["peers"]).items()}
    assert not sender["complete"]
    assert [node for node, (state, _) in peers.items() if state == "complete"] == [2, 5, 7]
    assert peers[3] == ("failed", "it has room for 15000000 bytes, the transfer has 30000000")
    assert peers[4] == ("timed_out", "no receive call waited for it within 3000 ms")
    assert peers[6] == ("left", "it left the group")
    assert peers[8][0] == "failed" and "node 8" in peers[8][1]
    exact = {row["node"]: row["exact"] for row in rows if row["side"] == "receiver"}
    assert exact == {2: True, 3: False, 5: True, 6: False, 7: True}
    assert lab.status().nodes[7].state != "ready"


def test_both_sides_name_a_worker_that_nothing_reaches(labs: Labs, tmp_path: Path) -> None:
    text = (
        "name: cut\nseed: 7\nn_nodes: 3\ndefaults: {node: {lossless: {ready_grace: 2 s}}}\n"
        "links:\n  - {endpoints: [1, 2]}\n  - {endpoints: [2, 3], loss: 100 %}\n"
    )
    outcome = labs.up(text).run_scenario(
        "weights-sync", params={"size": "1 MB", "limit": "4 s"}, results=tmp_path / "out"
    )
    assert outcome.verdict == "fail"
    rows = {row["node"]: row for row in outcome.rows}
    assert (rows[1]["state"], rows[1]["reason"]) == ("failed", "node 3: not ready within 2000 ms")
    assert (rows[2]["state"], rows[2]["sha256"]) == ("complete", rows[1]["sha256"])
    assert (rows[3]["state"], rows[3]["reason"]) == ("timed_out", "not complete within 4 s")


def test_a_transfer_ends_for_both_sides_when_its_sender_is_killed(labs: Labs, tmp_path: Path) -> None:
    text = "name: orphans\nseed: 7\ntopology: {type: star, n_nodes: 3}\ndefaults: {link: {rate: 50 Mbit}}\n"
    lab = labs.up(text, external=[1])
    wave = [transfer(f"10.0.0.{node}", 1, [node], 20_000_000) for node in (2, 3)]
    with killed_midway(SENDER, lab.node(1), 20_000_000):
        rows = run(lab, [wave], tmp_path)
    assert sorted((row["node"], row["state"]) for row in rows) == [(2, "failed"), (3, "failed")]
    assert all("the sending node is gone: node 1" in row["reason"] for row in rows)


RECEIVER = """
import sys, nextmini_py

path, group, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
with nextmini_py.Dataplane(path) as dataplane:
    dataplane.wait_for_topology_ready(timeout_ms=30_000)
    print("ready", flush=True)
    group_id, group_ip, source = dataplane.group_is_ready(label=group, timeout_ms=30_000)
    dataplane.join_group(group_id)
    assert dataplane.wait_for_local_membership(group_id, timeout_ms=30_000)
    session = dataplane.receive_data(group_id, group_ip, source, size)
    while dataplane.lossless_result(session).receivers[dataplane.node_id].bytes < 1_000_000:
        dataplane.lossless_wait(session, timeout_ms=5)
    print("midway", flush=True)
    dataplane.lossless_wait(session, timeout_ms=60_000)
"""

SENDER = """
import sys, nextmini_py

path, size = sys.argv[1], int(sys.argv[2])
with nextmini_py.Dataplane(path) as dataplane:
    dataplane.wait_for_topology_ready(timeout_ms=30_000)
    print("ready", flush=True)
    sessions = {node: dataplane.send_data(0, f"10.0.0.{node}", [node], bytes(size)) for node in (2, 3)}
    for node, session in sessions.items():
        while dataplane.lossless_result(session).receivers[node].bytes < 1_000_000:
            dataplane.lossless_wait(session, timeout_ms=5)
    print("midway", flush=True)
    dataplane.lossless_wait(session, timeout_ms=60_000)
"""


@contextmanager
def killed_midway(program: str, external: Node, *words: object) -> Iterator[None]:
    """Run an external node's program that is killed in the middle of a transfer."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(external.config), *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    killer = threading.Thread(target=kill_when_it_says, args=[process, "midway\n"])
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        killer.start()
        yield
    finally:
        process.kill()
        if killer.is_alive():
            killer.join()
        process.communicate()


def kill_when_it_says(process: subprocess.Popen[str], line: str) -> None:
    """Let a program come so far, and no further."""
    assert process.stdout is not None
    if process.stdout.readline() == line:
        process.kill()


def run(lab: Lab, waves: Sequence[Sequence[Transfer]], folder: Path) -> list[dict[str, Any]]:
    """Run the scenario; return its rows."""
    outcome: RunOutcome = lab.run_scenario(
        SCENARIO, params={"waves": json.dumps(waves)}, results=folder / "out"
    )
    assert outcome.verdict == "pass", (outcome.reason, outcome.failures)
    return [dict(row) for row in outcome.rows]


def assert_all_exact(
    rows: Sequence[Mapping[str, Any]], *, transfers: int, receivers: int | None = None
) -> None:
    """Every transfer is there, and complete on both sides."""
    senders = [row for row in rows if row["side"] == "sender"]
    assert len(senders) == len({row["transfer"] for row in senders}) == transfers
    assert [row["peers"] for row in senders if not row["complete"]] == []
    others = [row for row in rows if row["side"] == "receiver"]
    assert [row for row in others if not row["exact"]] == []
    if receivers is not None:
        assert len(others) == transfers * receivers
