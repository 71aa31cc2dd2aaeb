"""Test that one seed gives one drop sequence: two labs with one UDP sender each lose the same datagrams."""

from __future__ import annotations

from pathlib import Path

from orchestrator.testing.plugin import Labs

COUNT = 200  # the receiver takes them when all are sent, and its buffer holds so many
ROLES = """
import socket, time
def sender(ctx):
    ctx.barrier("listening")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for number in range(ctx.params.count):
            out.sendto(number.to_bytes(4, "big"), (ctx.address(2), 5000))
            time.sleep(0.001)
    ctx.barrier("sent")
def receiver(ctx):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as into:
        into.bind(("0.0.0.0", 5000))
        into.settimeout(0.5)
        ctx.barrier("listening")
        missing = set(range(ctx.params.count))
        ctx.barrier("sent")
        try:
            while True:
                missing.discard(int.from_bytes(into.recv(100), "big"))
        except TimeoutError:
            ctx.report(lost=sorted(missing))
"""


def test_two_labs_with_one_seed_lose_the_same_packets(labs: Labs, tmp_path: Path) -> None:
    folder = tmp_path / "drops"
    folder.mkdir()
    (folder / "roles.py").write_text(ROLES)
    (folder / "scenario.yaml").write_text(
        "roles: {sender: {nodes: 1}, receiver: {nodes: 2}}\n"
        f"params: {{count: {{type: int, default: {COUNT}}}}}\n"
    )

    def lost(seed: int, name: str) -> list[int]:
        lab = labs.up(f"name: {name}\nseed: {seed}\nn_nodes: 2\nlinks: [{{endpoints: [1, 2], loss: 10 %}}]\n")
        outcome = lab.run_scenario(folder, results=tmp_path / name)
        lab.down()
        (row,) = outcome.rows
        found: list[int] = row["lost"]
        return found

    first, again, other = lost(7, "first"), lost(7, "again"), lost(8, "other")
    assert first == again, (first, again)
    assert first != other
    assert 5 <= len(first) <= 45  # 20 on average, with a standard deviation of 4
