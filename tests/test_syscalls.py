"""Test the calls of the C library: what they do, and how a refusal is raised."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import syscalls


def test_a_refused_call_raises_the_kernels_reason() -> None:
    with Path(os.devnull).open() as file, pytest.raises(OSError, match="setns") as refused:
        syscalls.setns(file.fileno(), syscalls.CLONE_NEWNET)
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="prctl") as refused:
        syscalls.prctl(2**20)
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="shmctl"):
        syscalls.remove_shared_memory(2**30)


def test_descriptors_of_one_open_file_are_told_from_those_of_two() -> None:
    one, other = os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)
    copy = os.dup(one)
    try:
        assert syscalls.same_open_file(one, copy)
        if syscalls.KCMP is not None:
            assert not syscalls.same_open_file(one, other)
    finally:
        for each in (one, other, copy):
            os.close(each)


def test_a_user_namespace_gives_its_maker_another_user() -> None:
    program = """
import os, sys
from orchestrator import syscalls
user, group = os.geteuid(), os.getegid()
try:
    syscalls.unshare(syscalls.CLONE_NEWUSER)
except OSError as error:
    sys.exit(f"not allowed here: {error}")
syscalls.map_user(4711, user, group)
print(os.geteuid(), os.getegid())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    if "not allowed here" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout.split() == ["4711", "4711"], done.stderr
