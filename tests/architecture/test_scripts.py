"""Test the scripts behind the Makefile: missing requirements, unexpected skips."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import images

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import pytest

def test_runs():
    pass

@pytest.mark.skip(reason={reason!r})
def test_leaves():
    pass
"""


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository with some variables set."""
    variables = {**os.environ, **environment}
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_suite(
    folder: Path, reason: str, *words: str, suite_text: str = SUITE
) -> subprocess.CompletedProcess[str]:
    """Run a suite with one skip under the guard."""
    (folder / "test_suite.py").write_text(suite_text.format(reason=reason))
    (folder / "test_another.py").write_text("def test_runs():\n    pass\n")
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "scripts.skip_guard", "-c", "/dev/null"]
    return run(*pytest_command, *words, "--rootdir", folder, folder, NM_STRICT_SKIPS="1", PYTEST_ADDOPTS="")


WHOLE_FILE = """
import pytest

pytest.skip({reason!r}, allow_module_level=True)
"""


@pytest.mark.parametrize("words", [[], ["-n", "2"]], ids=["one process", "workers"])
@pytest.mark.parametrize("suite_text", [SUITE, WHOLE_FILE], ids=["one test", "whole file"])
def test_a_skip_that_nobody_expected_fails_the_run(tmp_path: Path, words: list[str], suite_text: str) -> None:
    done = run_suite(tmp_path, "the moon is full", *words, suite_text=suite_text)
    assert done.returncode == 1
    assert "unexpected skips" in done.stdout
    assert "the moon is full" in done.stdout


def test_a_skip_on_the_list_passes(tmp_path: Path) -> None:
    assert run_suite(tmp_path, "torch is not installed").returncode == 0


def test_what_is_missing_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    # A machine with a shell and the plainest tools, but neither Python nor a compiler nor cargo.
    for tool in ("bash", "sh", "sort", "head", "awk", "timeout", "id", "dirname", "env"):
        (tmp_path / tool).symlink_to(
            next(p for p in (Path("/usr/bin") / tool, Path("/bin") / tool) if p.exists())
        )
    done = run(tmp_path / "bash", "scripts/require.sh", "setup", PATH=str(tmp_path))
    assert done.returncode == 4
    assert "nothing was built" in done.stderr
    for words in ("Python 3.11 or newer", "a C compiler", "cargo and rustc", "sh.rustup.rs"):
        assert words in done.stderr


@pytest.mark.parametrize(
    ("versions", "wanted"),
    [
        ({"cargo": "0.66.0+ds1-1", "cargo-web": "1.96.0+dfsg1-1~deb12u2"}, "apt-get install -y cargo-web "),
        ({"cargo": "1.90.0+dfsg1-1"}, "apt-get install -y cargo "),
        ({"cargo": "1.63.0", "cargo-web": "1.85.0+dfsg3-1"}, "apt-get install -y curl"),
        ({"cargo": "(none)"}, "apt-get install -y curl"),
    ],
)
def test_rust_comes_from_debian_where_it_is_new_enough_there(
    tmp_path: Path, versions: dict[str, str], wanted: str
) -> None:
    for tool in ("bash", "sh", "sort", "head", "awk", "timeout", "id", "dirname", "env"):
        (tmp_path / tool).symlink_to(Path("/usr/bin") / tool)
    candidates = "".join(f'{name}) echo "  Candidate: {of}" ;; ' for name, of in versions.items())
    for name, script in {"apt-cache": f'case "$2" in {candidates} esac', "apt-get": "exit 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    done = run(tmp_path / "bash", "scripts/require.sh", "setup", PATH=str(tmp_path))
    assert done.returncode == 4
    assert wanted in done.stderr


@pytest.mark.parametrize(("room", "built", "code"), [(100, False, 4), (100, True, 0), (90_000, False, 0)])
def test_a_disk_without_room_for_a_first_build_is_named(
    tmp_path: Path, room: int, built: bool, code: int
) -> None:
    checkout, programs = tmp_path / "checkout", tmp_path / "bin"
    programs.mkdir()
    (programs / "df").write_text(f"#!/bin/sh\necho head; echo disk 999999 1 {room} 1% /\n")
    (programs / "df").chmod(0o755)
    (checkout / ".venv/.stamps").mkdir(parents=True)
    if built:
        (checkout / ".venv/.stamps/native").touch()
    command = f"cd {shlex.quote(str(checkout))} && {shlex.quote(str(ROOT))}/scripts/require.sh setup"
    done = run("bash", "-c", command, PATH=f"{programs}:{os.environ['PATH']}")
    assert done.returncode == code, done.stderr
    assert ("room on disk: 1500 MB in this folder (found 100)" in done.stderr) == (code == 4)


def test_the_rust_that_is_asked_for_builds_every_crate() -> None:
    command = ("cargo", "metadata", "--format-version", "1", "--locked", "--offline")
    there = (
        "--manifest-path",
        ROOT / "dataplane/Cargo.toml",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    )
    done = run(*command, *there)
    assert done.returncode == 0, done.stderr
    needed = {each["name"]: each["rust_version"] for each in json.loads(done.stdout)["packages"]}
    asked = re.search(
        r'^rust-version = "([\d.]+)"', (ROOT / "dataplane/Cargo.toml").read_text(), re.MULTILINE
    )
    assert asked
    ours = {name: version for name, version in needed.items() if name.startswith("nm-")}
    assert set(ours.values()) == {asked[1]}, ours
    versions = (version for name, version in needed.items() if version and name not in ours)
    least = max(tuple(map(int, version.split(".")[:2])) for version in versions)
    assert tuple(map(int, asked[1].split("."))) == least, needed


def test_a_machine_with_everything_passes_without_a_word() -> None:
    done = run("bash", "scripts/require.sh", "setup")
    assert (done.returncode, done.stderr) == (0, "")


def machine_with_an_engine(folder: Path, *, root: bool) -> str:
    """Make a PATH with a Docker engine that has and pulls no image, and without debootstrap."""
    tools = ("bash", "sh", "sort", "head", "awk", "timeout", "env", "cc", "gcc", "cargo", "rustc")
    for tool in tools:
        found = shutil.which(tool)
        if found:
            (folder / tool).symlink_to(found)
    (folder / "python3").symlink_to(Path(sys.executable).resolve())
    scripts = {
        "docker": 'case "$1" in version) echo 20.10 ;; *) exit 1 ;; esac',
        "id": f"echo {0 if root else 1000}",
        # Installing succeeds where it is allowed, and brings the program.
        "apt-get": f'case "$*" in *debootstrap*) /bin/ln -s /bin/true {folder}/debootstrap ;; esac',
        "rm": 'exec /bin/rm "$@"',
        "chmod": 'exec /bin/chmod "$@"',
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_an_engine_that_cannot_be_used_leaves_the_native_backend(tmp_path: Path) -> None:
    done = run(
        "/bin/bash", "scripts/require.sh", "--choose", PATH=machine_with_an_engine(tmp_path, root=False)
    )
    assert (done.returncode, done.stdout) == (0, "native\n")
    for words in ("debootstrap", "root, to build a base image", "BACKEND=docker insists"):
        assert words in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
def test_root_gets_what_docker_needs_installed(tmp_path: Path) -> None:
    path = machine_with_an_engine(tmp_path, root=True)
    # What keeps services from starting is a file in /usr/sbin, which this test has for itself.
    alone = "mount -t tmpfs none /usr/sbin && exec env PATH=$1 /bin/bash scripts/require.sh --choose"
    done = run("unshare", "--mount", "/bin/sh", "-c", alone, "sh", path)
    assert (done.returncode, done.stdout) == (0, "docker\n")
    assert "installing: debootstrap" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
def test_what_installing_said_is_shown_where_it_failed_alone(tmp_path: Path) -> None:
    path = machine_with_an_engine(tmp_path, root=True)
    for tool in ("tail", "printf"):
        (tmp_path / tool).symlink_to(Path("/usr/bin") / tool)
    alone = "mount -t tmpfs none /usr/sbin && exec env PATH=$1 /bin/bash scripts/require.sh --choose"
    apt = tmp_path / "apt-get"
    for code, shown in ((100, True), (0, False)):
        apt.write_text(f'#!/bin/sh\ncase "$1" in install) echo Unpacking; exit {code} ;; esac\n')
        done = run("unshare", "--mount", "/bin/sh", "-c", alone, "sh", path)
        assert ("Unpacking" in done.stderr) == shown, done.stderr


def test_docker_that_was_asked_for_is_insisted_on(tmp_path: Path) -> None:
    done = run(
        "/bin/bash", "scripts/demo.sh", "docker", PATH=machine_with_an_engine(tmp_path, root=False) + ":/bin"
    )
    assert done.returncode == 4
    assert "this machine lacks what the docker backend needs" in done.stderr


@pytest.mark.parametrize("target", ["banana", ""])
def test_an_unknown_target_is_refused(target: str) -> None:
    assert run("bash", "scripts/require.sh", target).returncode != 0


def test_synthetic_weights_are_a_safetensors_file_and_the_same_each_time(tmp_path: Path) -> None:
    digests = set()
    for folder in ("one", "two"):
        done = run(sys.executable, "scripts/payload.py", tmp_path / folder, "--synthetic")
        assert "using synthetic tensors instead" in done.stderr
        data = Path(done.stdout.strip()).read_bytes()
        header = int.from_bytes(data[:8], "little")
        assert data[8 : 8 + header].startswith(b'{"weight": {"dtype": "F32"')
        assert len(data) == 8 + header + 90_868_376
        digests.add(hashlib.sha256(data).hexdigest())
    assert len(digests) == 1


def test_the_environment_of_another_folder_is_made_anew(tmp_path: Path) -> None:
    checkout = tmp_path / "it's a copy"
    stamps = checkout / ".venv" / ".stamps"
    stamps.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", checkout)
    (stamps / "native").touch()
    (stamps / "place").write_text(f"{checkout}\n")
    assert run("make", "-C", checkout, "help").returncode == 0
    assert (stamps / "native").exists()
    moved = checkout.rename(tmp_path / "moved")
    assert run("make", "-C", moved, "help").returncode == 0
    assert not (moved / ".venv/.stamps/native").exists()


def test_every_target_has_its_sentence() -> None:
    done = run("make", "help")
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    assert {
        "setup",
        "native",
        "wheel",
        "images",
        "demo",
        "test",
        "check",
        "bench",
        "docs",
        "clean",
        "help",
    } <= listed


def test_an_image_can_be_run_by_everybody_whatever_the_umask_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images" / "mine"
    folder.mkdir(parents=True)
    for name, mode in (("run", 0o700), ("Dockerfile", 0o600)):
        (folder / name).write_text("")
        (folder / name).chmod(mode)
    wheel = tmp_path / "our.whl"
    wheel.touch(mode=0o600)
    monkeypatch.setattr(images, "ROOT", tmp_path)
    monkeypatch.setattr(images, "BUILD", tmp_path / "build")
    context = images.prepare_context(images.Image("mine", extra="node"), wheel, [])
    modes = {str(path.relative_to(context)): path.stat().st_mode & 0o777 for path in context.rglob("*")}
    assert modes == {"run": 0o755, "Dockerfile": 0o644, "deps": 0o755, "nm": 0o755, "nm/our.whl": 0o644}
