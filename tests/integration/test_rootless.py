"""Test labs of ordinary users in a user namespace."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.deploy.host_checks import Finding
from tests.integration.conftest import RING, CommandResult
from tests.integration.unprivileged import OrdinaryUser, World
from tests.integration.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for several other users")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture
def user(world: World) -> Iterator[OrdinaryUser]:
    yield world.named
    for each in (world.named, world.nameless):
        if each.processes():
            each.nm("down", "--all")


@pytest.mark.parametrize("who", ["named", "nameless"])
def test_the_daily_commands_of_an_ordinary_user(world: World, who: str, user: OrdinaryUser) -> None:
    """With an account, and with an id that has no name."""
    user = getattr(world, who)
    up = must(user.nm("up", RING, "--backend", "native", "-o", "json"))
    assert up.json["state"] == "ready"
    assert up.json["nodes"][0]["config"].startswith(str(user.home.path))

    ping = must(user.nm("exec", "1", "--", "ping", "-c", "2", "-W", "5", "node-3"))
    assert "10.0.0.3" in ping.out and " 0% packet loss" in ping.out
    both = must(user.nm("exec", "2,4", "-o", "json", "--", "ip", "-o", "addr", "show", "utun"))
    assert ["10.0.0.2" in both.json[0]["stdout"], "10.0.0.4" in both.json[1]["stdout"]] == [True, True]

    sync = must(user.nm("run", "scenario", "weights-sync", "-o", "json"))
    rows = [row for row in sync.json["rows"] if row["role"] == "worker"]
    assert [row["state"] for row in rows] == ["complete"] * 3
    pings = must(user.nm("run", "scenario", "pingall", "-o", "json"))
    assert all(row["reached"] == 3 for row in pings.json["rows"])

    must(user.nm("down"))
    nothing_is_left(user)


def test_commands_run_as_root_of_their_node_and_as_nobody_on_the_machine(user: OrdinaryUser) -> None:
    must(user.nm("up", RING, "--backend", "native"))
    assert must(user.nm("exec", "3", "--", "hostname")).out == "node-3\n"
    mark = user.folder / "mark"
    seen = must(user.nm("exec", "1", "--", "sh", "-c", f"id -u; ip -o addr show utun; touch {mark}"))
    assert seen.out.startswith("0\n") and "10.0.0.1/" in seen.out
    assert user.look(mark).stat().st_uid == user.uid
    refused = user.nm("exec", "1", "--", "sh", "-c", "echo x > /etc/hostname")
    assert refused.code != 0 and "denied" in refused.err
    must(user.nm("down"))


def test_services_run_for_an_ordinary_user(user: OrdinaryUser) -> None:
    must(user.nm("up", RING.with_name("services.yaml"), "--backend", "native"))
    seen = must(user.nm("status", "-o", "json")).json["services"]
    assert {each["service"]: each["state"] for each in seen if each["service"] != "clock"} == {
        "web": "ready",
        "reader": "exited",
    }
    assert must(user.nm("exec", "1/web", "--", "pwd")).out == "/usr/share\n"
    must(user.nm("restart", "1/web"))
    must(user.nm("down"))
    nothing_is_left(user)


def test_a_killed_host_process_comes_back_by_itself(user: OrdinaryUser) -> None:
    must(user.nm("up", RING, "--backend", "native"))
    table = user.home.lab("ring").host_file
    before = json.loads(user.look(table).read_text())["pid"]
    os.kill(before, signal.SIGKILL)
    until(lambda: user.look(table).is_file() and json.loads(user.look(table).read_text())["pid"] != before)
    until(lambda: json.loads(user.nm("status", "-o", "json").out)["state"] == "ready")
    must(user.nm("exec", "1", "--", "ping", "-c", "1", "-W", "5", "node-3"))
    must(user.nm("down"))
    nothing_is_left(user)


def test_a_killed_host_process_leaves_nothing(user: OrdinaryUser) -> None:
    must(user.nm("up", RING, "--backend", "native", "--no-restart"))
    stays = user.start(sys.executable, "-m", "orchestrator.cli", "exec", "3", "--", "sleep", "300")
    hidden = "env -i setsid sleep 300 </dev/null >/dev/null 2>&1 &"
    must(user.nm("exec", "1", "--", "sh", "-c", hidden))
    table = json.loads(user.look(user.home.lab("ring").host_file).read_text())
    os.kill(table["pid"], signal.SIGKILL)
    repaired = must(user.nm("up", RING, "--backend", "native"))
    assert "host" in repaired.err
    must(user.nm("exec", "1", "--", "ping", "-c", "1", "-W", "5", "node-3"))
    must(user.nm("down"))
    stays.communicate(timeout=20)
    nothing_is_left(user)


def test_two_users_at_once_have_a_lab_of_one_name_each(world: World, user: OrdinaryUser) -> None:
    other = world.nameless
    starts = [
        each.start(sys.executable, "-m", "orchestrator.cli", "up", str(RING), "--backend", "native")
        for each in (user, other)
    ]
    for start in starts:
        _out, err = start.communicate(timeout=120)
        assert start.returncode == 0, err
    must(user.nm("down", "--all"))
    nothing_is_left(user)
    assert must(other.nm("status", "-o", "json")).json["state"] == "ready"
    must(other.nm("exec", "1", "--", "ping", "-c", "1", "-W", "5", "node-3"))
    must(other.nm("down", "--all"))
    nothing_is_left(other)


def test_a_closed_tun_device_is_named_before_anything_starts(world: World) -> None:
    said = world.named.nm(
        "up", RING, "--backend", "native", "-o", "json", NM_TUN_DEVICE=str(world.closed_tun)
    )
    assert said.code == 4
    assert said.error["id"] == "host.tun-device"
    assert str(world.closed_tun) in said.error["message"] and "Permission denied" in said.error["message"]
    assert f"chmod 0666 {world.closed_tun}" in said.error["hint"]
    nothing_is_left(world.named)


def test_a_machine_without_user_namespaces_is_named_before_anything_starts(world: World) -> None:
    """One user namespace around them uses up all that its parent allows, so that no other can be made."""
    last = 'echo 1 > /proc/sys/user/max_user_namespaces; exec unshare --user --map-user=1000 -- "$@"'
    before = ("unshare", "--user", "--map-root-user", "sh", "-c", last, "sh")
    said = world.named.nm("up", RING, "--backend", "native", "-o", "json", before=before)
    assert said.code == 4
    assert said.error["id"] == "host.network-namespaces"
    assert "user namespaces" in said.error["message"] and "max_user_namespaces" in said.error["hint"]
    nothing_is_left(world.named)


@pytest.mark.parametrize(
    ("limit", "id"), [("--nofile=110", "host.open-files"), ("--nproc=20", "host.process-limit")]
)
def test_a_limit_that_is_too_low_is_named_before_anything_starts(world: World, limit: str, id: str) -> None:
    said = world.named.nm("up", RING, "--backend", "native", "-o", "json", before=("prlimit", limit))
    assert said.code == 4, said.err
    assert said.error["id"] == id
    assert said.error["hint"]
    nothing_is_left(world.named)


def test_doctor_tells_an_ordinary_user_what_is_missing(world: World) -> None:
    healthy = must(world.named.nm("doctor", "--backend", "native", "-o", "json"))
    assert {finding["level"] for finding in healthy.json["native"]} <= {"ok", "warning"}
    said = world.named.nm(
        "doctor", "--fix", "--backend", "native", "-o", "json", NM_TUN_DEVICE=str(world.closed_tun)
    )
    assert said.code == 4
    problems = [Finding(**each) for each in said.json["native"] if each["level"] == "problem"]
    assert [each.name for each in problems] == ["tun device"]
    assert "chmod 0666" in problems[0].hint


def test_something_else_than_a_tun_device_is_told_apart(world: World) -> None:
    said = world.named.nm("up", RING, "--backend", "native", "-o", "json", NM_TUN_DEVICE="/dev/null")
    assert said.code == 4
    assert said.error["id"] == "host.tun-device"
    assert "NM_TUN_DEVICE" in said.error["hint"]


def test_a_home_with_a_long_name_has_room_for_sockets(user: OrdinaryUser) -> None:
    """A socket's path may have 107 characters; the server's then is elsewhere, and gone in the end."""
    deep = user.folder / ("long-" * 20) / ("name-" * 20)
    must(user.nm("up", RING, "--backend", "native", NM_HOME=str(deep)))
    must(user.nm("exec", "1", "--", "true", NM_HOME=str(deep)))
    must(user.nm("down", NM_HOME=str(deep)))
    nothing_is_left(user)
    assert list(user.look(deep / "labs").iterdir()) == []


def test_root_of_a_user_namespace_is_served_as_well(user: OrdinaryUser) -> None:
    """`unshare --map-root-user`, or a container without other users: Postgres refuses to be root there."""
    inside = ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "unchanged")
    home = str(user.folder / "inside")
    commands = f"""set -e
nm() {{ {shlex.quote(sys.executable)} -m orchestrator.cli "$@"; }}
nm up {shlex.quote(str(RING))} --backend native
nm exec 1 -- ping -c 1 -W 5 node-3
nm down"""
    said = must(user.run(*inside, "sh", "-c", commands, NM_HOME=home))
    assert " 0% packet loss" in said.out
    nothing_is_left(user)


def must(said: CommandResult) -> CommandResult:
    """The command has succeeded."""
    assert said.code == 0, said.err
    return said


def nothing_is_left(user: OrdinaryUser) -> None:
    """No process of the user's, no lab's folder, no socket's folder, no memory segment."""
    assert user.processes() == []
    labs = user.look(user.home.path / "labs")
    assert not labs.exists() or list(labs.iterdir()) == []
    assert not list(Path("/tmp").glob(f"nm-pg-{user.uid}-*"))
    segments = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    assert not [each for each in segments if each[7] == str(user.uid)]


def test_processes_of_an_ordinary_user_share_memory(user: OrdinaryUser) -> None:
    must(user.nm("up", RING, "--backend", "native", "--processes", "each"))
    links = must(user.nm("inspect", "-o", "json")).json["links"]
    assert [link["kind"] for link in links] == ["shared"] * 4
    must(user.nm("exec", "1", "--", "ping", "-c", "1", "-W", "5", "node-3"))
    must(user.nm("down"))
    nothing_is_left(user)
