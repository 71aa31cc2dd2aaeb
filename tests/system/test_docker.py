"""Test a lab of containers from start to end, with failing parts."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from orchestrator.deploy.docker.engine import Engine
from orchestrator.deploy.home import Home
from orchestrator.errors import HostNotFit, UsageError
from orchestrator.impairment import LinkSpec
from orchestrator.lab import Lab
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.compose import installed_composes
from tests.integration.conftest import RING, Nm
from tests.integration.test_link_faults import pinging, reached
from tests.integration.test_link_kinds import hashes
from tests.integration.waiting import write_waiting


def inspect(container: str) -> Any:
    return Engine().ask_now(lambda client: client.containers.get(container).attrs)


def test_a_ring_of_containers_carries_an_experiment(nm: Nm, nm_home: Home, tmp_path: Path) -> None:
    payload = tmp_path / "weights.bin"
    payload.write_bytes(os.urandom(8_000_000))
    up = nm("up", RING, "--backend", "docker", "-o", "json", timeout=180)
    assert up.code == 0, up.err
    try:
        assert up.json["backend"] == "docker" and up.json["state"] == "ready"
        assert "already up" in nm("up", RING).err
        assert nm("exec", "1", "--", "ping", "-c", "1", "-W", "2", "10.0.0.3").code == 0
        assert nm("exec", "1", "--", "ping", "-c", "1", "-W", "2", "node-3").code == 0
        assert nm("exec", "1", "--", "sh", "-c", "exit 7").code == 7
        said = nm("exec", "all", "-o", "json", "--", "cat", "/sys/class/net/utun/mtu")
        assert [each["exit_code"] for each in said.json] == [0] * 4
        run = nm(
            "run", "scenario", "weights-sync", "--param", f"payload={payload}", "-o", "json", timeout=200
        )
        assert run.code == 0, run.err
        rows = run.json["rows"]
        assert {row["bytes"] for row in rows if row["role"] == "worker"} == {8_000_000}
        assert len({row["sha256"] for row in rows}) == 1
        (trainer,) = (row for row in rows if row["role"] == "trainer")
        assert trainer["bytes_sent"] <= 1.03 * trainer["payload_bytes"] * trainer["out_degree"]
        assert nm("run", "scenario", "pingall").code == 0
        assert "listening" in nm("logs", "controller").out
        check_containers_are_kept_small(nm_home)
    finally:
        down = nm("down")
    assert down.code == 0, down.err
    assert leftovers(nm_home, engine=True) == []


@pytest.mark.parametrize(("transport", "kind"), [("auto", "shared"), ("unix", "unix"), ("tcp", "tcp")])
def test_containers_meet_as_asked_and_leave_no_volume(labs: Labs, transport: str, kind: str) -> None:
    lab = labs.up(
        f"name: kinds\ntopology: {{type: line, n_nodes: 2}}\ntransport: {transport}\n", backend="docker"
    )
    assert [link.kind for link in lab.status().links] == [kind]
    for name, wanted in (("node-1", ["/links"]), ("controller", []), ("postgres", [])):
        mounts = inspect(f"nm-kinds-{name}")["Mounts"]
        assert [each["Destination"] for each in mounts if each.get("Name") == "nm-kinds-links"] == wanted
    sent, taken = hashes(lab, 100)
    assert len(sent) == 64 and sent == taken
    lab.down()
    assert leftovers(labs.home, engine=True) == []


def check_containers_are_kept_small(home: Home) -> None:
    """Few capabilities, no writable root, ports on loopback alone, and a bound to all but memory."""
    for name in ("nm-ring-postgres", "nm-ring-controller", "nm-ring-node-1"):
        facts = inspect(name)["HostConfig"]
        assert facts["CapDrop"] == ["ALL"]
        wanted = ["NET_ADMIN", "DAC_OVERRIDE", "SETPCAP"] if name.endswith("node-1") else []
        assert (facts["CapAdd"] or []) == wanted
        assert not facts["Privileged"] and facts["ReadonlyRootfs"]
        assert 0 < facts["PidsLimit"] <= 4096
        assert facts["Tmpfs"] and all("size=" in options for options in facts["Tmpfs"].values())
        assert {"max-size", "max-file"} <= facts["LogConfig"]["Config"].keys()
        assert not any("docker.sock" in str(mount) for mount in inspect(name)["Mounts"])
        assert any("no-new-privileges" in option for option in facts["SecurityOpt"])
        for bindings in (facts["PortBindings"] or {}).values():
            assert all(binding["HostIp"] == "127.0.0.1" for binding in bindings)


@pytest.mark.parametrize(
    ("victim", "how"),
    [("node-2", "kill"), ("controller", "kill"), ("postgres", "kill"), ("node-3", "remove")],
)
def test_a_lost_container_is_named_and_up_repairs_it(labs: Labs, nm: Nm, victim: str, how: str) -> None:
    lab = labs.up(RING, backend="docker")
    container = f"nm-ring-{victim}"
    options = {"force": True} if how == "remove" else {}
    Engine().ask_now(lambda client: getattr(client.containers.get(container), how)(**options))
    seen = lab.status()
    assert seen.state == "degraded"
    assert any(victim in problem for problem in seen.problems)
    up = nm("up", RING, timeout=180)
    assert up.code == 0, up.err
    assert victim in up.err
    assert lab.status().state == "ready"
    assert lab.node(1).run(["ping", "-c", "1", "-W", "2", "10.0.0.3"]).ok


@pytest.mark.parametrize(("victim", "tls"), [("node-2", False), ("controller", True), ("postgres", False)])
def test_a_container_whose_process_is_killed_comes_back_by_itself(labs: Labs, victim: str, tls: bool) -> None:
    lab = labs.up(RING, backend="docker", tls=tls, listen="127.0.0.2")
    lab.set_link(1, 2, LinkSpec(delay_us=3000))
    before = inspect(f"nm-ring-{victim}")["State"]
    os.kill(before["Pid"], signal.SIGKILL)  # not by the engine, which starts nothing again that it killed
    deadline = time.monotonic() + 60
    while True:
        now = inspect(f"nm-ring-{victim}")["State"]
        anew = now["Running"] and now["StartedAt"] != before["StartedAt"]
        if anew and lab.status().state == "ready":
            break
        assert time.monotonic() < deadline, lab.status().problems
        time.sleep(0.1)
    assert lab.node(1).run(["ping", "-c", "1", "-w", "10", "10.0.0.3"]).ok
    [link] = [link for link in lab.status().links if (link.a, link.b) == (1, 2)]
    assert link.forward.delay_us == 3000
    facts = lab.status().details()
    api = facts["api_url"]
    assert api.startswith(f"{'https' if tls else 'http'}://127.0.0.2:")
    health = requests.get(api.replace("/api/v1", "/healthz"), verify=facts["ca_file"], timeout=20)
    assert health.json()["health"] == "ok"


def test_a_killed_up_leaves_nothing_that_down_does_not_remove(nm: Nm, nm_home: Home) -> None:
    up = nm.start("up", RING, "--backend", "docker")
    assert up.stderr is not None
    for line in up.stderr:
        if "containers are started" in line:
            break
    up.kill()
    up.communicate()
    assert nm("down", "-n", "ring").code == 0
    assert leftovers(nm_home, engine=True) == []


def test_a_container_that_does_not_start_is_named_as_the_failed_part(
    labs: Labs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator import render
    from orchestrator.deploy.host import PartFailed

    def break_file(plan: Any, directory: Path) -> Any:
        written = write(plan, directory)
        file = directory / "node-2.toml"
        file.write_text(file.read_text().replace("mtu =", "mut ="))
        return written

    write = render.write
    monkeypatch.setattr(render, "write", break_file)
    with pytest.raises(PartFailed) as caught:
        labs.up(RING, backend="docker")
    assert "node-2" in caught.value.message
    assert "mut" in caught.value.render()
    assert leftovers(labs.home, engine=True) == []


def test_a_missing_image_is_said_before_anything_starts(
    nm_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.deploy.docker import engine_checks

    monkeypatch.setattr(engine_checks, "__version__", "0.0.0-none")
    with pytest.raises(HostNotFit) as caught:
        Lab.up(RING, backend="docker", home=nm_home)
    assert caught.value.hint == "`make images` builds it"


def test_an_engine_that_does_not_answer_is_4(nm: Nm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    said = nm("up", RING, "--backend", "docker", "-o", "json")
    assert said.code == 4
    assert "does not answer" in said.error["message"]
    assert "--backend native" in said.error["hint"]


def test_two_labs_of_containers_and_one_native_side_by_side(labs: Labs) -> None:
    pair = "name: pair\ntopology: {type: line, n_nodes: 2}\n"
    up = [
        labs.up(pair, name="one-more", backend="docker"),
        labs.up(pair, name="one", backend="docker"),  # a part of the first one's name
        labs.up(pair, name="three"),
    ]
    for lab in up:
        assert lab.node(1).run(["ping", "-c", "1", "-W", "2", "10.0.0.2"]).ok
    up[0].down()
    assert all(lab.status().state == "ready" for lab in up[1:])


def test_somebody_elses_containers_are_not_touched(labs: Labs, nm: Nm, nm_home: Home) -> None:
    """A container with our labels but another home survives `gc` and `down --all`."""
    from orchestrator import __version__

    name = "nm-somebody-else"
    labels = {"nm.lab": "else", "nm.run": "r", "nm.home": "/somewhere/else"}
    Engine().ask_now(
        lambda client: client.containers.create(
            f"nm-node:{__version__}", ["sleep", "60"], entrypoint=[], name=name, labels=labels
        )
    )
    try:
        assert nm("gc").code == 0
        assert nm("down", "--all").code == 0
        assert inspect(name)["Name"] == f"/{name}"
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=True, capture_output=True)


def test_compose_makes_of_the_file_what_we_make_of_it(labs: Labs, tmp_path: Path) -> None:
    """Whoever starts a lab's compose file by hand gets the containers that `nm up` makes."""
    compose = installed_composes()[0]
    lab = labs.up(RING, backend="docker")
    names = [f"nm-ring-{part}" for part in ("postgres", "controller", "node-1")]
    files = labs.home.lab("ring").run
    ours = {name: essence(inspect(name), files) for name in names}
    shutil.copytree(files, tmp_path / "run")
    lab.down()
    command = [*compose, "-p", "nm-ring", "-f", str(tmp_path / "run" / "docker-compose.yml")]
    try:
        subprocess.run([*command, "up", "--no-start"], check=True, capture_output=True, timeout=120)
        theirs = {name: essence(inspect(name), tmp_path / "run") for name in names}
    finally:
        subprocess.run([*command, "down", "-v"], check=True, capture_output=True, timeout=120)
    assert ours == theirs


def essence(facts: Any, files: Path) -> dict[str, Any]:
    """What of a container depends on who read the file: all but ids, times and where the file lies."""
    host, config = facts["HostConfig"], facts["Config"]
    same = (
        *(
            "ReadonlyRootfs",
            "CapAdd",
            "CapDrop",
            "SecurityOpt",
            "Sysctls",
            "Devices",
            "Privileged",
            "LogConfig",
        ),
        *("NetworkMode", "RestartPolicy", "PidMode", "IpcMode", "UsernsMode", "ShmSize"),
        *("PortBindings", "PidsLimit", "Tmpfs"),
    )
    found = {key: host.get(key) or None for key in same}
    found["Mounts"] = sorted(
        (mount["Destination"], mount.get("Name") or mount["Source"].replace(str(files), ""), mount["RW"])
        for mount in facts["Mounts"]
    )
    asked = ("Hostname", "Image", "Cmd", "Entrypoint", "ExposedPorts", "Healthcheck", "User")
    found |= {key: config.get(key) or None for key in asked}
    found["Env"] = sorted(config["Env"])
    found["Labels"] = {key: value for key, value in config["Labels"].items() if key.startswith("nm.")}
    [network] = facts["NetworkSettings"]["Networks"].values()
    # The engine adds the id, and Compose from version 2 on the name, which resolves in any case.
    found["Aliases"] = sorted(set(network["Aliases"] or ()) - {facts["Id"][:12], facts["Name"].lstrip("/")})
    return found


def test_a_foreign_container_on_a_labs_network_is_disconnected_and_kept(labs: Labs) -> None:
    from orchestrator import __version__

    lab = labs.up("name: inn\ntopology: {type: line, n_nodes: 2}\n", backend="docker")
    command = [
        "docker",
        "run",
        "--detach",
        "--name",
        "nm-foreign",
        "--network",
        "nm-inn",
        "--entrypoint",
        "sleep",
    ]
    subprocess.run([*command, f"nm-node:{__version__}", "60"], check=True, capture_output=True, timeout=60)
    try:
        lab.down()
        assert leftovers(labs.home, engine=True) == []
        facts = inspect("nm-foreign")
        assert facts["State"]["Running"] and not facts["NetworkSettings"]["Networks"]
    finally:
        subprocess.run(["docker", "rm", "-f", "nm-foreign"], check=True, capture_output=True, timeout=60)


def test_a_container_is_killed_stopped_paused_and_started_on_request(labs: Labs) -> None:
    """What is asked for stays so, and the node comes back with its links, routes and address."""
    lab = labs.up(RING, backend="docker")

    def states() -> list[str]:
        return [node.state for node in lab.status().nodes]

    with pinging(lab, 1, 3) as answers:
        for node in (2, 4):  # the packets take one of these ways
            lab.node(node).kill()
            time.sleep(0.5)
            lab.node(node).start()
            time.sleep(0.5)
    assert max(after - before for before, after in itertools.pairwise(answers())) < 1.5
    assert states() == ["ready"] * 4 and len(reached(lab)) == 6
    lab.node(2).stop()
    assert lab.node(2).kill().already == (2,)
    assert inspect("nm-ring-node-2")["State"]["Status"] == "exited"
    seen = lab.status()
    assert (seen.state, [part.role for part in seen.parts if part.missing]) == ("ready", [])
    assert {(x.a, x.b, x.reason) for x in seen.links if x.state != "up"} == {
        (1, 2, "node 2 is stopped"),
        (2, 3, "node 2 is stopped"),
    }
    with pytest.raises(UsageError, match="node 2 of lab ring is stopped by request"):
        lab.node(2).run(["true"])
    lab.node(3).pause()
    assert inspect("nm-ring-node-3")["State"]["Status"] == "paused"
    # Another `up` changes neither.
    assert Lab.up(RING, backend="docker", home=labs.home).status().state == "ready"
    assert states() == ["ready", "stopped", "paused", "ready"]
    lab.node(3).unpause()
    lab.node(2).start()
    assert states() == ["ready"] * 4 and len(reached(lab)) == 6
    lab.link(1, 2).down()
    assert lab.node(1).run(["ping", "-c", "1", "-W", "2", "10.0.0.2"]).ok
    assert lab.link(1, 2).up()["state"] == "up"


def test_a_timeline_kills_starts_and_pauses_containers_which_all_run_afterwards(
    labs: Labs, tmp_path: Path
) -> None:
    lab = labs.up(RING, backend="docker")
    folder = write_waiting(tmp_path / "waiting", "import time\ndef waiter(ctx):\n    time.sleep(5)\n")
    description = folder / "scenario.yaml"
    description.write_text(description.read_text().replace("nodes: all", 'nodes: "1-3"'))
    with description.open("a") as file:
        file.write("timeline:\n  - {at: 200 ms, node: 2, do: kill}\n  - {at: 1 s, node: 2, do: start}\n")
        file.write("  - {at: 3 s, node: 2, do: stop}\n  - {at: 3 s, node: 4, do: pause}\n")
    outcome = lab.run_scenario(folder, results=tmp_path / "out")
    assert outcome.reason == "", outcome.reason
    lines = (Path(outcome.results) / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    made = [event["data"] for event in events if event["kind"] == "timeline"]
    assert [(each["do"], each["ok"]) for each in made] == [
        ("kill", True),
        ("start", True),
        ("stop", True),
        ("pause", True),
    ]
    [restored] = [event["data"] for event in events if event["kind"] == "timeline_nodes_restored"]
    assert restored == {"started": [2], "unpaused": [4], "errors": []}
    assert [node.state for node in lab.status().nodes] == ["ready"] * 4
