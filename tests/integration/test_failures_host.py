"""What the machine does not give: room on disk, a Docker engine that answers, files that are still there."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.deploy import fitness
from orchestrator.deploy.home import Home
from orchestrator.errors import NmError
from orchestrator.lab import Lab
from orchestrator.testing.plugin import Labs
from orchestrator.testing.proof import leftovers
from tests.integration.conftest import RING, Nm


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
    """A socket that takes every caller and never says a word."""
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


@pytest.mark.parametrize("size", ["200k", "4m", "30m"])
def test_a_disk_that_fills_up_while_a_lab_is_made_is_named(
    small_disk: Callable[[str], Home], monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    home = small_disk(size)
    monkeypatch.setattr(fitness, "DISK_BYTES", {"native": 0, "docker": 0})
    with pytest.raises(NmError) as caught:
        Lab.up(RING, backend="native", home=home)
    assert caught.value.exit_code in (4, 5)
    assert "No space left" in caught.value.render(), caught.value.render()
    assert leftovers(home) == []


def test_a_disk_that_fills_up_under_a_lab_lets_it_be_taken_down(
    small_disk: Callable[[str], Home], tmp_path: Path
) -> None:
    home = small_disk("200m")
    nm = Nm(home, tmp_path)
    assert nm("up", RING, "--backend", "native").code == 0
    with (home.path / "labs" / "ring" / "filler").open("wb") as filler, pytest.raises(OSError, match="space"):
        while True:
            filler.write(bytes(1_000_000))
            filler.flush()
    status = nm("status", "-o", "json")
    assert status.code == 0 and status.json["state"] in ("ready", "degraded")
    run = nm("run", "scenario", "pingall", "--timeout", "10", "-o", "json", "--results", tmp_path / "out")
    assert run.code in (0, 1, 4, 5), run.err
    assert run.code == 0 or "internal.error" not in run.err
    assert nm("down").code == 0
    assert leftovers(home) == []


def test_an_engine_that_stops_answering_is_named_in_time(silent_engine: Path, nm: Nm, nm_home: Home) -> None:
    began = time.monotonic()
    said = nm("up", RING, "--backend", "docker", "-o", "json")
    assert said.code == 4
    assert "engine" in said.error["message"] and "answer" in said.error["message"]
    assert "--backend native" in said.error["hint"]
    assert time.monotonic() - began < 30
    assert leftovers(nm_home) == []


def test_an_engine_that_stops_answering_does_not_hold_up_native_labs(silent_engine: Path, nm: Nm) -> None:
    up = nm("up", RING, "-o", "json")
    assert up.code == 0, up.err
    assert up.json["backend"] == "native"
    assert nm("status", "-o", "json").json["state"] == "ready"
    assert nm("labs").code == 0
    assert nm("gc").code == 0
    assert nm("doctor").code in (0, 4)
    assert nm("down", "--all").code == 0


def test_a_lab_of_containers_whose_engine_stops_answering_is_not_said_to_be_gone(
    silent_engine: Path, nm: Nm, nm_home: Home
) -> None:
    assert nm("up", RING, "--backend", "native").code == 0
    note = nm_home.lab("ring").state_file
    native = note.read_text()
    note.write_text(native.replace('"backend": "native"', '"backend": "docker"'))
    began = time.monotonic()
    for command in ("status", "down"):
        said = nm(command, "-n", "ring", "-o", "json")
        assert said.code == 4, said.err
        assert said.error["id"] == "docker.unreachable"
    assert time.monotonic() - began < 90
    note.write_text(native)
    assert nm("down").code == 0


REMAINS = [
    "state.json",
    "host.json",
    "run",
    "run/controller.toml",
    "run/topology.yaml",
    "logs",
    "db",
    "db/data",
]


@pytest.mark.parametrize("part", REMAINS)
def test_a_lab_directory_half_deleted(labs: Labs, nm: Nm, part: str) -> None:
    """Every command still ends with a name, and `down` leaves nothing."""
    lab = labs.up(RING)
    gone = lab.directory / part
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink()
    commands: list[tuple[object, ...]] = [
        ("status", "-n", "ring"),
        ("inspect", "-n", "ring"),
        ("exec", "-n", "ring", "1", "--", "true"),
        ("logs", "-n", "ring", "controller"),
        ("run", "scenario", "pingall", "-n", "ring", "--timeout", "5"),
        ("link", "set", "1", "2", "--delay", "1ms", "-n", "ring"),
        ("up", RING, "-n", "ring", "--backend", "native", "--timeout", "20"),
    ]
    for words in commands:
        said = nm(*words, "-o", "json") if words[0] != "logs" else nm(*words)
        assert said.code in (0, 1, 2, 4, 5), (words, said.err)
        assert "internal.error" not in said.err and "Traceback" not in said.err, (words, said.err)
    assert nm("down", "-n", "ring").code == 0
    assert leftovers(labs.home) == []
