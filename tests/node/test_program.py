"""Test unpacking, importing and removing a scenario's code."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.node.program import Program, ProgramError
from tests.node.fakes import program


def test_a_file_beside_it_can_be_imported_and_does_not_leak(tmp_path: Path) -> None:
    one = program(tmp_path, "import helper\ndef worker(ctx): return helper.X", **{"helper.py": "X = 1"})
    two = program(tmp_path, "import helper\ndef worker(ctx): return helper.X", **{"helper.py": "X = 2"})
    nobody: Any = None
    assert (one.role("worker")(nobody), two.role("worker")(nobody)) == (1, 2)
    assert "helper" not in sys.modules
    one.close()
    two.close()
    assert list(tmp_path.iterdir()) == []
    assert not any(entry.startswith(str(tmp_path)) for entry in sys.path)


@pytest.mark.parametrize("name", ["../evil.py", "/tmp/evil.py", "a/../../evil.py"])
def test_a_file_that_would_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProgramError):
        Program("run-1", {name: b""}, "roles.py", tmp_path / "work").role("worker")


def test_a_folder_that_cannot_be_used_is_an_error_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProgramError, match="cannot be unpacked: Not a directory"):
        Program("run-1", {"roles.py": b""}, "roles.py", tmp_path / "file" / "work").role("worker")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    code = Program("run-1", {"roles.py": b""}, "roles.py", tmp_path / "work")
    with pytest.raises(ProgramError, match="cannot be unpacked: No space left on device") as caught:
        code.role("worker")
    code.close()
    assert caught.value.hint and "full" in caught.value.hint
    assert list((tmp_path / "work").iterdir()) == []


def test_a_role_of_two_words_is_a_function_of_two_words(tmp_path: Path) -> None:
    assert callable(program(tmp_path, "def edge_worker(ctx): pass").role("edge-worker"))


def test_a_missing_entry_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"no file roles.py"):
        Program("run-1", {"other.py": b""}, "roles.py", tmp_path).role("worker")
