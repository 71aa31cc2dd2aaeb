"""Whose rights a command in a native node has."""

from __future__ import annotations

import os

import pytest

from orchestrator.deploy import entering
from orchestrator.errors import HostNotFit, UsageError


def test_a_command_is_root_s_unless_said_otherwise() -> None:
    assert entering.become(None) == []


def test_a_user_of_the_machine_is_found_by_name_and_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert entering.become("root") == entering.become("0")
    assert entering.become("0") == ["setpriv", "--reuid=0", "--regid=0", "--init-groups", "--"]


def test_an_unknown_user_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageError) as caught:
        entering.become("no; such")
    assert (caught.value.id, caught.value.found) == ("exec.no-user", "no; such")


def test_a_rootless_lab_has_no_other_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostNotFit) as caught:
        entering.become("root")
    assert caught.value.id == "exec.user"
