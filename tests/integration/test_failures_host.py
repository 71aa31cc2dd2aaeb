"""Test a full disk, a silent Docker engine, and deleted files."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.deploy import host_checks
from orchestrator.deploy.docker import engine
from orchestrator.deploy.home import Home
from orchestrator.errors import NmError
from orchestrator.lab import Lab
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Here, Nm


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Home]]:
    """Makes file systems with so much room."""
    made: list[Path] = []

    def make(size: str) -> Home:
        folder = tmp_path / f"disk-{size}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
        made.append(folder)
        return Home(folder / "nm")

    yield make
    for folder in made:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def silent_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A socket that takes every caller and never says a word; nobody waits as long for it as a user would."""
    monkeypatch.setattr(engine, "ANSWER_S", 0.5)
    monkeypatch.setattr(engine, "PING_S", 0.5)
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(64)
        callers: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    callers.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        yield path
        server.shutdown(socket.SHUT_RDWR)
        for caller in callers:
            caller.close()


@pytest.mark.parametrize("size", ["16k", "4m", "44m"])
def test_a_disk_without_room_for_a_lab_is_named_before_anything_starts(
    small_disk: Callable[[str], Home], tmp_path: Path, size: str
) -> None:
    home = small_disk(size)
    nm = Nm(home, tmp_path)
    said = nm("up", RING, "--backend", "native", "-o", "json")
    assert said.code == 4, said.err
    assert said.error["id"] == "host.disk"
    assert "64 MB needed" in said.error["message"]
    assert leftovers(home) == []
    assert nm("down", "--all").code == 0


@pytest.mark.parametrize("size", ["200k", "4m", "24m"])
def test_a_disk_that_fills_up_while_a_lab_is_made_is_named(
    small_disk: Callable[[str], Home], monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    home = small_disk(size)
    monkeypatch.setattr(host_checks, "DISK_BYTES", {"native": 0, "docker": 0})
    with pytest.raises(NmError) as caught:
        Lab.up(RING, backend="native", home=home)
    assert caught.value.exit_code in (4, 5)
    assert "No space left" in caught.value.render(), caught.value.render()
    assert leftovers(home) == []


def test_a_disk_that_fills_up_under_a_lab_is_named_and_the_lab_recovers(
    small_disk: Callable[[str], Home], tmp_path: Path
) -> None:
    home = small_disk("200m")
    nm = Nm(home, tmp_path)
    assert nm("up", RING, "--backend", "native").code == 0
    filler = home.path / "labs" / "ring" / "filler"
    with filler.open("wb") as file, pytest.raises(OSError, match="space"):
        while True:
            file.write(bytes(1_000_000))
            file.flush()
    assert nm("exec", "1", "--", "ping", "-c", "1", "-W", "5", "10.0.0.3").code == 0  # packets need no disk
    run = nm("run", "scenario", "pingall", "--timeout", "10", "-o", "json", "--results", tmp_path / "out")
    # What cannot be written down is not begun, and said to be so.
    assert run.code == 5 and run.error["id"] == "run.not-stored", run
    status = nm("status", "-o", "json").json
    assert status["state"] == "degraded"
    assert any("No space left" in problem for problem in status["problems"]), status["problems"]
    filler.unlink()
    assert nm("up", RING, "--backend", "native", "-o", "json").json["state"] == "ready"
    assert nm("run", "scenario", "pingall", "--results", tmp_path / "again").code == 0
    assert nm("down").code == 0
    assert leftovers(home) == []


def test_an_engine_that_stops_answering_is_named_in_time(
    silent_engine: Path, here: Here, nm_home: Home
) -> None:
    said = here("up", RING, "--backend", "docker", "-o", "json")
    assert said.code == 4
    assert said.error["id"] == "host.docker-engine"
    assert "does not answer" in said.error["message"] and "timed out" in said.error["message"]
    assert "--backend native" in said.error["hint"]
    assert leftovers(nm_home) == []


def test_an_engine_that_stops_answering_does_not_hold_up_native_labs(
    silent_engine: Path, here: Here, nm_home: Home
) -> None:
    up = here("up", RING, "-o", "json")
    assert up.code == 0, up.err
    assert up.json["backend"] == "native"
    assert here("status", "-o", "json").json["state"] == "ready"
    assert [each["lab"] for each in here("labs", "-o", "json").json] == ["ring"]
    assert here("gc", "-o", "json").json == []
    doctor = here("doctor", "-o", "json")
    engine = next(each for each in doctor.json["docker"] if each["name"] == "docker engine")
    assert engine["level"] == "problem" and "timed out" in engine["detail"]
    assert here("down", "--all").code == 0
    assert leftovers(nm_home) == []


def test_a_lab_of_containers_whose_engine_stops_answering_is_not_said_to_be_gone(
    silent_engine: Path, here: Here, nm_home: Home
) -> None:
    assert here("up", RING, "--backend", "native").code == 0
    note = nm_home.lab("ring").state_file
    native = note.read_text()
    note.write_text(native.replace('"backend": "native"', '"backend": "docker"'))
    for command in ("status", "down"):
        said = here(command, "-n", "ring", "-o", "json")
        assert said.code == 4, said.err
        assert said.error["id"] == "docker.unreachable"
        assert "timed out" in said.error["message"] and said.error["hint"]
    note.write_text(native)
    assert here("down").code == 0


REMAINS = [
    "state.json",
    "logs",
    "host.json",
    "run",
    "run/controller.toml",
    "run/topology.yaml",
    "db",
    "db/data",
]


@pytest.mark.parametrize("part", REMAINS)
def test_a_lab_directory_half_deleted(labs: Labs, here: Here, part: str) -> None:
    """Every command still ends with a reason, `up` reports or repairs, and `down` removes everything."""
    lab = labs.up(RING)
    gone = lab.directory / part
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink()
    named = ("-n", "ring", "-o", "json")
    errors: dict[str, str] = {}
    for words in (
        ("inspect", *named),
        ("exec", *named, "1", "--", "true"),
        ("run", "scenario", "pingall", *named, "--timeout", "5"),
        ("link", "set", "1", "2", "--delay", "1ms", *named),
    ):
        said = here(*words)
        assert said.code in (0, 2, 5), (words, said.err)
        if said.code:
            errors[words[0]] = said.error["id"]
            assert said.error["hint"], said.error
    named_ones = {"lab.not-found", "lab.damaged", "lab.no-table", "store.unreachable", "link.not-stored"}
    assert set(errors.values()) <= named_ones
    status = here("status", *named)
    up = here("up", RING, *named, "--backend", "native")
    if part == "state.json":
        assert set(errors) == {"inspect", "exec", "run", "link"} and status.error["id"] == "lab.not-found"
        assert "`nm down -n ring`" in status.error["hint"]
        assert up.code == 0 and up.json["state"] == "ready", up.err
    elif part == "logs":
        assert errors == {} and up.json["state"] == "ready", up.err
    else:
        assert status.json["state"] == "degraded"
        assert any(f"files of lab ring are gone: {part}" in each for each in status.json["problems"])
        if part.startswith("db"):  # not begun anew in silence, empty
            assert not (lab.directory / "db" / "data" / "PG_VERSION").exists()
        assert (up.code, up.error["id"]) == (5, "lab.damaged")
        assert up.error["found"].startswith(part) and "`nm down -n ring`" in up.error["hint"]
    assert here("down", "-n", "ring").code == 0
    assert leftovers(labs.home) == []
