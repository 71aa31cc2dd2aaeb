"""The scripts behind the Makefile: they name what is missing, and no skip passes unseen."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def run_suite(folder: Path, reason: str) -> subprocess.CompletedProcess[str]:
    """Run a suite with one skip under the guard."""
    suite = folder / "test_suite.py"
    suite.write_text(SUITE.format(reason=reason))
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "scripts.skip_guard", "-c", "/dev/null"]
    return run(*pytest_command, "--rootdir", folder, suite, NM_STRICT_SKIPS="1", PYTEST_ADDOPTS="")


def test_a_skip_that_nobody_expected_fails_the_run(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "the moon is full")
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


def test_a_machine_with_everything_passes_without_a_word() -> None:
    done = run("bash", "scripts/require.sh", "setup")
    assert (done.returncode, done.stderr) == (0, "")


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
